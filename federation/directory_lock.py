# SPDX-License-Identifier: Apache-2.0
"""One process per directory, also on file systems without working locks, and from several hosts.

Owners are numbered files `lock/<n>`, made with O_EXCL: the highest number owns. Numbers only grow and the highest file
is never removed (a clean end marks it as released), so of two processes that find the same dead owner only one can make
the next number.

An owner raises the counter `lock/<n>.beat`. Who finds a directory taken takes it over when the owner is certainly gone,
or when its counter stood still for `stale_seconds` of the finder's own clock: 1 make `lock/<n+1>`, 2 look whether that
is the highest, 3 remove what is older. Then the takeover is complete, and `check` of the old owner, which reads its own
file anew, fails for ever: also when it was suspended or cut off meanwhile, and whatever its caches say of directories.
"""

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Final, Self

from pydantic import TypeAdapter, ValidationError

from federation.durable.api import FileSystem
from federation.durations import in_words
from federation.errors import DirectoryBusyError, ObjectNotFoundError, StorageError
from federation.lock_owner import Owner as Owner
from federation.lock_owner import boot_seconds, certainly_gone, certainly_runs
from federation.lock_owner import this_process as this_process
from federation.lock_watch import SEEN_SUFFIX, Judgement, Standing, look, read_counter, seen_name

LOG: Final = logging.getLogger("federation.lock")

DEFAULT_BASE: Final = "lock"
STALE_SECONDS: Final = 120.0
"""An owner whose counter stood still for so long is taken for dead; several times what NFS caches attributes for."""

BEATS: Final = 8
"""How often a counter rises in that time: a few late or lost writes mean nothing."""

RETRY_SECONDS: Final = 0.05
_BEAT: Final = ".beat"
_OWNER: Final[TypeAdapter[Owner]] = TypeAdapter(Owner)


@dataclass(frozen=True, kw_only=True)
class Held:
    """A directory that another process has, or may have.

    Attributes:
        owner: None if its file cannot be read, or has gone since.
        judged: what its counter says, None if it has none.
        stale_seconds: how long the counter has to stand still.
        runs: it was seen to run, on this machine.
    """

    number: int
    owner: Owner | None = None
    judged: Judgement | None = None
    stale_seconds: float = STALE_SECONDS
    runs: bool = False

    @property
    def alive(self) -> bool:
        """Whether waiting makes no sense: the owner is at work."""
        return self.runs or (self.judged is not None and self.judged.standing is Standing.RISING)

    @property
    def may_pass(self) -> bool:
        """Whether watching on can end in a takeover."""
        return not self.alive and self.judged is not None

    @property
    def words(self) -> str:
        """Who has it, and what is known of it."""
        who = "another process that has just started" if self.owner is None else described(self.owner)
        if self.runs:
            return f"{who}; it runs on this machine"
        return who if self.judged is None else f"{who}; {_of_counter(self.judged, self.stale_seconds)}"

    def error(self) -> DirectoryBusyError:
        """In words: who has it, what is known of it, what to do."""
        words = f"directory: expected no other process at work in it, found {self.words}"
        if self.runs:
            return DirectoryBusyError(words, advice=f"Stop that process. {_FORCE}")
        if self.judged is None:
            return DirectoryBusyError(words, advice=f"Stop that process, where it runs. {_FORCE}")
        return DirectoryBusyError(words, advice=self._advice())

    def _advice(self) -> str:
        if self.alive:
            return f"It is at work: stop it, where it runs. {_FORCE}"
        limit = in_words(self.stale_seconds)
        return f"Try again: `serve` watches by itself and takes over after {limit} without a sign of life. {_FORCE}"


_FORCE: Final = "If it certainly runs no more (its host is gone), use --take-over."


class DirectoryLock:
    """A process's hold on a directory; leaving the `with` block releases it.

    Attributes:
        taken_over: whether the owner before this one did not end cleanly.
    """

    def __init__(
        self,
        fs: FileSystem,
        me: Owner,
        gone: Callable[[Owner, Owner], bool] = certainly_gone,
        *,
        force: bool = False,
        base: str = DEFAULT_BASE,
        stale_seconds: float = STALE_SECONDS,
        clock: Callable[[], float] = boot_seconds,
    ) -> None:
        """Takes the directory, if it is free or its owner counts as dead; each call is one more look at its counter.

        Args:
            fs: of the directory.
            me: the calling process.
            gone: whether another owner certainly runs no more.
            force: the operator vouches that it does not.
            base: where the numbered files are.
            stale_seconds: an owner whose counter stands still for so long is dead; the longer one of both counts.
            clock: seconds, never going back; the same for all processes with one `Owner.clock`.

        Raises:
            DirectoryBusyError: another process has it, or may have it.
        """
        self._fs, self._base, self._clock = fs, base, clock
        self._me = replace(me, stale_seconds=stale_seconds, released=False, token=secrets.token_hex(8))
        self._beating = threading.Lock()
        self._count, self._beaten_at, self._complained = 0, clock(), False
        number = max(self._numbers(), default=0)
        found = _found(fs, base, number, self._me, gone, clock) if number and not force else None
        if found is not None:
            raise found.error()
        self.taken_over = number > 0 and not self._was_released(number)
        self._number = number + 1
        self._claim()

    @classmethod
    def acquire(
        cls,
        fs: FileSystem,
        *,
        wait_seconds: float = 0.0,
        base: str = DEFAULT_BASE,
        stale_seconds: float = STALE_SECONDS,
    ) -> Self:
        """Takes the directory for the calling process, waiting that long for another one to leave it.

        Raises:
            DirectoryBusyError: it did not.
        """
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                return cls(fs, this_process(), base=base, stale_seconds=stale_seconds)
            except DirectoryBusyError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(RETRY_SECONDS)

    @property
    def beat_seconds(self) -> float:
        """How often the counter is to rise."""
        return self._me.stale_seconds / BEATS

    def check(self) -> None:
        """Raises DirectoryBusyError if another process has taken over since; raises the counter if that is due.

        Call it before anything that only the owner may do: this process may have been suspended just before.
        """
        if not self._is_mine():
            number = max(self._numbers(), default=0)
            raise Held(number=number, owner=_owner(self._fs, self._path(number))).error()
        if self._clock() - self._beaten_at >= self.beat_seconds:
            self.beat()

    def beat(self) -> None:
        """Raises the counter, from any thread; never raises an exception. Costs a small file, without an fsync."""
        with self._beating:
            try:
                if self._is_mine():
                    self._count += 1
                    self._fs.place(self._path(self._number) + _BEAT, str(self._count).encode())
                self._beaten_at, self._complained = self._clock(), False
            except StorageError as error:
                if not self._complained:
                    LOG.warning("the lock's counter could not be raised: %s", error)
                self._complained = True

    def release(self) -> None:
        """A clean end: the next process need not ask whether this one still runs."""
        if self._is_mine():
            self._fs.write(self._path(self._number), _encode(replace(self._me, released=True)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _claim(self) -> None:
        """Makes the number; a finder that was slow may make one that was used up meanwhile, and gives it back."""
        mine = self._path(self._number)
        created = self._fs.create(mine, _encode(self._me)) or self._is_ours(self._number)
        highest = max(self._numbers(), default=0)
        if created and highest == self._number:
            self._remove_older()
            return
        if created:
            self._fs.remove(mine)
        raise Held(number=highest, owner=_owner(self._fs, self._path(highest))).error()

    def _remove_older(self) -> None:
        for name in self._fs.list(self._base):
            number = name.removesuffix(_BEAT)
            is_older = number.isascii() and number.isdigit() and int(number) < self._number
            if is_older or name.endswith(SEEN_SUFFIX):
                self._fs.remove(f"{self._base}/{name}")

    def _is_mine(self) -> bool:
        """The own file is read anew, since a directory's listing may come from a cache; the listing is newer here."""
        return self._is_ours(self._number) and max(self._numbers(), default=0) == self._number

    def _is_ours(self, number: int) -> bool:
        owner = _owner(self._fs, self._path(number))
        return owner is not None and owner.token == self._me.token

    def _was_released(self, number: int) -> bool:
        owner = _owner(self._fs, self._path(number))
        return owner is not None and owner.released

    def _numbers(self) -> list[int]:
        return sorted(int(name) for name in self._fs.list(self._base) if name.isascii() and name.isdigit())

    def _path(self, number: int) -> str:
        return f"{self._base}/{number}"


@dataclass(frozen=True, kw_only=True)
class Hold:
    """The newest hold on a directory. `number` is 0 if nobody ever held it; `count` of its counter, -1 without one."""

    number: int
    owner: Owner | None = None
    count: int = -1


def newest_hold(fs: FileSystem, *, base: str = DEFAULT_BASE) -> Hold:
    """Who has a directory, or had it last. Writes nothing, and judges nothing: for who only watches."""
    number = max((int(name) for name in fs.list(base) if name.isascii() and name.isdigit()), default=0)
    if not number:
        return Hold(number=0)
    path = f"{base}/{number}"
    return Hold(number=number, owner=_owner(fs, path), count=read_counter(fs, path + _BEAT))


def find_holder(
    fs: FileSystem,
    me: Owner,
    *,
    base: str = DEFAULT_BASE,
    stale_seconds: float = STALE_SECONDS,
    clock: Callable[[], float] = boot_seconds,
) -> Held | None:
    """One look at a directory without taking it; None: it can be taken."""
    names = [int(name) for name in fs.list(base) if name.isascii() and name.isdigit()]
    mine = replace(me, stale_seconds=stale_seconds)
    return _found(fs, base, max(names), mine, certainly_gone, clock) if names else None


def _found(
    fs: FileSystem,
    base: str,
    number: int,
    me: Owner,
    gone: Callable[[Owner, Owner], bool],
    clock: Callable[[], float],
) -> Held | None:
    """What keeps `me` from taking the directory; None if nothing does."""
    path = f"{base}/{number}"
    owner = _owner(fs, path)
    if owner is None:
        return Held(number=number)
    if owner.released or gone(owner, me):
        return None
    runs = certainly_runs(owner, me)
    if not owner.stale_seconds or runs:
        return Held(number=number, owner=owner, runs=runs)
    stale_seconds = max(owner.stale_seconds, me.stale_seconds)
    judged = look(fs, path + _BEAT, f"{base}/{seen_name(me.clock)}", number, stale_seconds, clock)
    if judged.standing is Standing.STILL:
        return None
    return Held(number=number, owner=owner, judged=judged, stale_seconds=stale_seconds)


def _owner(fs: FileSystem, path: str) -> Owner | None:
    try:
        return _OWNER.validate_json(fs.read(path, max_bytes=65536))
    except (ObjectNotFoundError, ValidationError):
        return None


def _encode(owner: Owner) -> bytes:
    return json.dumps(asdict(owner)).encode()


def described(owner: Owner) -> str:
    """`process 17 on login1 (since … by its clock)`."""
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(owner.since_us / 1e6)) if owner.since_us else ""
    return f"process {owner.pid} on {owner.host}" + (f" (since {since} by its clock)" if since else "")


def _of_counter(judged: Judgement, stale_seconds: float) -> str:
    match judged.standing:
        case Standing.RISING:
            return "its counter is rising"
        case Standing.STANDING:
            return f"its counter has stood still for {judged.still_seconds:.0f} of {stale_seconds:.0f} s"
        case _:
            return f"whether its counter rises is not known yet, after 0 of {stale_seconds:.0f} s"
