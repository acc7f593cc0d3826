"""The lag of a consumer as KEDA's nats-jetstream scaler reads it: of the node that leads the consumer, nobody else."""

import asyncio
import json
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any


async def lag(endpoints: Sequence[str], metadata: dict[str, str]) -> int:
    """Return pending and in-hand messages of the trigger's consumer, asked of the nodes' monitoring pages.

    Raises LookupError when no node that leads it has it.
    """
    for endpoint in endpoints:
        document = await asyncio.to_thread(_jsz, endpoint, metadata["account"])
        for consumer in _consumers(document, metadata):
            leader = consumer.get("cluster", {}).get("leader")
            # A follower's num_pending is 0, whatever waits.
            if len(endpoints) == 1 or leader == document.get("server_name"):
                return int(consumer["num_pending"]) + int(consumer["num_ack_pending"])
    raise LookupError(f"no consumer {metadata['consumer']} of {metadata['stream']} in {metadata['account']}")


async def lags(endpoints: Sequence[str], metadata: dict[str, str]) -> list[int]:
    """Return what each node says, leader or not."""
    documents = [await asyncio.to_thread(_jsz, endpoint, metadata["account"]) for endpoint in endpoints]
    return [int(one["num_pending"]) for document in documents for one in _consumers(document, metadata)]


def _jsz(endpoint: str, account: str) -> dict[str, Any]:
    query = urllib.parse.urlencode({"acc": account, "config": "true", "consumers": "true"})
    with urllib.request.urlopen(f"{endpoint}/jsz?{query}", timeout=3) as answer:
        document: dict[str, Any] = json.load(answer)
    with urllib.request.urlopen(f"{endpoint}/varz", timeout=3) as answer:
        document["server_name"] = json.load(answer)["server_name"]
    return document


def _consumers(document: dict[str, Any], metadata: dict[str, str]) -> list[dict[str, Any]]:
    return [
        consumer
        for account in document.get("account_details") or ()
        if metadata["account"] in (account.get("id"), account.get("name"))
        for stream in account.get("stream_detail") or ()
        if stream["name"] == metadata["stream"]
        for consumer in stream.get("consumer_detail") or ()
        if consumer["name"] == metadata["consumer"]
    ]
