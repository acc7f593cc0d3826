"""eSMS's answers in, user ids and total out: typed where spelt as documented, else by folded keys."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from worker.core.errors import BadResponseError, FetchFailure, NotFoundError, ProviderUnavailableError
from worker.providers import normalise
from worker.providers.esms.errors import SUCCESS, failure
from worker.providers.http.client import Answer
from worker.providers.http.responses import away, decode, status_failure, wrong_shape

Endpoint = Literal["GetFollowers", "QueryListUID"]

_GONE = frozenset({404, 405, 410, 501})


class EndpointGoneError(NotFoundError):
    """No eSMS API answers at this path."""


class _Row(Struct, gc=False):
    user_id: str | int = field(name="User_Id")


class _Followers(Struct, gc=False):
    """What GetFollowers answers, spelt as documented; anything else takes the loose way."""

    code: str = field(name="CodeResult")
    rows: list[_Row] = field(name="Followers")
    total: int = field(name="Total")


class _Data(Struct, gc=False):
    rows: list[str | int] = field(name="Users")
    total: int = field(name="Total")


class _Users(Struct, gc=False):
    """What QueryListUID answers, spelt as documented."""

    code: str = field(name="CodeResult")
    data: _Data = field(name="Data")


_followers = msgspec.json.Decoder(_Followers)
_users = msgspec.json.Decoder(_Users)
_anything: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


def read_answer(
    answer: Answer, endpoint: Endpoint, account: str, where: str, hidden: Sequence[str]
) -> tuple[list[str], int | None]:
    """Return user ids and total; the documented spelling straight, others loosely (PROVIDERS 2.3)."""
    try:
        return _read(answer, endpoint, account, where, hidden)
    except ProviderUnavailableError as error:
        error.retry_after = answer.retry_after
        raise


def _read(
    answer: Answer, endpoint: Endpoint, account: str, where: str, hidden: Sequence[str]
) -> tuple[list[str], int | None]:
    rows: list[Any]
    if answer.status == 200:
        try:
            if endpoint == "GetFollowers":
                listed = decode(_followers, answer.body, where, hidden)
                code, rows, total = listed.code, [row.user_id for row in listed.rows], listed.total
            else:
                users = decode(_users, answer.body, where, hidden)
                code, rows, total = users.code, list(users.data.rows), users.data.total
            if code == SUCCESS and total >= 0:
                return _ids(rows, where), total
        except msgspec.ValidationError:
            pass
    return _read_loosely(answer, account, where, hidden)


def _read_loosely(answer: Answer, account: str, where: str, hidden: Sequence[str]) -> tuple[list[str], int | None]:
    try:
        said = decode(_anything, answer.body, where, hidden)
    except msgspec.ValidationError as error:
        raise wrong_shape(error, where) from error
    except FetchFailure:
        if answer.status == 200:
            raise
        said = None
    top = _folded(said)
    code = normalise.text(top.get("coderesult", top.get("coderesponse")))
    if code is None or answer.status == 429 or (answer.status != 200 and code.strip() == SUCCESS):
        raise _not_the_api(answer, where, hidden)
    if code.strip() != SUCCESS:
        raise failure(code.strip(), top.get("errormessage") or top.get("message"), answer, account, where, list(hidden))
    data = _folded(top.get("data")) or top
    rows = data.get("followers", data.get("users"))
    total = normalise.count(data.get("total"))
    # A list that is null is an empty one only where the total agrees: silence would lose followers.
    if rows is None and total == 0:
        rows = []
    if rows is None:
        raise away(answer, where, hidden, why="success without a list of followers, and no total of 0")
    if not isinstance(rows, list):
        raise BadResponseError(
            f"{where} answered success with something else for the list of followers; the job stops rather than lose "
            "them. Report it to eSMS",
            http_status=answer.status,
        )
    return _ids([_user_id(row) for row in rows], where), total


def _not_the_api(answer: Answer, where: str, hidden: Sequence[str]) -> FetchFailure:
    if answer.status in _GONE:
        return EndpointGoneError(
            f"{where} is not there (HTTP {answer.status}): check the account's base_url and endpoint",
            http_status=answer.status,
        )
    if answer.status == 200:
        return away(answer, where, hidden, why="JSON without CodeResult")
    return status_failure(answer, where, hidden)


def _folded(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    return {str(key).lower().replace("_", ""): item for key, item in value.items()}


def _user_id(row: Any) -> Any:
    if not isinstance(row, dict):
        return row
    fields = _folded(row)
    return next((fields[name] for name in ("userid", "zalouid", "uid") if name in fields), None)


def _ids(rows: list[Any], where: str) -> list[str]:
    found = normalise.identifiers(rows)
    if None in found:
        raise BadResponseError(
            f"{where} lists a follower without a usable id; the job stops rather than lose one. Report it to eSMS",
            http_status=200,
        )
    return found  # type: ignore[return-value]
