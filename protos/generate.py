# SPDX-License-Identifier: Apache-2.0
"""Makes the committed protobuf stubs in federation/v1 from protos/federation/v1, or checks that they are current.

Usage: python protos/generate.py [--check]
"""

import argparse
import importlib.metadata
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE = "federation/v1"

GENERATOR_VERSION = "1.81.1"
"""Stubs of newer generators do not load on protobuf 6."""


def main(arguments: list[str] | None = None) -> int:
    """Generates, or with --check compares; returns the exit code (1: the stubs have drifted)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the stubs are not current")
    options = parser.parse_args(arguments)
    _require_generator()
    if not options.check:
        for name in _stubs(ROOT):  # also those whose .proto is gone
            (ROOT / PACKAGE / name).unlink()
        _generate(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        _generate(Path(scratch))
        drifted = drift(_stubs(Path(scratch)), _stubs(ROOT))
    for line in drifted:
        print(line, file=sys.stderr)
    if drifted:
        print("run: python protos/generate.py", file=sys.stderr)
    return 1 if drifted else 0


def drift(fresh: dict[str, bytes], committed: dict[str, bytes]) -> list[str]:
    """One sentence for each stub that is missing, outdated or without a source."""
    lines = []
    for name in sorted(fresh.keys() | committed.keys()):
        if name not in committed:
            lines.append(f"{PACKAGE}/{name}: expected a stub, found none")
        elif name not in fresh:
            lines.append(f"{PACKAGE}/{name}: expected no such stub (its .proto is gone), found one")
        elif fresh[name] != committed[name]:
            lines.append(f"{PACKAGE}/{name}: expected what its .proto generates, found other bytes")
    return lines


def _require_generator() -> None:
    found = importlib.metadata.version("grpcio-tools")
    if found != GENERATOR_VERSION:
        sys.exit(f"grpcio-tools: expected {GENERATOR_VERSION}, found {found}")


def _sources() -> list[Path]:
    return sorted((PROTOS / PACKAGE).glob("*.proto"))


def _stubs(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / PACKAGE).glob("*_pb2*.py*")}


def _generate(out: Path) -> None:
    from grpc_tools import protoc  # type: ignore[import-untyped]  # imported late: `drift` is testable without the generator

    sources = _sources()
    services = [source for source in sources if "\nservice " in source.read_text()]
    for outputs, wanted in (
        ([f"--python_out={out}", f"--pyi_out={out}"], sources),
        ([f"--grpc_python_out={out}"], services),
    ):
        names = [str(source.relative_to(PROTOS)) for source in wanted]
        status = protoc.main(["protoc", f"--proto_path={PROTOS}", *outputs, *names])
        if status != 0:
            sys.exit(f"protoc failed with status {status}")


if __name__ == "__main__":
    sys.exit(main())
