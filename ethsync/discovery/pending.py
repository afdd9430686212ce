"""Requests that wait for something: bounded in number, found by whom they were sent to, and ended by their deadline."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

PlaceT = TypeVar("PlaceT")
PlaceT_co = TypeVar("PlaceT_co", covariant=True)
CallT = TypeVar("CallT", bound="Waiting[Any]")


class Waiting(Protocol[PlaceT_co]):
    """A request. `token` is its own; `deadline` (seconds, infinity for none) is set by `Pending.wait_until` alone."""

    token: int
    deadline: float

    @property
    def place(self) -> PlaceT_co:
        """Whom it is sent to, as far as that protocol tells nodes apart."""
        ...


class Pending(Generic[CallT, PlaceT]):
    """The calls in flight: by token, by place, and by deadline."""

    def __init__(self, most: int, most_per_place: int) -> None:
        self._most = most
        self._most_per_place = most_per_place
        self._by_token: dict[int, CallT] = {}
        self._by_place: dict[PlaceT, list[CallT]] = {}
        self._deadlines: list[tuple[float, int]] = []
        """A heap. A call that was removed or waits for something else leaves its old entry, which counts no more."""

    def __len__(self) -> int:
        return len(self._by_token)

    def has_room(self, place: PlaceT) -> bool:
        """Whether one more may be made there."""
        return len(self._by_token) < self._most and len(self.at(place)) < self._most_per_place

    def add(self, call: CallT) -> None:
        """One more; it has no deadline yet."""
        self._by_token[call.token] = call
        self._by_place.setdefault(call.place, []).append(call)

    def remove(self, call: CallT) -> None:
        """It is over."""
        del self._by_token[call.token]
        rest = self._by_place[call.place]
        rest.remove(call)
        if not rest:
            del self._by_place[call.place]

    def at(self, place: PlaceT) -> tuple[CallT, ...]:
        """All calls to a place, oldest first."""
        return tuple(self._by_place.get(place, ()))

    def wait_until(self, call: CallT, deadline: float) -> None:
        """The call waits until then for whatever it waits for; with infinity, until another call ends."""
        call.deadline = deadline
        if deadline < float("inf"):
            heapq.heappush(self._deadlines, (deadline, call.token))

    @property
    def deadline(self) -> float:
        """When the first of them is due, infinity if none is."""
        while self._deadlines:
            at, token = self._deadlines[0]
            call = self._by_token.get(token)
            if call is not None and call.deadline == at:
                return at
            heapq.heappop(self._deadlines)
        return float("inf")

    def due(self, now: float) -> Iterator[CallT]:
        """The calls whose time is up. Each must be removed or wait for something else before the next one is taken."""
        while self.deadline <= now:
            yield self._by_token[self._deadlines[0][1]]
