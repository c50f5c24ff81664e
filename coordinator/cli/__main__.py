# SPDX-License-Identifier: Apache-2.0
"""`python -m coordinator.cli`: the command without its script, for processes that start it themselves."""

from coordinator.cli.main import main

main()
