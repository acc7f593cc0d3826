"""A secret that was rotated is read again: once, when the provider refuses the one in use (CONTRACT 5)."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from structlog import get_logger

from worker.core.account import Secret
from worker.core.errors import FetchFailure, ForbiddenError, UnauthorizedError
from worker.core.ports.provider import ProviderPage

_log = get_logger()


async def with_current(
    account: str, secrets: Sequence[Secret], attempt: Callable[[Sequence[str]], Awaitable[ProviderPage]]
) -> ProviderPage:
    """Return what `attempt` does with the secrets' values; once more where they are refused and have changed.

    Forbidden counts as refused too: an unknown partner-shop key is a 403 (PROVIDERS 1.2). Raises what
    `attempt` raises, with the requests of both attempts counted.
    """
    used = [secret.reveal() for secret in secrets]
    try:
        return await attempt(used)
    except (UnauthorizedError, ForbiddenError) as refusal:
        _reload(account, secrets)
        # Compared by value: with many requests at once, another one may have read the new secret already.
        current = [secret.reveal() for secret in secrets]
        if current == used:
            raise
        spent = refusal.requests
    try:
        page = await attempt(current)
    except FetchFailure as error:
        error.requests += spent
        raise
    return replace(page, requests=page.requests + spent)


def _reload(account: str, secrets: Sequence[Secret]) -> None:
    try:
        if any([secret.reload() for secret in secrets]):  # noqa: C419 - each of them, not up to the first change
            _log.info("provider.secret_reloaded", account=account)
    except (OSError, ValueError) as error:
        _log.warning("provider.secret_unreadable", account=account, reason=type(error).__name__)
