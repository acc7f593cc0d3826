"""Both providers over real HTTP on this machine, for tests, the demo and benchmarks.

async with Simulator(EtelecomConfig(followers={"2801000000000000001": 1234})) as simulator:
    simulator.shop_url, simulator.ids("2801000000000000001")
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import overload

from worker.providers.esms.simulator import EsmsSimulator
from worker.providers.esms.simulator_config import API_KEY, SECRET_KEY, EsmsConfig
from worker.providers.etelecom.simulator.config import PARTNER_KEY, SHOP_KEY, EtelecomConfig
from worker.providers.etelecom.simulator.server import EtelecomSimulator
from worker.simulators.changes import Changed, ListChange
from worker.simulators.config import EMPTY_OA_ID, OA_ID
from worker.simulators.data import CANARY
from worker.simulators.faults import Fault

__all__ = [
    "API_KEY",
    "CANARY",
    "EMPTY_OA_ID",
    "OA_ID",
    "PARTNER_KEY",
    "SECRET_KEY",
    "SHOP_KEY",
    "Changed",
    "EsmsConfig",
    "EsmsSimulator",
    "EtelecomConfig",
    "EtelecomSimulator",
    "Fault",
    "ListChange",
    "Simulator",
    "serve",
]


@overload
def Simulator(config: EtelecomConfig) -> EtelecomSimulator: ...
@overload
def Simulator(config: EsmsConfig) -> EsmsSimulator: ...
def Simulator(config: EtelecomConfig | EsmsConfig) -> EtelecomSimulator | EsmsSimulator:
    """The simulator for a configuration. Raises ValueError for an eTelecom OA id that is no decimal int64."""
    return EtelecomSimulator(config) if isinstance(config, EtelecomConfig) else EsmsSimulator(config)


async def serve(
    etelecom: EtelecomConfig | None,
    esms: EsmsConfig | None,
    ready: Callable[[Mapping[str, str]], None] | None = None,
) -> None:
    """Run the simulators that have a configuration until cancelled.

    `ready` is called once with their URLs: `{"etelecom": "http://…", "esms": "http://…"}`.
    Raises OSError when a port is taken, ValueError for a wrong configuration.
    """
    async with AsyncExitStack() as stack:
        urls: dict[str, str] = {}
        if etelecom is not None:
            urls["etelecom"] = (await stack.enter_async_context(Simulator(etelecom))).url
        if esms is not None:
            urls["esms"] = (await stack.enter_async_context(Simulator(esms))).url
        if ready is not None:
            ready(urls)
        await asyncio.Event().wait()
