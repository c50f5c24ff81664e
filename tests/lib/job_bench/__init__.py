# SPDX-License-Identifier: Apache-2.0
"""What tests of jobs and agents share: a small trainer, and orders and outcomes written by hand."""
