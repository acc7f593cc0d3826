"""The only reader of environment and files: one frozen tree, made at start-up and passed down."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from worker.settings.errors import Origin, SettingsError, explain
from worker.settings.schedules import ScheduleSettings, schedule_problems
from worker.settings.secret import FileSecret, TextSecret
from worker.settings.sources import DEFAULT_FILE, environment_values, file_values, telemetry_values
from worker.settings.tree import (
    EmbeddedSettings,
    EsmsSettings,
    EtelecomSettings,
    LogSettings,
    NatsSettings,
    Settings,
    StreamSettings,
    WorkerSettings,
)

__all__ = [
    "EmbeddedSettings",
    "EsmsSettings",
    "EtelecomSettings",
    "FileSecret",
    "LogSettings",
    "NatsSettings",
    "ScheduleSettings",
    "Settings",
    "SettingsError",
    "StreamSettings",
    "TextSecret",
    "WorkerSettings",
    "load",
]


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of the file and the environment; the environment wins.

    ``path`` is the file (``--config``); without it the variable ``FOLLOWERS_CONFIG`` names it, and without
    that ``followers.toml`` in the working directory is read if it is there. ``environ`` replaces that of the
    process. Raises SettingsError with a line for every problem found.
    """
    environ = os.environ if environ is None else environ
    named = path or (Path(environ["FOLLOWERS_CONFIG"]) if environ.get("FOLLOWERS_CONFIG") else None)
    from_file = file_values(named)
    origin = Origin(file=str(named or DEFAULT_FILE), file_values=from_file)
    from_environment, problems = environment_values(environ, from_file, origin)
    try:
        settings = _merge(from_environment, from_file, telemetry_values(environ, origin))
    except ValidationError as error:
        raise SettingsError(*problems, *explain(error, origin)) from None  # its cause may hold a secret
    problems += schedule_problems(settings, origin)
    if problems:
        raise SettingsError(*problems)
    return settings


def _merge(*sources: dict[str, Any]) -> Settings:
    class Sourced(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *args: Any, **kwargs: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return tuple(InitSettingsSource(settings_cls, values) for values in sources)

    merged = Sourced()
    return Settings.model_construct(**{name: getattr(merged, name) for name in Settings.model_fields})
