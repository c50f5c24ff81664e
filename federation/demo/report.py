# SPDX-License-Identifier: Apache-2.0
"""The demo's summary: what was learned, what it cost, what proves it. One document, printed or as JSON."""

import shlex
from typing import Any

from rich.console import Console
from rich.table import Table

from federation.demo.live import newest_scores
from federation.demo.stages import Demo, as_document, baseline_scores, manifest_of, verify_command

Document = dict[str, Any]
FP32_BYTES = 4


def result_document(
    demo: Demo,
    document: Document,
    verdict: Document | None,
    couriers: dict[str, list[str]],
    seconds: dict[str, float],
) -> Document:
    """Everything that `--json` prints.

    Keys: `couriers` (per site, in the order of their use), `bits_per_byte` (per model and language), `macro_average`
    (per model, over all languages), `federated_over_*` (ratios of macro-averages), `bytes`, `ledger`, `verify` and
    `verify_command`, `seconds` per stage.
    """
    scores = {"federated": final_scores(document)}
    if demo.settings.num_rounds:
        scores |= {name: baseline_scores(demo, name) for name in (*demo.settings.sites, "data-parallel")}
    means = {name: sum(values.values()) / len(values) for name, values in scores.items()}
    best_alone = min(means[site] for site in demo.settings.sites)
    return {
        "settings": as_document(demo.settings),
        "run": document["run"],
        "state": document["state"],
        "rounds": document["commits"],
        "missed": document["missed"],
        "couriers": couriers,
        "languages": {site: list(languages) for site, languages in demo.languages.items()},
        "bits_per_byte": scores,
        "macro_average": means,
        "federated_over_data_parallel": means["federated"] / means["data-parallel"],
        "federated_over_best_isolated": means["federated"] / best_alone,
        "bytes": bytes_document(demo, document),
        "ledger": document["ledger"],
        "theta": [head["theta"] for head in document["heads"]],
        "root": demo.fingerprint,
        "verify": verdict,
        "verify_command": shlex.join(verify_command(demo)),
        "kept": str(demo.paths.base),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }


def final_scores(document: Document) -> dict[str, float]:
    """Scores of the final model, every language from the site that holds it."""
    newest = newest_scores(document)
    return dict(sorted(newest.items()))


def bytes_document(demo: Demo, document: Document) -> Document:
    """Payload bytes, against fp32 pseudo-gradients every round and against fp32 gradients every step."""
    manifest = manifest_of(demo, document)
    parameters = sum(table.num_elements for table in manifest.fragments)
    sites, rounds = len(demo.settings.sites), document["commits"]
    moved = document["bytes"]["up"] + document["bytes"]["down"]
    fp32 = 2 * FP32_BYTES * parameters * sites * rounds
    synchronous = fp32 * manifest.plan.num_inner_steps
    return {
        "parameters": parameters,
        "up": document["bytes"]["up"],
        "down": document["bytes"]["down"],
        "per_parameter_up": document["bytes"]["up"] / (parameters * sites * rounds),
        "per_parameter_down": document["bytes"]["down"] / (parameters * sites * rounds),
        "fp32_rounds": fp32,
        "synchronous_data_parallel": synchronous,
        "times_fewer_than_fp32_rounds": fp32 / moved,
        "times_fewer_than_synchronous": synchronous / moved,
    }


def print_result(result: Document, console: Console) -> None:
    """The summary for people."""
    settings = result["settings"]
    console.print()
    console.print(_scores(result))
    ratio = 100 * (result["federated_over_data_parallel"] - 1)
    gain = 100 * (1 - result["federated_over_best_isolated"])
    console.print(
        f"Lower is better. The shared model is {abs(gain):.0f}% {'better' if gain >= 0 else 'worse'} than the best "
        "isolated site and "
        f"{abs(ratio):.1f}% {'worse' if ratio > 0 else 'better'} than data parallel at equal tokens."
    )
    console.print(
        f"Outer optimizer: lr {settings['outer_lr']:g}, momentum {settings['outer_momentum']:g}, fit for few rounds; "
        f"codec {settings['codec']} both ways."
    )
    size = result["bytes"]
    moved = (size["up"] + size["down"]) / 1e6
    console.print(
        f"Exchanged {moved:.1f} MB for {size['parameters']:,} parameters "
        f"({size['per_parameter_up']:.3f} bytes each up, {size['per_parameter_down']:.3f} down): "
        f"{size['times_fewer_than_fp32_rounds']:.0f} times less than fp32, "
        f"{size['times_fewer_than_synchronous']:.0f} times less than synchronous data parallel."
    )
    used = ", ".join(f"{site} {' then '.join(couriers)}" for site, couriers in result["couriers"].items())
    console.print(f"Couriers: {used}.")
    ledger = result["ledger"]
    console.print(f"Ledger: {ledger['size']} leaves, root {ledger['root']}")
    console.print(f"Verify: {_verdict(result)}", style="bold")
    console.print("Check it yourself:", result["verify_command"], soft_wrap=True)
    console.print(f"Seconds: {', '.join(f'{name} {value:.0f}' for name, value in result['seconds'].items())}")


def _verdict(result: Document) -> str:
    verdict = result["verify"]
    return " ".join(verdict["sentences"]) if verdict else "not run"


def _scores(result: Document) -> Table:
    """A row a language, a column a model, the site that holds a language marked."""
    models = list(result["bits_per_byte"])
    holder = {language: site for site, languages in result["languages"].items() for language in languages}
    table = Table(title="bits per byte on held-out text (* trained on this language)", box=None)
    table.add_column("language")
    for name in models:
        table.add_column(name, justify="right")
    for language in sorted(holder):
        cells = []
        for name in models:
            score = result["bits_per_byte"][name].get(language)
            mark = "*" if holder[language] == name else " "
            cells.append("n/a" if score is None else f"{score:.3f}{mark}")
        table.add_row(language, *cells)
    table.add_row("mean", *(f"{result['macro_average'][name]:.3f} " for name in models), style="bold")
    return table
