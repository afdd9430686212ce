"""Logging: lines for people or JSON lines."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from ethsync.logs import LineHandler, LogFormat, configure_logging

logger = logging.getLogger("ethsync.peers")


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    """Leave logging as it was."""
    root, own = logging.getLogger(), logging.getLogger("ethsync")
    before = list(root.handlers), root.level, own.level
    yield
    root.handlers[:], root.level, own.level = before
    root.setLevel(before[1])
    own.setLevel(before[2])


def at(record: logging.LogRecord, seconds: float) -> logging.LogRecord:
    record.created = seconds
    return record


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logger.makeRecord(logger.name, logging.WARNING, "file", 1, message, ("127.0.0.1",), None, extra=extra)
    return at(made, 1_700_000_000.25)


def test_lines_for_people() -> None:
    stream = io.StringIO()
    configure_logging(LogFormat.TEXT, "info", stream=stream)
    logger.handle(record("peer %s dropped: \x1b[2J\nevil"))
    assert stream.getvalue() == "2023-11-14 22:13:20Z warning ethsync.peers: peer 127.0.0.1 dropped: ?[2J?evil\n"


def test_lines_for_programs() -> None:
    stream = io.StringIO()
    configure_logging(LogFormat.JSON, "info", stream=stream)
    logger.handle(record("peer %s\ndropped", fields={"peer": "abc", "hash": b"\x01"}))
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line) == {
        "peer": "abc",
        "hash": "b'\\x01'",
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "logger": "ethsync.peers",
        "message": "peer 127.0.0.1\ndropped",
    }


def test_errors_carry_their_traceback() -> None:
    text, lines = io.StringIO(), io.StringIO()
    for log_format, stream in ((LogFormat.TEXT, text), (LogFormat.JSON, lines)):
        configure_logging(log_format, "info", stream=stream)
        try:
            raise OSError("disk on fire")
        except OSError:
            logger.exception("stopped")
    assert text.getvalue().endswith("OSError: disk on fire\n")
    assert json.loads(lines.getvalue())["exception"].endswith("OSError: disk on fire")


def test_levels_are_for_our_own_records() -> None:
    """Given debug level, then other packages still only warn."""
    stream = io.StringIO()
    configure_logging(LogFormat.TEXT, "debug", stream=stream)
    logger.debug("ours")
    logging.getLogger("numba.core").debug("theirs")
    logging.getLogger("numba.core").warning("their warning")
    assert [line.partition(": ")[2] for line in stream.getvalue().splitlines()] == ["ours", "their warning"]
    configure_logging(LogFormat.TEXT, "error", stream=stream)
    logger.warning("not shown")
    assert "not shown" not in stream.getvalue()


def test_a_second_set_up_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging(LogFormat.TEXT, "info", stream=first)
    configure_logging(LogFormat.TEXT, "info", stream=second)
    logger.info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1
    assert len([h for h in logging.getLogger().handlers if isinstance(h, LineHandler)]) == 1


def test_stderr_is_looked_up_for_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a live view that takes over stderr after logging was set up, then lines go through it."""
    configure_logging(LogFormat.TEXT, "info")
    taken_over = io.StringIO()
    monkeypatch.setattr(sys, "stderr", taken_over)
    logger.info("above the view")
    assert "above the view" in taken_over.getvalue()


def test_a_closed_stream_loses_lines_and_nothing_else() -> None:
    stream = io.StringIO()
    configure_logging(LogFormat.TEXT, "info", stream=stream)
    stream.close()
    logger.info("nobody hears this")


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(KeyError):
        configure_logging(LogFormat.TEXT, "loud")
