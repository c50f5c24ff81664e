# SPDX-License-Identifier: Apache-2.0
"""Coverage-guided fuzzing of the decoders with Atheris: `python tests/fuzz/atheris_decoders.py [options]`.

    --decoder NAME    one decoder instead of all (codec-int4, admission, document-leaf, ...)
    CORPUS            directory of inputs, read and extended; a temporary one with valid samples otherwise
    -runs=100000      and all other options of libFuzzer; by default it runs until it finds something

The first byte of an input chooses the decoder, the second one its variant; the second's top bit says that checksums are
made right. An input that takes 20 s, or 2 GB of memory, counts as a defect.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lib"))

# What numba compiles must stay as it was written.
COMPILED = [f"federation.kernels.{path.stem}" for path in (ROOT / "federation" / "kernels").glob("*.py")]

with atheris.instrument_imports(include=["federation"], exclude=COMPILED):
    from fuzz_targets import Target, all_targets

REPAIR = 0x80
LIMITS = ("-max_len=4096", "-timeout=20", "-rss_limit_mb=2048")


def write_corpus(targets: list[Target], directory: Path) -> None:
    """Every valid sample, with the two bytes that lead to its decoder."""
    for number, target in enumerate(targets):
        for index, sample in enumerate(target.samples):
            content = bytes((number, sample.variant)) + sample.data
            (directory / f"{target.name}-{index}").write_bytes(content)


def feed(targets: list[Target], content: bytes) -> None:
    """Gives one input to the decoder that it chooses."""
    if len(content) < 2:
        return
    target, data = targets[content[0] % len(targets)], content[2:]
    if content[1] & REPAIR and target.repair is not None:
        data = target.repair(data)
    target.feed((content[1] & ~REPAIR) % target.num_variants, data)


def chosen_targets(arguments: list[str]) -> list[Target]:
    """The targets that `--decoder` names, which is taken out of the arguments."""
    targets = all_targets()
    if "--decoder" not in arguments:
        return list(targets.values())
    where = arguments.index("--decoder")
    name = arguments[where + 1] if where + 1 < len(arguments) else ""
    if name not in targets:
        raise SystemExit(f"--decoder: expected one of {', '.join(targets)}, found {name!r}")
    del arguments[where : where + 2]
    return [targets[name]]


def main(arguments: list[str]) -> None:
    rest = list(arguments)
    targets = chosen_targets(rest)
    if all(argument.startswith("-") for argument in rest):
        # libFuzzer ends its process itself, so a temporary corpus is left to a parent.
        with tempfile.TemporaryDirectory(prefix="corpus-") as directory:
            write_corpus(targets, Path(directory))
            raise SystemExit(subprocess.call([sys.executable, __file__, *arguments, directory]))
    atheris.Setup([sys.argv[0], *LIMITS, *rest], lambda content: feed(targets, content))
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
