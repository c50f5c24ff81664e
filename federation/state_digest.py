# SPDX-License-Identifier: Apache-2.0
"""One digest of everything that a ledger says: two folds agree if and only if their digests do."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from enum import Enum
from typing import Any

from federation.long_tuple import LongTuple
from federation.rounds import Federation


def state_digest(state: Federation) -> str:
    """SHA-256 (hex) over canonical JSON of the state: sorted keys, type names, floats in hexadecimal."""
    text = json.dumps(_plain(state), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _counts(field: Field[Any], value: object) -> bool:
    """Fields that a later release added are left out while empty, so that older ledgers keep their digests."""
    return bool(value) or not field.metadata.get("later")


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        plain = {f.name: _plain(getattr(value, f.name)) for f in fields(value) if _counts(f, getattr(value, f.name))}
        return {"type": type(value).__name__, **plain}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, frozenset):
        return sorted((_plain(entry) for entry in value), key=str)
    if isinstance(value, tuple | list | LongTuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value.hex()
    return value
