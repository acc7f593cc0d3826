from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from worker.core.dead_letters import Letter, Selection, retry_headers

AT = datetime(2026, 3, 1, tzinfo=UTC)


def letter(body: bytes = b'{"oa_id": "1"}', sequence: int = 7, **headers: str) -> Letter:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Letter(sequence=sequence, provider="esms", stored_at=AT, headers=names, body=body)


def test_a_letter_says_what_its_headers_say() -> None:
    full = letter(
        Followers_Job_Id="j",
        Followers_Error_Code="forbidden",
        Followers_Error_Message="no",
        Followers_Stream_Sequence="3",
    )

    assert (full.job_id, full.code, full.reason, full.command_sequence) == ("j", "forbidden", "no", "3")
    assert full.job == ("esms", "1", "j")
    bare = letter()
    assert (bare.job_id, bare.code, bare.reason, bare.command_sequence, bare.whole_bytes, bare.job) == (
        None, None, "", None, None, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "read"), [("0", 0), ("12", 12), ("", None), ("-1", None), ("٣", None), ("1.5", None)]
)
def test_a_number_is_digits_of_ours(given: str, read: int | None) -> None:
    one = letter(Followers_Body_Bytes=given, Followers_Stream_Sequence=given)

    assert one.whole_bytes == read
    assert one.command_sequence == (None if read is None else given)


@pytest.mark.parametrize(
    ("body", "oa_id"),
    [
        (b'{"oa_id": "1"}', "1"),
        (b'{"oa_id": 1}', None),
        (b'["oa_id"]', None),
        (b"{}", None),
        (b"<html>", None),
        (b"", None),
        (b"[" * 100_000, None),
    ],
)
def test_the_official_account_is_read_where_that_is_possible(body: bytes, oa_id: str | None) -> None:
    assert letter(body).oa_id == oa_id


def test_a_packed_command_is_read_too() -> None:
    packed = letter(msgspec.msgpack.encode({"oa_id": "2"}), Content_Type="application/msgpack")

    assert packed.oa_id == "2"


@pytest.mark.parametrize(
    ("conditions", "meant"),
    [
        ({}, True),
        ({"sequences": frozenset({7, 8})}, True),
        ({"sequences": frozenset({8})}, False),
        ({"provider": "esms"}, True),
        ({"provider": "etelecom"}, False),
        ({"code": "forbidden"}, True),
        ({"code": "internal"}, False),
        ({"job_id": "j"}, True),
        ({"job_id": "k"}, False),
        ({"oa_id": "1"}, True),
        ({"oa_id": "2"}, False),
        ({"since": AT}, True),
        ({"since": AT + timedelta(microseconds=1)}, False),
        ({"until": AT}, False),
        ({"until": AT + timedelta(microseconds=1)}, True),
        ({"provider": "esms", "code": "internal"}, False),
    ],
)
def test_a_selection_means_what_meets_every_condition(conditions: dict[str, Any], meant: bool) -> None:
    selection = Selection(**conditions)

    assert selection.matches(letter(Followers_Job_Id="j", Followers_Error_Code="forbidden")) is meant
    assert selection.narrows is bool(conditions)


def test_a_retry_keeps_what_was_the_publishers_and_has_one_id() -> None:
    headers = retry_headers(
        letter(
            Followers_Job_Id="j", Followers_Error_Code="internal", Followers_Stream_Sequence="3",
            NATS_Msg_Id="x", nats_expected="y", traceparent="t", Content_Type="application/msgpack",
        )
    )  # fmt: skip

    assert headers == {
        "Followers-Job-Id": "j",
        "traceparent": "t",
        "Content-Type": "application/msgpack",
        "Followers-Retry": "3",
        "Nats-Msg-Id": "retry.3.7",
    }
    assert retry_headers(letter())["Nats-Msg-Id"] == "retry.0.7"
