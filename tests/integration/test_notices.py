# SPDX-License-Identifier: Apache-2.0
"""Notices through real HTTP on loopback, to webhooks that take, refuse, hang, cut off and ask for patience."""

import json
import logging
import ssl
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from decider_world import World
from notice_world import Webhook, committed_rounds, loss_report, report, saying, snapshot, until, webhook

from coordinator.cli.notify import notify
from coordinator.notices.delivery import Delivery, NotTakenError, RefusedError
from coordinator.notices.formats import PlatformKind
from coordinator.notices.memory import Timing
from coordinator.notices.notice import Severity
from coordinator.notices.notifier import Notifier
from coordinator.notices.sending import Pace, Sender
from coordinator.notices.store import NOTICES
from coordinator.notices.targets import Target
from federation.certificates import pem
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, TransportError
from federation.messages import CommandKind
from federation.tls_keys import generate_tls_key, key_pem

QUICK = Pace(first_wait_seconds=0.01, longest_wait_seconds=0.05, gap_seconds=0.0, answer_seconds=0.5)
NOW = 1_000.0
DAY = timedelta(days=1)


def target(hook: Webhook, **changes: Any) -> Target:
    return Target(**({"name": "ops", "kind": PlatformKind.JSON, "url": hook.url} | changes))


def sender(hook: Webhook, pace: Pace = QUICK, **changes: Any) -> Sender:
    return Sender(target(hook, **changes), pace=pace, clock=lambda: NOW)


def said(made: Sender, *numbers: int, severity: Severity = Severity.CRITICAL) -> None:
    for number in numbers:
        made.offer(saying(number, severity))
    made.wake()


def ids(hook: Webhook) -> list[str]:
    return [json.loads(body)["id"] for body in hook.taken]


def test_what_was_taken_is_not_sent_again() -> None:
    with webhook() as hook, closing(sender(hook)) as made:
        made.start()
        said(made, 0, 1, 2)
        hook.wait_for(lambda h: len(h.taken) == 3)
        until(lambda: made.health.num_waiting == 0)
    assert ids(hook) == ["id-0", "id-1", "id-2"]
    assert len(hook.asked) == 3
    assert (made.health.num_sent, made.health.num_failed, made.health.fault) == (3, 0, "")


@pytest.mark.parametrize("trouble", [500, 503, "cut", "hang", "trickle", 404, 401, (302, {"Location": "/elsewhere"})])
def test_what_was_not_taken_is_tried_again_in_its_order(trouble: Any) -> None:
    patience = 3.0 if trouble in ("hang", "trickle") else 10.0
    with webhook(trouble, trouble) as hook, closing(sender(hook, replace(QUICK, answer_seconds=patience))) as made:
        made.start()
        said(made, 0, 1)
        hook.wait_for(lambda h: len(h.taken) == 2)
        until(lambda: made.health.num_sent == 2)
    assert ids(hook) == ["id-0", "id-1"]
    assert [path for _, path, _, _ in hook.asked] == ["/hook"] * 4
    assert (made.health.num_failed, made.health.failing_since) == (2, None)


def test_a_wish_for_patience_is_honoured() -> None:
    with webhook((429, {"Retry-After": "1"})) as hook, closing(sender(hook)) as made:
        began = time.monotonic()
        made.start()
        said(made, 0)
        hook.wait_for(lambda h: len(h.taken) == 1)
        assert time.monotonic() - began >= 1.0
    assert ids(hook) == ["id-0"]


def test_a_wish_for_no_patience_at_all_is_not_granted() -> None:
    impatient = (429, {"Retry-After": "0"})
    pace = replace(QUICK, first_wait_seconds=0.1)
    with webhook(impatient, impatient, impatient) as hook, closing(sender(hook, pace)) as made:
        began = time.monotonic()
        made.start()
        said(made, 0)
        hook.wait_for(lambda h: len(h.taken) == 1)
        assert time.monotonic() - began >= 0.3
    assert ids(hook) == ["id-0"]


def test_a_wish_for_a_lot_of_patience_is_cut_short() -> None:
    pace = replace(QUICK, longest_asked_seconds=0.01)
    with (
        webhook((429, {"Retry-After": "1e9"}), (503, {"Retry-After": "soon"})) as hook,
        closing(sender(hook, pace)) as made,
    ):
        made.start()
        said(made, 0)
        hook.wait_for(lambda h: len(h.taken) == 1)


def test_what_is_refused_for_good_does_not_hold_up_the_rest() -> None:
    with webhook(400, 413) as hook, closing(sender(hook)) as made:
        made.start()
        said(made, 0, 1, 2)
        hook.wait_for(lambda h: len(h.taken) == 1)
        until(lambda: made.health.num_waiting == 0)
    assert ids(hook) == ["id-2"]
    assert (made.health.num_dropped, made.health.num_sent) == (2, 1)


def test_what_is_too_old_is_not_said_any_more() -> None:
    pace = replace(QUICK, max_age_seconds=10.0)
    with webhook(*[500] * 3) as hook, closing(sender(hook, pace)) as made:
        made.start()
        made.offer(saying(0, at=NOW - 11))
        said(made, 1)
        hook.wait_for(lambda h: len(h.taken) == 1)
    assert ids(hook) == ["id-1"]


def test_a_full_queue_loses_the_oldest_of_the_least_severe() -> None:
    with webhook() as hook, closing(sender(hook, replace(QUICK, max_waiting=3))) as made:
        said(made, 0)
        said(made, 1, 2, severity=Severity.INFO)
        said(made, 3, 4)
        assert [s.id for s in made.unsent] == ["id-0", "id-3", "id-4"]
        said(made, 5)
        assert [s.id for s in made.unsent] == ["id-3", "id-4", "id-5"]
        assert made.health.num_dropped == 3


def test_trouble_is_one_line_in_the_log_and_its_end_another(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "coordinator.notices")
    with webhook(500, 500, 500, 200, 200) as hook, closing(sender(hook)) as made:
        made.start()
        said(made, 0, 1)
        hook.wait_for(lambda h: len(h.taken) == 2)
        until(lambda: made.health.num_sent == 2)
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO"]
    assert "notices do not reach ops (json, 127.0.0.1): answered 500" in caplog.text


def test_closing_does_not_wait_for_a_webhook_that_is_down() -> None:
    with webhook(500) as hook:
        made = sender(hook, replace(QUICK, first_wait_seconds=3600.0, longest_wait_seconds=3600.0))
        made.start()
        said(made, 0)
        until(lambda: made.health.num_failed == 1)
        began = time.monotonic()
        made.close()
        assert time.monotonic() - began < 60.0
        assert [s.id for s in made.unsent] == ["id-0"]
        assert len(hook.asked) == 1


def test_an_answer_without_end_is_not_read() -> None:
    endless = (200, {"X-Long": "y" * 500_000})
    with webhook(endless) as hook, pytest.raises(NotTakenError):
        Delivery(target(hook)).send(saying(), NOW)


def test_faults_do_not_show_the_secret() -> None:
    nowhere = Target(name="x", kind=PlatformKind.JSON, url="http://127.0.0.1:1/SECRET", token="TOKEN")
    with pytest.raises(NotTakenError) as caught:
        Delivery(nowhere).send(saying(), NOW)
    assert "ConnectError" in str(caught.value)
    with webhook(400) as hook, pytest.raises(RefusedError, match="400"):
        Delivery(target(hook)).send(saying(), NOW)


def test_a_proxy_of_the_environment_is_not_used_and_a_configured_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with webhook() as proxy, webhook() as hook:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        Delivery(target(hook)).send(saying(), NOW)
        assert (len(hook.taken), len(proxy.taken)) == (1, 0)
        Delivery(target(hook, proxy=proxy.url.removesuffix("/hook"))).send(saying(), NOW)
        assert (len(hook.taken), len(proxy.taken)) == (1, 1)


def self_signed(directory: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context with a certificate for 127.0.0.1 that no authority signed, and its file."""
    key, name = generate_tls_key(), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - DAY).not_valid_after(now + DAY)
    address = x509.IPAddress(ip_address("127.0.0.1"))
    builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    path = directory / "certificate.pem"
    path.write_bytes(pem(builder.sign(key, hashes.SHA256())))
    (directory / "key.pem").write_bytes(key_pem(key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, directory / "key.pem")
    return context, path


def test_a_server_whose_certificate_nobody_vouches_for_gets_nothing(tmp_path: Path) -> None:
    context, certificate = self_signed(tmp_path)
    with webhook(tls=context) as hook:
        with pytest.raises(NotTakenError, match=r"(?i)certificate"):
            Delivery(target(hook)).send(saying(), NOW)
        assert hook.asked == []
        Delivery(target(hook, ca_file=str(certificate))).send(saying(), NOW)
        assert len(hook.taken) == 1


def test_a_file_without_certificates_is_the_operators_mistake(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("junk")
    with webhook() as hook, pytest.raises(ConfigError, match="expected certificates"):
        Delivery(target(hook, ca_file=str(tmp_path / "ca.pem")))


# -- the whole ---------------------------------------------------------------------------------------------------------


def notifier(directory: Path, *hooks: Webhook, pace: Pace = QUICK, **changes: Any) -> Notifier:
    places = [target(hook, name=f"ops-{place}", **changes) for place, hook in enumerate(hooks)]
    timing = Timing(hold_seconds=60.0, repeat_seconds=86_400.0)
    return Notifier(RealFileSystem(directory), places, timing=timing, pace=pace, clock=lambda: NOW)


def paused() -> World:
    world = World(num_rounds=40)
    world.ready()
    world.command(CommandKind.RUN_PAUSE)
    return world


def look(made: Notifier, world: World, *seconds: float) -> None:
    for passed in seconds:
        world.now += passed
        world.ready()
        made.step(snapshot(world), world.now)


def kinds(hook: Webhook) -> list[tuple[str, str]]:
    return [(found["event"], found["kind"]) for found in map(json.loads, hook.taken)]


def test_what_begins_and_ends_is_said_once_each_also_over_restarts(tmp_path: Path) -> None:
    world = paused()
    with webhook() as hook:
        for _ in range(3):
            with closing(notifier(tmp_path, hook)) as made:
                look(made, world, 1.0, 61.0, 61.0, 1.0)
                until(lambda made=made: made.health[0].num_waiting == 0)
        assert [t.notice.kind for t in made.told] == ["run-paused"]
        world.command(CommandKind.RUN_RESUME)
        with closing(notifier(tmp_path, hook)) as made:
            look(made, world, 1.0, 61.0, 61.0)
            until(lambda: made.health[0].num_waiting == 0)
            assert made.told == ()
        assert kinds(hook) == [("begins", "run-paused"), ("ends", "run-paused")]


def test_what_a_process_could_not_say_the_next_one_says(tmp_path: Path) -> None:
    world = paused()
    slow = replace(QUICK, first_wait_seconds=3600.0, longest_wait_seconds=3600.0)
    with webhook(500) as hook:
        with closing(notifier(tmp_path, hook, pace=slow)) as made:
            look(made, world, 1.0, 61.0)
            until(lambda: made.health[0].num_failed == 1)
        assert hook.taken == []
        with closing(notifier(tmp_path, hook)) as made:
            hook.wait_for(lambda h: len(h.taken) == 1)
            look(made, world, 1.0, 61.0)
        assert kinds(hook) == [("begins", "run-paused")]


def test_a_process_that_is_killed_after_the_answer_says_nothing_again(tmp_path: Path) -> None:
    """Its file, as it is a moment after the answer, is all that the next process has."""
    world = paused()
    with webhook() as hook, closing(notifier(tmp_path / "one", hook)) as made:
        look(made, world, 1.0, 61.0)
        file = tmp_path / "one" / NOTICES
        until(lambda: made.health[0].num_sent == 1 and json.loads(file.read_text())["unsent"] == {})
        (tmp_path / "two/dashboard").mkdir(parents=True)
        (tmp_path / "two" / NOTICES).write_bytes(file.read_bytes())
        with closing(notifier(tmp_path / "two", hook)) as other:
            look(other, world, 1.0, 61.0)
            assert other.health[0].num_waiting == 0
        assert len(hook.asked) == 1


def test_webhooks_that_are_down_hold_up_neither_a_step_nor_each_other(tmp_path: Path) -> None:
    world = paused()
    with webhook(*["hang"] * 20) as down, webhook() as up:
        pace = replace(QUICK, answer_seconds=60.0)
        made = notifier(tmp_path, down, up, pace=pace)
        began = time.monotonic()
        look(made, world, 1.0, *[61.0] * 20)
        up.wait_for(lambda h: len(h.taken) == 1)
        down.wait_for(lambda h: len(h.asked) == 1)
        assert made.health[0].num_waiting == 1
        made.close()
        assert time.monotonic() - began < pace.answer_seconds
    assert kinds(up) == [("begins", "run-paused")]


def test_each_place_gets_what_it_asked_for_and_ends_of_that(tmp_path: Path) -> None:
    world = paused()
    with webhook() as strict, webhook() as elsewhere, webhook() as all_of_it:
        places = [
            target(strict, name="a", min_severity=Severity.CRITICAL),
            target(elsewhere, name="b", runs=frozenset({"another"})),
            target(all_of_it, name="c", min_severity=Severity.INFO),
        ]
        made = Notifier(RealFileSystem(tmp_path), places, timing=Timing(hold_seconds=0.0), pace=QUICK)
        with closing(made):
            look(made, world, 1.0)
            world.command(CommandKind.RUN_RESUME)
            look(made, world, 1.0, 1.0)
            all_of_it.wait_for(lambda h: len(h.taken) >= 2)
    assert kinds(all_of_it)[:2] == [("begins", "run-paused"), ("ends", "run-paused")]
    assert strict.asked == elsewhere.asked == []


def test_a_loss_spike_is_seen_from_one_look_to_the_next(tmp_path: Path) -> None:
    world = World(num_rounds=40)
    world.ready()
    world.tick()
    with webhook() as hook, closing(notifier(tmp_path, hook)) as made:
        for step, loss in enumerate([4.0] * 10 + [9.0] * 3, start=1):
            world.now += 5.0 if loss < 9 else 40.0
            report(world, "alpha", participations=(loss_report(0, step, loss),))
            made.step(snapshot(world), world.now)
        hook.wait_for(lambda h: len(h.taken) == 1)
    assert kinds(hook) == [("begins", "loss-spike")]


def test_a_disk_that_takes_nothing_keeps_nobody_from_being_told(tmp_path: Path) -> None:
    (tmp_path / "dashboard").write_text("a file where the directory should be")
    world = paused()
    with webhook() as hook, closing(notifier(tmp_path, hook)) as made:
        look(made, world, 1.0, 61.0)
        hook.wait_for(lambda h: len(h.taken) == 1)
        assert made.storage_fault


def test_a_thousand_looks_at_a_long_run_take_next_to_nothing(tmp_path: Path) -> None:
    """A second's look may cost no more than a few milliseconds: it shares a process with a dashboard."""
    world = World(num_rounds=400)
    committed_rounds(world, 300, 20.0)
    with closing(notifier(tmp_path)) as made:
        began = time.process_time()
        for _ in range(100):
            made.step(snapshot(world), world.now)
        assert (time.process_time() - began) / 100 < 0.02


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_tries_each_place_once_and_says_what_became_of_it(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/coordinator.pem").write_text("")
    with webhook() as good, webhook(404, 200) as bad:
        text = "".join(
            f'[[notifications]]\nkind = "{kind}"\nname = "{name}"\nurl = "{hook.url}"\nmin_severity = "critical"\n'
            for kind, name, hook in (("slack", "ops", good), ("discord", "old", bad))
        )
        (tmp_path / "coordinator.toml").write_text(text)
        result = CliRunner().invoke(notify, ["test", str(tmp_path)])
        assert result.output.splitlines() == [
            "ops (slack, 127.0.0.1): sent",
            "old (discord, 127.0.0.1): answered 404: there is no such webhook or room any more",
        ]
        assert isinstance(result.exception, TransportError)
        assert "this is a test" in json.loads(good.taken[0])["text"]
        assert len(bad.asked) == 1
        assert CliRunner().invoke(notify, ["test", str(tmp_path)]).exit_code == 0
