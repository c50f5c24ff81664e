# SPDX-License-Identifier: Apache-2.0
"""The coordinator's side of the network: who may call what, and thin services over mailboxes, enrolment and views."""
