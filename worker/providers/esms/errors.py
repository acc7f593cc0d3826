"""eSMS's result codes: one table from code to our error and what to do (PROVIDERS 2.5; own wording)."""

from worker.core.errors import (
    BadResponseError,
    FetchFailure,
    ForbiddenError,
    InvalidCommandError,
    NotFoundError,
    ProviderUnavailableError,
    RateLimitedError,
    UnauthorizedError,
    UnknownRefusalError,
)
from worker.providers.http.client import Answer
from worker.providers.quotes import plain_code, words

SUCCESS = "100"

_SENDING = (BadResponseError, "a code of sending messages, not of listing followers; report it to eSMS")
_OF_SENDING = (
    "99", "104", "105", "106", "107", "108", "115", "117", "118", "120", "124", "146", "163", "171",
    "177", "201", "300", "301", "687", "788", "789", "790", "801", "802", "851", "852", "853",
)  # fmt: skip
_BY_CODE: dict[str, tuple[type[FetchFailure], str]] = {
    "101": (
        UnauthorizedError,
        "check accounts.{account}.api_key and secret_key in followers.toml, or the files that api_key_file "
        "and secret_key_file name",
    ),
    "102": (ForbiddenError, "the account has no price list: ask eSMS"),
    "103": (ForbiddenError, "the account's balance is too low: top it up"),
    "110": (InvalidCommandError, "the request's data are refused: correct the command's oa_id or filter"),
    "140": (ForbiddenError, "ask eSMS to allow this worker's IP address"),
    "143": (ForbiddenError, "the account isn't activated, or is locked: ask eSMS"),
    "160": (
        RateLimitedError,
        "too many requests a second; lower accounts.{account}.rate_limit if it goes on",
    ),
    "161": (InvalidCommandError, "a date of the filter is refused: correct date_from and date_to"),
    "162": (InvalidCommandError, "offset or count are refused: correct page_size"),
    "199": (ProviderUnavailableError, "the same request is still being worked on; it is tried again later"),
    "204": (NotFoundError, "the OA is unknown to eSMS: check oa_id, and register the OA with eSMS"),
    "210": (InvalidCommandError, "the request's data are refused: correct the command's oa_id or filter"),
    "791": (InvalidCommandError, "the OA's id is missing: correct the command's oa_id"),
    "799": (
        NotFoundError,
        "the OA is inactive, wrong or not added to this account: check oa_id and the OA at eSMS",
    ),
    "854": (NotFoundError, "eSMS has no data for this: check oa_id and the filter"),
} | dict.fromkeys(_OF_SENDING, _SENDING)


def failure(code: str, said: object, answer: Answer, account: str, where: str, hidden: list[str]) -> FetchFailure:
    """Return our error for a `code` other than SUCCESS; `said` is eSMS's text, `hidden` what not to repeat.

    A code that nobody documented is worth another try and then fails under its number: meanings have moved
    over time (PROVIDERS 2.5), so it is neither taken for final nor for an empty list.
    """
    kind, advice = _BY_CODE.get(
        code,
        (UnknownRefusalError, "a code that isn't documented; it is asked for again, ask eSMS if it goes on"),
    )
    if code not in _BY_CODE and answer.status >= 500:
        kind = ProviderUnavailableError
    shown = plain_code(code, hidden)
    message = f"{where} refused with code {shown}: “{words(said, hidden)}”; {advice.format(account=account)}"
    if issubclass(kind, RateLimitedError | ProviderUnavailableError):
        return kind(message, retry_after=answer.retry_after, provider_code=shown, http_status=answer.status)
    return kind(message, provider_code=shown, http_status=answer.status)
