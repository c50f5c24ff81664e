# SPDX-License-Identifier: Apache-2.0
"""Takes away what was begun and could not be finished, so that a mistake can be corrected and the command repeated."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from federation.durable.real import RealFileSystem
from federation.errors import FederationError


@contextmanager
def nothing_left_behind(directory: Path, names: Sequence[str]) -> Iterator[None]:
    """If what is done within fails, those names in the directory are gone again that were not there before.

    Directories that had to be made for them go, too.
    """
    new = {place for name in names if (place := _outermost_missing(directory.absolute() / name)) is not None}
    try:
        yield
    except BaseException:
        for place in sorted(new):
            with suppress(FederationError):  # why it failed matters more
                _remove(place)
        raise


def _outermost_missing(path: Path) -> Path | None:
    """The highest part of a path that does not exist; None if all of it does."""
    return next((part for part in (*reversed(path.parents), path) if not part.exists()), None)


def _remove(place: Path) -> None:
    fs = RealFileSystem(place.parent)
    if place.is_dir():
        fs.remove_tree(place.name)
    elif place.exists():
        fs.remove(place.name)
