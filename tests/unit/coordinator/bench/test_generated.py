# SPDX-License-Identifier: Apache-2.0
"""A generated directory is what a coordinator would have written, as far as it goes."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator import home, observation_store
from coordinator.bench.generated import Generated, extend, generate, main, reopen
from coordinator.bench.setting import LANGUAGES, RUN, Setting
from coordinator.bench.task_scores import EVERY_COMMITS
from coordinator.bounded_lines import Tail, sites_of
from coordinator.dashboard.history import History
from coordinator.disagreement import disagreements
from coordinator.phases import PHASES, Mark, read_change
from federation import leaves as lv
from federation import wire
from federation.blobs.store import BlobStore
from federation.durable.real import RealFileSystem
from federation.egress_words import metric_line
from federation.errors import ConfigError, UsageError
from federation.leaves import Outcome
from federation.ledger.log import Ledger
from federation.ledger.store import by_site
from federation.limits import DEFAULT_LIMITS
from federation.manifest_rules import manifest_problems
from federation.rounds import Federation, RoundState, RunState, apply, fold
from federation.state_digest import state_digest
from federation.task_scores import problem_of
from federation.verify.report import Check
from federation.verify.verifier import verify_directory

NOW_US = 1_790_000_000_000_000
NUM_ROUNDS, NUM_SITES = 5, 3


def small(directory: Path, **changed: object) -> Generated:
    size = {"num_rounds": NUM_ROUNDS, "num_sites": NUM_SITES, "languages": LANGUAGES[:4], "now_us": NOW_US, "seed": 7}
    return generate(directory, **size | changed)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generated]:
    found = small(tmp_path_factory.mktemp("generated") / "coordinator")
    yield found
    found.close()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generated]:
    found = small(tmp_path_factory.mktemp("hostile") / "coordinator", num_rounds=20, hostile=True)
    yield found
    found.close()


def opened(found: Generated) -> Ledger:
    """The ledger as any reader opens it: signatures, tree and cosignatures are verified against the roster."""
    fs = RealFileSystem(found.directory)
    rosters = home.load_rosters(fs, NOW_US)
    entry = rosters.current.coordinator
    assert entry is not None
    return Ledger.open(fs, home.LEDGER, entry.ledger_origin, None, entry.ledger_public, rosters.witness_publics)


def masked(leaves: list[lv.Leaf]) -> list[lv.Leaf]:
    """Without the rosters' digests: a roster holds a certificate, and those hold random numbers."""
    return [
        replace(leaf, body=replace(leaf.body, digest="")) if isinstance(leaf.body, lv.RosterInstalledV1) else leaf
        for leaf in leaves
    ]


def test_a_reader_verifies_it_and_folds_to_the_same_state(made: Generated) -> None:
    ledger = opened(made)
    state = fold(ledger.leaves())
    assert state_digest(state) == state_digest(made.state)
    run = state.runs[RUN]
    assert run.state is RunState.RUNNING
    assert len(run.rounds) - len(run.open_rounds) == NUM_ROUNDS
    assert run.open_rounds


def test_the_verifier_misses_only_what_is_left_out(tmp_path: Path) -> None:
    found = small(tmp_path / "audited", num_rounds=40, num_sites=5, evaluate_every=20)
    found.close()
    report = verify_directory(found.directory, root=found.fingerprint)
    assert set(report.findings.failed) == {Check.BLOBS}
    assert report.findings.passed.keys() >= {
        Check.LEAVES,
        Check.COMMANDS,
        Check.OPENINGS,
        Check.VERDICTS,
        Check.ENDS,
        Check.EVALUATIONS,
    }


def test_all_but_the_silent_site_cosigned_the_newest_checkpoint(made: Generated) -> None:
    ledger = opened(made)
    witnessed = by_site(made.consortium.name, ledger.witnessed)
    *talking, silent = made.setting.sites
    assert {site: witnessed[site] for site in talking} == dict.fromkeys(talking, ledger.size)
    assert 0 < witnessed[silent] < ledger.size


def test_the_last_leaf_is_of_now_and_time_never_goes_back(made: Generated) -> None:
    times = [leaf.at_us for leaf in opened(made).leaves()]
    assert times == sorted(times)
    assert times[-1] == NOW_US


def test_the_same_arguments_give_the_same_leaves(made: Generated, tmp_path: Path) -> None:
    again, other = small(tmp_path / "again"), small(tmp_path / "other", seed=8)
    assert masked(again.ledger.leaves()) == masked(made.ledger.leaves())
    assert masked(other.ledger.leaves()) != masked(made.ledger.leaves())
    for found in (again, other):
        found.close()


def test_the_directory_is_a_coordinators(made: Generated) -> None:
    fs = RealFileSystem(made.directory)
    assert home.load_issuers(fs) is not None
    assert home.load_keys(fs).ledger
    rosters = home.load_rosters(fs, NOW_US)
    assert rosters.fingerprint == made.fingerprint
    assert not rosters.expired(NOW_US)
    assert rosters.current.version == made.state.roster_version
    manifest = wire.manifest_from_bytes(BlobStore(fs).read(made.state.runs[RUN].manifest_digest))
    assert list(manifest_problems(manifest)) == []
    assert manifest.plan == made.state.runs[RUN].plan


def test_sites_report_where_they_are(made: Generated) -> None:
    observations = observation_store.load(RealFileSystem(made.directory))
    assert set(observations.sites) == set(made.setting.sites)
    open_rounds = set(made.state.runs[RUN].open_rounds)
    for site, seen in observations.sites.items():
        assert seen.received_at <= NOW_US / 1e6
        reported = {part.round for part in seen.status.participations}
        waited = {n for n in open_rounds if site in made.state.runs[RUN].rounds[n].waiting_for()}
        assert reported <= waited
    assert any(seen.status.participations for seen in observations.sites.values())


def test_step_metrics_are_what_leaves_a_site(made: Generated) -> None:
    fs, run = RealFileSystem(made.directory), made.state.runs[RUN]
    for site in made.setting.sites:
        lines = [json.loads(line) for line in fs.read(f"telemetry/{site}.jsonl").decode().splitlines()]
        assert {line.pop("run") for line in lines} == {RUN}
        times = [line.pop("at") for line in lines]
        assert times == sorted(times)
        assert all(json.loads(metric_line(json.dumps(line))) == line for line in lines)
        admitted = {n for n, found in run.rounds.items() if site in {v.site for v in found.admitted()}}
        assert admitted <= {line["round"] for line in lines}


def test_loss_falls_and_scores_get_better(tmp_path: Path) -> None:
    with_more = small(tmp_path / "more", num_rounds=40, evaluate_every=5)
    evaluations = with_more.state.runs[RUN].evaluations
    first, last = evaluations[0].scores[0], evaluations[-1].scores[0]
    assert last.bits_per_byte < first.bits_per_byte
    assert {e.num_commits % 5 for e in evaluations if not e.request} == {0}
    with_more.close()


def test_a_longer_history_has_every_kind_of_leaf_and_many_outcomes(tmp_path: Path) -> None:
    found = small(tmp_path / "long", num_rounds=120, num_sites=6, evaluate_every=30)
    bodies = [leaf.body for leaf in found.ledger.leaves()]
    missing = set(lv.Body.__args__) - {type(body) for body in bodies}
    assert missing == {lv.RunAbortedV1, lv.RunCompletedV1, lv.SiteRevokedV1, lv.SiteReadmittedV1}
    tasks = [body for body in bodies if isinstance(body, lv.TasksEvaluatedV1)]
    assert {t.num_commits for t in tasks if not t.request} >= {0, EVERY_COMMITS, 2 * EVERY_COMMITS}
    assert {problem_of(t.scores) for t in tasks} == {""}
    assert any("belebele" in sentence for sentence in disagreements(found.state.runs[RUN]))
    verdicts = [body for body in bodies if isinstance(body, lv.VerdictV1)]
    assert {v.outcome for v in verdicts} >= {Outcome.ADMITTED, Outcome.REJECTED, Outcome.MISSED, Outcome.DECLINED}
    assert all(v.sentence for v in verdicts if v.outcome is not Outcome.ADMITTED)
    run = found.state.runs[RUN]
    assert any(r.reverted for r in run.rounds.values())
    assert any(r.state is RoundState.ABANDONED for r in run.rounds.values())
    hours = (run.last_round_end_us - run.rounds[0].opened_at_us) / 3.6e9
    assert 0.5 < hours / 120 < 1.2
    found.close()


def test_it_is_taken_up_between_a_commit_and_its_state(tmp_path: Path) -> None:
    found = small(tmp_path / "cut")
    clock = iter(range(NOW_US, NOW_US + 10**10, 10**6))
    for batch in extend(found, num_rounds=3, now_us=lambda: next(clock)):
        if any(isinstance(leaf.body, lv.RoundCommittedV1) for leaf in batch):
            break
    found.close()
    again = reopen(found.directory, NOW_US)
    before = again.state.runs[RUN].num_commits()
    for _ in extend(again, num_rounds=6, now_us=lambda: next(clock)):  # each fragment once more, at least
        pass
    assert again.state.runs[RUN].num_commits() > before + 3
    again.close()


def test_it_goes_on_batch_by_batch(tmp_path: Path) -> None:
    found = small(tmp_path / "live")
    before, clock = found.ledger.size, iter(range(NOW_US, NOW_US + 10**9, 10**6))
    batches = extend(found, num_rounds=2, now_us=lambda: next(clock))
    first = next(batches)
    reader = opened(found)
    assert reader.size == before + len(first)
    assert [leaf.at_us for leaf in first] == [NOW_US] * len(first)
    rest = [leaf for batch in batches for leaf in batch]
    assert opened(found).size == before + len(first) + len(rest)
    run = fold(opened(found).leaves()).runs[RUN]
    assert len(run.rounds) - len(run.open_rounds) == NUM_ROUNDS + 2
    found.close()


def test_another_process_can_take_it_up(tmp_path: Path) -> None:
    small(tmp_path / "left").close()
    found = reopen(tmp_path / "left", NOW_US)
    leaves = [leaf for batch in extend(found, num_rounds=1, now_us=lambda: NOW_US + 1) for leaf in batch]
    assert any(isinstance(leaf.body, lv.RoundCommittedV1 | lv.RoundAbandonedV1) for leaf in leaves)
    assert state_digest(fold(opened(found).leaves())) == state_digest(found.state)
    found.close()


def test_hostile_texts_are_in_the_ledger_and_beside_it(hostile: Generated) -> None:
    leaves = opened(hostile).leaves()
    sentences = [getattr(leaf.body, "sentence", "") for leaf in leaves]
    assert any("<script>" in sentence for sentence in sentences)
    assert max(map(len, sentences)) == DEFAULT_LIMITS.max_text_chars
    languages = {
        score.language
        for leaf in leaves
        if isinstance(leaf.body, lv.EvaluationRecordedV1)
        for score in leaf.body.scores
    }
    assert "zxx" in languages
    assert any("<script>" in language for language in languages)
    fs = RealFileSystem(hostile.directory)
    assert "torn.json" in fs.list(observation_store.STATUS)
    assert b"<script>" in fs.read(f"telemetry/{hostile.setting.sites[0]}.jsonl")
    assert set(observation_store.load(fs).sites) >= set(hostile.setting.sites)


def test_the_command_makes_one_and_lets_it_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = str(tmp_path / "one")
    assert main([directory, "--rounds", "1", "--sites", "1", "--languages", "2"]) == 0
    made = capsys.readouterr().out
    assert main([directory, "--then", "1", "--every", "0"]) == 0
    assert int(made.split()[0]) == int(capsys.readouterr().out.split()[0])
    found = reopen(tmp_path / "one", time.time_ns() // 1000)
    run = found.state.runs[RUN]
    assert len(run.rounds) - len(run.open_rounds) == 2
    found.close()
    assert main([str(tmp_path), "--rounds", "1"]) == UsageError("").exit_code
    assert "expected an empty directory" in capsys.readouterr().err


def test_nothing_is_written_over(made: Generated) -> None:
    with pytest.raises(UsageError, match="expected an empty directory"):
        small(made.directory)


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a generated directory"):
        reopen(tmp_path, NOW_US)


@pytest.mark.parametrize("changed", [{"num_rounds": 0}, {"num_sites": 0}, {"evaluate_every": 0}, {"num_evaluators": 9}])
def test_impossible_numbers_are_refused(changed: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Setting(**{"num_rounds": 1, "num_sites": 2} | changed)


def test_phases_lie_between_invitation_and_verdict(made: Generated) -> None:
    """Sites whose update was admitted were heard to train and to upload, each once."""
    fs = RealFileSystem(made.directory)
    found = {site: [read_change(line) for line in Tail(fs, PHASES, site).new()] for site in sites_of(fs, PHASES)}
    assert set(found) <= set(made.setting.sites)
    history, state = History(), Federation()
    for index, leaf in enumerate(made.ledger.leaves()):
        state = apply(state, leaf)
        history.leaf(index, leaf, state)
    times = history.times
    for number, one in made.state.runs[RUN].rounds.items():
        for verdict in one.admitted():
            changes = [c for c in found[verdict.site] if c is not None and c.round == number]
            at = {change.mark: change.at for change in changes}
            assert sorted(at) == sorted(Mark)
            assert len(changes) == len(at)
            of_round = times.of(RUN, number)
            invited, decided = of_round.invited_us[verdict.site] / 1e6, of_round.verdict_us[verdict.site] / 1e6
            assert invited <= at[Mark.TRAINING] <= at[Mark.UPLOADING] <= decided
