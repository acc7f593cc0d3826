"""What the commands of `followers dead` share: which letters are meant, and how one is shown."""

import base64
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from worker.cli.console import USAGE, Stop, emit, say
from worker.cli.session import connected, load_settings

if TYPE_CHECKING:
    from worker.core.dead_letters import Letter, Selection
    from worker.jetstream.dead_letters.store import LetterBox

Numbers = Annotated[list[int] | None, typer.Argument(metavar="[LETTER]...", help="Letters by number.")]
ProviderName = Annotated[Literal["etelecom", "esms"] | None, typer.Option("--provider", help="Only this provider's.")]
Code = Annotated[str | None, typer.Option("--code", help="Only with this error code, for example unauthorized.")]
Oa = Annotated[str | None, typer.Option("--oa", metavar="OA_ID", help="Only this Official Account's.")]
Job = Annotated[str | None, typer.Option("--job", help="Only this job's.")]
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Stored since: 30m, 12h, 7d ago, or an RFC 3339 time.")
]
OlderThan = Annotated[str | None, typer.Option("--older-than", metavar="TIME", help="Stored before that.")]

_AGO = re.compile(r"([0-9]{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@asynccontextmanager
async def letter_box(context: typer.Context, config: Path | None) -> "AsyncIterator[LetterBox]":
    """Connect, and speak of the dead letters. What they can't do ends the command with its line."""
    from worker.jetstream.dead_letters.store import LetterBox, LettersError

    async with connected(load_settings(context, config)) as client:
        try:
            yield LetterBox(client)
        except LettersError as error:
            raise Stop(str(error), code=USAGE if "is missing" in str(error) else 1) from error


def selection(
    numbers: Sequence[int],
    provider: Literal["etelecom", "esms"] | None,
    code: str | None,
    oa: str | None,
    job: str | None,
    since: str | None,
    older_than: str | None,
    *,
    everything: bool | None = None,
) -> "Selection":
    """Return which letters the command line means. Raises Stop for a value that can't be.

    `everything`: whether `--all` was given, for a command that doesn't take all of them unless told to; else None.
    """
    from schemas.types import ErrorCode
    from worker.core.dead_letters import Selection

    if code is not None and code not in get_args(ErrorCode):
        raise Stop(f"--code {code}: choose one of {', '.join(get_args(ErrorCode))}", code=USAGE)
    wanted = Selection(
        sequences=frozenset(numbers),
        provider=provider,
        code=code,
        oa_id=oa,
        job_id=job,
        since=_moment("--since", since),
        until=_moment("--older-than", older_than),
    )
    if everything is not None and not everything and not wanted.narrows:
        raise Stop("which letters? Name some by number, give conditions, or --all", code=USAGE)
    return wanted


def described(letter: "Letter") -> dict[str, Any]:
    """Return what is said of a letter without its command."""
    return {
        "letter": letter.sequence,
        "stored_at": letter.stored_at,
        "provider": letter.provider,
        "oa_id": letter.oa_id,
        "job_id": letter.job_id,
        "code": letter.code,
        "reason": letter.reason,
        "command": letter.command_sequence,
        "bytes": letter.whole_bytes or len(letter.body),
    }


def row(one: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a letter that was `described` as a line of a table."""
    stored = f"{one['stored_at']:%Y-%m-%d %H:%M:%SZ}"
    rest = (one[name] or "" for name in ("provider", "oa_id", "job_id", "code", "reason"))
    return (str(one["letter"]), stored, *rest)


def print_letter(letter: "Letter", *, body: bool, json: bool) -> None:
    """Print a letter's headers, and with `body` its command."""
    text, is_text = _as_text(letter.body)
    if json:
        shown = {"body" if is_text else "body_base64": text} if body else {}
        emit({**described(letter), "headers": letter.headers, **shown})
        return
    names = {"letter": letter.sequence, "stored": f"{letter.stored_at:%Y-%m-%d %H:%M:%SZ}", "oa": letter.oa_id or ""}
    for name, value in {**names, **letter.headers}.items():
        say(f"{name:26} {value}")
    say(f"{'bytes':26} {letter.whole_bytes or len(letter.body)}")
    if body:
        say("")
        _print_body(letter.body, text)


def report(document: Mapping[str, Any], *, json: bool) -> None:
    """Print what became of a letter: a JSON object, or a line."""
    if json:
        emit(document)
        return
    outcome, letter, job = document["outcome"], document["letter"], document.get("job_id")
    details = [f"{key} {document[key]}" for key in ("command", "by", "kept", "of") if key in document]
    say(" ".join([f"letter {letter}", f"job {job}" if job else "of no job", outcome, *details]))


def _print_body(body: bytes, text: str) -> None:
    """Print what was published: as text on a terminal, byte for byte into a file or a pipe."""
    if sys.stdout.isatty():
        for line in text.split("\n"):
            say(line)
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(body + b"\n")


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    ago = _AGO.fullmatch(text)
    if ago:
        return datetime.now(UTC) - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]])
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Stop(f"{option} {text}: write 30m, 12h or 7d, or a time such as 2026-11-23T00:00:00Z", code=USAGE)
    return moment


def _as_text(body: bytes) -> tuple[str, bool]:
    try:
        return body.decode(), True
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), False
