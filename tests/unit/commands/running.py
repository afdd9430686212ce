"""What the fixture `run` is."""

from __future__ import annotations

from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]
"""Takes arguments; returns exit code, standard output, standard error."""
