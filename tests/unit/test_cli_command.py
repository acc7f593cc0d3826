"""From the words of a command line to a command."""

from datetime import UTC, datetime

import pytest

from schemas.commands import EsmsFilter, EtelecomFilter, FetchEsmsFollowers, FetchEtelecomFollowers
from worker.cli.command import build_command, pairs
from worker.cli.console import Stop


def test_text_becomes_numbers_times_and_labels() -> None:
    fields = {"oa_id": "1", "page_size": "20", "max_pages": "3", "not_after": "2026-12-31T23:00:00+07:00"}

    command = build_command("esms", fields | {"labels": {"campaign": "tet"}, "account": None}, ["tag=vip"])

    assert command == FetchEsmsFollowers(
        oa_id="1",
        page_size=20,
        max_pages=3,
        not_after=datetime(2026, 12, 31, 16, tzinfo=UTC),
        labels={"campaign": "tet"},
        filter=EsmsFilter(tag="vip"),
    )


def test_repeated_filters_make_lists_and_booleans_are_read() -> None:
    words = ["tags=vip", "tags=a=b", "zl_user_ids=123", "has_conversation=true", "phone=0912345678"]

    command = build_command("etelecom", {"oa_id": "1"}, words)

    assert isinstance(command, FetchEtelecomFollowers)
    assert command.filter == EtelecomFilter(
        tags=["vip", "a=b"], zl_user_ids=["123"], has_conversation=True, phone="0912345678"
    )


def test_a_number_like_text_stays_text() -> None:
    command = build_command("etelecom", {"oa_id": "579745863508352884", "id": "42"}, ["zl_user_id=7800378501923859642"])

    assert (command.oa_id, command.id) == ("579745863508352884", "42")
    assert isinstance(command, FetchEtelecomFollowers)
    assert command.filter == EtelecomFilter(zl_user_id="7800378501923859642")


def test_an_empty_value_is_a_value() -> None:
    assert pairs("--label", ["note="]) == [("note", "")]


def test_a_command_that_is_too_large_is_told_by_its_size_and_not_published() -> None:
    with pytest.raises(Stop, match=r"has [0-9]+ bytes \(`filter` 77,110, `labels` 11\), more than the 65536") as stop:
        build_command("etelecom", {"oa_id": "1", "labels": {"a": "bcd"}}, ["tags=" + "ệ" * 256] * 100)

    assert stop.value.code == 2


def test_a_word_without_a_key_is_named() -> None:
    with pytest.raises(Stop, match="--label note: write it as key=value"):
        pairs("--label", ["note"])
