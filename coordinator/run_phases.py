# SPDX-License-Identifier: Apache-2.0
"""When each site queued, trained and uploaded in each round, as a table. Pure."""

from collections.abc import Iterable, Mapping

from coordinator.phases import Mark, PhaseChange
from coordinator.run_columns import Table, empty_table
from federation.ledger_state import Run

Times = Mapping[tuple[int, str], int]
"""By round and site, microseconds since 1970."""


def phases_table(run: Run, invited: Times, decided: Times, phases: Mapping[str, Iterable[PhaseChange]]) -> Table:
    """One row for each invitation.

    Args:
        invited, decided: of the ledger: when a site was invited, and when the verdict that stands was given.
        phases: by site what it was heard to do, oldest first; what is of another run is left out.
    """
    table, heard = empty_table("phases"), _heard(run, phases)
    for number, found in sorted(run.rounds.items()):
        for site in sorted(invitation.site for invitation in found.invitations):
            marks = (heard.get((number, site, mark)) for mark in Mark)
            key = number, site
            table.add(number, site, invited.get(key), *marks, decided.get(key))
    return table


def _heard(run: Run, phases: Mapping[str, Iterable[PhaseChange]]) -> dict[tuple[int, str, Mark], int]:
    """The first time of each mark: a restart of the coordinator may have noted one again."""
    found: dict[tuple[int, str, Mark], int] = {}
    for site, changes in phases.items():
        for change in changes:
            if change.run == run.id:
                found.setdefault((change.round, site, change.mark), round(change.at * 1e6))
    return found
