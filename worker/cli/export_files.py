"""A list of followers as a file: JSON lines, CSV, Parquet or DuckDB, written page by page in flat memory."""

import contextlib
import csv
import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import msgspec

from schemas.events import FollowerPage
from schemas.follower import Follower, SharedInfo
from schemas.wire import rfc3339
from worker.cli.console import USAGE, Stop
from worker.cli.export_target import Sink

Format = Literal["jsonl", "csv", "parquet", "duckdb"]

ENDINGS: Mapping[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".duckdb": "duckdb",
}
ORIGIN = ("provider", "oa_id", "job_id", "page", "fetched_at")
"""Columns before those of the follower: its id is scoped to the OA, and lists may be put together."""
TABLE = "followers"
"""In a DuckDB file."""

_FIELDS = Follower.__struct_fields__
_TIMES = ("fetched_at", "created_at", "updated_at")
_LISTS = ("tags", "notes")
_CHUNK = 2_000
"""Rows that are Python objects at a time."""
_GROUP = 65_536
"""Rows of a Parquet row group, and of an insert."""
_NEEDS: Mapping[Format, Sequence[str]] = {"parquet": ("pyarrow",), "duckdb": ("pyarrow", "duckdb")}


class Writer(Protocol):
    """A file that is being written."""

    def add(self, page: FollowerPage) -> None:
        """Append the page's followers. Raises OSError."""
        ...

    def close(self) -> None:
        """Finish the file. Raises OSError."""
        ...

    def abandon(self) -> None:
        """Let go of the file, whose content no longer matters."""
        ...


def check_installed(format: Format) -> None:
    """Raise Stop when a library that `format` needs isn't there."""
    for name in _NEEDS.get(format, ()):
        try:
            importlib.import_module(name)
        except ImportError as error:
            needs = " ".join(_NEEDS[format])
            raise Stop(
                f"{format} needs {name}, which isn't installed: pip install {needs} (the extra `export`),"
                " or write .jsonl or .csv",
                code=USAGE,
            ) from error


def open_writer(format: Format, place: Path | Sink) -> Writer:
    """Return a writer of a new file at `place`, or onto what takes JSON lines and CSV as they come. Raises OSError."""
    if format in ("jsonl", "csv"):
        file = place.open("wb") if isinstance(place, Path) else None
        sink = file or place
        return _JsonLines(sink, file) if format == "jsonl" else _Csv(sink, file)
    assert isinstance(place, Path), "the other formats go back and forth in their file"
    return _Parquet(place) if format == "parquet" else _DuckDB(place)


class _Lines:
    """Bytes that go to `sink`; `file` is the same where it is ours to close."""

    def __init__(self, sink: Any, file: BinaryIO | None) -> None:
        self._sink = sink
        self._file = file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def abandon(self) -> None:
        with contextlib.suppress(OSError):
            self.close()


class _JsonLines(_Lines):
    def __init__(self, sink: Any, file: BinaryIO | None) -> None:
        super().__init__(sink, file)
        self._encoder = msgspec.json.Encoder()

    def add(self, page: FollowerPage) -> None:
        head = self._encoder.encode(_origin(page))[:-1] + b","
        for follower in page.followers:
            self._sink.write(head + self._encoder.encode(follower)[1:] + b"\n")


class _Csv(_Lines):
    """RFC 4180, UTF-8; what is a list or has parts is JSON in its cell, what isn't said is empty."""

    def __init__(self, sink: Any, file: BinaryIO | None) -> None:
        super().__init__(sink, file)
        self._writer = csv.writer(self)
        self._writer.writerow((*ORIGIN, *_FIELDS))

    def write(self, row: str) -> int:
        """Take a row as `csv` writes it."""
        written: int = self._sink.write(row.encode())
        return written

    def add(self, page: FollowerPage) -> None:
        origin = tuple(_origin(page).values())
        for follower in page.followers:
            said = msgspec.to_builtins(follower)
            self._writer.writerow((*origin, *(_cell(said.get(name)) for name in _FIELDS)))


class _Arrow:
    """Rows gathered into tables of `_GROUP` rows."""

    def __init__(self) -> None:
        import pyarrow

        self._arrow: Any = pyarrow
        self.schema = _schema(pyarrow)
        self._rows: list[tuple[FollowerPage, Follower]] = []
        self._batches: list[Any] = []
        self._size = 0

    def add(self, page: FollowerPage) -> None:
        self._rows += [(page, follower) for follower in page.followers]
        while len(self._rows) >= _CHUNK:
            self._gather(self._rows[:_CHUNK])
            del self._rows[:_CHUNK]
        if self._size >= _GROUP:
            self._flush()

    def finish(self) -> None:
        """Write what is left."""
        if self._rows:
            self._gather(self._rows)
            self._rows = []
        self._flush()

    def write(self, table: Any) -> None:
        """Append a table to the file."""
        raise NotImplementedError

    def _gather(self, rows: Sequence[tuple[FollowerPage, Follower]]) -> None:
        pages = [page for page, _ in rows]
        followers = [follower for _, follower in rows]
        columns = [self._arrow.array(_column(field.name, pages, followers), type=field.type) for field in self.schema]
        self._batches.append(self._arrow.RecordBatch.from_arrays(columns, schema=self.schema))
        self._size += len(rows)

    def _flush(self) -> None:
        if self._batches:
            self.write(self._arrow.Table.from_batches(self._batches, schema=self.schema))
        self._batches, self._size = [], 0


class _Parquet(_Arrow):
    def __init__(self, path: Path) -> None:
        super().__init__()
        from pyarrow.parquet import ParquetWriter

        self._writer = ParquetWriter(path, self.schema, compression="zstd")

    def write(self, table: Any) -> None:
        self._writer.write_table(table, row_group_size=_GROUP)

    def close(self) -> None:
        self.finish()
        self._writer.close()

    def abandon(self) -> None:
        with contextlib.suppress(OSError):
            self._writer.close()


class _DuckDB(_Arrow):
    def __init__(self, path: Path) -> None:
        super().__init__()
        import duckdb

        with _as_os_error():
            self._database = duckdb.connect(str(path), config={"memory_limit": "192MB", "threads": 1})
            try:
                self._insert(f"CREATE TABLE {TABLE} AS SELECT * FROM rows", self.schema.empty_table())
            except duckdb.Error:
                self.abandon()
                raise

    def write(self, table: Any) -> None:
        with _as_os_error():
            self._insert(f"INSERT INTO {TABLE} SELECT * FROM rows", table)

    def close(self) -> None:
        self.finish()
        with _as_os_error():
            self._database.close()

    def abandon(self) -> None:
        with contextlib.suppress(OSError), _as_os_error():
            self._database.close()

    def _insert(self, statement: str, table: Any) -> None:
        self._database.register("rows", table)
        self._database.execute(statement)
        self._database.unregister("rows")


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        raise OSError(str(error)) from error


def _origin(page: FollowerPage) -> dict[str, Any]:
    said = (page.provider, page.oa_id, page.job_id, page.page, rfc3339(page.fetched_at))
    return dict(zip(ORIGIN, said, strict=True))


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return msgspec.json.encode(value).decode() if isinstance(value, (dict, list)) else value


def _column(name: str, pages: Sequence[FollowerPage], followers: Sequence[Follower]) -> list[Any]:
    if name in ORIGIN:
        return [getattr(page, name) for page in pages]
    values = [getattr(follower, name) for follower in followers]
    if name == "shared_info":
        return [value and msgspec.structs.asdict(value) for value in values]
    return [list(value.items()) for value in values] if name == "avatars" else values


def _schema(arrow: Any) -> Any:
    text = arrow.string()
    kinds = {
        "page": arrow.int64(),
        "avatars": arrow.map_(text, text),
        "shared_info": arrow.struct([(name, text) for name in SharedInfo.__struct_fields__]),
        "has_conversation": arrow.bool_(),
        **dict.fromkeys(_TIMES, arrow.timestamp("us", tz="UTC")),
        **dict.fromkeys(_LISTS, arrow.list_(text)),
    }
    required = {*ORIGIN, "user_id"}
    return arrow.schema(
        [arrow.field(name, kinds.get(name, text), nullable=name not in required) for name in (*ORIGIN, *_FIELDS)]
    )
