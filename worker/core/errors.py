"""Every way in which a fetch can fail.

    FetchFailure
    ├── RetryableError                  the same request may succeed later
    │   ├── RateLimitedError            rate_limited
    │   ├── ProviderUnavailableError    provider_unavailable: no answer, or one that can't be the API's
    │   └── UnknownRefusalError         bad_response: refused under a code that nobody documented
    └── FatalError                      the same request can't succeed
        ├── InvalidCommandError         invalid_command
        ├── UnknownAccountError         unknown_account
        ├── UnauthorizedError           unauthorized
        ├── ForbiddenError              forbidden
        ├── NotFoundError               not_found
        ├── BadResponseError            bad_response: the provider breaks its own rules
        ├── DeadlineExceededError       deadline_exceeded
        ├── UnsupportedError            unsupported
        └── InternalError               internal: a fault of ours

A message says what happened, where, and what to do next; it never holds a secret or a person's data.
"""

import copy
from typing import ClassVar, Self

from schemas.events import FetchError
from schemas.types import ErrorCode


class FetchFailure(Exception):
    """A fetch could not go on; `code` is the contract's word for why."""

    code: ClassVar[ErrorCode] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        provider_code: str | None = None,
        http_status: int | None = None,
        requests: int = 1,
    ) -> None:
        """Keep `message`, the provider's own code, the HTTP status, and how many requests this attempt made."""
        super().__init__(message)
        self.message = message
        self.provider_code = provider_code
        self.http_status = http_status
        self.requests = requests

    def going_on(self, more: str) -> Self:
        """Return the same error with a message that goes on with `more`."""
        longer = copy.copy(self)
        longer.message = f"{self.message}; {more}"
        longer.args = (longer.message,)
        return longer

    def to_event(self, attempts: int) -> FetchError:
        """Return what a `failed` event says of this, after `attempts` requests for the page."""
        return FetchError(
            code=self.code,
            message=self.message,
            retryable=self.retryable,
            provider_code=self.provider_code,
            http_status=self.http_status,
            attempts=attempts,
        )


class RetryableError(FetchFailure):
    """The same request may succeed later."""

    retryable = True


class FatalError(FetchFailure):
    """The same request can't succeed until somebody changes something."""


class RateLimitedError(RetryableError):
    """The provider asks for fewer requests (429, eSMS 160, eTelecom `resource_exhausted`)."""

    code = "rate_limited"

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        provider_code: str | None = None,
        http_status: int | None = None,
        requests: int = 1,
    ) -> None:
        """As FetchFailure; `retry_after` is the seconds that the provider named, or None."""
        super().__init__(message, provider_code=provider_code, http_status=http_status, requests=requests)
        self.retry_after = retry_after


class ProviderUnavailableError(RetryableError):
    """No answer, a 5xx, or what can't be the API's answer, such as a proxy's page: the provider is away."""

    code = "provider_unavailable"

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        provider_code: str | None = None,
        http_status: int | None = None,
        requests: int = 1,
    ) -> None:
        """As FetchFailure; `retry_after` is the seconds that the provider named, or None."""
        super().__init__(message, provider_code=provider_code, http_status=http_status, requests=requests)
        self.retry_after = retry_after


class UnknownRefusalError(RetryableError):
    """The API refuses with a code that nobody documented: meanings move, so it is worth some more tries."""

    code = "bad_response"


class InvalidCommandError(FatalError):
    """The command is wrong, or the provider refuses its values."""

    code = "invalid_command"


class UnknownAccountError(FatalError):
    """The command names an account that isn't configured, or names none where several are."""

    code = "unknown_account"


class UnauthorizedError(FatalError):
    """The provider doesn't accept the key."""

    code = "unauthorized"


class ForbiddenError(FatalError):
    """The key is known but may not do this."""

    code = "forbidden"


class NotFoundError(FatalError):
    """The OA, or the address of the API, isn't there."""

    code = "not_found"


class BadResponseError(FatalError):
    """The provider's answer breaks its own rules (a list that is missing, a cursor that loops)."""

    code = "bad_response"


class DeadlineExceededError(FatalError):
    """The command's `not_after` has passed."""

    code = "deadline_exceeded"


class UnsupportedError(FatalError):
    """The provider can't do what the command asks for."""

    code = "unsupported"


class InternalError(FatalError):
    """A fault of this software."""

    code = "internal"
