"""Where things are kept when nobody says where (XDG Base Directory Specification)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ethsync.serve.spec import SyntheticSpec


def _base(variable: str, fallback: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / fallback) / "ethsync"


def cache_directory() -> Path:
    """What can be made again: compiled kernels, the state of the demo."""
    return _base("XDG_CACHE_HOME", ".cache")


def synthetic_datadir(spec: SyntheticSpec) -> Path:
    """Where the synthetic state of a spec is kept."""
    return cache_directory() / f"synthetic-{str(spec).replace('=', '').replace(',', '-')}"


def default_datadir(network: str) -> Path:
    """The data directory of a network."""
    return _base("XDG_DATA_HOME", ".local/share") / re.sub(r"[^A-Za-z0-9._-]+", "-", Path(network).stem)
