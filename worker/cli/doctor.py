"""`followers doctor`: look everything over, say what is wrong and what to do."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.console import FAILED, OK, AsJson, ConfigFile, complain, emit, examples, perform, say
from worker.cli.session import load_settings, nats_options, topology_config
from worker.cli.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.core.account import Account
    from worker.core.diagnostics import Finding
    from worker.settings import Settings

EXAMPLES = examples(
    ("followers doctor", "Exit code 1 when something doesn't work."),
    ("followers doctor --monitor http://nats.internal:8222", "Also what only the monitoring page tells."),
    ("followers doctor --no-accounts", "NATS alone: no request to a provider."),
    ("followers doctor --json | jq '.[] | select(.state != \"ok\")'", "For programs."),
)
_PATIENCE = 5.0
_MONITOR_PATIENCE = 1.5
_COLORS = {"ok": "green", "warn": "yellow", "fail": "red", "unknown": "bright_black"}


def doctor(
    context: typer.Context,
    accounts: Annotated[bool, typer.Option("--accounts/--no-accounts", help="Try each account's credentials.")] = True,
    monitor: Annotated[
        str | None, typer.Option(metavar="URL", help="The server's monitoring page; else its host at port 8222.")
    ] = None,
    json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Check server, streams, consumers, rights, clocks and credentials, and say what to fix.

    Changes nothing. Each account makes one request that lists the Official Accounts it may read. Exit code 0 also
    with warnings, 1 when something doesn't work.
    """

    async def work() -> int:
        import asyncio

        settings = load_settings(context, config)
        listed = settings.account_list() if accounts else ()
        groups = await asyncio.gather(_nats(settings, monitor), *(_account(account) for account in listed))
        found = [finding for group in groups for finding in group]
        found.append(await asyncio.to_thread(_demo_server, settings))
        if accounts and not listed:
            found.append(_finding("account", "settings", "warn", "no account is configured", "add [accounts.NAME]"))
        if json:
            emit([asdict(finding) for finding in found])
        else:
            _print(found)
        return FAILED if any(finding.state == "fail" for finding in found) else OK

    perform(work)


def _print(found: "list[Finding]") -> None:
    width = max(len(finding.check) for finding in found)
    for finding in found:
        mark = f"{finding.state:8}"
        if sys.stdout.isatty():
            mark = typer.style(mark, fg=_COLORS[finding.state])
        say(f"{finding.check:{width}}  {finding.subject}: {finding.detail}", lead=mark)
        if finding.advice:
            say(f"{'':8}{'':{width}}  → {finding.advice}")
    states = [finding.state for finding in found]
    counts = [
        counted(states.count(state), one, many)
        for state, one, many in (("fail", "failed", "failed"), ("warn", "warning", "warnings"))
        if state in states
    ]
    complain(f"{counted(len(found), 'check')}: {', '.join(counts) or 'all well'}")


async def _nats(settings: "Settings", monitor: str | None) -> "list[Finding]":
    from worker.jetstream.client.connect import ConnectError, connect
    from worker.jetstream.topology.doctor import durability, examine, server_storage

    try:
        client = await connect(nats_options(settings), wait=_PATIENCE)
    except ConnectError as error:
        return [_finding("nats.connect", "server", "fail", str(error), "nothing else of NATS can be checked")]
    try:
        found = await examine(client, topology_config(settings), schedules=bool(settings.schedules))
        url = client.connected_url
        host = url.hostname if url else None
        server_id = str(client._server_info.get("server_id"))
    finally:
        await client.close()
    import asyncio

    page = monitor or f"http://{f'[{host}]' if host and ':' in host else host}:8222"
    varz = await asyncio.to_thread(_varz, page)
    return [*found, *server_storage(varz, server_id), durability(varz, server_id)]


def _varz(page: str) -> "Mapping[str, Any] | None":
    """Read the server's monitoring page, None when there is none. Sends nothing but the request."""
    import json
    from urllib.request import ProxyHandler, build_opener

    if not page.startswith(("http://", "https://")):
        return None
    try:
        with build_opener(ProxyHandler({})).open(f"{page.rstrip('/')}/varz", timeout=_MONITOR_PATIENCE) as answer:
            read: dict[str, Any] = json.loads(answer.read(2**20))
    except (OSError, ValueError):
        return None
    return read


def _demo_server(settings: "Settings") -> "Finding":
    """Name the nats-server that is run here where one is; the one that is checked above may be any other."""
    from worker.embedded import EmbeddedServerError, find_server

    subject = "followers demo"
    try:
        program = find_server(settings.embedded.server)
    except EmbeddedServerError as error:
        # The settings refuse a named one that can't be run: only the demo lacks something.
        return _finding("demo.server", subject, "ok", f"would run no nats-server: {error}")
    return _finding("demo.server", subject, "ok", f"would run {program.described()}")


async def _account(account: "Account") -> "list[Finding]":
    from worker.core.errors import FetchFailure
    from worker.providers.doctor import official_accounts

    try:
        oas = await official_accounts(account)
    except FetchFailure as error:
        return [_finding("account.key", account.name, "fail", f"{error.code}: {error.message}")]
    if oas is None:
        text = "the key is good; the provider has no list of Official Accounts"
        return [_finding("account.key", account.name, "ok", text)]
    shown = ", ".join(f"{oa.oa_id} ({oa.name})" if oa.name else oa.oa_id for oa in oas[:20])
    more = f" and {len(oas) - 20} more" if len(oas) > 20 else ""
    if not oas:
        advice = "connect an Official Account at the provider"
        return [_finding("account.key", account.name, "warn", "the key is good and may read no OA", advice)]
    text = f"the key is good and may read {len(oas)} OAs: {shown}{more}"
    found = [_finding("account.key", account.name, "ok", text)]
    for oa in oas:
        if oa.connected is False:
            advice = "connect it again at the provider: its link to Zalo has ended"
            found.append(_finding("account.oa", f"{account.name} {oa.oa_id}", "warn", "is not connected", advice))
    return found


def _finding(check: str, subject: str, state: Any, detail: str, advice: str = "") -> "Finding":
    from worker.core.diagnostics import Finding

    return Finding(check=check, subject=subject, state=state, detail=detail, advice=advice)
