# SPDX-License-Identifier: Apache-2.0
"""The network's edge: channels, errors as statuses, and the client that mirrors a mailbox over gRPC."""

import os

# gRPC reads this once, when it is first imported. Failures are told in our own words, in our own log.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
