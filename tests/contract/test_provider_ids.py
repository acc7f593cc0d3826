"""One rule for ids, on every path on which one comes in: the typed ones, the loose ones, and over HTTP."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.providers_kit import KEYS, client_of, command, ids, saying
from worker.core.errors import BadResponseError
from worker.providers.esms.rows import read_answer
from worker.providers.etelecom.rows import read_page
from worker.providers.http.client import Answer
from worker.providers.normalise import LONGEST_ID, identifier, identifiers

INT64 = "7800378501923859642"

# What comes, as JSON, and the id that it is.
TABLE: dict[str, str | None] = {
    f'"{INT64}"': INT64,
    INT64: INT64,
    '"123"': "123",
    "123": "123",
    '"1"': "1",
    "1": "1",
    '"9223372036854775808"': "9223372036854775808",
    "9223372036854775808": "9223372036854775808",
    '" 123 "': "123",
    '"\\t123\\n"': "123",
    '"\u00a0123"': "123",
    '"' + "9" * LONGEST_ID + '"': "9" * LONGEST_ID,
    "9" * LONGEST_ID: "9" * LONGEST_ID,
    # A number that has lost its last digits, however it is written.
    '"7.80037850192385E+18"': None,
    "7.80037850192385E+18": None,
    "7800378501923859642.0": None,
    '"7800378501923859642.0"': None,
    "1e3": None,
    '"1e3"': None,
    "123.0": None,
    "1.5": None,
    # Nothing.
    '"0"': None,
    "0": None,
    '"00"': None,
    "0.0": None,
    "-0": None,
    '""': None,
    '" "': None,
    '" 0 "': None,
    "null": None,
    '"null"': None,
    # No number of a person.
    "true": None,
    "false": None,
    '"true"': None,
    "-5": None,
    '"-5"': None,
    '"+5"': None,
    '"0123"': None,
    '" 0123"': None,
    '"12 34"': None,
    '"12,345"': None,
    '"0x1F"': None,
    '"12ab"': None,
    '"ab"': None,
    '"1_000"': None,
    '"１２３"': None,
    '"١٢٣"': None,
    '"1²"': None,
    '"12\\u0000"': None,
    '"12\\u200b"': None,
    '"12\\ud83d"': None,
    '"' + "9" * (LONGEST_ID + 1) + '"': None,
    "9" * (LONGEST_ID + 1): None,
    '"' + "9" * 5000 + '"': None,
    "9" * 5000: None,
    "[]": None,
    '["123"]': None,
    "{}": None,
}
CASES = pytest.mark.parametrize(("given", "found"), TABLE.items(), ids=[given[:30] for given in TABLE])


def etelecom(row: str) -> str | None:
    body = f'{{"followers": [{{"zl_user_id": "5"}}, {row}], "paging": {{"next": "n"}}}}'
    first, second = read_page(body.encode(), "eTelecom").followers
    assert first.user_id == "5"
    return second.user_id


def esms(body: str, endpoint: Any = "GetFollowers") -> str | None:
    (first, second), total = read_answer(Answer(200, body.encode()), endpoint, "mine", "eSMS", ("a", "s"))
    assert (first, total) == ("5", 2)
    return second


PATHS: dict[str, Callable[[str], str | None]] = {
    "eTelecom, typed": lambda given: etelecom(f'{{"zl_user_id": {given}}}'),
    "eTelecom, typed, all ids there": lambda given: etelecom(
        f'{{"zl_user_id": {given}, "zl_user_id_by_app": "6", "id": "7", "shop_id": "8", "assigned_user_id": "0"}}'
    ),
    "eTelecom, loose": lambda given: etelecom(f'{{"zl_user_id": {given}, "created_at": ""}}'),
    "GetFollowers, typed": lambda given: esms(
        f'{{"CodeResult": "100", "Followers": [{{"User_Id": "5"}}, {{"User_Id": {given}}}], "Total": 2}}'
    ),
    "GetFollowers, loose": lambda given: esms(
        f'{{"CODERESULT": 100, "followers": [{{"userid": "5"}}, {{"ZaloUid": {given}}}], "total": "2"}}'
    ),
    "GetFollowers, bare": lambda given: esms(f'{{"CodeResult": "100", "Followers": ["5", {given}], "Total": 2}}'),
    "QueryListUID, typed": lambda given: esms(
        f'{{"CodeResult": "100", "Data": {{"Users": ["5", {given}], "Total": 2}}}}', "QueryListUID"
    ),
    "QueryListUID, loose": lambda given: esms(
        f'{{"coderesult": "100", "data": {{"users": [5, {given}], "Total": "2"}}}}', "QueryListUID"
    ),
}


@pytest.mark.parametrize("path", PATHS)
@CASES
def test_an_id_is_the_same_on_every_path_or_the_row_stops_the_job(given: str, found: str | None, path: str) -> None:
    if found is not None:
        assert PATHS[path](given) == found
        return
    with pytest.raises(BadResponseError) as caught:
        PATHS[path](given)
    # Never dropped in silence, and never repeated: an id is a person's.
    assert type(caught.value) is BadResponseError
    assert given.strip('"') not in str(caught.value) or len(given) < 12


@pytest.mark.parametrize("name", ["zl_user_id_by_app", "id", "shop_id", "assigned_user_id"])
@pytest.mark.parametrize("loose", ["", ', "created_at": ""'], ids=["typed", "loose"])
@CASES
def test_the_other_ids_of_a_row_keep_the_same_rule_and_are_left_out_where_they_are_none(
    given: str, found: str | None, name: str, loose: str
) -> None:
    if given == "9" * 5000:
        return  # no JSON reader takes it: the whole page is refused, as above
    field = {"zl_user_id_by_app": "user_id_by_app", "id": "provider_id"}.get(name, name)
    body = f'{{"followers": [{{"zl_user_id": "5", "{name}": {given}{loose}}}], "paging": {{"next": ""}}}}'

    (follower,) = read_page(body.encode(), "eTelecom").followers

    assert (follower.user_id, getattr(follower, field)) == ("5", found)


def test_a_row_without_the_ids_field_stops_the_job() -> None:
    for row in ('{"id": "7"}', '{"id": "7", "created_at": ""}'):
        with pytest.raises(BadResponseError):
            etelecom(row)


@pytest.mark.parametrize(
    "values", [["12", "3"], [12, "3"], ["12", None], ["12", ""], ["0", "3"], ["3", "03"], ["1" * 31], [], [[]], ["é"]]
)
def test_many_ids_at_once_are_read_as_one_by_one(values: list[Any]) -> None:
    assert identifiers(list(values)) == [identifier(value) for value in values]


@pytest.mark.parametrize("variant", ["shop", "partner", "GetFollowers", "QueryListUID"])
@pytest.mark.parametrize(
    ("given", "found"),
    [('"7.80037850192385E+18"', None), ("7.80037850192385E+18", None), ('"00"', None), ('" 123 "', "123")],
)
async def test_the_rule_holds_over_http(variant: str, given: str, found: str | None) -> None:
    body = {
        "GetFollowers": f'{{"CodeResult": "100", "Followers": [{{"User_Id": {given}}}], "Total": 1}}',
        "QueryListUID": f'{{"CodeResult": "100", "Data": {{"Users": [{given}], "Total": 1}}}}',
    }.get(variant, f'{{"followers": [{{"zl_user_id": {given}}}], "paging": {{"next": ""}}}}')
    assert (variant in KEYS) == ("zl_user_id" in body)
    assert json.loads(body)

    async with client_of(variant, saying(body.encode())) as client:
        if found is not None:
            assert ids([await client.fetch(command(variant), None)]) == [found]
            return
        with pytest.raises(BadResponseError, match="usable"):
            await client.fetch(command(variant), None)
