# SPDX-License-Identifier: Apache-2.0
"""The first pass over the leaves: builds the tree, and notes what has to be known before the second pass."""

from collections.abc import Callable
from dataclasses import dataclass, field

from federation import leaves as lv
from federation import wire
from federation.errors import FederationError
from federation.verify.log_files import LeafFiles
from federation.verify.recomputation import Key, Uses
from federation.verify.trust import Installed

_NUM_STEPS_SHOWN = 256


@dataclass(kw_only=True)
class Survey:
    """Rosters that came into force, and which versions are built upon until when. Believes every leaf."""

    installed: list[Installed] = field(default_factory=list)
    last_use: dict[Key, int] = field(default_factory=dict)
    recorded: dict[tuple[str, int], lv.StateRecordedV1] = field(default_factory=dict)
    _bases: dict[tuple[str, int], Key] = field(default_factory=dict)

    @property
    def uses(self) -> Uses:
        """For the recomputation."""
        return Uses(last_use=self.last_use, recorded=self.recorded)

    def take(self, index: int, leaf: lv.Leaf) -> None:
        """Notes what one leaf says."""
        body = leaf.body
        if isinstance(body, lv.RosterInstalledV1):
            self.installed.append(Installed(leaf=index, at_us=leaf.at_us, body=body))
        elif isinstance(body, lv.RoundOpenedV1):
            self._bases[(body.run, body.round)] = (body.run, body.fragment, body.base_version)
        elif isinstance(body, lv.RoundCommittedV1):
            base = self._bases.get((body.run, body.round))
            if base is not None:
                self.last_use[base] = index
        elif isinstance(body, lv.StateRecordedV1):
            self.recorded[(body.run, body.round)] = body


def survey_leaves(files: LeafFiles, progress: Callable[[int], None]) -> Survey:
    """Reads all leaves once; ones that cannot be decoded are the second pass's to name."""
    survey, readable = Survey(), True
    for index, data in files.first_pass():
        try:
            if readable:
                survey.take(index, wire.leaf_from_bytes(data))
        except FederationError:
            readable = False  # the second pass stops there too
        if index % _NUM_STEPS_SHOWN == 0:
            progress(index)
    return survey
