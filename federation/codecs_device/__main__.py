# SPDX-License-Identifier: Apache-2.0
"""`python -m federation.codecs_device`: the device's figures as one line of JSON, {} where there is no device.

A process of its own, because command lines import no torch.
"""

import importlib.util
import json


def main() -> None:
    """Prints the figures; {} also where torch or Triton is not installed."""
    figures: dict[str, float | int | str] = {}
    if all(importlib.util.find_spec(name) for name in ("torch", "triton")):
        from federation.codecs_device.bench import device_figures

        figures = device_figures()
    print(json.dumps(figures, sort_keys=True))


if __name__ == "__main__":
    main()
