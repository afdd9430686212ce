"""A bell that wakes one waiting task: whoever changes anything rings, and the waiter looks at everything anew."""

from __future__ import annotations

import trio


class Changes:
    """Rings are never lost: take `next()` before looking, look, then wait for it."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def next(self) -> trio.Event:
        """The event that the next ring sets."""
        return self._event

    def ring(self) -> None:
        """Something changed."""
        event, self._event = self._event, trio.Event()
        event.set()
