# SPDX-License-Identifier: Apache-2.0
"""The central coordinator: decides with deciders that do no I/O, carries out what they ask, writes the ledger."""

import os

# gRPC reads these once, when it is first imported. The cipher is one of TLS 1.2 for RSA certificates, of which there
# are none here: so TLS 1.2 finds no cipher, and only TLS 1.3 is left. Strangers' handshakes must not fill a log.
os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES256-GCM-SHA384"
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
