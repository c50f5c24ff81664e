# SPDX-License-Identifier: Apache-2.0
"""What may leave a site: every field is decided about, and what breaks the list is refused without being repeated."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from federation import dsse, egress, notes, wire
from federation.egress import ALLOWED, BY_CONSTRUCTION, EgressRefusedError, check_outgoing, or_nothing, problems
from federation.egress_words import STOCK, is_our_sentence, metric_line, outgoing_sentence
from federation.leaves import LanguageScore, Reason, TaskScore
from federation.messages import (
    Acknowledgement,
    AllocationReport,
    AllocationState,
    CommandReply,
    Cosignature,
    Evaluation,
    EvaluationOffer,
    Header,
    LanguageTokens,
    LedgerTail,
    ManifestAnswer,
    MessageBody,
    RoundDeclined,
    RunBudget,
    SiteFacts,
    SiteStatus,
    SnapshotWanted,
    TaskEvaluation,
    Telemetry,
    Update,
    UpdateOffer,
)
from federation.signing import generate_key
from federation.v1 import courier_pb2, envelope_pb2, message_pb2, roster_pb2, update_pb2

CANARY = "kanarie"
DIGEST = "ab" * 32
KEY = generate_key()

FROM_ELSEWHERE = {"ledger_tail", "command", "command_reply", "query", "query_reply"}
"""Bodies that no site sends; `check_outgoing` refuses them."""

TO_SITES = {"NegotiateReply", "PullReply", "PushReply", "StatBlobReply", "BlobPiece", "EnrollReply"}
OF_OPERATORS = {"StatusRequest", "StatusReply", "WatchRequest", "WatchReply"}


# --- completeness -----------------------------------------------------------------------------------------------------


def texts(descriptor: Descriptor, skipped: frozenset[str] = frozenset()) -> Iterator[tuple[str, str]]:
    """Every text and byte field that can be reached from a message."""
    for field in descriptor.fields:
        if field.name in skipped and field.containing_oneof is not None:
            continue
        if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            yield descriptor.name, field.name
        elif field.message_type is not None:
            yield from texts(field.message_type)


def outgoing() -> set[tuple[str, str]]:
    """Of everything that a site's agent, courier or enrolment can send."""
    found = set(texts(message_pb2.Message.DESCRIPTOR, frozenset(FROM_ELSEWHERE)))
    for message in (
        update_pb2.Update,
        update_pb2.Evaluation,
        update_pb2.TaskEvaluation,
        envelope_pb2.Envelope,
        roster_pb2.KeyRequest,
    ):
        found |= set(texts(message.DESCRIPTOR))
    for descriptor in courier_pb2.DESCRIPTOR.message_types_by_name.values():
        if descriptor.name not in TO_SITES | OF_OPERATORS:
            found |= set(texts(descriptor))
    return found


def test_somebody_has_decided_about_every_field_that_a_site_can_send() -> None:
    assert outgoing() == ALLOWED.keys() | BY_CONSTRUCTION.keys()
    assert not ALLOWED.keys() & BY_CONSTRUCTION.keys()


def test_a_new_field_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "ALLOWED", {k: v for k, v in ALLOWED.items() if k != ("SiteStatus", "software")})
    assert outgoing() != egress.ALLOWED.keys() | BY_CONSTRUCTION.keys()
    with pytest.raises(EgressRefusedError, match=r"SiteStatus\.software: expected a field on the list"):
        check_outgoing(SiteStatus(ledger_size=1, software="hpc-federation 0.1.0"))


def test_every_body_is_one_that_a_site_sends_or_one_that_it_does_not() -> None:
    bodies = message_pb2.Message.DESCRIPTOR.oneofs_by_name["body"].fields
    sent = {"acknowledgement", "manifest_answer", "site_status", "update_offer", "round_declined"}
    sent |= {"cosignature", "evaluation_offer", "telemetry"}
    assert {body.name for body in bodies} == sent | FROM_ELSEWHERE


# --- what goes out ----------------------------------------------------------------------------------------------------

UPDATE = Update(
    consortium="test",
    run="r",
    manifest_digest=DIGEST,
    round=1,
    fragment=0,
    base_digest=DIGEST,
    site="a",
    allocation="a1",
    codec="sparse-down",
    weight_tokens=1,
    new_tokens=1,
    num_steps=1,
    payload_digest=DIGEST,
    payload_bytes=10,
)
EVALUATION = Evaluation(
    run="r",
    site="a",
    request=0,
    num_commits=0,
    versions=(0,),
    scores=(LanguageScore(language="deu_Latn", bits_per_byte=1.0, num_bytes=1),),
)
TASKS = TaskEvaluation(
    run="r",
    site="a",
    request=0,
    num_commits=0,
    versions=(0,),
    scores=(
        TaskScore(
            task="belebele", language="de", task_version="1", metric="acc", num_items=1, score=0.5, low=0.1, high=0.9
        ),
    ),
)
STATUS = SiteStatus(
    ledger_size=3,
    allocations=(AllocationReport(run="r", allocation="a1", state=AllocationState.READY, seconds_left=-1),),
    blobs_wanted=(DIGEST,),
    applied=("r:0,12",),
    software="hpc-federation 0.1.0.dev3+local",
    snapshots_wanted=(SnapshotWanted(run="r", fragment=0, version=1),),
    measured_round_trip_seconds=1830,
    declared_round_trip_seconds=1800,
    facts=SiteFacts(
        profile="leonardo",
        launcher="slurm",
        courier="grpc",
        python="3.13.1",
        torch="2.13.0+cu128",
        accelerator="NVIDIA A100-SXM-64GB",
        num_accelerators=4,
        architecture="x86_64",
        budgets=(RunBudget(run="r", native_unit="core-hours"),),
        language_tokens=(LanguageTokens(run="r", language="est_Latn", tokens=5),),
    ),
)


def with_facts(**changes: object) -> SiteStatus:
    assert STATUS.facts is not None
    return replace(STATUS, facts=replace(STATUS.facts, **changes))  # type: ignore[arg-type]


def offer(update: Update) -> UpdateOffer:
    return UpdateOffer(signed_update=dsse.sign_envelope(dsse.UPDATE_TYPE, wire.update_to_bytes(update), KEY))


def evaluation(found: Evaluation) -> EvaluationOffer:
    payload = wire.evaluation_to_bytes(found)
    return EvaluationOffer(signed_evaluation=dsse.sign_envelope(dsse.EVALUATION_TYPE, payload, KEY))


def evaluation_of_type(kind: str) -> EvaluationOffer:
    """A good evaluation under another type."""
    return EvaluationOffer(signed_evaluation=dsse.sign_envelope(kind, wire.evaluation_to_bytes(EVALUATION), KEY))


def tasks(**changes: object) -> EvaluationOffer:
    """Scores of tasks, signed, with another value in the first one."""
    found = replace(TASKS, scores=(replace(TASKS.scores[0], **changes),))
    return EvaluationOffer(signed_evaluation=dsse.sign_envelope(dsse.TASKS_TYPE, wire.tasks_to_bytes(found), KEY))


def note() -> bytes:
    checkpoint = notes.Checkpoint(origin="Test/ledger", size=7, root=bytes(32))
    return notes.cosign(notes.sign_checkpoint(checkpoint, "Test/ledger", KEY), "test/site/a", KEY, 1_700_000_000)


GOOD: tuple[MessageBody, ...] = (
    Acknowledgement(),
    STATUS,
    SiteStatus(ledger_size=0),
    ManifestAnswer(run="r", manifest_digest=DIGEST, accepted=True, reason=Reason.NONE, sentence=STOCK[Reason.NONE]),
    RoundDeclined(run="r", round=1, reason=Reason.LATE, sentence="the job has entered round 12 already"),
    offer(UPDATE),
    evaluation(EVALUATION),
    tasks(),
    Cosignature(size=7, root=DIGEST, note=note()),
    Telemetry(run="r", allocation="a1", lines=('{"loss": 1.5, "step": 3}',)),
)


@pytest.mark.parametrize("body", GOOD, ids=lambda body: type(body).__name__)
def test_what_a_site_says_passes(body: MessageBody) -> None:
    check_outgoing(body)


DECLINED = RoundDeclined(run="r", round=1, reason=Reason.JOB_FAILED, sentence="")
BAD: tuple[tuple[MessageBody, str], ...] = (
    (replace(DECLINED, sentence=f"/data/{CANARY}.txt: no such file"), "RoundDeclined.sentence"),
    (replace(DECLINED, sentence=f"{STOCK[Reason.JOB_FAILED]} {CANARY}"), "RoundDeclined.sentence"),
    (replace(DECLINED, run=f"{CANARY}.txt"), "RoundDeclined.run"),
    (replace(STATUS, software=f"hpc-federation 1 ({CANARY})"), "SiteStatus.software"),
    (replace(STATUS, applied=(f"{CANARY}/x:1",)), "SiteStatus.applied"),
    (replace(STATUS, blobs_wanted=(CANARY,)), "SiteStatus.blobs_wanted"),
    (replace(STATUS, allocations=(replace(STATUS.allocations[0], allocation=f"/{CANARY}"),)), "AllocationReport"),
    (with_facts(profile=f"/{CANARY}"), "SiteFacts.profile"),
    (with_facts(launcher=CANARY), "SiteFacts.launcher"),
    (with_facts(courier="carrier"), "SiteFacts.courier"),
    (with_facts(python=f"3.13.1 {CANARY}"), "SiteFacts.python"),
    (with_facts(torch=f"2.13.0+{CANARY}"), "SiteFacts.torch"),
    (with_facts(accelerator=CANARY), "SiteFacts.accelerator"),
    (with_facts(accelerator=f"NVIDIA {CANARY}"), "SiteFacts.accelerator"),
    (with_facts(accelerator="NVIDIA " + "H100 " * 7 + "H100"), "SiteFacts.accelerator"),
    (with_facts(architecture=CANARY), "SiteFacts.architecture"),
    (with_facts(budgets=(RunBudget(run=f"/{CANARY}"),)), "RunBudget.run"),
    (with_facts(budgets=(RunBudget(run="r", native_unit=CANARY),)), "RunBudget.native_unit"),
    (with_facts(language_tokens=(LanguageTokens(run="r", language=CANARY, tokens=1),)), "LanguageTokens.language"),
    (Telemetry(run="r", allocation="a1", lines=(json.dumps({"loss": 1.0, "text": CANARY}),)), "Telemetry.lines"),
    (Telemetry(run="r", allocation="a1", lines=(json.dumps({CANARY: 1.0}),)), "Telemetry.lines"),
    (Telemetry(run="r", allocation="a1", lines=(CANARY,)), "Telemetry.lines"),
    (offer(replace(UPDATE, codec=f"{CANARY} /")), "UpdateOffer.signed_update"),
    (UpdateOffer(signed_update=CANARY.encode()), "UpdateOffer.signed_update"),
    (UpdateOffer(signed_update=dsse.sign_envelope(dsse.MESSAGE_TYPE, b"x", KEY)), "UpdateOffer.signed_update"),
    (evaluation(replace(EVALUATION, scores=(LanguageScore(language=CANARY, bits_per_byte=1, num_bytes=1),))), "Eval"),
    *((tasks(**{name: f"{CANARY} text"}), "Eval") for name in ("task", "language", "task_version", "metric")),
    (evaluation_of_type(dsse.UPDATE_TYPE), "EvaluationOffer.signed_evaluation"),
    (Cosignature(size=7, root=DIGEST, note=note() + CANARY.encode() + b"\n"), "Cosignature.note"),
    (Cosignature(size=7, root=DIGEST, note=b"\xff"), "Cosignature.note"),
    (LedgerTail(first_index=0, leaves=(CANARY.encode(),), checkpoint=b""), "LedgerTail.leaves"),
    (CommandReply(id="1", ok=True, sentence=CANARY), "CommandReply"),
)


@pytest.mark.parametrize(("body", "field"), BAD, ids=lambda x: x if isinstance(x, str) else type(x).__name__)
def test_what_may_not_leave_is_named_by_its_field_and_not_repeated(body: MessageBody, field: str) -> None:
    with pytest.raises(EgressRefusedError, match=f"is not sent: {field}") as caught:
        check_outgoing(body)
    assert CANARY not in caught.value.diagnostics()
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA H100 80GB HBM3",
        "NVIDIA GH200 120GB",
        "NVIDIA A100-SXM-64GB",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "NVIDIA GeForce RTX 4090",
        "NVIDIA RTX PRO 6000 Blackwell",
        "AMD Instinct MI250X",
        "AMD Instinct MI300A",
        "Intel Data Center GPU Max 1550",
        "NVIDIA GPU",
        "AMD GPU",
    ],
)
def test_accelerators_may_be_named(name: str) -> None:
    assert or_nothing("SiteFacts", "accelerator", name) == name


@pytest.mark.parametrize("name", [CANARY, f"NVIDIA {CANARY}", "NVIDIA the cat sat on it", "H100", "AMD\n", "NVIDIA  "])
def test_other_words_are_no_accelerators(name: str) -> None:
    assert or_nothing("SiteFacts", "accelerator", name) == ""


@pytest.mark.parametrize("release", ["2.13.0+cpu", "2.6.0", "2.6.0+rocm6.2.4", "2.10.0.dev20260101+cu128", "2.9.0rc1"])
def test_releases_of_torch_may_be_named(release: str) -> None:
    assert or_nothing("SiteFacts", "torch", release) == release


@pytest.mark.parametrize("slug", ["hours", "core-hours", "gpu-hours", "cpu-hours", "billing-units", ""])
def test_units_of_the_shipped_profiles_may_be_named(slug: str) -> None:
    assert next(problems(RunBudget(run="r", native_unit=slug)), None) is None


def test_lengths_count_even_where_the_form_is_right() -> None:
    too_long = replace(STATUS, applied=("r:" + ",".join(["1"] * 40_000),))
    with pytest.raises(EgressRefusedError, match=r"SiteStatus\.applied: expected .*, at most 65536 long, found 80001"):
        check_outgoing(too_long)


def test_what_is_inside_a_signed_document_is_checked_too() -> None:
    raw = dsse.sign_envelope(dsse.UPDATE_TYPE, wire.update_to_bytes(replace(UPDATE, codec="x" * 30)), KEY)
    with pytest.raises(EgressRefusedError):
        check_outgoing(UpdateOffer(signed_update=raw))


def test_headers_as_the_mailbox_writes_them_are_on_the_list() -> None:
    header = Header(
        consortium="test",
        sender="a",
        recipient="coordinator",
        sequence=1,
        received_through=0,
        epoch=1,
        checkpoint_root=DIGEST,
        blobs=(DIGEST,),
    )
    assert list(egress.problems(header)) == []
    assert list(egress.problems(replace(header, encryption=CANARY)))


# --- words ------------------------------------------------------------------------------------------------------------


def test_every_reason_has_a_sentence_that_may_go_out() -> None:
    assert STOCK.keys() == set(Reason)
    for reason in Reason:
        assert is_our_sentence(outgoing_sentence(reason))
        assert is_our_sentence(outgoing_sentence(reason, f"ConfigError: /scratch/{CANARY}: 'text'"))
        assert CANARY not in outgoing_sentence(reason, f"jobs failed in a row {CANARY}")


@pytest.mark.parametrize(
    "sentence",
    [
        "3 jobs failed in a row, at most 5",
        "expected at most 24 GPU-hours within 24 hours, found 2e+06 spent and 1.5 wanted",
        "policy.toml does not list manifest 0123456789ab and declines such",
    ],
)
def test_sentences_of_ours_go_out_with_their_numbers(sentence: str) -> None:
    assert outgoing_sentence(Reason.BUDGET, sentence) == sentence


def test_a_sentence_of_ours_with_something_else_in_the_numbers_place_does_not() -> None:
    for word in (CANARY, base64.b64encode(CANARY.encode()).decode(), "7 " + CANARY):
        assert not is_our_sentence(f"{word} jobs failed in a row, at most 5")
        assert not is_our_sentence(f"policy.toml lists manifest {word}")


def test_metrics_keep_known_figures_only() -> None:
    line = {"loss": 1.25, "step": 3, "text": CANARY, CANARY: 1, "tokens": CANARY, "round": True, "seconds": 1e999}
    assert json.loads(metric_line(json.dumps(line))) == {"loss": 1.25, "step": 3}
    whole = json.dumps({"fencing": 1, "loss": 2.5, "num_steps": 4, "round": 0, "seconds": 0.1, "step": 1, "tokens": 9})
    assert metric_line(whole) == whole
    assert metric_line(metric_line(whole)) == whole


@pytest.mark.parametrize("line", ["", CANARY, "[1]", '{"a": 1}', '{"step": 1e400}', "[" * 100_000, str(10**30)])
def test_lines_without_a_known_figure_are_left_out(line: str) -> None:
    assert metric_line(line) == ""


def test_a_number_that_could_spell_something_is_no_figure() -> None:
    assert metric_line(json.dumps({"step": int.from_bytes(CANARY.encode() * 2, "big")})) == ""
