# SPDX-License-Identifier: Apache-2.0
"""`federation bench codecs`."""

from typing import Any, Final

import click
from rich.table import Table

from federation.bench.device import device_figures
from federation.cli.bench_output import AS_JSON, PARAMETERS, say, show, table_of
from federation.codecs.registry import codec_names
from federation.errors import ConfigError


@click.command()
@click.option(
    "--codec",
    "names",
    type=click.Choice(codec_names()),
    multiple=True,
    help="May be given several times.  [default: all]",
)
@PARAMETERS
@click.option("--samples", type=click.IntRange(1, 100), default=5, show_default=True, help="Of each figure.")
@AS_JSON
def codecs(names: tuple[str, ...], parameters: int, samples: int, as_json: bool) -> None:
    """Encode and decode-and-accumulate of every codec, on all cores.

    Reference of the same run: a plain copy of the same vector, and the numpy reference, whose bytes must be the same.
    Where torch finds an accelerator, int4 and int8 on it, beside a plain copy there.
    """
    from federation.bench.codecs import CodecBench  # compiled code: no other command waits for its import

    try:
        found = CodecBench(num_elements=parameters, num_samples=samples, say=say).run(names or codec_names())
    except MemoryError as error:
        raise ConfigError(
            f"--parameters {parameters}: expected memory for several vectors of that many, found too little ({error})",
            advice="Choose a smaller model: shares of copy speed hardly change above some millions.",
        ) from error
    say("device")
    found["device"] = device_figures()
    show(found, as_json, _table(found), device_table(found["device"]))


_COLUMNS: Final = ("GB/s", "bytes", "encode", "/ copy", "with EF", "numpy", "decode + add", "/ copy", "numpy")
"""`bytes`: per parameter; EF: error feedback; the second `numpy` is of decode + add."""


def _table(found: dict[str, Any]) -> Table:
    copy = ("copy", "4.000", f"{found['copy_bytes_per_second'] / 1e9:.2f}", "1.00")
    rows = [_row(name, codec) for name, codec in found["codecs"].items()]
    title = f"{found['num_parameters']} parameters, {found['num_threads']} threads, median of {found['num_samples']}"
    return table_of(title, _COLUMNS, [copy, *rows])


def _row(name: str, codec: dict[str, Any]) -> tuple[str, ...]:
    def rate(key: str) -> str:
        return f"{codec[f'{key}_bytes_per_second'] / 1e9:.2f}"

    return (
        name,
        f"{codec['bytes_per_parameter']:.3f}",
        rate("encode"),
        f"{codec['encode_share_of_copy']:.2f}",
        rate("encode_with_feedback"),
        rate("numpy_encode"),
        rate("decode_accumulate"),
        f"{codec['decode_accumulate_share_of_copy']:.2f}",
        rate("numpy_decode_accumulate"),
    )


def device_table(found: dict[str, Any]) -> Table:
    """The accelerator's figures, or one line that says why there are none."""
    if "absent" in found:
        return table_of("", (f"no device: {found['absent']}",), [])
    bits = "the CPU's bits" if found["payload_equals_cpu"] else "NOT THE CPU'S BITS"
    title = f"{found['name']}: {found['num_parameters']} parameters, {bits}, median of {found['num_samples']}"
    copy = ("copy", f"{found['copy_bytes_per_second'] / 1e9:.0f}", "1.00", "1.00")
    rows = [
        (name, "", f"{codec['encode_share_of_copy']:.2f}", f"{codec['apply_share_of_copy']:.2f}")
        for name, codec in found["codecs"].items()
    ]
    return table_of(title, ("all bytes moved", "GB/s", "encode with EF / copy", "apply / copy"), [copy, *rows])
