"""Dead letters as people see them: which are meant, and what a retry is published with."""

from datetime import UTC, datetime, timedelta

import pytest

from schemas import deadletters
from worker.core.dead_letters import Letter, Selection, retry_headers

NOW = datetime(2026, 11, 23, tzinfo=UTC)
HEADERS = {
    deadletters.JOB_ID: "j1",
    deadletters.MESSAGE_ID: "order-9",
    deadletters.ERROR_CODE: "unauthorized",
    deadletters.ERROR_MESSAGE: "the key is wrong",
    deadletters.ATTEMPTS: "1",
    deadletters.COMMAND_SEQUENCE: "3",
    deadletters.FAILED_AT: "2026-11-23T00:00:00Z",
    "Content-Type": "application/json",
    "Nats-Msg-Id": "dead.3.1",
    "x-team": "crm",
}


def letter(**changes: object) -> Letter:
    known: dict[str, object] = {
        "sequence": 17,
        "provider": "etelecom",
        "stored_at": NOW,
        "headers": HEADERS,
        "body": b'{"provider":"etelecom","oa_id":"280"}',
    }
    return Letter(**(known | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("meant", "other"),
    [
        (Selection(sequences=frozenset({17, 18})), Selection(sequences=frozenset({18}))),
        (Selection(provider="etelecom"), Selection(provider="esms")),
        (Selection(code="unauthorized"), Selection(code="internal")),
        (Selection(oa_id="280"), Selection(oa_id="281")),
        (Selection(job_id="j1"), Selection(job_id="j2")),
        (Selection(since=NOW), Selection(since=NOW + timedelta(seconds=1))),
        (Selection(until=NOW + timedelta(seconds=1)), Selection(until=NOW)),
    ],
)
def test_each_condition_narrows(meant: Selection, other: Selection) -> None:
    assert meant.narrows
    assert meant.matches(letter())
    assert not other.matches(letter())


def test_no_condition_means_all() -> None:
    assert Selection().matches(letter())
    assert not Selection().narrows


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"oa_id": 7}', b"\xff" * 9])
def test_a_command_that_can_not_be_read_has_no_official_account(body: bytes) -> None:
    assert letter(body=body).oa_id is None


@pytest.mark.parametrize(
    ("given", "number"), [("17", 17), ("0", 0), ("", None), (" 5", None), ("5x", None), ("-1", None), ("\u0663", None)]
)
def test_what_is_no_number_in_ascii_is_not_known(given: str, number: int | None) -> None:
    one = letter(headers=HEADERS | {deadletters.BODY_BYTES: given, deadletters.COMMAND_SEQUENCE: given})

    assert one.whole_bytes == number
    assert one.command_sequence == (None if number is None else given)


def test_what_a_letter_says_is_read_from_its_headers_and_a_strangers_says_nothing() -> None:
    ours, strangers = letter(), letter(headers={}, body=b"?")

    assert (ours.job_id, ours.code, ours.reason, ours.command_sequence) == (
        "j1",
        "unauthorized",
        "the key is wrong",
        "3",
    )
    assert (ours.whole_bytes, ours.oa_id, ours.job) == (None, "280", ("etelecom", "280", "j1"))
    assert (strangers.job_id, strangers.code, strangers.reason, strangers.command_sequence) == (None, None, "", None)
    assert (strangers.whole_bytes, strangers.oa_id, strangers.job) == (None, None, None)


def test_a_letter_does_not_print_its_command() -> None:
    assert "oa_id" not in repr(letter())


def test_a_retry_keeps_the_publishers_headers_and_the_jobs_names_and_no_word_of_the_failure() -> None:
    assert retry_headers(letter()) == {
        "Content-Type": "application/json",
        "x-team": "crm",
        deadletters.JOB_ID: "j1",
        deadletters.MESSAGE_ID: "order-9",
        deadletters.RETRY: "3",
        "Nats-Msg-Id": "retry.3.17",
    }


def test_a_retry_of_a_retry_names_the_second_failure() -> None:
    second = {deadletters.RETRY: "3", deadletters.COMMAND_SEQUENCE: "9", deadletters.GENERATION: "2"}

    headers = retry_headers(letter(sequence=18, headers=HEADERS | second))

    assert (headers[deadletters.RETRY], headers[deadletters.GENERATION]) == ("9", "2")


def test_somebody_elses_letter_can_be_retried_as_new() -> None:
    assert retry_headers(letter(headers={})) == {deadletters.RETRY: "0", "Nats-Msg-Id": "retry.0.17"}
