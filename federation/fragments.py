# SPDX-License-Identifier: Apache-2.0
"""The cut of a model into fragments, and the way between named parameters and a fragment's flat vector.

Layers are strided over the fragments (arXiv 2501.18512, section 2.3: better balanced than consecutive ones): layer i
goes to fragment i mod P. Everything else (embeddings, head, norms) goes to the lightest fragment, largest first.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from federation.chunks import Float32Vector, check_vector
from federation.errors import ConfigError
from federation.limits import DEFAULT_LIMITS
from federation.manifest import FragmentTable, TableEntry

Parameter: TypeAlias = tuple[str, Sequence[int]]
"""Canonical name and shape of one trainable parameter."""

_LAYER: Final = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.")
_MAX_NAMED: Final = 5


def build_fragments(parameters: Sequence[Parameter], num_fragments: int) -> tuple[FragmentTable, ...]:
    """Cuts a model into `num_fragments` tables.

    The order of `parameters` does not matter: inside a fragment, those outside the layers come first,
    by name, then the layers ascending, by name.

    Raises:
        ConfigError: a name twice, an empty parameter, too many elements, or a fragment that would hold nothing.
    """
    _check_parameters(parameters, num_fragments)
    groups: list[list[Parameter]] = [[] for _ in range(num_fragments)]
    others: list[Parameter] = []
    for parameter in parameters:
        layer = _layer(parameter[0])
        (others if layer is None else groups[layer % num_fragments]).append(parameter)
    for parameter in sorted(others, key=lambda p: (-math.prod(p[1]), p[0])):
        min(groups, key=_num_elements).append(parameter)
    for index, group in enumerate(groups):
        if not group:
            raise ConfigError(f"num_fragments: expected parameters for each of {num_fragments}, found none for {index}")
    return tuple(_table(sorted(group, key=_order)) for group in groups)


def flatten(table: FragmentTable, get: Callable[[str], npt.NDArray[Any]]) -> Float32Vector:
    """A new f32[num_elements] with the table's parameters in order; `get(name)` returns one of them as fp32.

    Raises:
        ConfigError: a parameter has another shape or dtype than the table says.
    """
    vector = np.empty(table.num_elements, np.float32)
    for entry in table.entries:
        value = get(entry.name)
        if tuple(value.shape) != entry.shape or value.dtype != np.float32:
            raise ConfigError(
                f"parameter {entry.name}: expected float32{list(entry.shape)}, found {value.dtype}{list(value.shape)}"
            )
        vector[entry.offset : entry.offset + math.prod(entry.shape)] = value.reshape(-1)
    return vector


def scatter(table: FragmentTable, vector: Float32Vector) -> dict[str, npt.NDArray[np.float32]]:
    """The table's parameters as views into a fragment's vector f32[num_elements].

    Raises:
        ConfigError: the vector has another length than the table says.
    """
    if check_vector(vector, "fragment").size != table.num_elements:
        raise ConfigError(f"fragment: expected {table.num_elements} elements, found {vector.size}")
    return {
        entry.name: vector[entry.offset : entry.offset + math.prod(entry.shape)].reshape(entry.shape)
        for entry in table.entries
    }


def check_table(tables: Sequence[FragmentTable], parameters: Iterable[Parameter]) -> None:
    """Checks that the tables are whole and hold exactly these parameters in these shapes.

    Raises:
        ConfigError: they do not; the message names what differs.
    """
    _check_layout(tables)
    listed = {entry.name: entry.shape for table in tables for entry in table.entries}
    found = {name: tuple(shape) for name, shape in parameters}
    problems = [f"{name} is missing in the model" for name in listed if name not in found]
    problems += [f"{name} is not in the table" for name in found if name not in listed]
    problems += [
        f"{name}: expected shape {list(listed[name])}, found {list(found[name])}"
        for name in listed
        if name in found and listed[name] != found[name]
    ]
    if problems:
        more = f" and {len(problems) - _MAX_NAMED} more" if len(problems) > _MAX_NAMED else ""
        raise ConfigError(
            f"the model differs from the run's fragment table: {'; '.join(problems[:_MAX_NAMED])}{more}",
            advice="Build the model with the settings of the run's manifest.",
        )


def _check_parameters(parameters: Sequence[Parameter], num_fragments: int) -> None:
    if num_fragments < 1:
        raise ConfigError(f"num_fragments: expected at least 1, found {num_fragments}")
    seen: set[str] = set()
    for name, shape in parameters:
        if name in seen:
            raise ConfigError(f"parameter {name}: expected once, found twice")
        if any(size < 1 for size in shape):
            raise ConfigError(f"parameter {name}: expected sizes of at least 1, found shape {list(shape)}")
        seen.add(name)
    total = _num_elements(parameters)
    if total > DEFAULT_LIMITS.max_num_parameters:
        raise ConfigError(f"parameters: expected at most {DEFAULT_LIMITS.max_num_parameters}, found {total}")


def _check_layout(tables: Sequence[FragmentTable]) -> None:
    names: set[str] = set()
    for index, table in enumerate(tables):
        offset = 0
        for entry in table.entries:
            if entry.name in names:
                raise ConfigError(f"fragment {index}: parameter {entry.name}: expected once, found twice")
            if entry.offset != offset or any(size < 1 for size in entry.shape):
                raise ConfigError(
                    f"fragment {index}: parameter {entry.name}: expected offset {offset} and sizes of at least 1, "
                    f"found offset {entry.offset}, shape {list(entry.shape)}"
                )
            names.add(entry.name)
            offset += math.prod(entry.shape)
        if offset != table.num_elements or not offset:
            raise ConfigError(f"fragment {index}: expected {offset} elements, found {table.num_elements}")


def _layer(name: str) -> int | None:
    found = _LAYER.search(name)
    return int(found[1]) if found else None


def _order(parameter: Parameter) -> tuple[int, str]:
    layer = _layer(parameter[0])
    return (-1 if layer is None else layer, parameter[0])


def _num_elements(parameters: Iterable[Parameter]) -> int:
    return sum(math.prod(shape) for _, shape in parameters)


def _table(parameters: Sequence[Parameter]) -> FragmentTable:
    entries, offset = [], 0
    for name, shape in parameters:
        entries.append(TableEntry(name=name, shape=tuple(int(size) for size in shape), offset=offset))
        offset += math.prod(shape)
    return FragmentTable(num_elements=offset, entries=tuple(entries))
