# SPDX-License-Identifier: Apache-2.0
"""Nothing outside `federation.durable` writes, fsyncs, renames, links or removes files (read from the syntax trees).

What bypasses it would be durable only by luck, and invisible to the crash simulation.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("federation", "coordinator", "site_agent")
DURABLE = "federation/durable/"
GENERATED = "federation/v1/"

EXEMPT: dict[str, dict[str, str]] = {
    "federation/cli/errors.py": {
        "os.O_WRONLY": "opens the null device, so that a closed pipe ends without a traceback",
    },
    "federation/demo/children.py": {
        ".open() for writing": "a process's output file is handed to it as a descriptor, nobody relies on it",
    },
    "site_agent/carrier/process.py": {
        ".open() for writing": "a program's output file is handed to it as a descriptor, nobody relies on it",
    },
    "site_agent/cli/carrier.py": {
        "tempfile.TemporaryDirectory": "a private directory for a socket, whose path must be short; gone at the end",
    },
    "site_agent/launcher/local.py": dict.fromkeys(
        ("os.O_APPEND", "os.O_CREAT", "os.O_WRONLY"),
        "a job's output file is handed to the child process as a descriptor, nobody relies on it",
    ),
}
"""Operations that a file may do by itself, each with its reason."""

FORBIDDEN_FUNCTIONS: dict[str, set[str]] = {
    "os": {
        "fdatasync",
        "fsync",
        "ftruncate",
        "link",
        "makedirs",
        "mkdir",
        "mkfifo",
        "mknod",
        "remove",
        "removedirs",
        "rename",
        "renames",
        "replace",
        "rmdir",
        "sendfile",
        "symlink",
        "sync",
        "truncate",
        "unlink",
        "write",
        "writev",
        "pwrite",
        "copy_file_range",
    },
    "shutil": {
        "copy",
        "copy2",
        "copyfile",
        "copyfileobj",
        "copytree",
        "make_archive",
        "move",
        "rmtree",
        "unpack_archive",
    },
    "tempfile": {
        "mkdtemp",
        "mkstemp",
        "NamedTemporaryFile",
        "SpooledTemporaryFile",
        "TemporaryDirectory",
        "TemporaryFile",
    },
}
FORBIDDEN_METHODS = {
    "hardlink_to",
    "rmdir",
    "symlink_to",
    "touch",
    "unlink",
    "write_bytes",
    "write_text",
}
OPEN_FLAGS = {
    "O_WRONLY",
    "O_RDWR",
    "O_CREAT",
    "O_APPEND",
    "O_TRUNC",
    "O_EXCL",
}


def module_names(tree: ast.AST) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """What `import os as x` and `from os import fsync as y` bind: {x: os}, {y: (os, fsync)}."""
    modules: dict[str, str] = {}
    functions: dict[str, tuple[str, str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules.update({(alias.asname or alias.name): alias.name for alias in node.names})
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            functions.update({(alias.asname or alias.name): (node.module, alias.name) for alias in node.names})
    return modules, functions


def writing_mode(call: ast.Call, position: int) -> bool:
    """Whether the mode argument of an `open` is written out and allows writing, or cannot be read at all."""
    modes = [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    modes += call.args[position : position + 1]
    if not modes:
        return False
    mode = modes[0]
    if not (isinstance(mode, ast.Constant) and isinstance(mode.value, str)):
        return position == 1  # a variable mode of the builtin; of a method, the argument is something else
    return set(mode.value) <= set("rwaxbtU+") and bool(set(mode.value) & set("wax+"))


def problem_of_call(call: ast.Call, modules: dict[str, str], functions: dict[str, tuple[str, str]]) -> str | None:
    """What is wrong with a call, or None."""
    target = call.func
    if isinstance(target, ast.Name):
        module, name = functions.get(target.id, ("", target.id))
        if name in FORBIDDEN_FUNCTIONS.get(module, ()):
            return f"{module}.{name}"
        return "open for writing" if target.id == "open" and writing_mode(call, 1) else None
    if not isinstance(target, ast.Attribute):
        return None
    if isinstance(target.value, ast.Name) and target.value.id in modules:
        module = modules[target.value.id]
        if module in ("io", "gzip", "lzma", "bz2") and target.attr == "open":
            return f"{module}.open for writing" if writing_mode(call, 1) else None
        return f"{module}.{target.attr}" if target.attr in FORBIDDEN_FUNCTIONS.get(module, ()) else None
    return problem_of_method(call, target.attr)


def problem_of_method(call: ast.Call, name: str) -> str | None:
    """Methods of `pathlib.Path`, told by their arguments from those of `FileSystem`, `str` and `datetime`."""
    if name in FORBIDDEN_METHODS:
        return f".{name}()"
    if name == "open" and writing_mode(call, 0):
        return ".open() for writing"
    if name == "mkdir" and (not call.args or call.keywords):
        return ".mkdir() of a path"
    if name in ("rename", "replace") and len(call.args) == 1 and not call.keywords:
        return f".{name}() of a path"
    return None


def problems(source: str) -> Iterator[tuple[int, str]]:
    """(line, what) of every durable operation in a module."""
    tree = ast.parse(source)
    modules, functions = module_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (found := problem_of_call(node, modules, functions)):
            yield node.lineno, found
        elif isinstance(node, ast.Attribute) and node.attr in OPEN_FLAGS:
            yield node.lineno, f"os.{node.attr}"


def sources() -> list[str]:
    """Every module of ours that is not exempt by its place, relative to the repository."""
    found = [path.relative_to(ROOT).as_posix() for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
    # */testing/ plays the other side in tests: it stands for programs that are not ours.
    return [path for path in found if not path.startswith((DURABLE, GENERATED)) and "/testing/" not in path]


def test_only_durable_writes() -> None:
    found = [
        f"{path}:{line}: {what}"
        for path in sources()
        for line, what in problems((ROOT / path).read_text(encoding="utf-8"))
        if what not in EXEMPT.get(path, {})
    ]
    assert found == [], "go through federation.durable.FileSystem:\n" + "\n".join(found)


def test_durable_itself_would_be_caught() -> None:
    sources = [(ROOT / DURABLE / name).read_text(encoding="utf-8") for name in ("posix.py", "real.py")]
    found = {what for source in sources for _, what in problems(source)}
    assert {"os.fsync", "os.link", "os.write", "os.O_CREAT", ".mkdir() of a path", ".rename() of a path"} <= found


@pytest.mark.parametrize(
    "line",
    [
        "import os; os.rename(a, b)",
        "import os as o; o.fsync(3)",
        "from os import replace; replace(a, b)",
        "from os import fsync as sync; sync(3)",
        "import os; os.open(p, os.O_WRONLY)",
        "import shutil; shutil.rmtree(p)",
        "import tempfile; tempfile.mkdtemp()",
        "from tempfile import TemporaryDirectory; TemporaryDirectory()",
        "open(p, 'w')",
        "open(p, mode='ab')",
        "open(p, 'r+b')",
        "open(p, mode)",
        "import gzip; gzip.open(p, 'wt')",
        "p.open('w')",
        "p.open(mode='x')",
        "p.write_text('')",
        "p.write_bytes(b'')",
        "p.unlink()",
        "p.mkdir()",
        "p.mkdir(parents=True)",
        "p.rename(q)",
        "p.replace(q)",
        "p.touch()",
    ],
)
def test_what_is_forbidden(line: str) -> None:
    assert list(problems(line))


@pytest.mark.parametrize(
    "line",
    [
        "open(p)",
        "open(p, 'rb')",
        "p.open('rb')",
        "Ledger.open(fs, base, origin)",
        "import gzip; gzip.open(p, 'rt')",
        "'a'.replace('b', 'c')",
        "from dataclasses import replace; replace(state, size=1)",
        "import dataclasses; dataclasses.replace(state, size=1)",
        "moment.replace(tzinfo=utc)",
        "fs.rename('a', 'b')",
        "fs.mkdir('claim')",
        "fs.link('a', 'b')",
        "fs.write('a', b'')",
        "import os; os.environ; os.getpid()",
    ],
)
def test_what_is_allowed(line: str) -> None:
    assert list(problems(line)) == []


def test_every_exemption_is_still_needed() -> None:
    for path, operations in EXEMPT.items():
        found = {what for _, what in problems((ROOT / path).read_text(encoding="utf-8"))}
        assert set(operations) <= found, path
