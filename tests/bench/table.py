"""Figures with their targets: as Markdown, as JSON, and between the marks in the README."""

import datetime
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

START, END = "<!-- bench: start -->", "<!-- bench: end -->"


class Figure(msgspec.Struct, kw_only=True):
    """One row of the table."""

    key: str
    measure: str
    value: float
    low: float
    high: float
    """The lowest and highest of the single runs."""
    sense: Literal["at most", "at least"]
    target: float
    unit: str = ""
    samples: dict[str, list[float]] = {}
    """What was measured, in seconds, bytes or as the row says."""

    @property
    def met(self) -> bool:
        """Whether the figure is as good as it must be."""
        return self.value <= self.target if self.sense == "at most" else self.value >= self.target


def ratio(key: str, measure: str, over: Sequence[float], under: Sequence[float], **rest: Any) -> Figure:
    """Return the ratio of two medians; runs of both were made in turn, so a pair gives the lowest and highest."""
    pairs = [one / other for one, other in zip(over, under, strict=True)]
    return Figure(
        key=key,
        measure=measure,
        value=statistics.median(over) / statistics.median(under),
        low=min(pairs),
        high=max(pairs),
        samples={"over": list(over), "under": list(under)},
        **rest,
    )


def median(key: str, measure: str, values: Sequence[float], **rest: Any) -> Figure:
    """Return the median of `values`."""
    return Figure(
        key=key,
        measure=measure,
        value=statistics.median(values),
        low=min(values),
        high=max(values),
        samples={"values": list(values)},
        **rest,
    )


def markdown(figures: Sequence[Figure], notes: Sequence[str]) -> str:
    """Return the table, and under it how it came about."""
    lines = ["| measure | target | median | lowest – highest | |", "| --- | --: | --: | --: | :-: |"]
    for figure in figures:
        sign = "≤" if figure.sense == "at most" else "≥"
        unit = f" {figure.unit}" if figure.unit else ""
        lines.append(
            f"| {figure.measure} | {sign} {_text(figure.target)}{unit} | {_text(figure.value)}{unit} "
            f"| {_text(figure.low)} – {_text(figure.high)} | {'✓' if figure.met else '✗'} |"
        )
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)])


def machine() -> str:
    """Return what kind of machine this is."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    name = models[0] if models else platform.processor() or platform.machine()
    today = datetime.datetime.now(datetime.UTC).date()
    return f"{today}, {os.cpu_count()} cores of {name}, {platform.system()}, Python {platform.python_version()}"


def as_json(figures: Sequence[Figure], notes: Sequence[str]) -> bytes:
    """Return everything that was measured."""
    rows = [msgspec.to_builtins(figure) | {"met": figure.met} for figure in figures]
    return msgspec.json.format(msgspec.json.encode({"machine": machine(), "figures": rows, "notes": notes})) + b"\n"


def write_into(path: Path, table: str) -> None:
    """Put the table between the marks. Raises ValueError when they are missing."""
    text = path.read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"{path} has no {START} … {END}")
    path.write_text(f"{before}{START}\n{table}\n{END}{after}", encoding="utf-8")


def _text(number: float) -> str:
    if number == 0:
        return "0"
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
