# SPDX-License-Identifier: Apache-2.0
"""Every page renders whatever there is: nothing yet, no rounds, hostile texts; and none of it is ever markup."""

from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.bench.generated import Generated
from coordinator.bench.hostile import TEXTS
from coordinator.bench.setting import RUN
from coordinator.dashboard.history import History
from coordinator.dashboard.liveness import Liveness, LivenessWatch
from coordinator.dashboard.tables import Table
from dashboard_bench import NOW, PAGES, Bench, Markup, foreign
from federation import leaves as lv
from federation.directory_lock import newest_owner
from federation.durable.simulated import SimulatedFileSystem
from federation.ledger_state import Federation, apply_all
from federation.roster_document import Role
from federation.wire import leaf_from_bytes
