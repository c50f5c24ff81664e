# SPDX-License-Identifier: Apache-2.0
"""Whatever a run.toml or a manifest holds: both checks accept it, or it gives clean sentences. Never a traceback."""

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import ConfigError
from federation.manifest import FragmentTable, Manifest, TableEntry
from federation.run_config import RunConfig, build_manifest, check_manifest, parse_run_config, resolve
from federation.schedule import Schedule

BASE = """\
[run]
id = "tiny"
consortium = "test"
num_rounds = 10
[model]
hidden_size = 16
intermediate_size = 32
num_layers = 2
num_heads = 2
[trainer]
batch_size = 2
sequence_length = 8
"""


def sites(*steps: int) -> str:
    return "".join(f'[[sites]]\nid = "s{i}"\nnum_inner_steps = {h}\n' for i, h in enumerate(steps))


def manifest_of(config: RunConfig) -> Manifest:
    p = config.schedule.num_fragments
    tables = [
        FragmentTable(num_elements=3, entries=(TableEntry(name=f"w{i}", shape=(3,), offset=0),)) for i in range(p)
    ]
    return build_manifest(config, "0" * 64, tables, (), ["1" * 64] * p)


@given(
    h=st.integers(-1, 24),
    p=st.integers(-1, 9),
    tau=st.integers(-1, 24),
    in_flight=st.one_of(st.none(), st.integers(-1, 9)),
    steps=st.lists(st.integers(0, 24), min_size=1, max_size=4),
)
def test_a_schedule_is_accepted_exactly_if_it_can_run(
    h: int, p: int, tau: int, in_flight: int | None, steps: list[int]
) -> None:
    """`Schedule` is the model: it raises by itself on H, P and tau that do not fit, for the run and for each site."""

    def runs() -> bool:
        try:
            nominal = Schedule(num_inner_steps=h, num_fragments=p, tau=tau)
            for own in steps:
                Schedule(num_inner_steps=own, num_fragments=p, tau=tau)
        except ConfigError:
            return False
        return in_flight is None or nominal.min_rounds_in_flight <= in_flight <= p

    flight = "" if in_flight is None else f"max_rounds_in_flight = {in_flight}\n"
    schedule = f"[schedule]\nnum_inner_steps = {h}\nnum_fragments = {p}\ntau = {tau}\n{flight}"
    text = BASE + schedule + sites(*steps)
    if runs():
        check_manifest(manifest_of(parse_run_config(text)))
    else:
        with pytest.raises(ConfigError):
            parse_run_config(text)


VALUES = st.one_of(
    st.none().map(lambda _: {"x": 1}),
    st.booleans(),
    st.integers(-(10**40), 10**40),
    st.integers(0, 300),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=60),
    st.lists(st.integers(), max_size=3),
)


def as_toml(value: Any) -> str:
    """TOML of a value of `VALUES`; texts as basic strings with every character escaped."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{x = 1}"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value if not 0xD800 <= ord(c) < 0xE000) + '"'
    return repr(value)


PLACES = [
    (name, key)
    for name, field in RunConfig.model_fields.items()
    for key in (field.annotation if name != "sites" else field.annotation.__args__[0]).model_fields  # type: ignore[union-attr]
]


@settings(max_examples=300)
@given(place=st.sampled_from(PLACES), value=VALUES)
def test_any_value_anywhere_is_read_or_gives_one_clean_sentence_a_line(place: tuple[str, str], value: Any) -> None:
    section, key = place
    table: dict[str, dict[str, str]] = {
        name: {k: as_toml(v) for k, v in content.items()} for name, content in tomllib.loads(BASE).items()
    }
    table.setdefault(section, {"id": '"a"'} if section == "sites" else {})[key] = as_toml(value)
    table.setdefault("sites", {"id": '"a"'})
    text = "".join(
        (f"[[{name}]]\n" if name == "sites" else f"[{name}]\n") + "".join(f"{k} = {v}\n" for k, v in content.items())
        for name, content in table.items()
    )
    try:
        config = parse_run_config(text)
    except ConfigError as error:
        for line in str(error).split("\n"):
            assert line.startswith("run.toml: ")
            assert ": expected " in line
            assert ", found " in line
            assert line.isascii()
            assert line.isprintable()
            assert len(line) < 500
    else:
        if config.schedule.num_fragments <= 100:
            check_manifest(manifest_of(config))


@given(st.text(max_size=200))
def test_any_text_is_refused_without_a_traceback(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_run_config(text)


@given(num_sites=st.integers(1, 12), overlap=st.booleans())
def test_defaults_always_make_a_run(num_sites: int, overlap: bool) -> None:
    schedule = "[schedule]\nnum_inner_steps = 12\nnum_fragments = 3\n" + ("tau = 8\n" if overlap else "")
    text = BASE + schedule + "".join(f'[[sites]]\nid = "s{i}"\n' for i in range(num_sites))
    manifest = manifest_of(parse_run_config(text))
    check_manifest(manifest)
    assert manifest.plan.witness_quorum * 2 > num_sites
    assert resolve(parse_run_config(text)).plan.members == manifest.plan.members
