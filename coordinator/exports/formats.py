# SPDX-License-Identifier: Apache-2.0
"""The formats by name, and what every export says about itself."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from coordinator.exports.destination import COLUMNS_FILE, check, new_directory, new_file
from coordinator.run_columns import dictionary
from coordinator.run_tables import RunTables
from federation.errors import ConfigError, UsageError

EXTRA: Final = "pip install 'hpc-federation[export]'"


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format.

    Attributes:
        module, function: what writes it, imported when it is asked for.
        needs: distribution beyond what is always installed, "" for none.
        suffix: of a file; "" where an export is a directory.
    """

    name: str
    module: str
    function: str
    needs: str = ""
    suffix: str = ""

    def writer(self) -> Callable[[RunTables, dict[str, Any], Any], None]:
        """What writes it.

        Raises:
            ConfigError: what it needs is not installed.
        """
        try:
            found: Callable[[RunTables, dict[str, Any], Any], None] = getattr(import_module(self.module), self.function)
        except ImportError as error:
            raise ConfigError(
                f"--format {self.name}: expected {self.needs or 'Python'} to be installed, found: {error}",
                advice=f"{EXTRA} installs it; csv, json and jsonl need nothing.",
            ) from error
        return found

    def default_out(self, run: str) -> Path:
        """Where an export goes if nobody says."""
        return Path(f"{run}-metrics{self.suffix or '-' + self.name}")


_TEXT: Final = "coordinator.exports.text_files"
FORMATS: Final[Mapping[str, Format]] = {
    found.name: found
    for found in (
        Format(name="csv", module=_TEXT, function="write_csv"),
        Format(name="json", module=_TEXT, function="write_json", suffix=".json"),
        Format(name="jsonl", module=_TEXT, function="write_json_lines"),
        Format(name="parquet", module="coordinator.exports.parquet_files", function="write_parquet", needs="pyarrow"),
        Format(
            name="tensorboard",
            module="coordinator.exports.tensorboard_files",
            function="write_tensorboard",
            needs="tensorboardX",
        ),
    )
}


def format_named(name: str) -> Format:
    """A format. Raises UsageError if there is none of that name."""
    if name not in FORMATS:
        raise UsageError(f"--format: expected {', '.join(FORMATS)}, found {name!r:.80}")
    return FORMATS[name]


def check_out(wanted: Format, out: Path, overwrite: bool) -> None:
    """Whether an export could be written, before anybody is asked for it. Raises ConfigError."""
    wanted.writer()
    check(out, overwrite, is_file=bool(wanted.suffix))


def write(wanted: Format, tables: RunTables, about: Mapping[str, Any], out: Path, overwrite: bool) -> None:
    """Writes an export; nothing appears unless all of it does.

    Args:
        about: where the tables come from; the column dictionary is added to it.

    Raises:
        ConfigError: something is in the way, or what the format needs is missing.
        DiskFullError, StorageError: it cannot be written.
    """
    writer, document = wanted.writer(), {**about, "tables": dictionary()}
    if wanted.suffix:
        with new_file(out, overwrite) as output:
            writer(tables, document, output)
        return
    with new_directory(out, overwrite) as folder:
        writer(tables, document, folder)
        with folder.file(COLUMNS_FILE) as output:
            output.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
