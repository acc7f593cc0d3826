"""`followers simulate`: both providers on this machine, for trying things out."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from worker.cli.console import OK, USAGE, AsJson, Stop, emit, examples, note, perform, say
from worker.cli.wording import counted

EXAMPLES = examples(
    ("followers simulate", "Both providers at free ports; prints URLs, keys and Official Accounts."),
    ("followers simulate > followers.toml", "Only the settings are on stdout: a worker can use them as they are."),
    ("followers simulate --etelecom-followers 100000 --latency 50", "A long list from a slow provider."),
    ("followers simulate --etelecom-port 8901 --esms-port 8902 --json", "Fixed ports, and all of it as JSON."),
)

Followers = Annotated[int, typer.Option(min=0, metavar="N", help="Followers of the Official Account.")]
Port = Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")]


def simulate(
    etelecom_followers: Followers = 1234,
    esms_followers: Followers = 1234,
    etelecom_port: Port = 0,
    esms_port: Port = 0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same people.")] = 1,
    latency: Annotated[float, typer.Option(min=0, metavar="MS", help="Milliseconds before each answer.")] = 0.0,
    json: AsJson = False,
) -> None:
    """Run the provider simulators alone, until Ctrl-C."""

    async def work() -> int:
        from worker.providers.simulators import EMPTY_OA_ID, OA_ID, EsmsConfig, EtelecomConfig, serve

        shared: dict[str, Any] = {"seed": seed, "latency": latency / 1000}
        etelecom = EtelecomConfig(followers={OA_ID: etelecom_followers, EMPTY_OA_ID: 0}, port=etelecom_port, **shared)
        esms = EsmsConfig(followers={OA_ID: esms_followers, EMPTY_OA_ID: 0}, port=esms_port, **shared)

        def ready(urls: Mapping[str, str]) -> None:
            _announce(urls, {"etelecom": etelecom.followers, "esms": esms.followers}, json=json)

        try:
            await serve(etelecom, esms, ready)
        except OSError as error:
            raise Stop(f"a port can't be listened on: {error.strerror or error}; choose another", code=USAGE) from error
        return OK

    perform(work)


def accounts(urls: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the settings of one account per kind of key, for the simulators at `urls`."""
    from worker.providers.simulators import API_KEY, PARTNER_KEY, SECRET_KEY, SHOP_KEY

    esms = {"provider": "esms", "base_url": urls["esms"], "api_key": API_KEY, "secret_key": SECRET_KEY}
    shop = {"provider": "etelecom", "base_url": f"{urls['etelecom']}/v1/shop", "api_key": SHOP_KEY}
    partner = {"provider": "etelecom", "base_url": f"{urls['etelecom']}/v1/partner", "api_key": PARTNER_KEY}
    found: dict[str, dict[str, Any]] = {"sim-shop": shop, "sim-partner": partner, "sim-esms": esms}
    for account in found.values():
        account["rate_limit"] = 0
    return found


def _announce(urls: Mapping[str, str], followers: Mapping[str, Mapping[str, int]], *, json: bool) -> None:

    settings = accounts(urls)
    if json:
        emit({"urls": urls, "accounts": settings, "followers": followers})
        sys.stdout.flush()
        return
    for provider, url in urls.items():
        note(f"{provider:9} {url}")
        for oa_id, count in followers[provider].items():
            note(f"{'':9} OA {oa_id} has {counted(count, 'follower')}")
    note("")
    for line in _toml(settings).splitlines():
        say(line)
    sys.stdout.flush()
    note(f"try: followers fetch etelecom {next(iter(followers['etelecom']))} --account sim-shop")


def _toml(settings: Mapping[str, Mapping[str, Any]]) -> str:
    import json

    blocks = [
        "\n".join([f"[accounts.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in account.items())])
        for name, account in settings.items()
    ]
    return "\n\n".join(blocks)
