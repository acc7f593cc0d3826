"""The error bodies of eTelecom's Twirp-style RPC (PROVIDERS 1.2)."""

from typing import Literal

import msgspec

from worker.simulators.exchange import Answer

_STATUS = {
    "canceled": 408,
    "unknown": 500,
    "invalid_argument": 400,
    "malformed": 400,
    "deadline_exceeded": 408,
    "not_found": 404,
    "bad_route": 404,
    "already_exists": 409,
    "permission_denied": 403,
    "unauthenticated": 401,
    "resource_exhausted": 403,
    "failed_precondition": 412,
    "aborted": 409,
    "out_of_range": 400,
    "unimplemented": 501,
    "internal": 500,
    "unavailable": 503,
    "data_loss": 500,
}
_STANDARD = {
    "malformed": "invalid_argument",
    "bad_route": "not_found",
    "external_service": "unknown",
    "validation_failed": "invalid_argument",
    "account_closed": "unavailable",
    "runtime": "internal",
}


class TwirpError(Exception):
    """Ends a request with an error body."""

    def __init__(self, code: str, message: str, **meta: str) -> None:
        super().__init__(message)
        self.code = code
        self.meta = meta


def error_answer(error: TwirpError, custom_codes: Literal["plain", "xcode"]) -> Answer:
    """The HTTP answer of an error. A code that Twirp does not know goes under a standard one in any case."""
    code, meta = error.code, error.meta
    if code in _STANDARD and (custom_codes == "xcode" or code not in _STATUS):
        code, meta = _STANDARD[code], {**meta, "xcode": code}
    body: dict[str, object] = {"code": code, "msg": str(error)}
    if meta:
        body["meta"] = meta
    return Answer(status=_STATUS.get(code, 500), body=msgspec.json.encode(body), code=code)
