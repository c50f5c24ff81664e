# SPDX-License-Identifier: Apache-2.0
"""`[[credentials]]` of site.toml: what else at this site expires, and what a person must do then."""

from typing import Annotated, Final

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from federation.config import Section

MAX_CREDENTIALS: Final = 50


class CredentialEntry(Section):
    """One credential that the agent counts down and never uses.

    `name`: what people call it. `expires_at`: when, with its time zone. `expires_file`: instead, a file that tells: an
    SSH certificate, an X.509 certificate (PEM), or a line with a date or with seconds since 1970; relative to the
    site's directory. `warn_hours`: before that. `what_to_do`: one sentence for the person who renews it.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,59}$")]
    expires_at: AwareDatetime | None = None
    expires_file: Annotated[str, StringConstraints(max_length=4096)] = ""
    warn_hours: Annotated[float, Field(gt=0, le=24 * 366)] = 24.0
    what_to_do: Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$")]

    @model_validator(mode="after")
    def _tells_when(self) -> "CredentialEntry":
        if (self.expires_at is None) == (not self.expires_file):
            raise ValueError("expected one of expires_at and expires_file")
        return self
