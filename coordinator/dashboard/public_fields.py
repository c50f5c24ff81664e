# SPDX-License-Identifier: Apache-2.0
"""What a public page may show, without the machinery that shows it."""

from typing import Final

PUBLIC_FIELDS: Final = ("state", "progress", "commits", "end", "sites", "site-names", "tokens", "scores", "ledger")
"""Of each run; "scores" is a chart, "ledger" the size and root of the ledger."""
