"""A dead letter as it was stored: what it says, which ones are meant, and how it becomes a command again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import msgspec

from schemas import deadletters
from schemas.types import Provider
from schemas.wire import content_type, decode


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A command that couldn't be done."""

    sequence: int
    """In the stream of dead letters."""
    provider: Provider
    stored_at: datetime
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    """The command's own bytes: its filter may hold a person's name or phone."""

    @property
    def job_id(self) -> str | None:
        """The job's id, None in a letter that isn't ours."""
        return self.headers.get(deadletters.JOB_ID)

    @property
    def code(self) -> str | None:
        """The contract's word for why."""
        return self.headers.get(deadletters.ERROR_CODE)

    @property
    def reason(self) -> str:
        """What happened and what to do."""
        return self.headers.get(deadletters.ERROR_MESSAGE, "")

    @property
    def command_sequence(self) -> str | None:
        """The failed command's sequence in the command stream, as digits."""
        given = self.headers.get(deadletters.COMMAND_SEQUENCE, "")
        return given if given.isascii() and given.isdigit() else None

    @property
    def whole_bytes(self) -> int | None:
        """How long the command was, where it was too long to be kept whole."""
        given = self.headers.get(deadletters.BODY_BYTES, "")
        return int(given) if given.isascii() and given.isdigit() else None

    @cached_property
    def oa_id(self) -> str | None:
        """The Official Account, where the command can be read."""
        try:
            fields: Any = decode(self.body, Any, content_type(self.headers))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        oa_id = fields.get("oa_id") if isinstance(fields, dict) else None
        return oa_id if isinstance(oa_id, str) else None

    @property
    def job(self) -> tuple[str, str | None, str] | None:
        """What tells its job from others; None where that isn't known."""
        return (self.provider, self.oa_id, self.job_id) if self.job_id else None


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which letters are meant: those that meet every condition that is given."""

    sequences: frozenset[int] = frozenset()
    provider: Provider | None = None
    code: str | None = None
    oa_id: str | None = None
    job_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def narrows(self) -> bool:
        """Whether there is any condition."""
        return self != Selection()

    def matches(self, letter: Letter) -> bool:
        """Say whether `letter` is meant."""
        return (
            (not self.sequences or letter.sequence in self.sequences)
            and self.provider in (None, letter.provider)
            and self.code in (None, letter.code)
            and self.job_id in (None, letter.job_id)
            and (self.since is None or letter.stored_at >= self.since)
            and (self.until is None or letter.stored_at < self.until)
            and (self.oa_id is None or letter.oa_id == self.oa_id)
        )


def retry_headers(letter: Letter) -> dict[str, str]:
    """Return the headers under which the command in `letter` is published anew, to go on with the same job.

    The same letter always gives the same message id.
    """
    ours = {name.lower() for name in deadletters.OURS - deadletters.NAMES}
    headers = {
        name: value
        for name, value in letter.headers.items()
        if name.lower() not in ours and not name.lower().startswith("nats-")
    }
    command = letter.command_sequence or "0"
    headers[deadletters.RETRY] = command
    headers["Nats-Msg-Id"] = f"retry.{command}.{letter.sequence}"
    return headers
