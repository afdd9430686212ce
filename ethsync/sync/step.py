"""A step of following: the difference between the state that is held and that of another block, staged in memory.

Nothing is written before all of it is there and proven: the tops of the changed account pages must give the block's
state root, the storage of every changed contract the root that its account names, and codes come by their hashes. Then
it is one batch (`ethsync.store.patches`). A step that is given up leaves nothing behind but codes, which belong to no
block.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import trio

from ethsync.errors import SyncError, VerificationFailed
from ethsync.kernels.trie import LEAF
from ethsync.state.columns import no_leaves
from ethsync.state.pages import KEY_SPACE, SMALL_TRIE, Bundle, PagePath, decode_bundle
from ethsync.store.datadir import LAYERS, LEDGER
from ethsync.store.merging import NO_ROOT, ChangedTrie, encode_changed_tries
from ethsync.store.patches import Kind, Patch
from ethsync.store.schema import (
    ACCOUNT_PAGE,
    BUNDLE,
    MARKER,
    RECORD,
    STORAGE_PAGE,
    TOP,
    Marker,
    TrieRecord,
    account_key,
    decode_record,
)
from ethsync.sync.bytecodes import CodeStage
from ethsync.sync.debts import DebtBook, PageDebt, needs_of
from ethsync.sync.healing import HealingStage
from ethsync.sync.local_trie import LocalTrie, local_storage
from ethsync.sync.staged_trie import WHOLE_TRIE, StagedSmall, StagedTrie, new_pages, small_trie

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ethsync.state.columns import Leaves
    from ethsync.sync.context import SyncContext
    from ethsync.sync.page_updates import UpdatedPage
    from ethsync.wire.headers import Header

MOST_STEP_BYTES = 256 << 20
"""Bytes of patches staged at the most: a hundred blocks of mainnet, so that whoever was away for longer, or slow for
so long, heals in place instead."""

MOST_HEALED = 512
"""Contracts whose storage is compared at a time: enough to fill requests, most of them need one or two nodes."""


class StepTooLarge(SyncError):
    """A step does not fit into memory: the difference must be healed in place."""


class _NoDebts(DebtBook):
    """Codes of a step are owed to nobody on the disk: the step is not written before they are there."""

    def code_stored(self, page: PageDebt) -> None:
        """Nothing to note."""

    async def settle(self) -> None:
        """Nothing to write."""


@dataclass(frozen=True, slots=True)
class _ChangedContract:
    """A contract whose storage root changes to `root`, None for one that has none any more. page: of its account."""

    account: bytes
    page: PagePath
    root: bytes | None
    staged: StagedTrie | None
    record: TrieRecord | None
    """Its record, if it has pages of its own."""
    bundled: bool
    slots: int
    """How many it has now."""


@dataclass(slots=True, eq=False)
class Totals:
    """What there is more after a step than before it."""

    accounts: int = 0
    slots: int = 0
    contracts: int = 0
    codes: int = 0
    touched_accounts: int = 0
    """Accounts that are others than before, there or not."""
    touched_slots: int = 0


class Step:
    """One step under way: stages for the download, then patches."""

    def __init__(self, context: SyncContext, header: Header, accounts: LocalTrie) -> None:
        """`accounts`: the account trie as it is held."""
        self.header = header
        self.totals = Totals()
        self.size = 0
        self._context = context
        self._datadir = context.datadir
        self._accounts = StagedTrie(accounts)
        self._waiting: deque[_ChangedContract] = deque()
        self._changed: list[_ChangedContract] = []
        self._bundles: dict[PagePath, set[bytes]] = {}
        self._healing = 0
        self.nodes = HealingStage(header.state_root, context.limiter, context.progress.healing)
        debts = _NoDebts(context.datadir, context.writer)
        self.codes = CodeStage(
            context.datadir, context.writer, context.limiter, context.progress.codes, debts, context.stored_codes
        )
        self.codes.resumed = True
        self._codes_before = context.progress.codes.items
        self._owing = PageDebt(WHOLE_TRIE)
        self.nodes.heal(b"", accounts, header.state_root, self._keep_accounts, _nothing)

    async def _keep_accounts(self, pages: list[UpdatedPage]) -> None:
        """Stage account pages; go and look for the storage and the codes that their accounts name."""
        limiter = self._context.limiter
        changed = await trio.to_thread.run_sync(self._changed_contracts, pages, limiter=limiter)
        hashes = [list(dict.fromkeys(_codes_of(page.come))) for page in pages]
        await self.codes.look_up(chain.from_iterable(hashes))
        for page, digests in zip(pages, hashes, strict=True):
            self._grow(self._accounts.stage(page))
            self.codes.owe(self._owing, digests)
        self._changed += changed
        self._waiting += (contract for contract in changed if contract.staged is not None)
        self._begin()

    def _grow(self, size: int) -> None:
        self.size += size
        if self.size > MOST_STEP_BYTES:
            raise StepTooLarge(f"the way to block {self.header.number} is too long for one step")

    def _changed_contracts(self, pages: Sequence[UpdatedPage]) -> list[_ChangedContract]:
        """Contracts of these pages whose storage is another one then. Runs in a thread."""
        found: list[_ChangedContract] = []
        for page in pages:
            before, after = _storage_of(page.gone), _storage_of(page.come)
            names = [account for account in before | after if before.get(account) != after.get(account)]
            if names:
                found += self._look_up(page.path, sorted(names), after)
        return found

    def _look_up(self, page: PagePath, names: list[bytes], after: dict[bytes, bytes]) -> Iterator[_ChangedContract]:
        value = self._datadir.bundles.get(account_key(BUNDLE, page))
        bundle = decode_bundle(page, value) if value is not None else None
        rows = {bundle.accounts[row].tobytes(): row for row in range(len(bundle))} if bundle is not None else {}
        self._bundles[page] = set(rows)
        for account in names:
            stored = self._datadir.ledger.get(RECORD + account)
            record = decode_record(stored) if stored is not None else None
            root = after.get(account)
            staged: StagedTrie | None = None
            if root is not None and record is not None:
                staged = StagedTrie(local_storage(self._datadir, account, record.depth))
            elif root is not None:
                staged = StagedSmall(small_trie(_slots(bundle, rows.get(account))))
            held = record.leaves if record is not None else len(_slots(bundle, rows.get(account)))
            yield _ChangedContract(account, page, root, staged, record, account in rows, held)

    def _begin(self) -> None:
        """Begin to compare the storage of contracts that wait for it. Awaits nothing: the stage must not seem done."""
        while self._waiting and self._healing < MOST_HEALED:
            contract = self._waiting.popleft()
            assert contract.staged is not None
            assert contract.root is not None
            self._healing += 1
            keep = partial(self._keep_storage, contract.staged)
            self.nodes.heal(contract.account, contract.staged.local, contract.root, keep, self._healed)

    async def _keep_storage(self, staged: StagedTrie, pages: list[UpdatedPage]) -> None:
        for page in pages:
            self._grow(staged.stage(page))

    async def _healed(self) -> None:
        self._healing -= 1
        self._begin()

    def prove(self) -> LocalTrie:
        """Check every root; return the account trie as it will be. Runs in a thread. Raises VerificationFailed."""
        new = self._accounts.changed()
        if new.root != self.header.state_root:
            raise VerificationFailed(f"the changes do not lead to the state root of block {self.header.number}")
        for contract in self._changed:
            if contract.staged is not None and contract.staged.root() != contract.root:
                raise VerificationFailed(f"the changes do not lead to the storage root of {contract.account.hex()}")
        return new

    def patches(self) -> list[Patch]:
        """All changes to what is stored. Runs in a thread, after `prove`."""
        found = list(self._accounts.patches(LAYERS["accounts"], ACCOUNT_PAGE, TOP))
        self.totals.accounts, self.totals.touched_accounts = self._accounts.more, self._accounts.touched
        self.totals.codes = self._context.progress.codes.items - self._codes_before
        tries: dict[PagePath, dict[bytes, ChangedTrie]] = {}
        for contract in self._changed:
            self._count(contract)
            if contract.staged is None:
                found += self._removal(contract)
            elif isinstance(contract.staged, StagedSmall):
                if len(contract.staged.slots) > SMALL_TRIE:
                    found += _promotion(contract, contract.staged)
                else:
                    change = ChangedTrie(contract.root or NO_ROOT, contract.staged.changed_slots())
                    tries.setdefault(contract.page, {})[contract.account] = change
                    continue
            else:
                found += _changed_pages(contract, contract.staged)
            if contract.bundled:
                tries.setdefault(contract.page, {})[contract.account] = ChangedTrie(NO_ROOT, {})
        return found + [self._changed_bundle(page, changes) for page, changes in tries.items()]

    def _count(self, contract: _ChangedContract) -> None:
        had, has = contract.bundled or contract.record is not None, contract.root is not None
        self.totals.contracts += has - had
        self.totals.slots += contract.staged.more if contract.staged is not None else -contract.slots
        self.totals.touched_slots += contract.staged.touched if contract.staged is not None else contract.slots

    def _changed_bundle(self, page: PagePath, changes: dict[bytes, ChangedTrie]) -> Patch:
        left = self._bundles[page] - changes.keys()
        key = account_key(BUNDLE, page)
        if not left and all(change.root == NO_ROOT for change in changes.values()):
            return Patch(LAYERS["bundles"], key, Kind.GONE)
        cut = {account[page.depth // 2 :]: change for account, change in changes.items()}
        return Patch(LAYERS["bundles"], key, Kind.BUNDLE, encode_changed_tries(page.depth, cut))

    def _removal(self, contract: _ChangedContract) -> Iterator[Patch]:
        """Everything of a contract that has pages and no storage any more."""
        if contract.record is None:
            return
        for family in (STORAGE_PAGE, TOP, MARKER):
            prefix = family + contract.account
            for key, _ in self._datadir.storage.scan(prefix, keys_only=True):
                yield Patch(LAYERS["storage"], prefix + key, Kind.GONE)
        yield Patch(LAYERS[LEDGER], RECORD + contract.account, Kind.GONE)


async def _nothing() -> None:
    """The account trie is compared; what its accounts name may still be under way."""


def _storage_of(leaves: Leaves) -> dict[bytes, bytes]:
    """Storage roots by account, of those that have storage."""
    needs = needs_of(leaves)
    keys, roots = leaves.keys[needs.storage_rows], needs.storage_roots
    return {key.tobytes(): root.tobytes() for key, root in zip(keys, roots, strict=True)}


def _codes_of(leaves: Leaves) -> list[bytes]:
    return [digest.tobytes() for digest in needs_of(leaves).code_hashes]


def _slots(bundle: Bundle | None, row: int | None) -> Leaves:
    """Slots of one trie of a bundle."""
    if bundle is None or row is None:
        return no_leaves(LEAF)
    return bundle.leaves[int(bundle.starts[row]) : int(bundle.starts[row + 1])]


def _record(contract: _ChangedContract, depth: int, leaves: int, size: int) -> Patch:
    record = TrieRecord(contract.root or NO_ROOT, depth, True, leaves, size)
    return Patch(LAYERS[LEDGER], RECORD + contract.account, Kind.VALUE, record.encode())


def _changed_pages(contract: _ChangedContract, staged: StagedTrie) -> Iterator[Patch]:
    """The changed pages of a big contract, and its record."""
    account, before = contract.account, contract.record
    assert before is not None
    yield from staged.patches(LAYERS["storage"], STORAGE_PAGE + account, TOP + account)
    # What it says of before may be too little after a power cut.
    leaves, size = max(0, before.leaves + staged.more), max(0, before.size + staged.more_bytes)
    yield _record(contract, before.depth, leaves, size)


def _promotion(contract: _ChangedContract, staged: StagedSmall) -> Iterator[Patch]:
    """A storage trie that has become too large for a bundle gets pages of its own."""
    layer = LAYERS["storage"]
    made = new_pages(layer, contract.account, staged.slots)
    yield from made.patches
    key, value = Marker(0, KEY_SPACE, len(staged.slots), made.size).encode()
    yield Patch(layer, MARKER + contract.account + key, Kind.VALUE, value)
    yield _record(contract, made.depth, len(staged.slots), made.size)
