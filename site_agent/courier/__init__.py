# SPDX-License-Identifier: Apache-2.0
"""How this site's mailbox travels: over gRPC by a thread of the agent, or by whoever copies the spool directory."""
