"""What went wrong, by its kind, as a line and an exit code."""

import json
from collections.abc import Callable
from typing import Any

import nats.errors
import nats.js.errors
import pytest

from worker.cli.console import ended
from worker.cli.failures import FAILED, INTERRUPTED, NO_JETSTREAM, OK, USAGE, Details, Stop, told
from worker.jetstream.client.connect import ConnectError
from worker.jetstream.topology.reconcile import TopologyError
from worker.settings import SettingsError


def api_error(kind: type[nats.js.errors.APIError], code: int, description: str | None = "why") -> Exception:
    return kind(code=503, err_code=code, description=description)


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (Stop("own words"), "own words", FAILED),
        (Stop("own words", code=USAGE), "own words", USAGE),
        (ConnectError("where and what"), "where and what", USAGE),
        (TopologyError("which and what"), "which and what", USAGE),
        (
            LookupError("stream S is missing: run `followers setup`"),
            "stream S is missing: run `followers setup`",
            USAGE,
        ),
        (nats.js.errors.ServiceUnavailableError(), NO_JETSTREAM, USAGE),
        (api_error(nats.js.errors.APIError, 10039), NO_JETSTREAM, USAGE),
        (api_error(nats.js.errors.APIError, 10076), NO_JETSTREAM, USAGE),
        (nats.js.errors.BucketNotFoundError(), "a stream or bucket is missing: run `followers setup`", USAGE),
        (
            api_error(nats.js.errors.NotFoundError, 10059),
            "a stream or bucket is missing: run `followers setup`",
            USAGE,
        ),
        (
            api_error(nats.js.errors.APIError, 10023, "insufficient resources"),
            "NATS refuses: insufficient resources (error 10023); `followers doctor` looks the server over",
            FAILED,
        ),
        (
            api_error(nats.js.errors.APIError, 10023, None),
            "NATS refuses: no reason given (error 10023); `followers doctor` looks the server over",
            FAILED,
        ),
        *(
            (error, "NATS didn't answer in time: try again; `followers doctor` looks the server over", FAILED)
            for error in (TimeoutError(), nats.errors.TimeoutError())
        ),
        (
            nats.errors.ConnectionClosedError(),
            "the connection to NATS failed (ConnectionClosedError): try again; `followers doctor` looks it over",
            FAILED,
        ),
        (
            PermissionError(13, "Permission denied", "/a"),
            "/a: Permission denied: check that it is there and may be used, and that the disk has room",
            FAILED,
        ),
        (
            OSError(28, "No space left on device"),
            "No space left on device: check that it is there and may be used, and that the disk has room",
            FAILED,
        ),
    ],
)
def test_a_failure_is_told_by_its_kind(error: Exception, line: str, code: int) -> None:
    assert told(error) == ((line,), code)


def test_settings_tell_each_problem_on_its_line() -> None:
    assert told(SettingsError("a: wrong", "b: wrong")) == (("a: wrong", "b: wrong"), USAGE)


def test_what_jetstream_being_off_was_wrapped_in_does_not_hide_it() -> None:
    wrapped = Stop("the bucket doesn't answer")
    wrapped.__cause__ = RuntimeError("unavailable")
    wrapped.__cause__.__cause__ = nats.js.errors.ServiceUnavailableError()

    assert told(wrapped) == ((NO_JETSTREAM,), USAGE)


def broken() -> int:
    raise KeyError("a person's name")


def test_what_nobody_foresaw_is_one_line_with_its_place_and_without_its_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> int:
        from worker.visible import visible

        nothing: Any = None
        return len(visible(nothing))

    assert ended(work) == FAILED
    line = capsys.readouterr().err
    assert line.startswith("this should not happen: AttributeError at worker/visible.py:")
    assert ", from worker/cli/console.py:" in line
    assert line.endswith("`followers --debug` before the same command prints the details, for a report\n")
    assert line.count("\n") == 1
    assert ".venv" not in line

    assert ended(broken) == FAILED
    assert "a person's name" not in capsys.readouterr().err
    monkeypatch.setattr(Details, "wanted", True)
    assert ended(broken) == FAILED
    assert 'KeyError: "a person\'s name"' in capsys.readouterr().err


def interrupted() -> int:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("work", "code"), [(lambda: OK, OK), (lambda: 1, FAILED), (interrupted, INTERRUPTED)])
def test_a_command_that_ends_says_nothing(
    work: Callable[[], int], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(work) == code
    assert capsys.readouterr() == ("", "")


def test_a_line_of_others_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise Stop("refused: \x1b]0;x\x07\nforged: all is well")

    assert ended(work) == FAILED
    assert capsys.readouterr().err == "refused: \\x1b]0;x\\x07\\nforged: all is well\n"


def test_json_for_programs_is_byte_for_byte(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    from worker.cli.console import emit

    emit({"a": "\u202e\x7f"})

    out = capsysbinary.readouterr().out
    assert (json.loads(out), out) == ({"a": "\u202e\x7f"}, '{"a":"\u202e\x7f"}\n'.encode())
