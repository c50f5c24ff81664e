# SPDX-License-Identifier: Apache-2.0
"""`python -m federation.codecs_device`: the device's figures as one line of JSON, {"absent": why} where there is none.

A process of its own, because command lines import no torch.
"""

import importlib.util
import json


def main() -> None:
    """Prints the figures, or why there are none."""
    missing = [name for name in ("torch", "triton") if not importlib.util.find_spec(name)]
    if missing:
        print(json.dumps({"absent": f"{missing[0]} is not installed"}))
        return
    from federation.codecs_device.bench import device_figures

    print(json.dumps(device_figures(), sort_keys=True))


if __name__ == "__main__":
    main()
