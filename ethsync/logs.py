"""Setting up the standard library's logging: lines for people or JSON lines, in one place."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from enum import Enum
from typing import IO, TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping

LEVELS = ("debug", "info", "warning", "error")
"""What `--log-level` takes."""


class LogFormat(Enum):
    """What `--log-format` takes."""

    TEXT = "text"
    JSON = "json"


def configure_logging(log_format: LogFormat, level: str, *, stream: TextIO | None = None) -> None:
    """Send the records of ethsync from `level` on, and warnings of other packages, to `stream` (stderr unless given).

    Replaces what an earlier call has set up. Without a `stream`, `sys.stderr` is looked up for every line, so that
    lines appear above a live view instead of in the middle of it. Raises KeyError on a level that is not in `LEVELS`.
    """
    number = {name: getattr(logging, name.upper()) for name in LEVELS}[level]
    handler = LineHandler(stream)
    handler.setFormatter(TextLines() if log_format is LogFormat.TEXT else JsonLines())
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, LineHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    # Others stay at warnings: at debug level numba alone would write millions of lines.
    root.setLevel(logging.WARNING)
    logging.getLogger("ethsync").setLevel(number)


def write_line(stream: IO[str], line: str) -> None:
    """Write a line at once; what the stream's encoding lacks becomes a question mark. Raises OSError."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(line.encode(encoding, "replace").decode(encoding) + "\n")
    stream.flush()


class LineHandler(logging.Handler):
    """Writes each record as one line (or, with a traceback as text, as several)."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record. A stream that fails (closed pipe, full disk) loses the line and ends nothing."""
        line = self.format(record) + "\n"
        stream = sys.stderr if self._stream is None else self._stream
        try:
            stream.write(line)
            stream.flush()
        except (OSError, ValueError):
            return


class TextLines(logging.Formatter):
    """`2026-01-31 12:00:00Z warning ethsync.peers: message`, with nothing in the message that moves a cursor."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; messages may quote what strangers sent, hence no control characters."""
        at = datetime.fromtimestamp(record.created, UTC)
        message = "".join(letter if letter.isprintable() else "?" for letter in record.getMessage())
        line = f"{at:%Y-%m-%d %H:%M:%S}Z {record.levelname.lower()} {record.name}: {message}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """One JSON object a line; `extra={"fields": {...}}` of a record is merged into it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: dict[str, Any] = dict(getattr(record, "fields", {}))
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json_line(record.created, record.levelname.lower(), record.name, record.getMessage(), fields)


def json_line(at: float, level: str, logger: str, message: str, fields: Mapping[str, Any]) -> str:
    """Return one JSON line; `at` is in seconds since 1970, values that JSON lacks are written as text."""
    time = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({**fields, "time": time, "level": level, "logger": logger, "message": message}, default=str)
