# SPDX-License-Identifier: Apache-2.0
"""A coordinator's directory with a long history, in seconds: for benchmarks and tests of whoever only reads it.

    found = generate(Path("big"), num_rounds=1000, num_sites=20, languages=LANGUAGES, seed=1, now_us=now_us)
    for batch in extend(found, num_rounds=1, now_us=clock):   # one decision at a time, as a coordinator appends them
        ...

Real are: keys, rosters and who signed them, coordinator.toml, the manifest, every leaf (all fit the fold, with the
sentences that the deciders write), the tree, its checkpoints and cosignatures, the sites' reports and step metrics.
Left out are payloads, commits, signed updates and evaluations, theta_0 and the states of fragments: their digests are
digests of nothing. So `coordinator serve` refuses the directory at its start and `federation verify` misses evidence.

The same arguments give the same leaves, up to the rosters' digests: certificates hold random numbers. Keys follow from
the seed and protect nothing.

`python -m coordinator.bench.generated DIR` makes one, or lets one go on.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from coordinator import home
from coordinator.bench import reports
from coordinator.bench.beginning import beginning, moved
from coordinator.bench.directory import consortium_of, make_directory, roster_leaf
from coordinator.bench.history import History
from coordinator.bench.phase_reports import PhaseReports
from coordinator.bench.setting import LANGUAGES, Setting
from coordinator.phases import PhaseLog
from coordinator.telemetry import TelemetryStore
from federation import leaves as lv
from federation import notes
from federation.durable.real import RealFileSystem
from federation.errors import FederationError, ObjectNotFoundError, UsageError
from federation.ledger.log import Ledger
from federation.roster import TrustedRosters
from federation.rounds import Federation, fold
from federation.testing.rosters import MemoryConsortium

SETTING_FILE: Final = "generated.json"
BATCH_LEAVES: Final = 2048
"""Appended under one checkpoint: each batch costs an fsync or two."""

_SILENT_SHARE: Final = 0.97
"""Of the ledger, that the silent site has cosigned."""


@dataclass(kw_only=True)
class Generated:
    """A generated directory whose ledger is open for writing.

    Attributes:
        consortium: everybody's keys, for certificates and signatures in a test.
        fingerprint: of the consortium root, as `--root` takes it.
        history: goes on with `extend`; `history.state` is the fold of the ledger.
    """

    directory: Path
    setting: Setting
    consortium: MemoryConsortium
    fingerprint: str
    ledger: Ledger
    history: History
    telemetry: TelemetryStore
    phases: PhaseReports

    @property
    def state(self) -> Federation:
        """The fold of the ledger."""
        return self.history.state

    def close(self) -> None:
        """Releases the ledger's files."""
        self.ledger.close()


def generate(
    directory: Path,
    *,
    num_rounds: int,
    num_sites: int,
    languages: Sequence[str] = LANGUAGES,
    seed: int = 0,
    now_us: int,
    evaluate_every: int = 1,
    num_evaluators: int = 0,
    hostile: bool = False,
) -> Generated:
    """Makes a coordinator's directory whose last leaf is of `now_us`, in the middle of a round.

    Args:
        directory: empty, or not there yet.
        num_rounds, num_sites, languages, seed, evaluate_every, num_evaluators, hostile: see `Setting`.
        now_us: microseconds since 1970.

    Raises:
        UsageError: there is something in the directory.
        ConfigError: a number makes no sense.
    """
    setting = Setting(
        num_rounds=num_rounds,
        num_sites=num_sites,
        languages=tuple(languages),
        seed=seed,
        evaluate_every=evaluate_every,
        num_evaluators=num_evaluators,
        hostile=hostile,
    )
    consortium, fs = make_directory(directory, setting, now_us), RealFileSystem(directory)
    history, leaves = _live(setting, fs)
    origin_us = now_us - leaves[-1].at_us
    leaves = [moved(leaf, origin_us) for leaf in leaves]
    history.rebase(fold(leaves), origin_us)
    rosters = home.load_rosters(fs, now_us)
    ledger = Ledger.create(
        fs,
        home.LEDGER,
        notes.default_origin(consortium.name),
        consortium.key("ledger"),
        rosters.witness_publics,
    )
    for start in range(0, len(leaves), BATCH_LEAVES):
        ledger.append(leaves[start : start + BATCH_LEAVES])
    fs.write(SETTING_FILE, json.dumps({"setting": asdict(setting), "origin_us": origin_us}).encode())
    found = _generated(directory, setting, consortium, rosters, ledger, history)
    _report(found, now_us)
    return found


def reopen(directory: Path, now_us: int) -> Generated:
    """Takes up a generated directory again, so that another process can let it go on.

    Raises:
        UsageError: `generate` did not make it.
    """
    fs = RealFileSystem(directory)
    try:
        kept = json.loads(fs.read(SETTING_FILE))
    except ObjectNotFoundError as error:
        raise UsageError(f"{directory}: expected a generated directory, found no {SETTING_FILE}") from error
    setting = Setting(**kept["setting"] | {"languages": tuple(kept["setting"]["languages"])})
    consortium, rosters = consortium_of(setting), home.load_rosters(fs, now_us)
    origin, key, public = notes.default_origin(consortium.name), consortium.key("ledger"), consortium.public("ledger")
    ledger = Ledger.open(fs, home.LEDGER, origin, key, public, rosters.witness_publics)
    leaves = ledger.leaves()
    clock_us = leaves[-1].at_us - kept["origin_us"]
    history = History(
        setting, fold(leaves), roster_leaf(fs, setting, 2), clock_us=clock_us, origin_us=kept["origin_us"]
    )
    return _generated(directory, setting, consortium, rosters, ledger, history)


def extend(found: Generated, *, num_rounds: int, now_us: Callable[[], int]) -> Iterator[list[lv.Leaf]]:
    """Lets further rounds end. Each step appends what one decision causes, and gives it out when it is durable.

    Cosignatures follow every commit; reports and step metrics follow every batch. Who wants more time to pass between
    two batches takes the next one later.

    Args:
        num_rounds: that end, committed or abandoned.
        now_us: asked for the time of each batch, microseconds since 1970.
    """
    wanted = _num_ended(found.state) + num_rounds
    for batch in found.history.batches(now_us):
        found.ledger.append(batch)
        _report_again(found, batch)
        yield batch
        if _num_ended(found.state) >= wanted:
            return


def _live(setting: Setting, fs: RealFileSystem) -> tuple[History, list[lv.Leaf]]:
    """The whole history, its first leaf at 0, until half of the sites have delivered the round after the last."""
    leaves = list(beginning(setting, roster_leaf(fs, setting, 1)))
    history = History(setting, fold(leaves), roster_leaf(fs, setting, 2), clock_us=leaves[-1].at_us)
    for batch in history.batches():
        leaves.extend(batch)
        run = history.run
        open_rounds = [run.rounds[number] for number in run.open_rounds]
        half = any(0 < len(r.invitations) <= 2 * len(r.verdicts) for r in open_rounds)
        if half and _num_ended(history.state) >= setting.num_rounds:
            break
    return history, leaves


def _num_ended(state: Federation) -> int:
    """Rounds committed or abandoned; there is one run."""
    (run,) = state.runs.values()
    return len(run.rounds) - len(run.open_rounds)


def _generated(
    directory: Path,
    setting: Setting,
    consortium: MemoryConsortium,
    rosters: TrustedRosters,
    ledger: Ledger,
    history: History,
) -> Generated:
    return Generated(
        directory=directory,
        setting=setting,
        consortium=consortium,
        fingerprint=rosters.fingerprint,
        ledger=ledger,
        history=history,
        telemetry=TelemetryStore(RealFileSystem(directory)),
        phases=PhaseReports(PhaseLog(RealFileSystem(directory))),
    )


def _report(found: Generated, now_us: int) -> None:
    """Everything that lies beside the leaves."""
    fs, (talking, silent) = RealFileSystem(found.directory), _witnesses(found)
    found.phases.write(found.history, offset_us=found.history.origin_us)
    reports.write_telemetry(found.history, found.telemetry)
    if found.setting.hostile:
        reports.write_hostile_telemetry(found.setting, found.telemetry, now_us / 1e6)
    reports.write_statuses(fs, found.history, now_us)
    if silent:
        old = found.ledger.checkpoint_at(max(1, int(_SILENT_SHARE * found.ledger.size)))
        found.ledger.cosign(_cosigned(found, old, silent, now_us))
    found.ledger.cosign(_cosigned(found, found.ledger.checkpoint(), talking, now_us))


def _report_again(found: Generated, batch: list[lv.Leaf]) -> None:
    now_us = batch[-1].at_us
    found.phases.write(found.history, now_us=now_us)
    reports.write_telemetry(found.history, found.telemetry)
    reports.write_statuses(RealFileSystem(found.directory), found.history, now_us)
    if any(isinstance(leaf.body, lv.RoundCommittedV1) for leaf in batch):
        found.ledger.cosign(_cosigned(found, found.ledger.checkpoint(), _witnesses(found)[0], now_us))


def _witnesses(found: Generated) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sites that cosign the newest checkpoint, and those that are silent."""
    setting, number = found.setting, found.history.run.next_round
    silent = tuple(site for site in setting.sites if setting.is_silent(site, number))
    return tuple(site for site in setting.sites if site not in silent), silent


def _cosigned(found: Generated, note: bytes, sites: Sequence[str], now_us: int) -> bytes:
    for site in sites:
        name = notes.witness_name(found.consortium.name, site)
        note = notes.cosign(note, name, found.consortium.key(f"site/{site}/witness"), now_us // 1_000_000)
    return note


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m coordinator.bench.generated", description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=Path, help="new, or one that was generated: then it only goes on")
    parser.add_argument("--rounds", type=int, default=1000, help="that have ended; default 1000")
    parser.add_argument("--sites", type=int, default=20, help="default 20")
    parser.add_argument("--languages", type=int, default=len(LANGUAGES), help=f"default {len(LANGUAGES)}, at most that")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluate-every", type=int, default=1, help="commits between two evaluations; default 1")
    parser.add_argument("--evaluators", type=int, default=0, help="sites that evaluate; default all")
    parser.add_argument("--hostile", action="store_true", help="texts, codes and reports of bad input")
    parser.add_argument("--then", type=int, default=0, metavar="ROUNDS", help="further rounds, batch by batch")
    parser.add_argument("--every", type=float, default=0.5, metavar="SECONDS", help="between two batches; default 0.5")
    return parser


def _clock() -> int:
    return time.time_ns() // 1000


def main(arguments: Sequence[str]) -> int:
    """The process's exit status."""
    given = _parser().parse_args(arguments)
    began = time.perf_counter()
    try:
        if (given.directory / SETTING_FILE).exists():
            found = reopen(given.directory, _clock())
        else:
            found = generate(
                given.directory,
                num_rounds=given.rounds,
                num_sites=given.sites,
                languages=LANGUAGES[: given.languages],
                seed=given.seed,
                now_us=_clock(),
                evaluate_every=given.evaluate_every,
                num_evaluators=given.evaluators,
                hostile=given.hostile,
            )
        seconds = time.perf_counter() - began
        print(f"{found.ledger.size} leaves after {seconds:.1f} s; consortium root {found.fingerprint}", flush=True)
        for _ in extend(found, num_rounds=given.then, now_us=_clock) if given.then else ():
            time.sleep(given.every)
        found.close()
    except FederationError as error:
        print(error.diagnostics(), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
