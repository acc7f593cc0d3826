"""Bodies of bounded size, decompressed in bounded steps."""

import zlib
from collections.abc import Iterator

from worker.core.errors import BadResponseError, ProviderUnavailableError

_STEP = 64 * 1024
_PIECE = 1024
"""Bytes of gzip, which inflate to a megabyte at most."""
_GZIP = 16 + zlib.MAX_WBITS


class Inflater:
    """Collects one response body. What it holds never exceeds its limit by more than one chunk."""

    def __init__(self, encoding: str, limit: int, host: str) -> None:
        """`encoding`: the `Content-Encoding`; `limit`: bytes, sent or decompressed; `host`: whose it is.

        Raises ProviderUnavailableError for an encoding that was not asked for.
        """
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise ProviderUnavailableError(
                f"{host} answered with a Content-Encoding that was not asked for; it is tried again later"
            )
        self._limit = limit
        self._host = host
        self._sent = 0
        self._size = 0
        self._parts: list[bytes] = []
        self.inflates = encoding not in ("", "identity")
        """What comes is gzip."""
        self._zip = zlib.decompressobj(_GZIP) if self.inflates else None

    @property
    def held(self) -> int:
        """Bytes held."""
        return self._sent if self._zip is None else self._size

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Cut `chunk` so that feeding one piece makes `held` grow by a megabyte at most."""
        if self._zip is None or len(chunk) <= _PIECE:
            yield chunk
            return
        for start in range(0, len(chunk), _PIECE):
            yield chunk[start : start + _PIECE]

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes as sent. Raises BadResponseError (too many), ProviderUnavailableError (no gzip)."""
        self._sent += len(chunk)
        if self._sent > self._limit:
            raise self._too_big()
        if self._zip is None:
            self._parts.append(chunk)
            return
        try:
            self._inflate(chunk)
        except zlib.error as error:
            raise ProviderUnavailableError(
                f"{self._host} answered with broken gzip; it is tried again later"
            ) from error

    def finish(self) -> bytes:
        """Return the whole body. Raises ProviderUnavailableError when the gzip ends too early."""
        if self._zip is not None and self._sent and not self._zip.eof:
            raise ProviderUnavailableError(
                f"{self._host} answered with gzip that was cut short; it is tried again later"
            )
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def _inflate(self, data: bytes) -> None:
        assert self._zip is not None
        while data:
            if self._zip.eof:  # gzip may consist of several members
                self._zip = zlib.decompressobj(_GZIP)
            part = self._zip.decompress(data, _STEP)
            self._size += len(part)
            if self._size > self._limit:
                raise self._too_big()
            self._parts.append(part)
            data = self._zip.unused_data if self._zip.eof else self._zip.unconsumed_tail

    def _too_big(self) -> BadResponseError:
        # The error's traceback would keep them for as long as somebody keeps the error.
        self._parts.clear()
        return BadResponseError(
            f"the answer of {self._host} is larger than {self._limit} bytes: ask for fewer rows with "
            "page_size, or raise max_response_bytes"
        )
