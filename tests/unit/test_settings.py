"""Settings as an operator meets them: a file, variables, and lines that say what is wrong."""

import pickle
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pytest

from worker.core.account import EsmsAccount, EtelecomAccount
from worker.settings import Settings, SettingsError, load


@pytest.fixture(autouse=True)
def _empty_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def from_file(text: str, environ: Mapping[str, str] | None = None) -> Settings:
    path = Path("given.toml")
    path.write_text(text, encoding="utf-8")
    return load(path, environ or {})


def refusal(text: str = "", environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        from_file(text, environ)
    return str(caught.value)


UNKNOWN = "there is no such setting"
SHOP = '[accounts.my-shop]\nprovider = "etelecom"\napi_key = "1234:invented"\n'
ESMS = '[accounts.my-esms]\nprovider = "esms"\napi_key = "a"\nsecret_key = "b"\n'


def test_without_a_file_or_variables_the_contract_defaults_hold() -> None:
    settings = load(None, {})

    assert settings.nats.servers == ("nats://127.0.0.1:4222",)
    assert (settings.nats.auto_setup, settings.nats.replicas, settings.nats.inbox_prefix) == (
        False,
        1,
        "_INBOX",
    )
    worker = settings.worker
    assert (worker.cloudevents, worker.otlp_endpoint) == ("binary", None)
    assert (worker.max_jobs, worker.ack_wait, worker.prefetch, worker.encoding) == (64, 30, 8, "json")
    assert (worker.http_host, worker.http_port, worker.drain_timeout) == ("127.0.0.1", 8080, 25)
    assert worker.http_hosts == ()
    assert (worker.retry_for, worker.rate_limited_for, worker.request_timeout) == (900, 86_400, 60)
    assert worker.max_response_bytes == 16 * 2**20
    assert worker.max_bytes_in_flight == 128 * 2**20
    streams = settings.streams
    assert (streams.commands_max_age, streams.events_max_age, streams.jobs_ttl) == (604_800,) * 3
    assert (streams.dead_max_age, streams.duplicate_window, streams.storage) == (2_592_000, 120, "file")
    assert (settings.changes.enabled, settings.changes.threshold, streams.feeds_ttl) == (True, 0.3, 7_776_000)
    assert settings.account_list() == ()
    assert (settings.log.level, settings.log.format, settings.embedded.server) == ("info", "auto", None)


def test_the_example_of_the_contract_becomes_accounts() -> None:
    for name in ("shop", "esms-api", "esms-secret"):
        Path(name).write_text(f"{name}-key\n")

    accounts = from_file("""
        [accounts.my-shop]
        provider = "etelecom"
        api_key_file = "shop"
        [accounts.my-esms]
        provider = "esms"
        api_key_file = "esms-api"
        secret_key_file = "esms-secret"
        endpoint = "QueryListUID"
        rate_limit = 0
    """).account_list()

    shop, esms = accounts
    assert isinstance(shop, EtelecomAccount)
    assert isinstance(esms, EsmsAccount)
    assert (shop.name, shop.base_url, shop.rate_limit) == ("my-shop", "https://api.etelecom.vn/v1/shop", 5)
    assert shop.api_key.reveal() == "shop-key"
    assert (esms.base_url, esms.endpoint, esms.rate_limit) == ("https://rest.esms.vn", "QueryListUID", 0)
    assert (esms.api_key.reveal(), esms.secret_key.reveal()) == ("esms-api-key", "esms-secret-key")


def test_the_variable_wins_over_the_file_and_leaves_the_rest_of_its_table() -> None:
    settings = from_file(
        "[worker]\nmax_jobs = 3\nprefetch = 2\n",
        {"FOLLOWERS_WORKER__MAX_JOBS": "9", "FOLLOWERS_NATS__AUTO_SETUP": "true", "OTHER": "x"},
    )

    assert (settings.worker.max_jobs, settings.worker.prefetch, settings.nats.auto_setup) == (9, 2, True)


@pytest.mark.parametrize("text", ["nats://a:1, nats://b:2", '["nats://a:1", "nats://b:2"]', "a:1,b:2"])
def test_a_list_in_a_variable_is_json_or_comma_separated(text: str) -> None:
    assert load(None, {"FOLLOWERS_NATS__SERVERS": text}).nats.servers == ("nats://a:1", "nats://b:2")


def test_the_change_feed_is_turned_off_by_a_variable() -> None:
    assert not load(None, {"FOLLOWERS_CHANGES__ENABLED": "false"}).changes.enabled


@pytest.mark.parametrize("spelling", ["MY-SHOP", "my-shop", "MY_SHOP"])
def test_an_account_in_a_variable_meets_the_one_in_the_file(spelling: str) -> None:
    settings = from_file(SHOP, {f"FOLLOWERS_ACCOUNTS__{spelling}__RATE_LIMIT": "2.5"})

    [shop] = settings.account_list()

    assert (shop.name, shop.rate_limit, shop.api_key.reveal()) == ("my-shop", 2.5, "1234:invented")


def test_an_account_may_come_from_variables_alone() -> None:
    [shop] = load(
        None,
        {"FOLLOWERS_ACCOUNTS__NORTH-2__PROVIDER": "etelecom", "FOLLOWERS_ACCOUNTS__NORTH-2__API_KEY": "k\n"},
    ).account_list()

    assert (shop.name, shop.api_key.reveal()) == ("north-2", "k")


def test_followers_toml_of_the_working_directory_is_read_unasked() -> None:
    Path("followers.toml").write_text("[worker]\nmax_jobs = 5\n")

    assert load(None, {}).worker.max_jobs == 5


def test_a_named_file_is_read_instead() -> None:
    Path("followers.toml").write_text("[worker]\nmax_jobs = 5\n")
    Path("other.toml").write_text("[worker]\nmax_jobs = 6\n")
    Path("third.toml").write_text("[worker]\nmax_jobs = 7\n")

    assert load(None, {"FOLLOWERS_CONFIG": "other.toml"}).worker.max_jobs == 6
    assert load(Path("third.toml"), {"FOLLOWERS_CONFIG": "other.toml"}).worker.max_jobs == 7


@pytest.mark.parametrize("environ", [{"FOLLOWERS_CONFIG": "gone.toml"}])
def test_a_named_file_that_is_missing_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"gone\.toml: this settings file does not exist"):
        load(None, environ)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"[worker\n", "not TOML"), (b"\xff\xfe", "not UTF-8"), (b"worker = 3\n", r"worker.*must be a table")],
)
def test_a_file_that_can_not_be_read_is_refused_by_its_name(content: bytes, reason: str) -> None:
    Path("bad.toml").write_bytes(content)

    with pytest.raises(SettingsError, match=reason) as caught:
        load(Path("bad.toml"), {"FOLLOWERS_WORKER__MAX_JOBS": "3"})

    assert "bad.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "setting", "reason"),
    [
        (
            "[worker]\nmax_job = 3",
            "worker.max_job",
            "there is no such setting; did you mean worker.max_jobs?",
        ),
        ("[nats]\nmax_jobs = 3", "nats.max_jobs", "there is no such setting; did you mean worker.max_jobs?"),
        ("[workers]\nmax_jobs = 3", "workers", "there is no such setting; did you mean worker?"),
        ("[log]\ncolour = 3", "log.colour", "there is no such setting; [log] has level, format"),
        (SHOP + "api_kye = 1", "accounts.my-shop.api_kye", "there is no such setting; did you mean api_key?"),
        ("[worker]\nmax_jobs = 0", "worker.max_jobs", "must be at least 1"),
        ("[changes]\nthreshold = 0", "changes.threshold", "must be above 0"),
        ("[changes]\nthreshold = 30", "changes.threshold", "must be at most 1"),
        ("[worker]\nmax_jobs = 1025", "worker.max_jobs", "must be at most 1024"),
        ("[worker]\nmax_jobs = true", "worker.max_jobs", "must be a whole number, without quotes"),
        ('[worker]\nmax_jobs = "8"', "worker.max_jobs", "must be a whole number, without quotes"),
        ("[worker]\nack_wait = 0.5", "worker.ack_wait", "must be at least 1"),
        ("[worker]\nack_wait = nan", "worker.ack_wait", "must be a finite number"),
        ("[worker]\nprefetch = 65", "worker.prefetch", "must be at most 64"),
        ("[streams]\ncommands_max = 9", "streams.commands_max", "must be at least 10, or -1 for no limit"),
        ("[worker]\nhttp_port = 65536", "worker.http_port", "must be at most 65535"),
        ('[worker]\nhttp_hosts = ["https://a"]', "worker.http_hosts", "each must be a name or an address alone"),
        ('[worker]\nhttp_hosts = ["a:8080"]', "worker.http_hosts", "each must be a name or an address alone"),
        ('[worker]\nhttp_hosts = "a"', "worker.http_hosts", 'must be a list such as ["one", "two"]'),
        ('[worker]\nencoding = "yaml"', "worker.encoding", "must be 'json' or 'msgpack'"),
        ('[nats]\nservers = "nats://a"', "nats.servers", 'must be a list such as ["one", "two"]'),
        ("[nats]\nservers = []", "nats.servers", "must not be empty"),
        ('[nats]\nservers = ["http://a"]', "nats.servers", "each server must look like nats://host:4222"),
        ('[nats]\nservers = ["nats://a:x"]', "nats.servers", "is not a URL: look at its host and port"),
        ('[nats]\ninbox_prefix = "a.>"', "nats.inbox_prefix", "has characters that are not allowed"),
        ('[nats]\nuser = "u"', "nats", "user and password belong together"),
        ('[nats]\ncreds_file = "gone"', "nats.creds_file", "the file gone does not exist"),
        ("[nats]\nauto_setup = 1", "nats.auto_setup", "must be true or false"),
        ("[streams]\nevents_max_age = 604799", "streams", "events_max_age (604799) must not be below"),
        ("[streams]\ncommands_max_age = 60", "streams", "duplicate_window must not be above"),
        ('[embedded]\nserver = "gone"', "embedded.server", "gone is not a program"),
        (SHOP + "rate_limit = -1", "accounts.my-shop.rate_limit", "must be at least 0"),
        (SHOP + 'base_url = "http://shop.example"', "accounts.my-shop.base_url", "must start with https://"),
        (
            SHOP + 'base_url = "https://u:p@shop.example"',
            "accounts.my-shop.base_url",
            "must not contain a user",
        ),
        (
            SHOP + 'base_url = "https://shop.example?a"',
            "accounts.my-shop.base_url",
            "must not contain a query",
        ),
        (SHOP + 'base_url = "shop.example"', "accounts.my-shop.base_url", "must be a URL"),
        ("[accounts.a]\napi_key = 'k'", "accounts.a", 'has no provider; add provider = "etelecom" or "esms"'),
        ("[accounts.a]\nprovider = 'zalo'", "accounts.a", 'has an unknown provider; it must be "etelecom"'),
        (
            "[accounts.a]\nprovider = 'etelecom'",
            "accounts.a",
            "needs either api_key or api_key_file; neither",
        ),
        (
            "[accounts.a]\nprovider = 'esms'\napi_key = 'k'",
            "accounts.a",
            "needs either secret_key or secret_key",
        ),
        ('[accounts."a b"]\nprovider = "esms"', 'accounts."a b"', "an account's name must be 1 to 64"),
        ("accounts = 3", "accounts", "must be a table"),
    ],
)
def test_a_wrong_file_is_refused_with_the_key_and_what_to_do(text: str, setting: str, reason: str) -> None:
    problem = refusal(text)

    assert problem.startswith(f"{setting} in given.toml: {reason}")
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("FOLLOWERS_WORKER_MAX_JOBS", "3", UNKNOWN + "; did you mean FOLLOWERS_WORKER__MAX_JOBS?"),
        ("FOLLOWERS_WORKER_HTTP_PORT", "80", UNKNOWN + "; did you mean FOLLOWERS_WORKER__HTTP_PORT?"),
        ("FOLLOWERS_CONFG", "x", UNKNOWN + "; did you mean FOLLOWERS_CONFIG?"),
        ("FOLLOWERS_WORKER__MAX_JOBZ", "3", UNKNOWN + "; did you mean FOLLOWERS_WORKER__MAX_JOBS?"),
        ("FOLLOWERS_ZZZ", "3", UNKNOWN + "; write FOLLOWERS_<SECTION>__<KEY>"),
        ("FOLLOWERS_WORKER__MAX_JOBS", "many", "must be a whole number"),
        ("FOLLOWERS_WORKER__ACK_WAIT", "", "must be a number"),
        ("FOLLOWERS_NATS__AUTO_SETUP", "maybe", "must be true or false"),
        ("FOLLOWERS_NATS__SERVERS", "[1", "must be a list, with commas between its parts or as JSON"),
        ("FOLLOWERS_STREAMS__EVENTS_MAX_AGE", "60", "events_max_age (60) must not be below commands_max_age"),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(variable: str, value: str, line: str) -> None:
    problem = refusal(environ={variable: value})

    assert f"environment variable {variable}: {line}" in problem
    assert "\n" not in problem


def test_every_problem_has_its_own_line() -> None:
    problems = refusal("[worker]\nmax_jobs = 0\nprefetch = 0", {"FOLLOWERS_X": "1"}).splitlines()

    assert len(problems) == 3


def test_service_links_of_kubernetes_are_ignored() -> None:
    links = {
        "FOLLOWERS_PORT": "tcp://10.0.0.9:80",
        "FOLLOWERS_WORKER_PORT": "tcp://10.0.0.9:80",
        "FOLLOWERS_WORKER_SERVICE_HOST": "10.0.0.9",
        "FOLLOWERS_WORKER_SERVICE_PORT": "80",
        "FOLLOWERS_WORKER_SERVICE_PORT_HTTP": "80",
        "FOLLOWERS_WORKER_PORT_80_TCP": "tcp://10.0.0.9:80",
        "FOLLOWERS_WORKER_PORT_80_TCP_PROTO": "tcp",
    }

    assert load(None, links) == load(None, {})


def test_a_base_url_loses_its_trailing_slash_and_may_be_plain_on_this_machine() -> None:
    for url, expected in (
        ("https://shop.example/v1/partner/", "https://shop.example/v1/partner"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://localhost:8000", "http://localhost:8000"),
    ):
        [shop] = from_file(SHOP + f'base_url = "{url}"').account_list()
        assert shop.base_url == expected


def test_a_login_in_a_server_url_is_kept_apart_from_the_url() -> None:
    nats = from_file('[nats]\nservers = ["nats://ann:p%40ss@a:4222", "nats://b:4222"]').nats

    assert nats.servers == ("nats://a:4222", "nats://b:4222")
    assert nats.user == "ann"
    assert nats.password
    assert nats.password.reveal() == "p@ss"
    token = from_file('[nats]\nservers = ["nats://invented@a"]').nats.token
    assert token
    assert token.reveal() == "invented"


def test_two_ways_to_log_in_are_refused() -> None:
    assert "different ways to log in" in refusal('[nats]\ntoken = "t"\nuser = "u"\npassword = "p"')
    assert "carry different logins" in refusal('[nats]\nservers = ["nats://a:b@c", "nats://d:e@f"]')


def test_both_a_key_and_its_file_are_refused() -> None:
    Path("key").write_text("k")

    assert "needs either api_key or api_key_file; both are set" in refusal(SHOP + 'api_key_file = "key"')


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "does not exist"),
        (b"\n", "is empty"),
        (b"a\nb\n", "holds a line break"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_a_secret_file_that_holds_no_secret_is_refused_with_key_and_path(content: bytes | None, reason: str) -> None:
    if content is not None:
        Path("key").write_bytes(content)

    problem = refusal('[accounts.a]\nprovider = "etelecom"\napi_key_file = "key"')

    assert problem.startswith("accounts.a.api_key_file in given.toml: the file key ")
    assert reason in problem


def test_a_rotated_secret_file_is_read_again_and_a_vanished_one_keeps_its_value() -> None:
    key = Path("key")
    key.write_text("old\r\n")
    [shop] = from_file('[accounts.a]\nprovider = "etelecom"\napi_key_file = "key"').account_list()
    secret = shop.api_key

    assert secret.reload() is False
    key.write_text("new\n")
    assert secret.reload() is True
    key.unlink()
    assert secret.reload() is False

    assert secret.reveal() == "new"
    [text] = from_file(SHOP).account_list()
    assert text.api_key.reload() is False


def test_a_secret_is_shown_nowhere() -> None:
    Path("key").write_text("hidden-4711\n")
    settings = from_file(
        SHOP.replace("1234:invented", "hidden-4711")
        + '[nats]\nuser = "u"\npassword = "hidden-4711"\n'
        + '[accounts.f]\nprovider = "etelecom"\napi_key_file = "key"'
    )
    shop = settings.account_list()[0]
    shown = [
        repr(settings),
        str(settings),
        repr(shop),
        str(shop.api_key),
        f"{shop.api_key}",
        repr(asdict(shop)),
    ]
    shown += [settings.model_dump_json(), repr(settings.model_dump())]

    assert not [text for text in shown if "hidden-4711" in text]
    for secret in (shop.api_key, settings):
        with pytest.raises(TypeError, match="can't be pickled"):
            pickle.dumps(secret)


@pytest.mark.parametrize(
    "text",
    [
        "[accounts.a]\nprovider = 'etelecom'\napi_key = 4711000",
        "[accounts.a]\nprovider = 'etelecom'\napi_key = ['4711000']",
        "[accounts.a]\nprovider = 'etelecom'\napi_key = \"4711000\\n4711000\"",
        "[accounts.a]\nprovider = 'etelecom'\napi_key = 'k'\napi_secret = '4711000'",
        "[nats]\nservers = ['nats://u:4711000@[']",
        "[nats]\nservers = ['nats://u:4711000@\\u2100host']".replace("\\u2100", "\u2100"),
        "[nats]\ntoken = '4711000'\nuser = 'u'",
    ],
)
def test_a_refusal_shows_no_secret(text: str) -> None:
    assert "4711000" not in refusal(text)


def test_settings_can_not_be_changed_after_loading() -> None:
    settings = load(None, {})

    with pytest.raises(ValueError, match="frozen"):
        settings.worker.max_jobs = 3


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/"}, "http://collector:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://host/otlp"}, "https://host/otlp/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/own"}, "http://collector:4318/own"),
        ({"FOLLOWERS_WORKER__OTLP_ENDPOINT": "http://collector:4318"}, "http://collector:4318/v1/traces"),
        ({}, None),
    ],
)
def test_traces_go_where_our_setting_or_the_standard_variables_say(
    environ: dict[str, str], endpoint: str | None
) -> None:
    assert load(None, environ).worker.otlp_endpoint == endpoint


@pytest.mark.parametrize(
    "off",
    [
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
    ],
)
def test_the_standard_variables_can_also_say_that_there_are_no_traces_for_us(off: dict[str, str]) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"} | off

    assert load(None, environ).worker.otlp_endpoint is None
    ours = load(None, environ | {"FOLLOWERS_WORKER__OTLP_ENDPOINT": "http://mine:4318"})
    assert ours.worker.otlp_endpoint == "http://mine:4318/v1/traces"


def test_a_collector_that_is_none_is_refused_by_the_name_of_its_variable() -> None:
    line = refusal(environ={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://me:canary@collector"})

    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in line
    assert "OTEL_EXPORTER_OTLP_HEADERS" in line
    assert "canary" not in line


@pytest.mark.parametrize("key", ["page_token", "page_token_file"])
def test_the_pages_token_is_a_secret(tmp_path: Path, key: str) -> None:
    secret = "invented-token-of-the-page"
    (tmp_path / "token").write_text(f"{secret}\n")
    value = secret if key == "page_token" else str(tmp_path / "token")

    settings = Settings.model_validate({"worker": {key: value}})

    assert settings.worker.page_secret is not None
    assert settings.worker.page_secret.reveal() == secret
    assert secret not in repr(settings)
    assert Settings().worker.page_secret is None


def test_a_token_that_is_short_or_given_twice_is_refused() -> None:
    Path("token").write_text("invented-token-of-the-page")

    assert "at least 16 characters" in refusal('[worker]\npage_token = "short"')
    assert "keep one" in refusal('[worker]\npage_token = "invented-token-of-the-page"\npage_token_file = "token"')
