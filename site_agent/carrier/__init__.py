# SPDX-License-Identifier: Apache-2.0
"""Carries a mailbox between a site's directory and the coordinator's: on one machine, or over ssh from outside."""
