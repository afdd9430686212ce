"""A synthetic state, deterministic in its seed, written into a data directory as a finished sync would have left it.

Keys are random, as hashes are. A few accounts are contracts; one contract holds a third of all slots, a few hold
thousands, most a handful; some have the same storage as others, or the same code. The state is made in slices of the
key space, so that memory does not grow with it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from ethsync.errors import DatadirMismatch
from ethsync.serve import random_leaves
from ethsync.serve.changes import Changes
from ethsync.serve.demo import demo_network, write_genesis
from ethsync.serve.demo_chain import write_demo_chain
from ethsync.serve.page_writer import Batch, PageWriter
from ethsync.serve.plan import code_numbers, coded_accounts, plan_storage
from ethsync.serve.random_leaves import ACCOUNT_WORDS, SLOT_WORDS, Kind, under, words
from ethsync.state.columns import KEY_BYTES
from ethsync.state.pages import SMALL_TRIE, Bundle, PagePath, depth_for, encode_bundle
from ethsync.state.tries import roots
from ethsync.store.datadir import open_datadir
from ethsync.store.schema import (
    ACCOUNT_PAGE,
    BUNDLE,
    CODE,
    FACT,
    FACT_DEPTH,
    FACT_PIVOT,
    MARKER,
    RECORD,
    STORAGE_PAGE,
    TOP,
    Format,
    Marker,
    TrieRecord,
    account_key,
)
from ethsync.wire.headers import Header, decode_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ethsync.arrays import Bytes, Ints
    from ethsync.serve.random_leaves import Words
    from ethsync.serve.spec import SyntheticSpec
    from ethsync.state.columns import Leaves
    from ethsync.store.datadir import Datadir

FACT_SYNTHETIC = FACT + b"synthetic"
"""The spec as JSON, written before anything else; the pivot is written last and says that all is there."""

SLICE_LEAVES = 131_072
"""Most leaves per slice: some 100 MB of columns and scratch space, a sixteenth of that just above a power of 16."""

CODES_AT_ONCE = 4_096
"""Codes per round: 12 MB with codes of 1.5 kB."""


def create_synthetic(
    spec: SyntheticSpec, path: Path, *, progress: Callable[[float], None] = lambda share: None
) -> Header:
    """Write the state into a data directory, unless it is there already; return the header of its block.

    Synchronous: run it in a thread. `progress` gets the share that is done, 0 to 1, in that thread. A state that was
    interrupted is made again in place. Raises ConfigError, DatadirBusy, DatadirMismatch (other contents), DiskFull.
    """
    network = demo_network()
    with open_datadir(path, Format.of(network.name, network.chain_id, network.genesis_hash)) as datadir:
        found = datadir.accounts.get(FACT_SYNTHETIC)
        pivot = datadir.accounts.get(FACT_PIVOT)
        if found is None and pivot is not None:
            raise DatadirMismatch(f"{path} holds a state that was synced", hint="use another directory")
        if found is not None and json.loads(found) != asdict(spec):
            raise DatadirMismatch(f"{path} holds another synthetic state", hint="use another directory")
        if pivot is not None:
            return decode_header(pivot)
        datadir.accounts.put(FACT_SYNTHETIC, json.dumps(asdict(spec)).encode())
        header = write_demo_chain(datadir.headers, _Maker(spec, datadir, progress).make(), spec.seed, spec.headers)
        write_genesis(path)
        datadir.accounts.put(FACT_PIVOT, header.raw, sync=True)
        return header


def _slices(leaves: int, page_depth: int) -> tuple[int, int]:
    """In how many equal slices of the key space a trie is made, and the nibbles that number them."""
    nibbles = 0
    while nibbles < page_depth and leaves > SLICE_LEAVES << (4 * nibbles):
        nibbles += 1
    return 1 << (4 * nibbles), nibbles


class _Maker:
    """One run of making a state."""

    def __init__(self, spec: SyntheticSpec, datadir: Datadir, progress: Callable[[float], None]) -> None:
        self.spec = spec
        self.datadir = datadir
        self.progress = progress
        self.plan = plan_storage(spec)
        self.changes = Changes(spec)
        self.bundles = Batch(datadir.bundles)
        self.storage = Batch(datadir.storage)
        self.ledger = Batch(datadir.ledger)
        self.accounts = Batch(datadir.accounts)

    def make(self) -> bytes:
        """Write codes, then accounts with their storage; return the state root."""
        spec = self.spec
        code_hashes = self._write_codes()
        depth = depth_for(spec.accounts)
        writer = PageWriter(self.accounts, ACCOUNT_PAGE, TOP, depth)
        parts, nibbles = _slices(spec.accounts, depth)
        for part in range(parts):
            self._account_slice(writer, code_hashes, part, parts, nibbles)
            self.progress((part + 1) / parts)
        for batch in (self.bundles, self.storage, self.accounts, self.ledger):
            batch.write()
        self.datadir.accounts.put(FACT_DEPTH, bytes([depth]))
        return writer.root()

    def _write_codes(self) -> Bytes:
        """Write all codes, in the order of their hashes; return the hashes (n, 32) in the order of the codes.

        They are made twice: written in any other order LevelDB would have to sort them, which takes longer.
        """
        spec = self.spec
        hashes = np.empty((spec.codes, KEY_BYTES), np.uint8)
        for first in range(0, spec.codes, CODES_AT_ONCE):
            part = np.arange(first, min(first + CODES_AT_ONCE, spec.codes))
            hashes[part] = random_leaves.codes(spec.seed, part, spec.code_bytes)[2]
        order = np.lexsort(hashes[:, 7::-1].T) if spec.codes else np.arange(0)
        batch = Batch(self.datadir.codes)
        for first in range(0, spec.codes, CODES_AT_ONCE):
            rows, lengths, found = random_leaves.codes(spec.seed, order[first : first + CODES_AT_ONCE], spec.code_bytes)
            for row, length in enumerate(lengths.tolist()):
                batch.put(CODE + found[row].tobytes(), rows[row, :length].tobytes())
        batch.write()
        return hashes

    def _account_slice(self, writer: PageWriter, code_hashes: Bytes, part: int, parts: int, nibbles: int) -> None:
        """Make the accounts of one slice, and the storage of the contracts among them."""
        spec = self.spec
        coded = coded_accounts(spec)
        begin, end = coded * part // parts, coded * (part + 1) // parts
        drawn, coded_rows = self._drawn(part, parts, nibbles, end - begin)
        lives = coded_rows >= 0
        coded_rows, code_names = coded_rows[lives], code_numbers(spec, begin, end)[lives]
        numbers = np.arange(begin, end + 1) * spec.contracts // max(1, coded)
        with_storage = np.diff(numbers)[lives] > 0
        rows, contracts = coded_rows[with_storage], numbers[:-1][lives][with_storage]
        found_roots, bundle = self._storage(random_leaves.as_bytes(drawn[rows, :4]), contracts)
        code_rows = coded_rows if spec.codes else coded_rows[:0]
        codes = code_hashes[code_names] if spec.codes else code_hashes
        leaves = random_leaves.accounts(drawn, found_roots, rows, codes, code_rows)
        places = writer.add(leaves)
        self._write_bundles(places, bundle, rows[self._is_small(contracts)])
        width = 1 << (256 - 4 * nibbles)
        key, value = Marker(part * width, (part + 1) * width, len(leaves), leaves.nbytes).encode()
        self.accounts.put(MARKER + key, value)

    def _drawn(self, part: int, parts: int, nibbles: int, coded: int) -> tuple[Words, Ints]:
        """Words of the accounts of one slice in key order, and rows of so many with code, -1 for one that is gone."""
        spec = self.spec
        first, last = spec.accounts * part // parts, spec.accounts * (part + 1) // parts
        drawn = words(spec.seed, Kind.ACCOUNT, np.arange(first, last), ACCOUNT_WORDS)
        under(drawn, part, nibbles)
        gone = self.changes.change_accounts(drawn, first)
        order = np.argsort(drawn[:, 0])
        coded_rows = order[np.sort(np.argsort(drawn[order, 1], kind="stable")[:coded])]
        drawn = np.concatenate([drawn, self.changes.new_accounts(part, parts, nibbles)])
        stay = np.flatnonzero(~np.append(gone, np.zeros(len(drawn) - len(gone), np.bool_)))
        order = stay[np.argsort(drawn[stay, 0])]
        places = np.full(len(drawn), -1)
        places[order] = np.arange(len(order))
        return drawn[order], places[coded_rows]

    def _is_small(self, contracts: Ints) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        found: np.ndarray[tuple[int], np.dtype[np.bool_]] = self.plan.sizes[contracts] <= SMALL_TRIE
        return found

    def _storage(self, keys: Bytes, contracts: Ints) -> tuple[Bytes, Bundle | None]:
        """Make the storage of some contracts; return their roots, and the small tries."""
        found = np.empty((len(contracts), KEY_BYTES), np.uint8)
        is_small = self._is_small(contracts)
        for row in np.flatnonzero(~is_small).tolist():
            root = self._big_storage(keys[row].tobytes(), int(contracts[row]))
            found[row] = np.frombuffer(root, np.uint8)
        small = contracts[is_small]
        if not len(small):
            return found, None
        leaves, starts = self._small_slots(small)
        found[is_small] = roots(leaves, starts[:-1])
        return found, Bundle(keys[is_small], found[is_small], starts, leaves)

    def _small_slots(self, contracts: Ints) -> tuple[Leaves, Ints]:
        """Slots of small contracts, one contract after another, and where each one's begin."""
        sizes = self.plan.sizes[contracts]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        owner = np.repeat(np.arange(len(contracts)), sizes)
        number = np.arange(int(starts[-1])) - starts[owner]
        drawn = words(self.spec.seed, Kind.SLOT, (self.plan.templates[contracts][owner] << 32) + number, SLOT_WORDS)
        self.changes.change_slots(drawn, contracts[owner], sizes[owner], number)
        return random_leaves.slots(drawn[np.lexsort((drawn[:, 0], owner))]), starts

    def _big_storage(self, account: bytes, contract: int) -> bytes:
        """Make and write the storage of one big contract; return its root."""
        size, template = int(self.plan.sizes[contract]), int(self.plan.templates[contract])
        depth = depth_for(size)
        writer = PageWriter(self.storage, STORAGE_PAGE + account, TOP + account, depth)
        parts, nibbles = _slices(size, depth)
        for part in range(parts):
            numbers = np.arange(size * part // parts, size * (part + 1) // parts)
            drawn = words(self.spec.seed, Kind.SLOT, numbers + (template << 32), SLOT_WORDS)
            self.changes.change_slots(drawn, np.full(len(drawn), contract), np.full(len(drawn), size), numbers)
            under(drawn, part, nibbles)
            writer.add(random_leaves.slots(drawn[np.argsort(drawn[:, 0])]))
        root = writer.root()
        self.ledger.put(RECORD + account, TrieRecord(root, depth, True, writer.leaves, writer.size).encode())
        return root

    def _write_bundles(self, places: list[tuple[PagePath, int, int]], tries: Bundle | None, rows: Ints) -> None:
        """Write the small tries, whose accounts are the given rows of a slice, as one bundle per account page."""
        if tries is None:
            return
        cuts = np.searchsorted(rows, [first for _, first, _ in places] + [places[-1][2]]).tolist()
        starts = tries.starts.tolist()
        for (path, _, _), first, last in zip(places, cuts, cuts[1:], strict=False):
            if first < last:
                leaves = tries.leaves[starts[first] : starts[last]]
                bundle = Bundle(
                    tries.accounts[first:last],
                    tries.roots[first:last],
                    tries.starts[first : last + 1] - starts[first],
                    leaves,
                )
                self.bundles.put(account_key(BUNDLE, path), encode_bundle(bundle, path.depth))
