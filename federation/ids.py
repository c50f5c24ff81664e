# SPDX-License-Identifier: Apache-2.0
"""Identifiers and digests: what may name a thing, checked once where it enters."""

import re
from typing import Final

from federation.errors import ConfigError

SLUG_PATTERN: Final = r"[a-z0-9][a-z0-9-]{0,39}"
_SLUG = re.compile(SLUG_PATTERN)
_DIGEST = re.compile(r"[0-9a-f]{64}")

COORDINATOR: Final = "coordinator"
"""The coordinator's name as sender and recipient; no site or operator may take it."""


def check_slug(value: str, what: str) -> str:
    """Returns `value` if it may name a site, run, operator, trainer or consortium.

    Raises:
        ConfigError: it does not match `[a-z0-9][a-z0-9-]{0,39}`.
    """
    if not isinstance(value, str) or _SLUG.fullmatch(value) is None:
        raise ConfigError(
            f"{what}: expected lower-case letters, digits and hyphens, 1 to 40 of them, found {value!r:.80}"
        )
    return value


def is_slug(value: str) -> bool:
    """Whether `value` may name a thing."""
    return isinstance(value, str) and _SLUG.fullmatch(value) is not None


def is_digest(value: str) -> bool:
    """Whether `value` is a SHA-256 digest in lower-case hexadecimal (64 characters)."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def short(digest: str) -> str:
    """The first 12 characters of a digest, for people."""
    return digest[:12]


def slug_from(name: str) -> str:
    """The id nearest to a directory's name: lower case, other characters as hyphens, at most 40 characters."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
