"""Both providers as simulators over real HTTP, the accounts that reach them, and Official Accounts to take."""

import contextlib
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

from tests.acceptance.product import write_secret
from worker.providers.simulators import (
    API_KEY,
    PARTNER_KEY,
    SECRET_KEY,
    SHOP_KEY,
    EsmsConfig,
    EsmsSimulator,
    EtelecomConfig,
    EtelecomSimulator,
    Fault,
)

SPARES = 8
"""Accounts that only one test uses, so that what befalls them stays with it."""
NOTE_BYTES = 20 * 1024

Simulator = EtelecomSimulator | EsmsSimulator


class Providers:
    """The simulators of one test session. Each test takes new Official Accounts."""

    def __init__(
        self, etelecom: EtelecomSimulator, heavy: EtelecomSimulator, esms: EsmsSimulator, withdrawn: EsmsSimulator
    ) -> None:
        self.etelecom = etelecom
        self.heavy = heavy
        """eTelecom with 20 KB of notes on every follower."""
        self.esms = esms
        self.withdrawn = withdrawn
        """eSMS after GetFollowers has been shut down."""
        self._oas = count(2_801_000_000_000_001_000)
        self._spares = {"etelecom": list(range(SPARES)), "esms": list(range(SPARES))}

    def oa(self, followers: int) -> str:
        """A new Official Account with that many followers at every simulator."""
        oa = str(next(self._oas))
        for simulator in self.simulators:
            simulator.listings[oa] = simulator.make_listing(oa, followers)
        return oa

    @property
    def simulators(self) -> tuple[Simulator, ...]:
        """All of them."""
        return self.etelecom, self.heavy, self.esms, self.withdrawn

    def spare(self, provider: str) -> str:
        """The name of an account that no other test uses."""
        return f"spare-{provider}-{self._spares[provider].pop()}"

    def requests(self, oa: str) -> list[Any]:
        """What reached any of the simulators about this Official Account, oldest first."""
        return [entry for simulator in self.simulators for entry in simulator.requests if entry.oa_id == oa]

    def slow(self, oa: str, seconds: float) -> None:
        """From now on every answer about this Official Account takes `seconds`."""
        for simulator in self.simulators:
            simulator.inject(Fault(kind="latency", oa_id=oa, seconds=seconds, times=0))

    def accounts(self, folder: Path) -> dict[str, dict[str, Any]]:
        """The `[accounts]` of a configuration file; the secrets are in files in `folder`."""
        shop = _etelecom(f"{self.etelecom.url}/v1/shop", write_secret(folder, "shop", SHOP_KEY))
        esms_keys = {
            "api_key_file": write_secret(folder, "esms-api-key", API_KEY),
            "secret_key_file": write_secret(folder, "esms-secret-key", SECRET_KEY),
        }
        esms = {"provider": "esms", "base_url": self.esms.url, "rate_limit": 0, **esms_keys}
        partner_key = write_secret(folder, "partner", PARTNER_KEY)
        wrong_shop = write_secret(folder, "wrong-shop", wrong_key(SHOP_KEY))
        wrong_partner = write_secret(folder, "wrong-partner", wrong_key(PARTNER_KEY))
        wrong_secret = write_secret(folder, "wrong-esms", wrong_key(SECRET_KEY))
        accounts = {
            "shop": shop,
            "partner": _etelecom(f"{self.etelecom.url}/v1/partner", partner_key),
            "heavy": _etelecom(f"{self.heavy.url}/v1/shop", shop["api_key_file"]),
            "shop-wrong-key": _etelecom(f"{self.etelecom.url}/v1/shop", wrong_shop),
            "partner-wrong-key": _etelecom(f"{self.etelecom.url}/v1/partner", wrong_partner),
            "rotated": _etelecom(f"{self.etelecom.url}/v1/shop", write_secret(folder, "rotated", wrong_key(SHOP_KEY))),
            "esms-get": esms | {"endpoint": "GetFollowers"},
            "esms-list": esms | {"endpoint": "QueryListUID"},
            "esms-auto": esms | {"base_url": self.withdrawn.url, "endpoint": "auto"},
            "esms-wrong-key": esms | {"secret_key_file": wrong_secret},
        }
        accounts |= {f"spare-etelecom-{n}": shop for n in range(SPARES)}
        return accounts | {f"spare-esms-{n}": esms | {"endpoint": "GetFollowers"} for n in range(SPARES)}


def wrong_key(key: str) -> str:
    """A key of the same shape that no simulator knows."""
    head, colon, secret = key.rpartition(":")
    return head + colon + "unknown0" * (len(secret) // 8) + "x" * (len(secret) % 8)


@contextlib.asynccontextmanager
async def providers() -> AsyncIterator[Providers]:
    """Simulators in this process's event loop, each on a port of its own."""
    async with contextlib.AsyncExitStack() as stack:
        simulators = (
            await stack.enter_async_context(EtelecomSimulator(EtelecomConfig(followers={}))),
            await stack.enter_async_context(EtelecomSimulator(EtelecomConfig(followers={}, notes_padding=NOTE_BYTES))),
            await stack.enter_async_context(EsmsSimulator(EsmsConfig(followers={}, unfollowed_every=0))),
            await stack.enter_async_context(EsmsSimulator(EsmsConfig(followers={}, get_followers_gone=True))),
        )
        yield Providers(*simulators)


def _etelecom(base_url: str, key_file: str) -> dict[str, Any]:
    return {"provider": "etelecom", "base_url": base_url, "api_key_file": key_file, "rate_limit": 0}
