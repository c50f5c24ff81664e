# SPDX-License-Identifier: Apache-2.0
"""`[metrics]` of site.toml."""

import re
from typing import Annotated

from pydantic import AfterValidator

from federation.config import Section

_LISTEN = re.compile(r"(?P<host>[A-Za-z0-9.\-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\]):(?P<port>[0-9]{1,5})", re.ASCII)


def _listen(value: str) -> str:
    found = _LISTEN.fullmatch(value)
    if value and (found is None or int(found["port"]) > 65_535):
        raise ValueError("ADDRESS:PORT, or an empty text for no port")
    return value


class MetricsSection(Section):
    """`[metrics]`: `listen` is the address and port at which a serving agent answers scrapes, "" for none.

    There is no password: whoever reaches the port reads the figures. Port 0: the operating system chooses one.
    """

    listen: Annotated[str, AfterValidator(_listen)] = ""

    def address(self) -> tuple[str, int] | None:
        """Host and port; None where nothing listens."""
        found = _LISTEN.fullmatch(self.listen)
        return (found["host"].strip("[]"), int(found["port"])) if found else None
