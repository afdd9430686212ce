"""Who has to go when there are too many candidates: of the source that brought most, one of the worst."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ethsync.discovery.candidate import Candidate, Lane, Quality, Source, State
from ethsync.discovery.turns import RandomSet

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

EXPENDABLE = (Quality.USELESS, Quality.SILENT, Quality.NEW, Quality.LIVE)
"""Who may be dropped, the worst first. Proven nodes and those that the user named are kept."""

SAMPLE = 8
"""Candidates looked at for the worst among them; of a flood from few subnets nearly every sample holds several."""


class Shelves:
    """Candidates that may be dropped, by source and quality. Everything takes constant time."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._shelves: dict[Lane, RandomSet[Candidate]] = {}
        self._sizes: Counter[Source] = Counter()

    def put(self, candidate: Candidate) -> None:
        """Note what a candidate is now. One that is being dialled, connected or of proven use is safe."""
        self.remove(candidate)
        busy = candidate.state in (State.DIALLING, State.CONNECTED)
        quality = candidate.quality
        if quality in EXPENDABLE and not busy:
            shelf = candidate.shelf = quality, candidate.source
            self._shelves.setdefault(shelf, RandomSet()).add(candidate)
            self._sizes[candidate.source] += 1

    def remove(self, candidate: Candidate) -> None:
        """Forget it, if it is known."""
        shelf, candidate.shelf = candidate.shelf, None
        if shelf is not None:
            self._shelves[shelf].discard(candidate)
            self._sizes[shelf[1]] -= 1

    def worst(self, population: Callable[[Candidate], int]) -> Candidate | None:
        """Somebody of the source that brought most: of its worst quality, with most failures, from the fullest subnet.

        `population` says how many candidates there are around one. None if nobody may be dropped.
        """
        for source, _ in self._sizes.most_common():
            for quality in EXPENDABLE:
                shelf = self._shelves.get((quality, source))
                if shelf:
                    drawn = (shelf.draw(self._rng) for _ in range(SAMPLE))
                    return max(drawn, key=lambda one: (one.failures, population(one)))
        return None
