"""Certificates and credentials made on the spot, and the server configurations that go with them."""

import base64
import json
import os
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nkeys
import trustme


class KeyPair:
    """An nkey of a kind: `operator`, `account` or `user`."""

    def __init__(self, kind: str) -> None:
        prefix = {
            "operator": nkeys.PREFIX_BYTE_OPERATOR,
            "account": nkeys.PREFIX_BYTE_ACCOUNT,
            "user": nkeys.PREFIX_BYTE_USER,
        }[kind]
        self.seed: bytes = bytes(nkeys.encode_seed(os.urandom(32), prefix))
        self._pair = nkeys.from_seed(bytearray(self.seed))
        self.public: str = bytes(self._pair.public_key).decode()

    def sign(self, text: bytes) -> bytes:
        """An Ed25519 signature."""
        signature: bytes = self._pair.sign(text)
        return signature


_UNLIMITED = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1) | {"wildcards": True}
_STORING = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)


class Operator:
    """A tree of trust with one account for us, as `nsc` would make it."""

    def __init__(self) -> None:
        self._operator, self._account, self._system = KeyPair("operator"), KeyPair("account"), KeyPair("account")

    @cached_property
    def config(self) -> str:
        """What the server needs to know."""
        accounts = {
            pair.public: _jwt(self._operator, pair, {"type": "account", "limits": limits})
            for pair, limits in ((self._account, _UNLIMITED | _STORING), (self._system, _UNLIMITED))
        }
        operator = _jwt(self._operator, self._operator, {"type": "operator"})
        preload = json.dumps(accounts)
        return (
            f"operator: {operator}\nsystem_account: {self._system.public}\n"
            f"resolver: MEMORY\nresolver_preload: {preload}\n"
        )

    def creds(self, user: KeyPair | None = None, *, valid_for: float | None = None) -> str:
        """A `.creds` file for a user of the account; None: it never expires."""
        user = user or KeyPair("user")
        expires = None if valid_for is None else int(time.time() + valid_for)
        rights = {"type": "user", "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1}
        jwt = _jwt(self._account, user, rights, expires)
        return (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
        )


def _jwt(issuer: KeyPair, subject: KeyPair, claims: dict[str, Any], expires: int | None = None) -> str:
    body: dict[str, Any] = {
        "jti": os.urandom(8).hex(),
        "iat": 1_767_225_600,
        "iss": issuer.public,
        "sub": subject.public,
    }
    if expires is not None:
        body["exp"] = expires
    parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, {**body, "name": "invented", "nats": {"version": 2, **claims}}]
    text = ".".join(_encoded(json.dumps(part).encode()) for part in parts)
    return f"{text}.{_encoded(issuer.sign(text.encode()))}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class Certificates:
    """A certificate authority and what it signed, as files."""

    folder: Path
    authority: trustme.CA

    @classmethod
    def new(cls, folder: Path) -> "Certificates":
        """An authority of its own."""
        folder.mkdir()
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        return cls(folder, authority)

    @property
    def ca(self) -> str:
        """The authority's certificate."""
        return str(self.folder / "ca.pem")

    def issue(self, name: str) -> tuple[str, str]:
        """A certificate for `name` and its key."""
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        issued = self.authority.issue_cert(name)
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        return str(certificate), str(key)

    def server_config(self, name: str = "127.0.0.1", *, clients_of: "Certificates | None" = None) -> str:
        """TLS for the server; with `clients_of`, clients must show a certificate of that authority."""
        certificate, key = self.issue(name)
        lines = {"cert_file": certificate, "key_file": key}
        checked = {"ca_file": clients_of.ca, "verify": True} if clients_of else {}
        return f"tls: {json.dumps(lines | checked)}\n"
