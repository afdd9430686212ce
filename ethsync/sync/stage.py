"""What the pipeline expects of a stage: say how much work is ready, hand it out, take the answers.

Everything but `process` is synchronous and runs on the event loop. A job is out until `process` or `give_back` ends it.
An answer may come later still: `process` then uses what nobody else has brought in the meantime, and drops the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from ethsync.counters import Counters
    from ethsync.peers.peer import Request
    from ethsync.peers.track import Outcome, RequestKind


class Job(Protocol):
    """One request to be made."""

    def make(self, request_id: int) -> Request:
        """The request's message."""
        ...


JobT = TypeVar("JobT", bound=Job)


class Stage(Protocol[JobT]):
    """One stage of the download."""

    @property
    def kind(self) -> RequestKind:
        """The kind of request it makes."""
        ...

    @property
    def counters(self) -> Counters:
        """What people see of it."""
        ...

    @property
    def done(self) -> bool:
        """Whether nothing is left to do, as far as this stage knows."""
        ...

    @property
    def missing(self) -> str:
        """What has not come yet, in words; empty if that is nothing, or if another stage says it."""
        ...

    def ready(self) -> int:
        """How many requests could be made now."""
        ...

    def take(self, budget: int) -> JobT:
        """Take work for a request whose reply is to have about `budget` bytes. Only called while `ready()` > 0."""
        ...

    def give_back(self, job: JobT) -> None:
        """Nothing came of a job: what nobody else brings must be asked for again."""
        ...

    async def process(self, job: JobT, payload: bytes) -> Outcome:
        """Prove and keep a reply; return SERVED, EMPTY, or DUPLICATE if others had brought all of it.

        Raises MalformedMessage or Disproved; the job has then been given back.
        """
        ...
