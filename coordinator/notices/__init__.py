# SPDX-License-Identifier: Apache-2.0
"""Notices: what somebody has to know of, told once, in one line, where people read. Strictly a reader of the ledger.

`conditions` says what is the case now, `memory` what of it has to be said, `sending` says it; `Notifier` is all three.
"""
