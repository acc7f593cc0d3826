import logging
import ssl

import pytest
import structlog
from nats.errors import AuthorizationError, ConnectionClosedError
from structlog.testing import capture_logs

from worker.jetstream.client.monitor import AGAIN_AFTER, DENIED_FOR, Complaints, because
from worker.jetstream.client.secure import CredentialsError, LoginCutError, PlaintextError


class Now:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture(autouse=True)
def _told() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def complaints(now: Now) -> Complaints:
    return Complaints(now)


def denied(act: str, subject: str) -> Exception:
    return Exception(f'nats: permissions violation for {act} to "{subject}"')


async def test_nothing_was_said_at_first(complaints: Complaints) -> None:
    assert (complaints.outside, complaints.denied) == (None, None)


async def test_why_we_are_not_let_in_holds_for_a_while(complaints: Complaints, now: Now) -> None:
    await complaints.on_error(AuthorizationError())

    assert complaints.outside == because(AuthorizationError())
    now.time += AGAIN_AFTER - 0.1
    assert complaints.outside is not None
    now.time += 0.1
    assert complaints.outside is None
    assert AGAIN_AFTER == 10.0


async def test_what_comes_right_behind_the_reason_does_not_hide_it(complaints: Complaints) -> None:
    await complaints.on_error(AuthorizationError())
    await complaints.on_error(ConnectionClosedError())

    assert complaints.outside == because(AuthorizationError())


async def test_an_ordinary_outage_is_no_reason(complaints: Complaints) -> None:
    with capture_logs() as lines:
        await complaints.on_error(ConnectionClosedError())

    assert complaints.outside is None
    assert lines == [{"event": "nats.error", "error": "ConnectionClosedError", "log_level": "warning"}]


async def test_once_connected_we_are_inside(complaints: Complaints) -> None:
    await complaints.on_error(AuthorizationError())

    complaints.connected()

    assert complaints.outside is None


async def test_a_refused_publish_counts_for_a_minute(complaints: Complaints, now: Now) -> None:
    with capture_logs() as lines:
        await complaints.on_error(denied("Publish", "followers.page.esms.1.j"))

    expected = "NATS does not let this user publish to followers.page.esms.1.j: grant it on the server"
    assert complaints.denied == expected
    assert lines == [
        {
            "event": "nats.permission_denied",
            "error": "publish",
            "act": "publish",
            "subject": "followers.page.esms.1.j",
            "log_level": "error",
        }
    ]
    now.time += DENIED_FOR - 0.1
    assert complaints.denied == expected
    now.time += 0.1
    assert complaints.denied is None
    assert DENIED_FOR == 60.0


async def test_a_refused_subscription_counts_until_a_reconnect(complaints: Complaints, now: Now) -> None:
    await complaints.on_error(denied("Subscription", "followers.cancel.*"))

    now.time += 10_000
    assert complaints.denied == "NATS does not let this user subscribe to followers.cancel.*: grant it on the server"
    with capture_logs() as lines:
        await complaints.on_reconnected()
    assert complaints.denied is None
    assert lines == [{"event": "nats.reconnected", "log_level": "info"}]


async def test_a_refused_publish_does_not_outlive_a_reconnect_nor_is_it_made_longer(
    complaints: Complaints, now: Now
) -> None:
    await complaints.on_error(denied("Publish", "a"))
    now.time += DENIED_FOR + 5
    await complaints.on_reconnected()
    now.time -= 4

    assert complaints.denied is None


async def test_what_a_server_says_is_shown_short_and_without_control_signs(complaints: Complaints) -> None:
    await complaints.on_error(denied("Publish", "é\x1b" + "a" * 300))

    assert complaints.denied == f"NATS does not let this user publish to ??{'a' * 198}: grant it on the server"


async def test_each_kind_of_trouble_is_logged_once_in_a_while(complaints: Complaints, now: Now) -> None:
    with capture_logs() as lines:
        await complaints.on_error(ConnectionClosedError())
        await complaints.on_error(AuthorizationError())
        now.time += AGAIN_AFTER - 0.1
        await complaints.on_error(ConnectionClosedError())
        now.time += 0.1
        await complaints.on_error(ConnectionClosedError())

    assert [line["error"] for line in lines] == ["ConnectionClosedError", "AuthorizationError", "ConnectionClosedError"]
    assert lines[1]["reason"] == because(AuthorizationError())


def certificate_error() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError("certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


def tls_error(reason: str = "") -> ssl.SSLError:
    error = ssl.SSLError("x")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "start"),
    [
        (CredentialsError("creds_file holds nothing"), "creds_file holds nothing"),
        (LoginCutError(), "NATS cuts the connection at the login"),
        (PlaintextError(), "the NATS server offers no TLS"),
        (AuthorizationError(), "NATS refuses the credentials"),
        (Exception("nats: 'User Authentication Expired'"), "NATS refuses the credentials"),
        (Exception("account revoked"), "NATS refuses the credentials"),
        (certificate_error(), "the NATS server's certificate is refused (self-signed certificate)"),
        (tls_error("WRONG_VERSION_NUMBER"), "TLS with NATS fails (WRONG_VERSION_NUMBER)"),
        (tls_error(), "TLS with NATS fails (SSLError)"),
    ],
)
def test_the_reason_says_what_to_do(error: Exception, start: str) -> None:
    reason = because(error)

    assert reason is not None
    assert reason.startswith(start)


@pytest.mark.parametrize("error", [ConnectionClosedError(), OSError("no route to host"), TimeoutError()])
def test_an_outage_has_no_reason_of_ours(error: Exception) -> None:
    assert because(error) is None
