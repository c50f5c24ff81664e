# SPDX-License-Identifier: Apache-2.0
"""The loss study's result as a page: docs/results/loss.md is one, written with `--report docs/results`."""

import json
import textwrap
from collections.abc import Sequence
from typing import Final

from federation.bench.figures import Document
from federation.bench.loss_settings import BASE

PLOT_FILE: Final = "loss.svg"
_RESULT_COLUMNS: Final = (
    "method",
    "bits per byte",
    "against DiLoCo fp32",
    "upper 95% bound",
    "target",
    "met",
    "bytes per parameter up",
    "down",
)


def page(document: Document, command: str, has_plot: bool) -> str:
    """Markdown: result, languages, tuning, how it was done, settings."""
    parts = [
        _introduction(document, command),
        f"![relative differences and training loss]({PLOT_FILE})" if has_plot else "",
        "## Result\n\n" + _result(document),
        "## Languages\n\n" + _languages(document),
        "## Tuning\n\n" + _tuning(document),
        _method(document),
        "## Settings\n\n" + _settings(document),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _introduction(document: Document, command: str) -> str:
    minutes = document["processor_seconds"] / 60
    said = _text(
        f"""on {document["machine"]["cpu"]}; all runs together took {minutes:.0f} minutes of processor time. The data
        are not part of this repository: `--data` takes any directory of `<language>*.txt` or `.txt.gz`. `loss.json`
        beside this page has every figure."""
    )
    return f"""# What compression and overlap cost in loss

This page was written by

```
{command}
```

{said}"""


def _result(document: Document) -> str:
    rows = [_result_row(item, name) for name, item in document["methods"].items()]
    enough = document["setting"]["min_language_bytes"] / 1e6
    said = _text(
        f"""Bits per byte on held-out text, final model, mean over {document["methods"][BASE]["num_samples"]} seeds and
        over the languages with {enough:g} MB of training text or more ({", ".join(document["counted_languages"])}). All
        methods train on {document["tokens_per_run"]:,} tokens. The bound is one-sided, from a paired t-test over the
        seeds: of a seed, all methods have the same θ₀ and the same sequences in the same order. Bytes are those of
        payloads, per site and exchange of the whole model. Data parallel exchanges gradients in every step; it is what
        a fast network between the sites would allow, and has no target. {_progress(document)}"""
    )
    return f"{_table(_RESULT_COLUMNS, rows)}\n\n{said}"


def _progress(document: Document) -> str:
    start = document["start_bits_per_byte"]
    return "" if start is None else f"The models that all methods start from have {start:.4f} bits per byte."


def _result_row(item: Document, name: str) -> Sequence[str]:
    if "bits_per_byte" not in item:
        return (item["title"], f"{item['num_diverged']} of {item['num_samples']} broke down", *[""] * 6)
    met = {True: "yes", False: "**no**", None: ""}[item["within_target"]]
    sizes = [item[f"bytes_per_parameter_{way}"] for way in ("up", "down")]
    target = "" if item["target"] is None else f"≤ {_percent(item['target'])}"
    against = ("", "") if name == BASE else (_percent(item["relative_difference"]), _bound(item))
    return (
        item["title"],
        f"{item['bits_per_byte']:.4f}",
        *against,
        target,
        met,
        *(f"{size:.3f}" if size else "" for size in sizes),
    )


def _bound(item: Document) -> str:
    upper = item["relative_difference_upper_95"]
    return "" if upper is None else _percent(upper)


def _languages(document: Document) -> str:
    held = document["setting"]["sites"]
    names = [language for languages in held.values() for language in languages]
    rows = [
        (item["title"], *(_language(item["languages"][name]) for name in names))
        for item in document["methods"].values()
        if "languages" in item
    ]
    sites = "; ".join(f"{site}: {', '.join(languages)}" for site, languages in held.items())
    texts = ", ".join(f"{name} {document['text_bytes'][name] / 1e6:.1f} MB" for name in names)
    said = _text(f"Each site has languages of its own ({sites}). Training text: {texts}.")
    return f"{_table(('bits per byte (against DiLoCo fp32)', *names), rows)}\n\n{said}"


def _language(score: Document) -> str:
    return f"{score['bits_per_byte']:.3f} ({_percent(score['relative_difference'])})"


def _tuning(document: Document) -> str:
    setting = document["setting"]
    rows = [_tuning_row(document["methods"][name], tried) for name, tried in document["tuning"].items()]
    said = _text(
        f"""Every method with an outer optimizer got the same effort: {len(setting["outer_lrs"])} outer learning rates
        × {len(setting["momenta"])} values of β, one run each on 1/{setting["tuning_share"]} of the tokens (with a
        schedule of the inner learning rate of that length), with seed {setting["tuning_seed"]}, which is none of the
        compared ones. β is the momentum of the outer optimizer for dense codecs and that of error feedback for
        `sparse`, whose outer optimizer is SGD without momentum."""
    )
    return f"{said}\n\n{_table(('method', 'β is of', 'bits per byte (bold: chosen)'), rows)}"


def _tuning_row(item: Document, tried: Sequence[Document]) -> Sequence[str]:
    cells = []
    for one in tried:
        text = "broke down" if one["bits_per_byte"] is None else f"{one['bits_per_byte']:.4f}"
        is_chosen = (one["lr"], one["beta"]) == (item["chosen"]["lr"], item["chosen"]["beta"])
        cells.append(f"lr {one['lr']:g}, β {one['beta']:g}: {f'**{text}**' if is_chosen else text}")
    return (item["title"], item["beta_of"], "; ".join(cells))


def _method(document: Document) -> str:
    setting = document["setting"]
    trained = _text(
        f"""The reference trainer (a byte-level Llama, AdamW) at {len(setting["sites"])} sites and, between them, the
        oracle of the protocol in one process: error feedback, codecs in both directions, outer step, fragments and
        merges have the bits of a federation of real processes (`tests/integration/test_loss_study.py` compares digests
        of θ)."""
    )
    then = _text(
        f"""Then {setting["num_rounds"]} exchanges of the whole model follow, one every H = {setting["num_inner_steps"]}
        inner steps, with a cosine schedule of the inner learning rate from {setting["inner_lr"]:g} down to
        {setting["min_lr_fraction"]:g} of it. The streaming method exchanges {setting["num_fragments"]} fragments in
        turn, each every H steps, and merges each τ = {setting["tau"]} steps after its boundary with
        α = {setting["alpha"]:g}; its last exchanges lie up to H steps before the end, and what was trained after them
        does not count for it."""
    )
    return f"## How it was done\n\n{trained}\n\n{_beginning(setting)}\n\n{then}"


def _beginning(setting: Document) -> str:
    if not setting["warm_rounds"]:
        return "Every seed draws a model; all methods of the seed start from it."
    num_steps = setting["warm_rounds"] * setting["num_inner_steps"]
    return _text(
        f"""Every seed draws a model and trains it data parallel for {num_steps} steps
        with a constant inner learning rate of {setting["warm_lr"]:g}, on sequences that are not used again. All
        methods of the seed start from that model. (In the first steps of a random model loss falls so fast that being
        one round late outweighs everything else. The DiLoCo paper, arXiv 2311.08105, starts from a pretrained model
        too.)"""
    )


def _settings(document: Document) -> str:
    rows = [(f"`{key}`", f"`{_toml(value)}`") for key, value in document["setting"].items()]
    rows.insert(0, ("parameters of the model", f"{document['num_parameters']:,}"))
    said = _text("A TOML file for `--settings` may change any of them. Seeds, learning rates and β are lists.")
    return f"{said}\n\n{_table(('setting', 'value'), rows)}"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def _percent(value: float) -> str:
    return f"{100 * value:+.2f}%"


def _text(words: str) -> str:
    """A paragraph of lines that end before column 120."""
    return textwrap.fill(" ".join(words.split()), 118, break_long_words=False, break_on_hyphens=False)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
