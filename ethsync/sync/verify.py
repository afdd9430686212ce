"""Final verification: recompute every root and every code hash from the bytes on disk, with nothing taken on trust.

Account pages → their tops (compared with the stored records) → the state root. Every account with storage must have
its trie, in a bundle or in pages of its own, with exactly the root that the account names, and no other tries may
be there: no bundle without its account page, no storage pages without their record, no pages over one another. Every
code must have its hash, and every code that an account names must be there. Accounts, bundles, records and storage are
read side by side in key order. Plain functions over an open data directory; `ethsync.sync.verifier` runs them in
threads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from ethsync.errors import DatadirDamaged, MalformedMessage
from ethsync.hashing import EMPTY_TRIE_ROOT
from ethsync.kernels import keccak
from ethsync.kernels.trie import LEAF, SLIM_ACCOUNT
from ethsync.state.columns import Entries, Leaves, entries_of, in_order
from ethsync.state.paged import joined
from ethsync.state.pages import (
    KEY_SPACE,
    PagePath,
    Top,
    decode_bundles,
    decode_pages,
    decode_top,
    entries_of_tops,
    stored_path,
    tops_of,
)
from ethsync.state.tries import TrieError, build, page_tops
from ethsync.store.schema import (
    ACCOUNT_PAGE,
    BUNDLE,
    CODE,
    RECORD,
    STORAGE_PAGE,
    TOP,
    TrieRecord,
    decode_record,
)
from ethsync.sync.debts import needs_of
from ethsync.sync.held_codes import PARTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ethsync.arrays import Bytes, Ints
    from ethsync.state.pages import Bundle
    from ethsync.store.datadir import Datadir
    from ethsync.store.leveldb import Database
    from ethsync.sync.held_codes import HeldCodes

CHUNK_BYTES = 1 << 20
"""Pages, bundles or codes checked in one call."""

MOST_PROBLEMS = 100
"""Problems that are told; whoever has so many needs no more."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Disk:
    """What is verified. `alive` is called every megabyte or so, and raises when the verification is to end early."""

    datadir: Datadir
    alive: Callable[[], None]


@dataclass(slots=True)
class Findings:
    """What a part of the verification found. `problems` are sentences; none means that the part holds."""

    accounts: int = 0
    slots: int = 0
    contracts: int = 0
    codes: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)

    def blame(self, problem: str) -> None:
        """Note a problem; after a hundred, further ones add nothing."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)

    def add(self, other: Findings) -> None:
        """Take over what another part found."""
        self.accounts += other.accounts
        self.slots += other.slots
        self.contracts += other.contracts
        self.codes += other.codes
        self.bytes += other.bytes
        for problem in other.problems:
            self.blame(problem)


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """Account pages, bundles and big contracts with keys in [first, end)."""

    first: int
    end: int

    @property
    def start(self) -> bytes:
        """The lowest key as bytes."""
        return self.first.to_bytes(32, "big")


def spans(count: int) -> list[Span]:
    """Cut the key space into `count` equal spans; count is a power of 16."""
    width = KEY_SPACE // count
    return [Span(k * width, (k + 1) * width) for k in range(count)]


def _within(database: Database, family: bytes, span: Span) -> Iterator[tuple[PagePath, bytes]]:
    """Records of a family whose path begins in a span."""
    for key, value in database.scan(family, start=span.start[:1] if span.first else b""):
        path = stored_path(key)
        if path.first < span.first:
            continue
        if path.first >= span.end:
            return
        yield path, value


def _chunks(disk: Disk, items: Iterator[_T], size: Callable[[_T], int]) -> Iterator[list[_T]]:
    chunk: list[_T] = []
    total = 0
    for item in items:
        chunk.append(item)
        total += size(item)
        if total >= CHUNK_BYTES:
            disk.alive()
            yield chunk
            chunk, total = [], 0
    if chunk:
        yield chunk


@dataclass(frozen=True, slots=True, eq=False)
class CheckedSpan:
    """The outcome for one span: entries of the upper trie, and codes that its accounts name and that are not held."""

    findings: Findings
    tops: list[Entries]
    missing_codes: set[bytes]
    """As many as are told, or some more."""


def check_span(disk: Disk, span: Span, held: HeldCodes, advance: Callable[[float], None]) -> CheckedSpan:
    """Check the account pages of a span and all storage that belongs to them."""
    findings = Findings()
    tops: list[Entries] = []
    missing: set[bytes] = set()
    stored = _within(disk.datadir.accounts, TOP, span)
    tries = _StoredTries(disk, span)
    covered = span.first
    for chunk in _chunks(disk, _within(disk.datadir.accounts, ACCOUNT_PAGE, span), lambda item: len(item[1])):
        covered = _check_paths(chunk, covered, "account page", findings)
        leaves, computed = _check_pages(chunk, stored, SLIM_ACCOUNT, "account page", findings)
        if computed:
            tops.append(entries_of_tops(computed))
        findings.accounts += len(leaves)
        findings.bytes += sum(len(value) for _, value in chunk)
        end = chunk[-1][0].end
        try:
            needs = needs_of(leaves)
        except MalformedMessage as error:
            findings.blame(f"account pages {chunk[0][0]} to {chunk[-1][0]} are damaged: {error}")
            tries.skip(end)
            continue
        if len(missing) < MOST_PROBLEMS:
            missing.update(held.missing(needs.code_hashes))
        wanted = leaves.keys[needs.storage_rows], needs.storage_roots
        tries.check(*wanted, {path for path, _ in chunk}, end, findings)
        advance((min(end, span.end) - span.first) / (span.end - span.first))
    for path, _ in stored:
        findings.blame(f"the top record {path} has no page")
    nobody = np.empty((0, 32), np.uint8)
    tries.check(nobody, nobody, set(), span.end, findings)
    return CheckedSpan(findings, tops, missing)


def _check_paths(chunk: list[tuple[PagePath, bytes]], covered: int, what: str, findings: Findings) -> int:
    """Pages must not overlap. Returns the end of the last one."""
    for path, _ in chunk:
        if path.first < covered:
            findings.blame(f"{what} {path} overlaps the page before it")
        covered = max(covered, path.end)
    return covered


def _check_pages(
    chunk: list[tuple[PagePath, bytes]],
    stored: Iterator[tuple[PagePath, bytes]],
    kind: int,
    what: str,
    findings: Findings,
) -> tuple[Leaves, list[Top]]:
    """Decode pages, recompute their tops and compare them with the stored records."""
    leaves, firsts = decode_pages([path for path, _ in chunk], [value for _, value in chunk], kind)
    records = list(islice(stored, len(chunk)))
    try:
        tops = page_tops(leaves, firsts[:-1])
    except TrieError as error:
        findings.blame(f"{what}s {chunk[0][0]} to {chunk[-1][0]}: {error}")
        return leaves, []
    computed = tops_of(tops, leaves)
    _check_prefixes(chunk, leaves, firsts, what, findings)
    for (path, _), top, (top_path, record) in zip(chunk, computed, records, strict=False):
        if path != top_path:
            findings.blame(f"{what} {path} has no top record")
        elif record != top.encode():
            findings.blame(f"{what} {path} does not give the reference that was proven: {decode_top(record)}")
    if len(records) < len(chunk):
        findings.blame(f"{len(chunk) - len(records)} {what}s have no top record")
    return leaves, computed


def _check_prefixes(
    chunk: list[tuple[PagePath, bytes]], leaves: Leaves, firsts: Ints, what: str, findings: Findings
) -> None:
    """First and last key of each page must lie under its path (keys in between do, because they are sorted)."""
    rows = firsts.tolist()
    for (path, _), first, last in zip(chunk, rows, rows[1:], strict=False):
        low, high = int.from_bytes(leaves.key(first), "big"), int.from_bytes(leaves.key(last - 1), "big")
        if low < path.first or high >= path.end:
            findings.blame(f"{what} {path} has keys of other pages")


class _UpTo(Generic[_T]):
    """Hands out records that come in key order, up to a key."""

    def __init__(self, records: Iterator[_T], key: Callable[[_T], int]) -> None:
        self._records = records
        self._key = key
        self._ahead = next(records, None)

    def until(self, end: int) -> Iterator[_T]:
        """All records before `end` that were not handed out yet."""
        while self._ahead is not None and self._key(self._ahead) < end:
            yield self._ahead
            self._ahead = next(self._records, None)


def _account_number(account: bytes) -> int:
    return int.from_bytes(account, "big")


class _StoredTries:
    """All storage of a span, handed out beside its account pages: bundles, records, and accounts that have pages."""

    def __init__(self, disk: Disk, span: Span) -> None:
        datadir = disk.datadir
        self._disk = disk
        self._bundles = _UpTo(_within(datadir.bundles, BUNDLE, span), lambda item: item[0].first)
        self._records = _UpTo(datadir.ledger.scan(RECORD, start=span.start), lambda item: _account_number(item[0]))
        self._paged = _UpTo(datadir.storage.neighbourhoods(span.start), _account_number)

    def skip(self, end: int) -> None:
        """Leave out everything before a key."""
        for records in (self._bundles, self._records, self._paged):
            for _ in records.until(end):
                pass

    def check(self, accounts: Bytes, roots: Bytes, pages: set[PagePath], end: int, findings: Findings) -> None:
        """Before `end` exactly the tries must be there that the accounts of these pages name, with exactly these roots.

        accounts, roots: (s, 32), accounts with storage in key order, and what they name.
        """
        bundles = list(self._bundles.until(end))
        for path, _ in bundles:
            if path not in pages:
                findings.blame(f"the bundle {path} has no account page")
        wanted = _without_bundled(accounts, roots, *_bundled(bundles, findings), findings)
        for account, value in self._records.until(end):
            self._check_record(account, decode_record(value), wanted.pop(account, None), findings)
        for account in self._paged.until(end):
            findings.blame(f"account {account.hex()} has storage pages but no record of them")
        for account in wanted:
            findings.blame(f"the storage of account {account.hex()} is missing")

    def _check_record(self, account: bytes, record: TrieRecord, named: bytes | None, findings: Findings) -> None:
        """A record must be that of the root that its account names, and must have its pages."""
        for orphan in self._paged.until(_account_number(account)):
            findings.blame(f"account {orphan.hex()} has storage pages but no record of them")
        for _ in self._paged.until(_account_number(account) + 1):
            pass
        if named is None:
            findings.blame(f"account {account.hex()} has storage pages of its own but names no such storage")
        elif named != record.root or not record.complete:
            findings.blame(f"the storage of account {account.hex()} is not complete or not that which it names")
        else:
            _check_big(self._disk, account, record, findings)


def _check_bundle_accounts(paths: list[PagePath], tries: Bundle, firsts: Ints, findings: Findings) -> None:
    """A reader looks for an account in the bundle of its page only. Whole bytes of the path are not stored."""
    counts = np.diff(firsts)
    odd = np.array([path.depth & 1 for path in paths], np.bool_)
    places = np.array([path.depth // 2 for path in paths])
    nibbles = np.array([path.prefix[path.depth // 2] >> 4 if path.depth & 1 else 0 for path in paths])
    seen = tries.accounts[np.arange(len(tries)), np.repeat(np.where(odd, places, 0), counts)] >> 4
    wrong = np.repeat(odd, counts) & (seen != np.repeat(nibbles, counts))
    for k in np.unique(np.searchsorted(firsts, np.flatnonzero(wrong), "right") - 1).tolist():
        findings.blame(f"the bundle {paths[k]} has accounts of other pages")


def _bundled(bundles: list[tuple[PagePath, bytes]], findings: Findings) -> tuple[Bytes, Bytes]:
    """Recompute the roots of all tries of these bundles; return accounts and roots (t, 32) as they are named there."""
    if not bundles:
        return np.empty((0, 32), np.uint8), np.empty((0, 32), np.uint8)
    paths = [path for path, _ in bundles]
    tries, firsts = decode_bundles(paths, [value for _, value in bundles])
    _check_bundle_accounts(paths, tries, firsts, findings)
    findings.bytes += sum(len(value) for _, value in bundles)
    findings.slots += len(tries.leaves)
    findings.contracts += len(tries)
    try:
        roots, _ = build(entries_of(tries.leaves), tries.starts[:-1])
    except TrieError as error:
        findings.blame(f"bundles {paths[0]} to {paths[-1]}: {error}")
        return tries.accounts[:0], tries.roots[:0]
    for k in np.flatnonzero(np.any(roots != tries.roots, axis=1)).tolist():
        findings.blame(f"the storage of account {tries.accounts[k].tobytes().hex()} does not give its root")
    return tries.accounts, tries.roots


def _without_bundled(
    accounts: Bytes, roots: Bytes, bundled: Bytes, bundled_roots: Bytes, findings: Findings
) -> dict[bytes, bytes]:
    """What accounts name, less what is in bundles; there must be nothing else in them, and nothing twice."""
    left, fits = np.ones(len(accounts), np.bool_), np.zeros(len(bundled), np.bool_)
    if len(accounts):
        rows = np.searchsorted(in_order(accounts), in_order(bundled)).clip(max=len(accounts) - 1)
        fits[np.unique(rows, return_index=True)[1]] = True
        named = (accounts[rows] == bundled).all(axis=1)
        fits &= named & (roots[rows] == bundled_roots).all(axis=1)
        left[rows[named]] = False
    for k in np.flatnonzero(~fits).tolist():
        account = bundled[k].tobytes().hex()
        findings.blame(f"the bundle has a trie for account {account} that this account does not name")
    return {accounts[k].tobytes(): roots[k].tobytes() for k in np.flatnonzero(left).tolist()}


def _check_big(disk: Disk, account: bytes, record: TrieRecord, findings: Findings) -> None:
    """Recompute the root of a big contract's storage from its pages."""
    pages = ((stored_path(key), value) for key, value in disk.datadir.storage.scan(STORAGE_PAGE + account))
    stored = ((stored_path(key), value) for key, value in disk.datadir.storage.scan(TOP + account))
    what = f"storage page of {account.hex()}"
    tops: list[Entries] = []
    covered = 0
    for chunk in _chunks(disk, pages, lambda item: len(item[1])):
        covered = _check_paths(chunk, covered, what, findings)
        leaves, computed = _check_pages(chunk, stored, LEAF, what, findings)
        if computed:
            tops.append(entries_of_tops(computed))
        findings.slots += len(leaves)
        findings.bytes += sum(len(value) for _, value in chunk)
    for path, _ in stored:
        findings.blame(f"the top record {path} of account {account.hex()} has no page")
    findings.contracts += 1
    if upper_root(tops) != record.root:
        findings.blame(f"the storage of account {account.hex()} does not give its root")


def upper_root(parts: list[Entries]) -> bytes | None:
    """Root of the trie over page tops, given in key order; None if they make no trie."""
    if not parts:
        return EMPTY_TRIE_ROOT
    try:
        return build(joined(parts))[0].tobytes()
    except TrieError:
        return None


def check_codes(disk: Disk, part: int, advance: Callable[[float], None]) -> tuple[Findings, Bytes]:
    """Hash every stored code of a part of `PARTS`; return the hashes of those that are there, (n, 32) in order."""
    findings = Findings()
    width = 256 // PARTS
    first, last = part * width, part * width + width - 1
    stored = disk.datadir.codes.scan(CODE, start=bytes((first,)))
    codes = takewhile(lambda item: item[0][:1] <= bytes((last,)), stored)
    held = [np.empty((0, 32), np.uint8)]
    for chunk in _chunks(disk, codes, lambda item: len(item[1])):
        names, values = zip(*chunk, strict=True)
        sizes = np.fromiter(map(len, values), np.int64, len(values))
        buf = np.frombuffer(b"".join(values), np.uint8)
        digests = np.empty((len(chunk), 32), np.uint8)
        if keccak.hash_many(buf, np.cumsum(sizes) - sizes, sizes, digests) < 0:
            raise DatadirDamaged(f"codes from {chunk[0][0].hex()} on cannot be read")
        if set(map(len, names)) != {32}:
            raise DatadirDamaged("a key of the codes is damaged")
        keys = np.frombuffer(b"".join(names), np.uint8).reshape(-1, 32)
        for k in np.flatnonzero((digests != keys).any(axis=1)).tolist():
            findings.blame(f"the code with hash {chunk[k][0].hex()} has another hash")
        findings.bytes += len(buf)
        findings.codes += len(chunk)
        held.append(keys)
        advance((chunk[-1][0][0] - first) / width)
    return findings, np.concatenate(held)
