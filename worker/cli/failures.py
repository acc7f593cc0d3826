"""What went wrong, as lines for people and an exit code: every command ends through `told`.

Raising `Stop` says it in the command's own words. What is raised by anything below is told by its kind; what nobody
foresaw is one line, too, which names the place.
"""

import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
Told = tuple[Sequence[str], int]

_ROOT = Path(__file__).parents[2]
_OURS = ("worker", "schemas")
_PLACES = 3
"""Of our own, the innermost first, in the line about what nobody foresaw."""
_NO_STREAM = 10059
_FULL = (10002, 10023, 10028, 10047, 10077)
"""No room in a stream, its account or its server."""
_OFF = (10039, 10076)
"""JetStream is not enabled: for the account, on the server."""
NO_JETSTREAM = (
    "NATS answers, but JetStream doesn't: turn it on for this server and account (`jetstream {}` in its configuration),"
    " or wait until the cluster has a leader; `followers doctor` looks at it"
)


class Stop(Exception):
    """End the command with `lines` on stderr and the exit code `code`."""

    def __init__(self, *lines: str, code: int = FAILED) -> None:
        """Keep what to say and how to end."""
        super().__init__("\n".join(lines))
        self.lines = lines
        self.code = code


def told(error: Exception) -> Told:
    """Return the lines that say what happened and what to do, and the exit code."""
    if _lacks_jetstream(error):
        return (NO_JETSTREAM,), USAGE
    if isinstance(error, Stop):
        return error.lines, error.code
    for kind in (_configuration, _nats, _system):
        found = kind(error)
        if found is not None:
            return found
    return _unforeseen(error), FAILED


def is_configuration(error: Exception) -> bool:
    """Say whether the settings, or what they name, are at fault."""
    from worker.jetstream.client.connect import ConnectError
    from worker.jetstream.topology.reconcile import TopologyError
    from worker.settings import SettingsError

    return isinstance(error, ConnectError | TopologyError | SettingsError)


def _lacks_jetstream(error: BaseException | None) -> bool:
    """Say whether JetStream's absence is behind `error`, in whatever words that was wrapped."""
    nats = sys.modules.get("nats.js.errors")
    while nats is not None and error is not None:
        code = getattr(error, "err_code", None)
        # What takes nothing more is told by the same number as what isn't there.
        if code in _OFF or (isinstance(error, nats.ServiceUnavailableError) and code not in _FULL):
            return True
        error = error.__cause__
    return False


def _configuration(error: Exception) -> Told | None:
    if not is_configuration(error):
        return None
    lines = getattr(error, "problems", None)
    return tuple(lines) if lines else tuple(str(error).splitlines()), USAGE


def _nats(error: Exception) -> Told | None:
    from nats.errors import Error
    from nats.js.errors import APIError, BucketNotFoundError

    if type(error) is LookupError:  # as `EventReader` says that a stream is missing
        return (str(error),), USAGE
    code = getattr(error, "err_code", None)
    if isinstance(error, BucketNotFoundError) or code == _NO_STREAM:
        return ("a stream or bucket is missing: run `followers setup`",), USAGE
    if isinstance(error, APIError):
        what = f"{error.description or 'no reason given'} (error {code or error.code})"
        return (f"NATS refuses: {what}; `followers doctor` looks the server over",), FAILED
    if isinstance(error, TimeoutError):
        return ("NATS didn't answer in time: try again; `followers doctor` looks the server over",), FAILED
    if isinstance(error, Error):
        return (
            f"the connection to NATS failed ({type(error).__name__}): try again; `followers doctor` looks it over",
        ), FAILED
    return None


def _system(error: Exception) -> Told | None:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return (f"{where}{error.strerror}: check that it is there and may be used, and that the disk has room",), FAILED
    return None


def _unforeseen(error: Exception) -> Sequence[str]:
    # Not the error's text: it may quote a secret or somebody's data.
    places = [f"{place}:{line}" for place, line in map(_place, traceback.extract_tb(error.__traceback__)) if place]
    where = ", from ".join(reversed(places[-_PLACES:])) or "an unknown place"
    return (
        f"this should not happen: {type(error).__name__} at {where}; `followers --debug` before the same command"
        " prints the details, for a report",
    )


def _place(frame: traceback.FrameSummary) -> tuple[str, int | None]:
    """Return where in our own code a frame is; an empty name for one of a library."""
    path = Path(frame.filename)
    is_ours = path.is_relative_to(_ROOT) and path.relative_to(_ROOT).parts[0] in _OURS
    return (path.relative_to(_ROOT).as_posix() if is_ours else ""), frame.lineno


class Details:
    """Whether the details are printed with what went wrong: `followers --debug`."""

    wanted = False

    @classmethod
    def show(cls, error: BaseException, complain: Callable[[str], None]) -> None:
        """Print where it was raised, when that is wanted."""
        if cls.wanted and sys.stderr is not None:
            for line in traceback.format_exception(error):
                for part in line.splitlines():
                    complain(part)
