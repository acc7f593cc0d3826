"""Schedules in the settings: read from a file and from variables, and refused by the name of what is wrong."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from schemas.commands import EtelecomFilter, FetchEsmsFollowers, FetchEtelecomFollowers
from tests.schedule_kit import VIETNAM
from worker.core.schedules.decision import Schedule
from worker.core.schedules.timing import Cron, Every
from worker.settings import Settings, SettingsError, load

SHOP = '[accounts.my-shop]\nprovider = "etelecom"\napi_key = "1234:invented"\n'
SECOND = SHOP.replace("my-shop", "second")
ESMS = '[accounts.my-esms]\nprovider = "esms"\napi_key = "a"\nsecret_key = "b"\n'
NIGHTLY = '[schedules.nightly]\ncron = "0 3 * * *"\nprovider = "etelecom"\noa_id = "1"\n'


@pytest.fixture(autouse=True)
def _empty_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def from_file(text: str, environ: Mapping[str, str] | None = None) -> Settings:
    Path("given.toml").write_text(text, encoding="utf-8")
    return load(Path("given.toml"), environ or {})


def refusal(text: str, environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        from_file(text, environ)
    return str(caught.value)


def only(text: str, environ: Mapping[str, str] | None = None) -> Schedule:
    [found] = from_file(text, environ).schedule_list()
    return found


def test_a_schedule_has_every_field_that_a_command_has() -> None:
    schedule = only(
        SHOP
        + NIGHTLY
        + """
        account = "my-shop"
        filter = { tags = ["vip"], has_conversation = true }
        sort = "-created_at"
        page_size = 50
        max_pages = 3
        max_followers = 100
        labels = { list = "full" }
        timezone = "UTC"
        """
    )

    assert (schedule.name, str(getattr(schedule.timing, "zone", None))) == ("nightly", "UTC")
    assert schedule.command == FetchEtelecomFollowers(
        oa_id="1",
        account="my-shop",
        filter=EtelecomFilter(tags=["vip"], has_conversation=True),
        sort="-created_at",
        page_size=50,
        max_pages=3,
        max_followers=100,
        labels={"list": "full"},
    )


def test_left_out_are_the_account_the_zone_and_whatever_a_command_may_do_without() -> None:
    schedule = only(ESMS + '[schedules.often]\nevery = "6h"\nprovider = "esms"\noa_id = "1"')

    assert (schedule.timing, schedule.command) == (Every(21_600, VIETNAM), FetchEsmsFollowers(oa_id="1"))


@pytest.mark.parametrize("every", ["90", "90.0", '"90s"', '"90"'])
def test_an_interval_is_a_number_or_a_text(every: str) -> None:
    schedule = only(SHOP + f'[schedules.a]\nevery = {every}\nprovider = "etelecom"\noa_id = "1"')

    assert schedule.timing == Every(90, VIETNAM)


def test_the_variable_wins_over_the_file() -> None:
    schedule = only(
        SHOP + NIGHTLY,
        {
            "FOLLOWERS_SCHEDULES__NIGHTLY__CRON": "30 2 * * *",
            "FOLLOWERS_SCHEDULES__NIGHTLY__PAGE_SIZE": "20",
            "FOLLOWERS_SCHEDULES__NIGHTLY__FILTER": '{"tags": ["vip"]}',
            "FOLLOWERS_SCHEDULES__NIGHTLY__LABELS": '{"list": "some"}',
        },
    )

    assert schedule.timing == Cron("30 2 * * *", VIETNAM)
    assert schedule.command == FetchEtelecomFollowers(
        oa_id="1", page_size=20, filter=EtelecomFilter(tags=["vip"]), labels={"list": "some"}
    )


def test_a_schedule_may_come_from_variables_alone() -> None:
    start = "FOLLOWERS_SCHEDULES__BIG-OA__"
    schedule = only(
        SHOP, {f"{start}EVERY": "1d", f"{start}PROVIDER": "etelecom", f"{start}OA_ID": "1", f"{start}ENABLED": "false"}
    )

    assert (schedule.name, schedule.timing) == ("big-oa", None)


def test_whatever_changes_makes_another_definition_and_nothing_else_does() -> None:
    plain = only(SHOP + NIGHTLY)
    changes = ("max_pages = 3", "enabled = false", 'timezone = "UTC"', 'labels = {a = "b"}', 'filter = {tags = ["a"]}')

    others = [only(SHOP + NIGHTLY + change) for change in changes]

    assert len({plain.definition, *(other.definition for other in others)}) == len(changes) + 1
    assert only(NIGHTLY + "page_size = 100\nenabled = true\n" + SHOP).definition == plain.definition


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("every = 60", "schedules.nightly in given.toml: needs either cron or every; both are set"),
        ("pagesize = 3", "schedules.nightly.pagesize in given.toml: there is no such setting; did you mean page_size?"),
        ("colour = 3", "schedules.nightly.colour in given.toml: there is no such setting; a schedule has cron, every"),
        ('id = "mine"', "schedules.nightly.id in given.toml: there is no such setting"),
        ('timezone = "Asia/Saigon2"', "schedules.nightly.timezone in given.toml: is no IANA time zone"),
        ("page_size = 101", "schedules.nightly.page_size in given.toml: expected `int` <= 100"),
        ("max_pages = 0", "schedules.nightly.max_pages in given.toml: expected `int` >= 1"),
        ('max_pages = "3"', "schedules.nightly.max_pages in given.toml: must be a whole number, without quotes"),
        ("filter = { tagz = 3 }", "schedules.nightly.filter.tagz in given.toml: there is no such field; the filter of"),
        ('filter = { tags = "a" }', "schedules.nightly.filter.tags in given.toml: expected `array"),
        ('filter = "tags"', "schedules.nightly.filter in given.toml: must be a table"),
        ('filter = { gender = "Lan" }', "schedules.nightly.filter.gender in given.toml: is none of the values"),
        ('filter = { zl_user_id = "Lan" }', "schedules.nightly.filter.zl_user_id in given.toml: has characters that"),
        ("labels = { a = 3 }", "schedules.nightly.labels in given.toml: must be text"),
        (
            'account = "yours"',
            "schedules.nightly.account in given.toml: is no account for etelecom; write one of my-shop",
        ),
        ('account = "my-esms"', "schedules.nightly.account in given.toml: is no account for etelecom"),
        (
            f"filter = {{ tags = {json.dumps(['ệ' * 256] * 100, ensure_ascii=False)} }}",
            "schedules.nightly in given.toml: the command has ",
        ),
        ("enabled = 1", "schedules.nightly.enabled in given.toml: must be true or false"),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_without_its_value(more: str, line: str) -> None:
    said = refusal(SHOP + ESMS + NIGHTLY + more)

    assert said.startswith(line)
    assert "Lan" not in said


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (NIGHTLY, "schedules.nightly.provider in given.toml: etelecom has no account; add [accounts.NAME]"),
        (SHOP + SECOND + NIGHTLY, "schedules.nightly.account in given.toml: is missing, and etelecom has several"),
        (
            SHOP + NIGHTLY.replace("cron", "#"),
            "schedules.nightly in given.toml: needs either cron or every; neither is",
        ),
        (SHOP + NIGHTLY.replace("0 3", "0 30"), "schedules.nightly.cron in given.toml: can't be read (bad hour)"),
        (SHOP + NIGHTLY.replace('"1"', "1"), "schedules.nightly.oa_id in given.toml: must be text, in quotes"),
        (SHOP + NIGHTLY.replace('"1"', '"1 2"'), "schedules.nightly.oa_id in given.toml: has characters that are not"),
        (
            ESMS + NIGHTLY.replace("etelecom", "esms") + 'sort = "name"',
            "schedules.nightly.sort in given.toml: is not for esms: leave it out",
        ),
        (
            SHOP + NIGHTLY.replace("nightly", '"every night"'),
            'schedules."every night" in given.toml: a schedule\'s name',
        ),
        (
            SHOP + NIGHTLY.replace("nightly", "n" * 48),
            f'schedules."{"n" * 48}" in given.toml: a schedule\'s name must be',
        ),
        ("schedules = 3", "schedules in given.toml: must be a table"),
        ("[schedules]\nnightly = 3", "schedules.nightly in given.toml: must be a table"),
    ],
)
def test_a_schedule_that_can_not_work_is_refused(text: str, line: str) -> None:
    assert refusal(text).startswith(line)


@pytest.mark.parametrize("every", ["0", "-60", "0.5", "40000000", '"6 hours"', "true", "[]"])
def test_an_interval_out_of_range_is_refused(every: str) -> None:
    said = refusal(SHOP + f'[schedules.a]\nevery = {every}\nprovider = "etelecom"\noa_id = "1"')

    assert said.startswith("schedules.a.every in given.toml: must be ")


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("FOLLOWERS_SCHEDULES__NIGHTLY__PAGE_SIZE", "many", "schedules.nightly.page_size in the environment variable"),
        ("FOLLOWERS_SCHEDULES__NIGHTLY__FILTER", "{tags", "schedules.nightly.filter in the environment variable"),
        ("FOLLOWERS_SCHEDULES__NIGHTLY__CORN", "0 3 * * *", "schedules.nightly.corn in the environment variable"),
        ("FOLLOWERS_SCHEDULES__CRON", "0 3 * * *", "environment variable FOLLOWERS_SCHEDULES__CRON: there is no such"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, line: str) -> None:
    assert refusal(SHOP + NIGHTLY, {variable: value}).startswith(line)
