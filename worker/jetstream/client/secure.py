"""nats-py's client with its holes shut: logging in without the TLS that was asked for, and connecting after close."""

import asyncio
import base64
import errno
import re
from pathlib import Path
from typing import Any

import nkeys
from nats.aio.client import Srv
from nats.errors import Error
from nats.protocol.parser import ERR_RE

from worker.jetstream.client.fast import SwiftClient

_LOGIN_OVER = re.compile(r"authorization violation|authentication (expired|revoked)", re.IGNORECASE)
_MARKS = {"jwt": b"-----BEGIN NATS USER JWT-----", "seed": b"-----BEGIN USER NKEY SEED-----"}


class PlaintextError(Error):
    """The server offers no TLS although the settings ask for it: nothing was sent."""


class LoginCutError(Error):
    """The server cut the connection while we logged in, which it mostly does to refuse the credentials."""


class CredentialsError(Error):
    """A credentials file can't be used now; the message names the path, never the content."""


class GuardedClient(SwiftClient):
    """A client that logs in only over TLS once TLS files or a `tls://` server are named."""

    def _connect_command(self) -> bytes:
        # nats-py turns TLS on when the server's greeting asks for it, and that greeting is not protected: whoever
        # stands in between could leave the word out and be sent the password.
        if self._wants_tls() and not self._has_tls():
            raise PlaintextError("nats: the server offers no TLS")
        return super()._connect_command()

    _over = False
    """It was closed for good."""

    async def _connect_to_server(self, s: Srv) -> None:
        # Closed at the very moment in which an attempt fails, nats-py misses the cancellation (Python 3.11's `wait_for`
        # prefers the failure), or takes the failure for a reason to reconnect, and would go on trying for ever.
        if self._over or self.is_closed:
            raise asyncio.CancelledError
        await super()._connect_to_server(s)

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        self._over = self._over or status != self.DISCONNECTED
        await super()._close(status, do_cbs)
        if not self._over:
            # An attempt to log in failed: nats-py tries again, but leaves the client marked as closed for good.
            self._status = status

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except ConnectionError as error:
            # The server says why and closes; what we had sent meanwhile turns that into a reset, which overtakes it.
            # So does a client certificate that it refuses: with TLS 1.3 our side of the handshake is over by then.
            if self._server_info.get("auth_required") or self._server_info.get("tls_verify"):
                raise LoginCutError("nats: connection cut at the login") from error
            raise

    async def _process_err(self, err_msg: str) -> None:
        # nats-py closes for ever when the server says so in mid-flight. A short-lived credential that ran out has
        # mostly been replaced in its file by then: log in again, and again, and say why it fails.
        if self.is_connected and _LOGIN_OVER.search(err_msg):
            error = Error(f"nats: {err_msg.strip(chr(39))}")
            await self._error_cb(error)
            await self._process_op_err(error)
            return
        if "permissions violation" in err_msg:
            self._err = Error(f"nats: {self._as_sent(err_msg).strip(chr(39))}")
            await self._error_cb(self._err)
            return
        await super()._process_err(err_msg)

    def _as_sent(self, err_msg: str) -> str:
        # nats-py hands it on in lower case, which no subject is that somebody could grant; its parser still has it.
        sent = ERR_RE.match(self._ps.buf)
        text = sent[1].decode("utf-8", "replace") if sent and sent[1] else ""
        return text if text.lower() == err_msg else err_msg

    def _wants_tls(self) -> bool:
        server = self._current_server
        return self.options.get("tls") is not None or (server is not None and server.uri.scheme == "tls")

    def _has_tls(self) -> bool:
        writer: Any = getattr(self._transport, "_io_writer", None)
        return writer is not None and writer.get_extra_info("ssl_object") is not None


class CredentialsFile:
    """A `.creds` file, read anew for every login: a rotated one is used at the next reconnect.

    nats-py's own reader never returns when the file has no JWT in it, which a rotation in progress may look like.
    """

    def __init__(self, path: str) -> None:
        """Take the path. Reads nothing."""
        self._path = path

    def jwt(self) -> bytes:
        """Return the user's JWT. Raises CredentialsError."""
        return _section(self._path, "jwt")

    def sign(self, nonce: str) -> bytes:
        """Return the signature of the server's nonce, base64. Raises CredentialsError."""
        return _sign(self._path, _section(self._path, "seed"), nonce)


def check_creds(path: str) -> None:
    """Raise CredentialsError unless the `.creds` file could be used."""
    file = CredentialsFile(path)
    file.jwt()
    file.sign("nonce")


def check_seed(path: str) -> None:
    """Raise CredentialsError unless the file holds an nkey seed."""
    _sign(path, _read(path).strip(), "nonce")


def _section(path: str, part: str) -> bytes:
    lines = [line.strip() for line in _read(path).splitlines()]
    try:
        found = lines[lines.index(_MARKS[part]) + 1]
    except (ValueError, IndexError):
        found = b""
    if not found or found.startswith(b"-"):
        raise CredentialsError(f"{path} has no user {part}: it must be a .creds file as `nsc generate creds` writes it")
    return found


def _sign(path: str, seed: bytes, nonce: str) -> bytes:
    try:
        pair = nkeys.from_seed(bytearray(seed))
        return base64.b64encode(pair.sign(nonce.encode()))
    except Exception:
        # nkeys lets the errors of three libraries through; without a cause, which may quote the seed.
        raise CredentialsError(f"{path} holds no usable nkey seed: it must start with SU") from None


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        why = error.strerror or errno.errorcode.get(error.errno or 0, "?")
        raise CredentialsError(f"{path} can't be read: {why}") from error
