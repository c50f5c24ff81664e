# SPDX-License-Identifier: Apache-2.0
"""gRPC and the stubs of its services stay at the network's edges: everything else is testable without a socket."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("federation", "coordinator", "site_agent")
EDGES = ("federation/rpc/", "coordinator/rpc/", "site_agent/courier/")
GENERATED = "federation/v1/"
FORBIDDEN = ("grpc", "grpc_health", "federation.v1.courier_pb2", "federation.v1.courier_pb2_grpc")


def _imports(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_forbidden(name: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in FORBIDDEN)


def _files() -> list[str]:
    paths = (path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return sorted(path for path in paths if not path.startswith((*EDGES, GENERATED)))


@pytest.mark.parametrize("path", _files())
def test_grpc_is_imported_at_the_edges_only(path: str) -> None:
    assert [name for name in _imports((ROOT / path).read_text()) if _is_forbidden(name)] == []


def test_the_check_sees_an_import() -> None:
    found = list(
        _imports("import grpc.aio\nfrom federation.v1 import courier_pb2\nfrom grpc_health.v1 import health\n")
    )
    assert all(map(_is_forbidden, found))
    assert len(found) == 3
