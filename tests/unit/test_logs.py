"""Log lines as an operator reads them."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from worker.logs import configure


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_outcome_is_one_json_line_with_time_in_utc_level_and_fields() -> None:
    stream = io.StringIO()
    configure("info", "auto", stream)

    structlog.get_logger("x").info("command.redelivered", delay=20, name_of_page="Trang chủ")

    [line] = lines(stream)
    moment = datetime.fromisoformat(line.pop("time"))
    assert moment.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=1)
    assert line == {"event": "command.redelivered", "level": "info", "delay": 20, "name_of_page": "Trang chủ"}


def test_by_default_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure()

    structlog.get_logger().warning("page.late")

    out, err = capsys.readouterr()
    assert (out, json.loads(err)["event"]) == ("", "page.late")


def test_a_terminal_gets_lines_for_people() -> None:
    stream = Terminal()
    configure("info", "auto", stream)

    structlog.get_logger().info("command.redelivered", delay=20)

    assert "command.redelivered" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_the_format_can_be_forced_either_way() -> None:
    terminal, pipe = Terminal(), io.StringIO()

    configure("info", "json", terminal)
    structlog.get_logger().info("a.b")
    configure("info", "console", pipe)
    structlog.get_logger().info("a.b")

    assert lines(terminal)[0]["event"] == "a.b"
    assert "a.b" in pipe.getvalue()
    assert not pipe.getvalue().startswith("{")


def test_lines_below_the_level_are_left_out() -> None:
    stream = io.StringIO()
    configure("warning", "json", stream)

    structlog.get_logger().info("quiet.one")
    logging.getLogger("nats").info("quiet two")
    structlog.get_logger().warning("loud.one")
    logging.getLogger("nats").warning("loud two")

    assert [line["event"] for line in lines(stream)] == ["loud.one", "loud two"]


def test_a_library_logs_in_the_same_shape_with_its_name() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)

    logging.getLogger("nats.aio.client").error("gone: %s", "nats://ann:invented@host:4222")

    [line] = lines(stream)
    assert line["event"] == "gone: nats://********@host:4222"
    assert (line["logger"], line["level"]) == ("nats.aio.client", "error")
    assert line["time"].endswith("Z")


@pytest.mark.parametrize("name", ["httpx", "httpcore.http11", "aiohttp.access", "aiohttp.client"])
@pytest.mark.parametrize("level", ["debug", "info"])
def test_a_request_is_not_logged_but_its_warning_is(name: str, level: Any) -> None:
    stream = io.StringIO()
    configure(level, "json", stream)

    logging.getLogger(name).info("GET /followers 200")
    logging.getLogger(name).warning("odd answer")

    assert [line["event"] for line in lines(stream)] == ["odd answer"]


def test_an_exception_is_told_in_one_line_without_local_variables() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)

    def fail() -> None:
        local = "hidden-4711"
        raise ValueError(f"{len(local)} characters are wrong")

    for logger in (structlog.get_logger(), logging.getLogger("nats")):
        try:
            fail()
        except ValueError:
            logger.exception("page.failed")

    ours, theirs = lines(stream)
    for line in (ours, theirs):
        assert "ValueError: 11 characters are wrong" in line["exception"]
        assert "Traceback" in line["exception"]
        assert "hidden-4711" not in json.dumps(line)


def test_an_exception_on_a_terminal_shows_no_local_variables_either() -> None:
    stream = Terminal()
    configure("info", "console", stream)

    try:
        local = "hidden-4711"
        raise ValueError(f"{len(local)} characters are wrong")
    except ValueError:
        structlog.get_logger().exception("page.failed")

    assert "ValueError: 11 characters are wrong" in stream.getvalue()
    assert "local =" not in stream.getvalue()


@pytest.mark.parametrize(
    "fields",
    [
        {"api_key": "hidden-4711"},
        {"ApiKey": "hidden-4711"},
        {"X-Secret-Key": "hidden-4711"},
        {"nats_password": "hidden-4711"},
        {"token": "hidden-4711"},
        {"phone_raw": "hidden-4711"},
        {"headers": {"Authorization": "hidden-4711"}},
        {"accounts": [{"name": "a", "secret_key": "hidden-4711"}]},
        {"display_name": "hidden-4711"},
        {"kwargs": {"x": "hidden-4711"}},
        {"error": "refused: Authorization: Bearer hidden-4711"},
        {"error": '{"ApiKey":"hidden-4711","Count":50}'},
        {"url": "nats://ann:hidden-4711@host"},
        {"query": "?Phone=hidden-4711&page=2"},
    ],
)
def test_what_looks_like_a_secret_or_a_person_is_masked(fields: dict[str, Any]) -> None:
    stream = io.StringIO()
    configure("info", "json", stream)

    structlog.get_logger().info("page.fetched", page=2, **fields)

    [line] = lines(stream)
    assert "hidden-4711" not in stream.getvalue()
    assert "********" in stream.getvalue()
    assert line["page"] == 2


def test_ordinary_fields_are_left_as_they_are() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)
    fields = {
        "api_key_file": "/run/secrets/a",
        "oa_id": "1",
        "url": "https://h/v1",
        "codes": [1, 2],
        "job_id": "j",
    }

    structlog.get_logger().info("page.fetched", **fields)

    assert lines(stream)[0].items() >= fields.items()


@pytest.mark.parametrize("own", [True, False])
def test_a_terminal_is_not_steered_by_what_is_logged(own: bool) -> None:
    stream = Terminal()
    configure("info", "console", stream)
    evil = "\x1b]0;title\x07\u202e"

    if own:
        structlog.get_logger().info(f"event{evil}", value=evil, listed=[evil], **{f"key{evil}": {evil: evil}})
    else:
        logging.getLogger("nats").warning("said %s", evil)

    said = stream.getvalue()
    assert "\x1b]" not in said
    assert "\u202e" not in said
    assert said.count(r"\x1b]0;title\x07\u202e") + said.count(r"\\x1b]0;title\\x07\\u202e") == (6 if own else 1)


def test_an_exception_keeps_its_lines_on_a_terminal() -> None:
    stream = io.StringIO()
    configure("info", "console", stream)

    try:
        raise ValueError("a\x1b[2Jb")
    except ValueError:
        structlog.get_logger().exception("it.failed")

    assert "\nTraceback (most recent call last):\n" in stream.getvalue()
    assert stream.getvalue().endswith("ValueError: a\\x1b[2Jb\n")
