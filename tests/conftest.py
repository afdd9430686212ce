"""What makes tests quick that start many processes and open many data directories."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

MEMORY = Path("/dev/shm")
"""A file system in memory on any Linux. A new data directory forces dozens of small files to the disk, which is nearly
all the time that it takes; here that takes none."""

ROOM = 1 << 30
"""Bytes that must be free there: ten times what tests hold at once. Containers have 64 MB unless told otherwise."""


def _is_roomy(place: Path) -> bool:
    """Whether files can be written there, and run: containers often forbid that."""
    if not os.access(place, os.W_OK):
        return False
    return not os.statvfs(place).f_flag & os.ST_NOEXEC and shutil.disk_usage(place).free > ROOM


if _is_roomy(MEMORY):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))  # pytest's way to say where `tmp_path` is to be

# A process starts in two thirds of the time if it finds its modules compiled, whatever the environment says about that.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
