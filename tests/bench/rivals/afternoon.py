"""What one writes in an afternoon: httpx as it comes, `json`, nats-py. Nothing is tuned, nothing is wrong either.

It reads dictionaries, picks and renames the fields that consumers want, and appends each page on condition that the
page before is the newest. `python -m tests.bench.rivals.afternoon PROVIDER NATS`
"""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import nats
from nats.js import JetStreamContext

from tests.bench.rivals import ETELECOM, Run, obey


def follower(row: dict[str, Any]) -> dict[str, Any]:
    """Return what is published of a row."""
    extra = row["tags_and_notes_info"] or {}
    return {
        "user_id": row["zl_user_id"],
        "user_id_by_app": row["zl_user_id_by_app"],
        "provider_id": row["id"],
        "shop_id": row["shop_id"],
        "display_name": row["full_name"],
        "avatar": row["avatar"],
        "avatars": row["avatars"],
        "gender": row["gender"],
        "phone": row["phone"],
        "state": row["state"],
        "has_conversation": row["has_conversation"],
        "shared_info": row["shared_info"],
        "assigned_user_id": row["assigned_user_id"],
        "tags": extra.get("tag_names", []),
        "notes": extra.get("notes", []),
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }


async def fetch(client: httpx.AsyncClient, js: JetStreamContext, run: Run, job: str) -> int:
    """Fetch one list and publish it; return its number of pages."""
    cursor, page, sequence = "", 0, 0
    while True:
        body = {"filter": {"oa_id": run.oa_id}, "paging": {"limit": 50, "after": cursor}}
        answer = await client.post(ETELECOM, json=body)
        answer.raise_for_status()
        found = answer.json()
        if not found["followers"]:
            return page
        page += 1
        event = {
            "job_id": job,
            "page": page,
            "followers": [follower(row) for row in found["followers"]],
            "cursor": cursor,
            "next_cursor": found["paging"]["next"],
            "fetched_at": datetime.now(UTC).isoformat(),
        }
        headers = {
            "Content-Type": "application/json",
            "Nats-Msg-Id": f"{job}:{page}",
            "Nats-Expected-Last-Subject-Sequence": str(sequence),
        }
        subject = f"followers.page.{run.provider}.{run.oa_id}.{job}"
        sequence = (await js.publish(subject, json.dumps(event).encode(), headers=headers)).seq
        cursor = event["next_cursor"]
        if not cursor:
            return page


async def main(provider: str, server: str) -> None:
    """Do each run that is asked for, its jobs at the same time."""
    connection = await nats.connect(server)
    js = connection.jetstream()
    async with httpx.AsyncClient(base_url=provider, headers={"Authorization": "Bearer 1:key"}) as client:

        async def do(run: Run) -> int:
            return sum(await asyncio.gather(*(fetch(client, js, run, job) for job in run.jobs)))

        await obey(do)
    await connection.close()


if __name__ == "__main__":
    import sys

    asyncio.run(main(*sys.argv[1:]))
