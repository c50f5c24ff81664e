# SPDX-License-Identifier: Apache-2.0
"""The consortium's eyes: a process of its own that reads a coordinator's directory and shows it. Strictly read-only.

It opens no key of the coordinator and sends nothing to anybody's mailbox: what it serves is a projection of the ledger,
of the sites' newest reports and of their step metrics. So a fault here, or two hundred viewers, cannot change a run or
slow a round down. `coordinator.dashboard.app` imports starlette, uvicorn and jinja2; nothing else of the package does.
"""
