# SPDX-License-Identifier: Apache-2.0
"""`[dashboard]` of coordinator.toml."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from coordinator.dashboard.public_fields import PUBLIC_FIELDS
from federation.config import Section
from federation.errors import ConfigError
from federation.rpc.credentials import Endpoint


def _listen(value: str) -> str:
    if value:
        host, _, port = value.rpartition(":")
        try:
            Endpoint.parse(f"{host}:1" if port == "0" else value)
        except ConfigError:
            raise ValueError("ADDRESS:PORT, or an empty text for no dashboard") from None
    return value


def _url(value: str) -> str:
    if value and not is_address(value):
        raise ValueError("an address as https://dashboard.example.org, without a path")
    return value


def is_address(value: str) -> bool:
    """Whether it is `https://HOST` or `https://HOST:PORT`."""
    try:
        parts = urlsplit(value)
        Endpoint.parse(f"{parts.netloc}:443" if parts.port is None else parts.netloc)
    except (ValueError, ConfigError):
        return False
    return parts.scheme == "https" and parts.path in ("", "/") and not (parts.query or parts.fragment)


def _fields(value: list[str]) -> list[str]:
    if unknown := sorted(set(value) - set(PUBLIC_FIELDS)):
        raise ValueError(f"some of {', '.join(PUBLIC_FIELDS)}; not {', '.join(unknown)}")
    return value


class DashboardSection(Section):
    """`[dashboard]`: `listen` is where `coordinator serve` starts the dashboard, "" for none; port 0 takes any.

    `url` is its address for browsers, where that is another one. `certificate` and `key` are PEM files, relative to the
    coordinator's directory; without them it makes its own. `public`: fields of the page for everybody, [] for none.
    """

    listen: Annotated[str, AfterValidator(_listen)] = ""
    url: Annotated[str, AfterValidator(_url)] = ""
    certificate: str = ""
    key: str = ""
    public: Annotated[list[str], AfterValidator(_fields)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _both(self) -> "DashboardSection":
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key together, or neither")
        return self

    @property
    def host(self) -> str:
        """The host of `url`, "" if there is none."""
        return urlsplit(self.url).hostname or ""

    def with_listen(self, listen: str) -> "DashboardSection":
        """The same, listening elsewhere. Raises ConfigError: no ADDRESS:PORT."""
        try:
            return self.model_copy(update={"listen": _listen(listen)})
        except ValueError:
            raise ConfigError(f"--listen: expected ADDRESS:PORT, found {listen!r:.80}") from None
