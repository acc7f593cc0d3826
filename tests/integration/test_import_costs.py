"""What starting a small part of the product loads; each in a fresh process."""

import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@functools.cache
def imported_by(module: str) -> set[str]:
    """Return the top-level names of all modules that importing this one brings in."""
    script = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
    )


@pytest.mark.parametrize("module", ["worker.core.account", "worker.embedded", "worker.logs"])
def test_pydantic_is_loaded_by_the_settings_only(module: str) -> None:
    assert "pydantic" not in imported_by(module)
    assert "pydantic" in imported_by("worker.settings")


@pytest.mark.parametrize("module", ["worker.settings", "worker.embedded", "worker.logs"])
def test_small_parts_do_not_load_the_large_libraries(module: str) -> None:
    assert not imported_by(module) & {"faststream", "nats", "aiohttp", "httpx", "typer"}


def test_tracing_is_loaded_only_where_traces_are_sent() -> None:
    # FastStream looks whether its empty namespace is there; what it costs is the SDK, protobuf and an HTTP client.
    script = "import sys, worker.app, worker.traces; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()

    assert not {name for name in loaded if name.startswith(("opentelemetry.sdk", "opentelemetry.trace", "google."))}
    assert not {"requests", "urllib3"} & set(loaded)


def test_cron_expressions_are_understood_only_where_a_schedule_has_one(tmp_path: Path) -> None:
    script = "import sys, worker.app, worker.settings; worker.settings.load(None); print('cronsim' in sys.modules)"
    (tmp_path / "followers.toml").write_text(
        '[accounts.shop]\nprovider = "etelecom"\napi_key = "1:x"\n'
        '[schedules.nightly]\ncron = "0 3 * * *"\nprovider = "etelecom"\noa_id = "1"\n'
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}

    loaded = [
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for folder in (tmp_path.parent, tmp_path)
    ]

    assert loaded == ["False", "True"]


def test_phone_numbers_of_the_world_are_known_only_where_one_comes_that_is_no_plain_mobile() -> None:
    shapes = ["0912000111", "84912000111", "+84912000111", "912000111", "01234567890", "0912 000 111", "12345"]
    script = (
        "import sys; from worker.providers.phone import phone; import worker.app\n"
        f"assert [phone(one)[0] is None for one in {shapes!r}] == [False] * 6 + [True]\n"
        "print('phonenumbers' in sys.modules, phone('+61 (0)412 345 678')[0], 'phonenumbers' in sys.modules)"
    )

    said = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()

    assert said == ["False", "+61412345678", "True"]
