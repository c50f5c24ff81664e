# SPDX-License-Identifier: Apache-2.0
"""The loss study's plot, an SVG. matplotlib comes with the extra `bench`; nothing else needs it."""

import io
from importlib.util import find_spec
from typing import Any, Final

from federation.bench.figures import Document
from federation.bench.loss_settings import BASE

PLOT_ADVICE: Final = "pip install 'hpc-federation[bench]' brings matplotlib, for the plot."
_PERCENT: Final = 100.0


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def plot(document: Document) -> bytes:
    """Two panels: relative differences seed by seed with bounds and targets, and training loss over tokens.

    The same document gives the same bytes.
    """
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "loss", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    scored = {name: item for name, item in document["methods"].items() if "relative_difference" in item}
    _differences(left, {name: item for name, item in scored.items() if name != BASE})
    _curves(right, scored)
    target = io.BytesIO()
    figure.savefig(target, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return target.getvalue()


def _differences(axes: Any, methods: dict[str, Document]) -> None:
    for row, item in enumerate(methods.values()):
        seeds = [_PERCENT * value for value in item["relative_difference_by_seed"]]
        axes.plot(seeds, [row] * len(seeds), "o", color="0.6", markersize=3, zorder=2)
        mean, upper = item["relative_difference"], item["relative_difference_upper_95"]
        axes.plot([_PERCENT * mean], [row], "D", color="tab:blue", markersize=5, zorder=4)
        if upper is not None:
            axes.plot([_PERCENT * mean, _PERCENT * upper], [row, row], "-|", color="tab:blue", linewidth=1.5, zorder=3)
        if item["target"] is not None:
            axes.plot([_PERCENT * item["target"]], [row], marker="|", color="tab:red", markersize=16, zorder=1)
    axes.axvline(0.0, color="0.3", linewidth=0.8)
    axes.set_yticks(range(len(methods)), [item["title"] for item in methods.values()])
    axes.invert_yaxis()
    axes.set_xlabel("loss against DiLoCo fp32, %\n(dots: seeds; bar: to the upper 95% bound; red: target)")


def _curves(axes: Any, methods: dict[str, Document]) -> None:
    for item in methods.values():
        curve = item["training_loss"]
        millions = [tokens / 1e6 for tokens in curve["tokens"]]
        axes.plot(millions, curve["nats_per_byte"], linewidth=1.0, label=item["title"])
    axes.set_xlabel("tokens of all sites, millions")
    axes.set_ylabel("local training loss, nats per byte")
    axes.legend(frameon=False)
