"""Small JSON files that are kept between runs: replaced whole, and set aside if they turn out damaged.

What is in them only saves time. So nothing here raises: a disk that is full costs the file, not the sync.
"""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

LARGEST = 32 << 20
"""Bytes of a file that is read at all: ten times what any of ours has."""

_log = logging.getLogger(__name__)


def write_json(path: Path, document: dict[str, Any]) -> bool:
    """Replace a file in one step, durably. Returns whether that worked; a warning says why not."""
    try:
        replace_text(path, json.dumps(document, separators=(",", ":"), allow_nan=False))
    except OSError as error:
        _log.warning("%s could not be written: %s", path, error.strerror)
        return False
    return True


def replace_text(path: Path, text: str) -> None:
    """Replace a file in one step, durably. Raises OSError; then the old file is still there."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_json(path: Path, version: int) -> dict[str, Any] | None:
    """Return a file's content, if there is one of that version. Anything else is set aside with a warning."""
    try:
        if path.stat().st_size > LARGEST:
            set_aside(path, "it is too large")
            return None
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("%s could not be read: %s", path, error.strerror)
        return None
    except (ValueError, RecursionError) as error:
        set_aside(path, f"it is damaged: {error}")
        return None
    if not isinstance(document, dict) or document.get("version") != version:
        set_aside(path, f"it is not of version {version}")
        return None
    return document


def set_aside(path: Path, why: str) -> None:
    """Rename a file that is of no use, so that somebody can look at it; the one set aside before is lost."""
    aside = path.with_name(f"{path.name}.damaged")
    try:
        os.replace(path, aside)
    except OSError as error:
        _log.warning("%s is ignored: %s; it could not be set aside: %s", path, why, error.strerror)
    else:
        _log.warning("%s is ignored and now called %s: %s", path, aside.name, why)
