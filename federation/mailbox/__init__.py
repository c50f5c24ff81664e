# SPDX-License-Identifier: Apache-2.0
"""Signed messages in sequence and the blobs they name, on a file system; and a carrier that needs no trust."""
