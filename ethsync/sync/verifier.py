"""Running the final verification over all cores, with progress and one verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ethsync.errors import VerificationFailed
from ethsync.store.schema import FACT_DEPTH
from ethsync.sync.debts import open_debts
from ethsync.sync.held_codes import PARTS, HeldCodes
from ethsync.sync.verify import CheckedSpan, Disk, Findings, Span, check_codes, check_span, spans, upper_root

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethsync.arrays import Bytes
    from ethsync.store.datadir import Datadir

SPANS = 16
"""Parts of the key space checked one after another by as many threads as there are cores; one if a page covers all."""


class _Shares:
    """How far each part is; a part is one thread's."""

    def __init__(self, weights: list[float], report: Callable[[float], None]) -> None:
        self._weights = [weight / sum(weights) for weight in weights]
        self._done = [0.0] * len(weights)
        self._report = report

    def advance(self, part: int) -> Callable[[float], None]:
        """A function by which a thread tells how far its part is."""

        def tell(share: float) -> None:
            self._done[part] = share * self._weights[part]
            self._report(sum(self._done))

        return tell


async def verify(
    datadir: Datadir, state_root: bytes, limiter: trio.CapacityLimiter, report: Callable[[float], None]
) -> Findings:
    """Check everything that is stored against a state root. `report` is called with the share done, from threads.

    Returns the totals; its `problems` are empty if the state is complete and right. Raises DatadirDamaged.
    """
    depth = datadir.accounts.get(FACT_DEPTH)
    parts = spans(SPANS if depth is not None and depth > b"\0" else 1)
    disk = Disk(datadir, trio.from_thread.check_cancelled)
    shares = _Shares([1.0] * len(parts) + [1 / PARTS] * PARTS, report)  # codes as much as one span
    codes: dict[int, tuple[Findings, Bytes]] = {}
    checked: dict[int, CheckedSpan] = {}

    async def check_code_part(number: int) -> None:
        tell = shares.advance(len(parts) + number)
        codes[number] = await trio.to_thread.run_sync(check_codes, disk, number, tell, limiter=limiter)

    async def check_part(number: int, span: Span) -> None:
        tell = shares.advance(number)
        checked[number] = await trio.to_thread.run_sync(check_span, disk, span, held, tell, limiter=limiter)

    async with trio.open_nursery() as nursery:
        for number in range(PARTS):
            nursery.start_soon(check_code_part, number)
    held = HeldCodes([codes[number][1] for number in range(PARTS)])
    async with trio.open_nursery() as nursery:
        for number, span in enumerate(parts):
            nursery.start_soon(check_part, number, span)
    total = Findings()
    for number in range(PARTS):
        total.add(codes[number][0])
    return await trio.to_thread.run_sync(_conclude, datadir, state_root, checked, total, limiter=limiter)


def _conclude(datadir: Datadir, state_root: bytes, checked: dict[int, CheckedSpan], total: Findings) -> Findings:
    missing: set[bytes] = set()
    for number in sorted(checked):
        total.add(checked[number].findings)
        missing |= checked[number].missing_codes
    for digest in sorted(missing):
        total.blame(f"the code with hash {digest.hex()} is missing")
    root = upper_root([part for number in sorted(checked) for part in checked[number].tops])
    if root != state_root:
        got = "no trie at all" if root is None else f"0x{root.hex()}"
        total.blame(f"the account pages give {got} instead of state root 0x{state_root.hex()}")
    owed = sum(1 for _ in open_debts(datadir))
    if owed:
        total.blame(f"{owed} account pages still owe storage or codes")
    return total


async def verify_or_raise(
    datadir: Datadir, state_root: bytes, limiter: trio.CapacityLimiter, report: Callable[[float], None]
) -> Findings:
    """As `verify`; raises VerificationFailed with the first problems, DatadirDamaged for bytes that cannot be read."""
    findings = await verify(datadir, state_root, limiter, report)
    if findings.problems:
        more = f" (and {len(findings.problems) - 1} more)" if len(findings.problems) > 1 else ""
        raise VerificationFailed(
            f"the stored state is not right: {findings.problems[0]}{more}",
            hint="`ethsync verify` gives the whole list; nothing was deleted; sync into another --datadir",
        )
    return findings
