# SPDX-License-Identifier: Apache-2.0
"""Whatever order, repetition, truncation and replay a carrier brings, the mailbox ends as under a perfect one.

The carrier here has no rename: it writes straight to the final name, in pieces, a file over a longer one too. And until
a message is whole, with all its blobs, it is not acted upon.
"""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federation import signing
from federation.blobs.store import BlobStore
from federation.durable.simulated import SimulatedFileSystem
from federation.leaves import Reason
from federation.mailbox.carrier import carry
from federation.mailbox.mailbox import Mailbox
from federation.messages import RoundDeclined

KEYS = {name: Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n, name in enumerate(("alpha", "coordinator"))}
BASE = "mailbox"
SECOND_US = 1_000_000
STALLED_US = 61 * SECOND_US
NAMES_OF_CARRIERS = (".{}.Xy12zQ", "{}.filepart", "{}.part", "{}~", ".~tmp~{}")


@dataclass
class Side:
    """One party and what it has acted upon: number of the message, and of its body."""

    name: str
    peer: str
    now_us: int = SECOND_US
    acted: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fs = SimulatedFileSystem()
        self.blobs = BlobStore(self.fs)
        self.box = Mailbox(self.fs, BASE, self.blobs, self.name, self.peer, "consortium", KEYS[self.name])

    def post(self, number: int, blobs: list[bytes]) -> None:
        body = RoundDeclined(run="demo", round=number, reason=Reason.OPERATOR, sentence="")
        self.box.post(body, blobs=[self.blobs.put(blob) for blob in blobs])

    def tick(self) -> None:
        self.now_us += SECOND_US
        for received in self.box.collect(signing.public_bytes(KEYS[self.peer]), self.now_us):
            if received.ready:
                assert isinstance(received.message.body, RoundDeclined)
                for digest in received.message.header.blobs:
                    assert self.blobs.read(digest)
                self.acted.append((received.sequence, received.message.body.round))
                self.box.done(received.sequence)
        self.box.acknowledge()
        self.box.prune()

    def outcome(self) -> tuple[object, ...]:
        box = self.box
        return (
            sorted(self.acted),
            box.received_through,
            box.peer_received_through,
            box.outstanding,
            sorted(self.blobs.digests()),
            self.fs.list(f"{BASE}/out/blobs"),
            [name for name in self.fs.list(f"{BASE}/out") if name.endswith(".msg")],
            box.rejected,
        )


@dataclass(frozen=True)
class Copy:
    """One step of the carrier: `kept` of the file that is the `pick`-th of those ever offered, under `form`."""

    pick: int
    kept: float
    form: int
    tick: bool


copies = st.lists(
    st.builds(
        Copy,
        pick=st.integers(0, 99),
        kept=st.one_of(st.just(1.0), st.just(0.0), st.floats(0, 1)),
        form=st.integers(-3, len(NAMES_OF_CARRIERS) - 1),
        tick=st.booleans(),
    ),
    max_size=40,
)
posts = st.lists(st.tuples(st.booleans(), st.integers(0, 2)), min_size=1, max_size=6)


def two_sides(made: list[tuple[bool, int]]) -> tuple[Side, Side]:
    alpha, coordinator = Side("alpha", "coordinator"), Side("coordinator", "alpha")
    for number, (by_alpha, num_blobs) in enumerate(made):
        side = alpha if by_alpha else coordinator
        side.post(number, [f"{side.name} {number} {i}".encode() * 20 for i in range(num_blobs)])
    return alpha, coordinator


def offered(side: Side, seen: dict[tuple[str, int], bytes]) -> None:
    """Keeps every file that was ever offered, each version of the acknowledgement too: the carrier's replays."""
    for folder in ("", "blobs/"):
        for name in side.fs.list(f"{BASE}/out/{folder}".rstrip("/")):
            if name != "blobs" and not name.endswith(".new"):
                data = side.fs.read(f"{BASE}/out/{folder}{name}")
                if data not in (known for (path, _), known in seen.items() if path == folder + name):
                    seen[folder + name, len(seen)] = data


def write_badly(target: Side, copy: Copy, seen: dict[tuple[str, int], bytes]) -> None:
    (path, _), data = list(seen.items())[copy.pick % len(seen)]
    folder, _, name = path.rpartition("/")
    form = NAMES_OF_CARRIERS[copy.form].format(name) if copy.form >= 0 else name
    target.fs.write_unsynced(f"{BASE}/in/{folder}/{form}".replace("//", "/"), data[: int(copy.kept * len(data))])


def perfect(alpha: Side, coordinator: Side) -> None:
    for _ in range(4):
        carry(alpha.fs, BASE, coordinator.fs, BASE)
        carry(coordinator.fs, BASE, alpha.fs, BASE)
        alpha.tick()
        coordinator.tick()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made=posts, steps=st.lists(st.tuples(st.booleans(), copies), max_size=4))
def test_a_careless_carrier_ends_where_a_perfect_one_does(
    made: list[tuple[bool, int]], steps: list[tuple[bool, list[Copy]]]
) -> None:
    expected = two_sides(made)
    perfect(*expected)
    alpha, coordinator = two_sides(made)
    seen: dict[str, dict[tuple[str, int], bytes]] = {"alpha": {}, "coordinator": {}}
    for to_alpha, brought in steps:
        source, target = (coordinator, alpha) if to_alpha else (alpha, coordinator)
        for copy in brought:
            offered(source, seen[source.name])
            if seen[source.name]:
                write_badly(target, copy, seen[source.name])
            if copy.tick:
                target.tick()
        source.tick()
    for _ in range(3):  # the carrier tries again what the reader has thrown away
        for side in (alpha, coordinator):
            side.now_us += STALLED_US
        perfect(alpha, coordinator)
    for side, other in zip((alpha, coordinator), expected, strict=True):
        # What was torn for so long is reported, and nothing else comes of it.
        assert side.outcome()[:-1] == other.outcome()[:-1]
        assert {r.error for r in side.box.rejected} <= {"DigestMismatchError", "ProtocolError"}


@given(made=posts, kept=st.floats(0, 1, exclude_max=True), turn=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_nothing_is_acted_upon_before_it_is_whole(made: list[tuple[bool, int]], kept: float, turn: object) -> None:
    alpha, coordinator = two_sides([(True, num_blobs) for _, num_blobs in made])
    seen: dict[tuple[str, int], bytes] = {}
    offered(alpha, seen)
    paths = sorted(seen)
    turn.shuffle(paths)  # type: ignore[attr-defined]
    whole: set[str] = set()
    for key in paths:
        path, data = key[0], seen[key]
        coordinator.fs.write_unsynced(f"{BASE}/in/{path}", data[: int(kept * len(data))])
        before = len(coordinator.acted)
        coordinator.tick()
        assert len(coordinator.acted) == before, "acted upon what was torn"
        coordinator.fs.write_unsynced(f"{BASE}/in/{path}", data)
        whole.add(path)
        coordinator.tick()
        for sequence, number in coordinator.acted:
            assert any(name.startswith(f"{sequence:012d}-") for name in whole)
            blobs = made[number][1]
            assert sum(name.startswith("blobs/") for name in whole) >= blobs
    # One that waits for its blobs does not hold up those behind it.
    assert sorted(number for _, number in coordinator.acted) == list(range(len(made)))
    assert coordinator.box.rejected == []
