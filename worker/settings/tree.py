"""The settings and their ranges. Times are in seconds, sizes in bytes; every default is a working one."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from worker.core.account import Account, EsmsAccount, EsmsEndpoint, EtelecomAccount
from worker.core.schedules.decision import Schedule
from worker.settings.schedules import ScheduleName, ScheduleSettings, schedules_of
from worker.settings.secret import FileSecret, TextSecret
from worker.settings.values import (
    DAY,
    AccountName,
    Age,
    BaseUrl,
    Bytes,
    CollectorUrl,
    HostNames,
    InFile,
    InputFile,
    InText,
    Level,
    Program,
    Quota,
    Seconds,
    Servers,
    Subject,
    Text,
)

PAGE_TOKEN_LENGTH = 16
"""Characters at least: nobody counts wrong guesses."""


class Section(BaseModel):
    """One table of the settings: frozen, no unknown keys, no silent conversions (``true`` is not 1)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class NatsSettings(Section):
    """How to reach NATS. At most one way of logging in."""

    servers: Servers = ("nats://127.0.0.1:4222",)
    """Without credentials: what a URL carried of them is in ``user``, ``password`` or ``token``."""
    creds_file: InputFile | None = None
    nkey_seed_file: InputFile | None = None
    user: Text | None = None
    password: InText | None = None
    token: InText | None = None
    tls_ca: InputFile | None = None
    tls_cert: InputFile | None = None
    tls_key: InputFile | None = None
    auto_setup: bool = False
    replicas: Annotated[int, Field(ge=1, le=5)] = 1
    """Of streams and buckets."""
    inbox_prefix: Subject = "_INBOX"
    connect_timeout: Annotated[float, Field(gt=0, le=60)] = 5.0

    @model_validator(mode="before")
    @classmethod
    def _take_credentials_out_of_urls(cls, values: Any) -> Any:
        return _without_userinfo(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _one_login(self) -> "NatsSettings":
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password belong together: set both or neither")
        ways = [key for key in ("creds_file", "nkey_seed_file", "user", "token") if getattr(self, key)]
        if len(ways) > 1:
            raise ValueError(f"{' and '.join(ways)} are different ways to log in: keep one")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: set both or neither")
        return self


def _without_userinfo(values: dict[str, Any]) -> dict[str, Any]:
    """Move ``user:password@`` or ``token@`` out of the server URLs, so that URLs may be logged."""
    servers = values.get("servers")
    if not isinstance(servers, list | tuple) or not all(isinstance(server, str) for server in servers):
        return values
    logins = {server.rpartition("@")[0].rpartition("//")[2] for server in servers if "@" in server}
    if not logins:
        return values
    if len(logins) > 1 or any(values.get(key) for key in ("user", "password", "token")):
        raise ValueError("the URLs in servers carry different logins: use user and password, or token, instead")
    user, colon, password = logins.pop().partition(":")
    login = {"user": unquote(user), "password": unquote(password)} if colon else {"token": unquote(user)}
    bare = [re.sub(r"(^|//)[^/]*@", r"\1", server) for server in servers]
    return {**values, **login, "servers": bare}


class WorkerSettings(Section):
    """One replica."""

    max_jobs: Annotated[int, Field(ge=1, le=1024)] = 64
    """Commands in flight per provider."""
    ack_wait: Annotated[float, Field(ge=1, le=3600)] = 30.0
    """Until another replica takes over from one that died."""
    prefetch: Annotated[int, Field(ge=1, le=64)] = 8
    """Pages read ahead within one job, where the provider's paging allows it."""
    encoding: Literal["json", "msgpack"] = "json"
    cloudevents: Literal["binary", "structured"] = "binary"
    """Attributes in headers, or an envelope around the event; with MessagePack that holds it in base64."""
    http_host: Text = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    """0 turns the HTTP server off."""
    http_hosts: HostNames = ()
    """Names by which the HTTP server may be asked, besides localhost and the address that it listens on."""
    page_token: InText | None = None
    """Whoever knows it may cancel and retry on the live page; without one nobody can there."""
    page_token_file: InFile | None = None
    otlp_endpoint: CollectorUrl | None = None
    """An OpenTelemetry collector that takes OTLP over HTTP; None: no traces."""
    drain_timeout: Annotated[float, Field(gt=0, le=3600)] = 25.0
    """What a worker that is told to stop has to finish the page in hand."""
    retry_for: Seconds = 900.0
    """Give up on an unavailable provider after this long without a page."""
    rate_limited_for: Seconds = float(DAY)
    """Give up on a provider that only says "too many requests" after this long without a page."""
    request_timeout: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """For one whole request, connecting and reading included."""
    max_response_bytes: Annotated[int, Field(ge=1024, le=2**30)] = 16 * 2**20
    """Of one decoded body."""
    max_bytes_in_flight: Annotated[int, Field(ge=2**20, le=2**40)] = 128 * 2**20
    """Memory that the answers in hand take together, until their pages are published; one more answer may exceed it."""

    @model_validator(mode="after")
    def _page_token(self) -> "WorkerSettings":
        if self.page_token and self.page_token_file:
            raise ValueError("page_token and page_token_file are both set: keep one")
        if self.page_secret and len(self.page_secret.reveal()) < PAGE_TOKEN_LENGTH:
            raise ValueError(
                f"page_token needs at least {PAGE_TOKEN_LENGTH} characters: make one with `openssl rand -hex 16`"
            )
        return self

    @property
    def page_secret(self) -> TextSecret | FileSecret | None:
        """The token of the live page, None when there is none."""
        return self.page_token or self.page_token_file


class StreamSettings(Section):
    """What ``followers setup`` gives the streams; -1 bytes means no limit."""

    commands_max_age: Age = 7 * DAY
    events_max_age: Age = 7 * DAY
    dead_max_age: Age = 30 * DAY
    jobs_ttl: Age = 7 * DAY
    feeds_ttl: Age = 90 * DAY
    """A feed of changes without a complete list for so long is forgotten."""
    commands_max: Quota = -1
    """Commands of a provider in the queue, those in hand included; above that publishers are refused. -1: no limit."""
    commands_max_bytes: Bytes = -1
    events_max_bytes: Bytes = -1
    dead_max_bytes: Bytes = -1
    storage: Literal["file", "memory"] = "file"
    duplicate_window: Annotated[int, Field(ge=1, le=DAY)] = 120

    @model_validator(mode="after")
    def _order(self) -> "StreamSettings":
        # A command that outlives its job's events would be fetched again from page 1 (DESIGN 3.5).
        if self.events_max_age < self.commands_max_age:
            raise ValueError(
                f"events_max_age ({self.events_max_age}) must not be below commands_max_age"
                f" ({self.commands_max_age}): a late redelivery would publish its pages a second time"
            )
        if self.duplicate_window > self.commands_max_age:
            raise ValueError("duplicate_window must not be above commands_max_age: the server refuses it")
        return self


class ChangesSettings(Section):
    """The change feed: who came, who went, what changed between two complete lists."""

    enabled: bool = True
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.3
    """The share of followers that may be gone at once; above it a list is held back until somebody releases it."""
    drifted: bool = False
    """Follow lists that moved while they were read, too, where it is proven that nobody is missing."""


class LogSettings(Section):
    level: Level = "info"
    format: Literal["auto", "console", "json"] = "auto"
    """``auto``: for people on a terminal, else JSON lines."""


class EmbeddedSettings(Section):
    server: Program | None = None
    """A nats-server program; default: the one in the environment's wheel, then the one on PATH."""


class EtelecomSettings(Section):
    provider: Literal["etelecom"]
    base_url: BaseUrl = "https://api.etelecom.vn/v1/shop"
    api_key: InText | None = None
    api_key_file: InFile | None = None
    rate_limit: Annotated[float, Field(ge=0)] = 5.0
    """Requests a second, shared by all replicas; 0 means no limit."""

    @model_validator(mode="after")
    def _one_of_each(self) -> "EtelecomSettings":
        _exactly_one(self, "api_key")
        return self


class EsmsSettings(Section):
    provider: Literal["esms"]
    base_url: BaseUrl = "https://rest.esms.vn"
    api_key: InText | None = None
    api_key_file: InFile | None = None
    secret_key: InText | None = None
    secret_key_file: InFile | None = None
    endpoint: EsmsEndpoint = "auto"
    rate_limit: Annotated[float, Field(ge=0)] = 5.0
    """Requests a second, shared by all replicas; 0 means no limit."""

    @model_validator(mode="after")
    def _one_of_each(self) -> "EsmsSettings":
        _exactly_one(self, "api_key")
        _exactly_one(self, "secret_key")
        return self


def _exactly_one(account: Section, key: str) -> None:
    given = [name for name in (key, f"{key}_file") if getattr(account, name) is not None]
    if len(given) != 1:
        state = "both are set" if given else "neither is set"
        raise ValueError(f"needs either {key} or {key}_file; {state}")


def _secret(account: Section, key: str) -> TextSecret | FileSecret:
    secret: TextSecret | FileSecret = getattr(account, key) or getattr(account, f"{key}_file")
    return secret


AccountSettings = Annotated[EtelecomSettings | EsmsSettings, Field(discriminator="provider")]


class Settings(BaseSettings):
    """Everything that can be set. Made by ``worker.settings.load``; the constructor reads nothing."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    nats: NatsSettings = NatsSettings()
    worker: WorkerSettings = WorkerSettings()
    streams: StreamSettings = StreamSettings()
    changes: ChangesSettings = ChangesSettings()
    accounts: Mapping[AccountName, AccountSettings] = {}
    schedules: Mapping[ScheduleName, ScheduleSettings] = {}
    log: LogSettings = LogSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()

    def account_list(self) -> tuple[Account, ...]:
        """The accounts as the adapters see them, in the order of the file. Each call shares the secrets."""
        return tuple(_account(name, account) for name, account in self.accounts.items())

    def schedule_list(self) -> tuple[Schedule, ...]:
        """The schedules as the core sees them, those that are turned off included, in the order of the file."""
        return schedules_of(self.schedules)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def _account(name: str, account: EtelecomSettings | EsmsSettings) -> Account:
    if isinstance(account, EtelecomSettings):
        return EtelecomAccount(
            name=name,
            base_url=account.base_url,
            api_key=_secret(account, "api_key"),
            rate_limit=account.rate_limit,
        )
    return EsmsAccount(
        name=name,
        base_url=account.base_url,
        api_key=_secret(account, "api_key"),
        secret_key=_secret(account, "secret_key"),
        endpoint=account.endpoint,
        rate_limit=account.rate_limit,
    )
