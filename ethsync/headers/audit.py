"""Reading the stored headers back: every hash, link, rule and index entry of what is shown as proven."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ethsync.errors import DatadirDamaged
from ethsync.headers.segment import FAULTS, hash_rows
from ethsync.kernels import headers as kernel
from ethsync.store.header_pages import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethsync.headers.rules import ChainRules
    from ethsync.store.headers import HeaderStore

MOST_PROBLEMS = 100
"""Problems that are told; whoever has so many needs no more."""

SAMPLES = 2
"""Headers of a page that are looked up by hash: each costs a read of some kilobytes per run of the index."""


@dataclass(slots=True)
class HeaderFindings:
    """What was read, and what is wrong with it."""

    headers: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)

    def blame(self, problem: str) -> None:
        """Note a problem."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)


def audit_headers(store: HeaderStore, rules: ChainRules, report: Callable[[float], None]) -> HeaderFindings:
    """Check all proven headers, from the lowest to the trusted one; a minute for mainnet. Run it in a thread.

    `report` is called with the share done after each page, and may raise to end it.
    """
    findings = HeaderFindings()
    if store.top is None:
        return findings
    parent = b""
    number, last = store.low, store.top.number
    while number <= last:
        end = min(number // PAGE * PAGE + PAGE - 1, last)
        parent = _audit(store, rules, number, end, parent, findings)
        number = end + 1
        report((number - store.low) / (last - store.low + 1))
    if parent != store.top.hash:
        findings.blame(f"the headers end with 0x{parent.hex()} instead of the trusted 0x{store.top.hash.hex()}")
    return findings


def _audit(
    store: HeaderStore, rules: ChainRules, first: int, last: int, parent: bytes, findings: HeaderFindings
) -> bytes:
    """Check headers of one page and its link downwards; return the hash of the highest, or nothing if it is unknown."""
    where = f"the headers from {first} to {last}"
    try:
        raws = [store.raw(number) for number in range(first, last + 1)]
    except DatadirDamaged as error:
        findings.blame(str(error))
        return b""
    found = [raw for raw in raws if raw is not None]
    buf = np.frombuffer(b"".join(found), np.uint8)
    rows, counts = np.zeros((len(raws), kernel.COLUMNS), np.int64), np.zeros(2, np.int64)
    if len(found) < len(raws) or kernel.scan_page(buf, rows, counts) < 0 or int(counts[1]) < len(raws):
        findings.blame(f"{where} cannot be read")
        return b""
    hashes, where_at = hash_rows(buf, rows), np.zeros(1, np.int64)
    parents = np.ascontiguousarray(rows[:, kernel.PARENT])
    at = int(parents[0])
    if kernel.count_linked(buf, parents, hashes, False) < len(rows):
        findings.blame(f"{where} do not hang together")
    if parent and buf[at : at + 32].tobytes() != parent:
        findings.blame(f"header {first} does not name header {first - 1} as its parent")
    fault = int(kernel.find_fault(rows, rules.schedule, False, where_at))
    if fault != kernel.FAULTLESS:
        findings.blame(f"header {first + int(where_at[0])} {FAULTS[fault]}")
    if first == 0 and hashes[0].tobytes() != rules.genesis_hash:
        findings.blame("header 0 is not the genesis of this network")
    for row in np.linspace(0, len(rows) - 1, SAMPLES).astype(int).tolist():
        if store.number_of(hashes[row].tobytes()) != first + row:
            findings.blame(f"header {first + row} is not found by its hash")
    findings.headers += len(rows)
    findings.bytes += len(buf)
    return bytes(hashes[-1])
