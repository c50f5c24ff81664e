# SPDX-License-Identifier: Apache-2.0
"""Scripts and styles, all shipped with the installation: the dashboard runs in a closed network.

The charts' library comes with the plotly distribution, which is never imported: only its script is served.
"""

import gzip
import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from typing import Final

from federation.errors import ConfigError

_TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_OWN: Final = ("dashboard.css", "dashboard.js", "charts.js", "door.js", "theme.js", "icon.svg")
_PLOTLY: Final = "plotly/package_data/plotly.min.js"
_OWN_STYLE: Final = re.compile(rb'if\(!document\.getElementById\("([0-9a-f]{40,128})"\)\)')
"""Where the library looks whether the styles of its maps, of which we draw none, are on the page already."""


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One file, compressed once."""

    media_type: str
    data: bytes
    packed: bytes
    tag: str


@cache
def asset(name: str) -> Asset | None:
    """A file by its name, None if there is none of that name.

    Raises:
        ConfigError: the installation lacks the charts' library.
    """
    if name == "plotly.js":
        return _made(name, _plotly())
    if name not in _OWN:
        return None
    return _made(name, resources.files("coordinator.dashboard").joinpath("static", name).read_bytes())


def check_assets() -> None:
    """Before anything is served. Raises ConfigError: something is missing."""
    for name in (*_OWN, "plotly.js"):
        asset(name)


def _plotly() -> bytes:
    try:
        found = [file for file in metadata.files("plotly") or () if str(file) == _PLOTLY]
        return _without_map_styles(found[0].read_binary())
    except (metadata.PackageNotFoundError, IndexError, OSError) as error:
        raise ConfigError(
            "the dashboard's charts need the plotly package, which is not installed here",
            advice="Install it: pip install 'hpc-federation[dashboard]'",
        ) from error


def _without_map_styles(script: bytes) -> bytes:
    """The library, told that the styles of its maps are there: adding them is against our content security policy."""
    ids = json.dumps(sorted({found.decode() for found in _OWN_STYLE.findall(script)}))
    made = 'Object.assign(document.createElement("template"), { id })'
    return f"for (const id of {ids}) document.head.append({made});\n".encode() + script


def _made(name: str, data: bytes) -> Asset:
    ending = name[name.rindex(".") :]
    tag = hashlib.sha256(data).hexdigest()[:20]
    return Asset(media_type=_TYPES[ending], data=data, packed=gzip.compress(data, 9, mtime=0), tag=f'"{tag}"')
