"""How long nothing useful may come before a sync ends. Pure: the time is an argument."""

from __future__ import annotations

PATIENCE = 60.0
"""Seconds without a useful answer from anyone before the sync ends: peers serve a state for 128 blocks, 25 minutes,
so a minute of nothing but empty answers means that it is gone."""


class Patience:
    """Runs out after `seconds` without anything useful. Times are in seconds of one clock.

    Time in which nobody is there who could be asked, but may still be found, is excused: a network that is away for
    an hour says nothing of what its nodes serve. If it was away for so long that patience would have run out, all of
    it is left when the first ones come back: what came before says nothing either.
    """

    def __init__(self, seconds: float, now: float) -> None:
        self.seconds = seconds
        self._since = self._looked = now
        self._excused = False

    def renew(self, now: float) -> None:
        """Something useful came: all of it is left again."""
        self._since = self._looked = now

    def look(self, now: float, *, excused: bool) -> float:
        """When it ends if nothing changes, perhaps in the past; infinity if the time from now on is excused.

        Must be called whenever `excused` changes.
        """
        if self._excused:
            away = now - self._looked
            self._since = now if away >= self.seconds else self._since + away
        self._looked, self._excused = now, excused
        return float("inf") if excused else self._since + self.seconds
