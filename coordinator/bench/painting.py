# SPDX-License-Identifier: Apache-2.0
"""When a browser first paints each page of a dashboard. `federation bench dashboard` starts this.

    python -m coordinator.bench.painting DIR --samples 5
    python -m coordinator.bench.painting DIR --samples 0      # only whether there is a browser; DIR need not exist

Drives Chromium by playwright (extra `dev`). The time is the browser's own first-contentful-paint of the Paint Timing
specification (https://www.w3.org/TR/paint-timing/): from the beginning of the navigation, connection and answer
included, to the first text or picture on the screen. Prints one JSON document.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from coordinator.bench.setting import RUN
from coordinator.bench.viewers import pages_of, target_of
from federation.errors import ConfigError, FederationError

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
_PAINT: Final = """() => new Promise(done => {
    const found = performance.getEntriesByName('first-contentful-paint')[0];
    if (found) { done(found.startTime); return; }
    new PerformanceObserver(list => {
        for (const entry of list.getEntries()) if (entry.name === 'first-contentful-paint') done(entry.startTime);
    }).observe({ type: 'paint', buffered: true });
})"""


def browser_program() -> str:
    """The Chromium of this machine. Raises ConfigError: there is none, or no playwright to drive it."""
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        raise ConfigError("first paint: expected a Chromium", advice="Install the package chromium, or say --paints 0.")
    if find_spec("playwright") is None:
        raise ConfigError("first paint: expected playwright", advice="Install the extra `dev`, or say --paints 0.")
    return program


def paints(directory: Path, run: str, num_samples: int) -> dict[str, Any]:
    """Per address the first paint in seconds: of the first visit, and the median and largest of all.

    Raises:
        ConfigError: there is no Chromium, no playwright, or no dashboard.
    """
    program = browser_program()
    from playwright.sync_api import sync_playwright

    target = target_of(directory, None)
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        page = browser.new_context(ignore_https_errors=True).new_page()
        page.goto(f"{target.url}/enter#{target.token()}")
        page.wait_for_url(f"{target.url}/")
        addresses: dict[str, dict[str, float]] = {}
        for address in pages_of(run):
            seconds = []
            for _ in range(num_samples):
                page.goto(target.url + address)
                seconds.append(page.evaluate(_PAINT) / 1000)
            addresses[address] = {
                "first_seconds": seconds[0],
                "median_seconds": statistics.median(seconds),
                "largest_seconds": max(seconds),
            }
        return {"browser": browser.version, "num_samples": num_samples, "addresses": addresses}


def main(arguments: Sequence[str]) -> int:
    """The process's exit status."""
    parser = argparse.ArgumentParser(prog="python -m coordinator.bench.painting", description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=Path, help="a generated one, on which a dashboard runs")
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--run", default=RUN)
    given = parser.parse_args(arguments)
    try:
        if not given.samples:
            browser_program()
            return 0
        found = paints(given.directory, given.run, given.samples)
    except FederationError as error:
        print(error.diagnostics(), file=sys.stderr)
        return error.exit_code
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
