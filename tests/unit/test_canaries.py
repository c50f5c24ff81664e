# SPDX-License-Identifier: Apache-2.0
"""The search for canaries finds them in every form that it claims to know, and nothing where there is none."""

import base64
import gzip
import os
import zlib
from collections.abc import Callable

import pytest
import zstandard
from canaries import find

CANARY = "kanarie-4711-geheim"
RAW = CANARY.encode()

HIDDEN: dict[str, Callable[[], bytes]] = {
    "plain": lambda: b"x" + RAW + b"y",
    "in capitals": lambda: RAW.upper(),
    "base64 at 0": lambda: base64.b64encode(RAW + b"rest"),
    "base64 at 1": lambda: base64.b64encode(b"1" + RAW + b"rest"),
    "base64 at 2": lambda: base64.urlsafe_b64encode(b"12" + RAW),
    "hexadecimal": lambda: b"00" + RAW.hex().encode(),
    "gzip": lambda: b"before" + gzip.compress(b"text " + RAW) + b"after",
    "zstd": lambda: b"before" + zstandard.compress(b"text " + RAW) + b"after",
    "zlib": lambda: zlib.compress(RAW),
    "base64 in zstd in gzip": lambda: gzip.compress(zstandard.compress(base64.b64encode(b"!" + RAW))),
}


@pytest.mark.parametrize("form", HIDDEN)
def test_a_canary_is_found(form: str) -> None:
    for before in (b"", os.urandom(1000)):
        assert find([CANARY, "another-one-that-is-not-there"], before + HIDDEN[form]() + os.urandom(100))


def test_nothing_is_found_where_there_is_none() -> None:
    assert find([CANARY], os.urandom(100_000) + b"kanarie-4711-gehei" + gzip.compress(b"kanarie")) == []
