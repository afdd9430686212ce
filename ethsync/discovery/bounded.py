"""Memory that strangers fill, with a bound: the least recently used entry makes room, and rates are counted per key."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class LRU(Generic[K, V]):
    """A mapping of at most `capacity` entries. Reading and writing an entry makes it the most recently used."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def get(self, key: K) -> V | None:
        """The value, or None."""
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Set a value; the least recently used entry goes if there are too many."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self.capacity:
            self._entries.popitem(last=False)

    def items(self) -> list[tuple[K, V]]:
        """All entries, the least recently used first."""
        return list(self._entries.items())

    def pop(self, key: K) -> V | None:
        """Remove and return a value, or None."""
        return self._entries.pop(key, None)


class Outbox(Generic[V]):
    """What waits to be taken, in order. What strangers cause may wait while there are fewer than `capacity` things."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting: list[V] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, thing: V) -> None:
        """Add what was asked for: there is no more of it than was asked."""
        self._waiting.append(thing)

    def offer(self, thing: V) -> bool:
        """Add something if there is room. Returns whether there was."""
        if len(self._waiting) >= self._capacity:
            return False
        self._waiting.append(thing)
        return True

    def take(self) -> list[V]:
        """All of it, once."""
        taken, self._waiting = self._waiting, []
        return taken


class TokenBucket:
    """Allows `rate` events per second on average and up to `burst` at once. Times are in seconds."""

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._at = float("-inf")

    def ready(self, now: float) -> bool:
        """Whether there is a token."""
        self._tokens = min(self.burst, self._tokens + max(0.0, now - self._at) * self.rate)
        self._at = max(now, self._at)
        return self._tokens >= 1

    def take(self, now: float) -> bool:
        """Use one token if there is one."""
        if not self.ready(now):
            return False
        self._tokens -= 1
        return True


class RateLimiter(Generic[K]):
    """A token bucket per key, for the `capacity` keys that were seen last."""

    def __init__(self, rate: float, burst: float, capacity: int) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: LRU[K, TokenBucket] = LRU(capacity)

    def __len__(self) -> int:
        return len(self._buckets)

    def allow(self, key: K, now: float) -> bool:
        """Whether one more event of this key may happen now; if so it is counted."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = TokenBucket(self._rate, self._burst)
            self._buckets.put(key, bucket)
        return bucket.take(now)
