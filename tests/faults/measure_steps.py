"""What a followed block costs in bytes and time: run by hand, `python -m tests.faults.measure_steps DIR [BLOCKS]`.

DIR gets a synthetic state of a million accounts, unless it holds one. Each block changes 2,500 accounts and 7,000
slots, half of these in contracts with pages of their own and half in bundles, as random as hashes are. Written is what
the kernel counts for this process (`/proc/self/io`), so with LevelDB's own log, merging and folding.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from random import Random

import trio

from ethsync.serve.spec import SyntheticSpec
from ethsync.serve.synthetic import create_synthetic
from ethsync.state.account import decode_slim
from ethsync.state.columns import Leaves, leaves_of
from ethsync.state.pages import PagePath, decode_bundle, path_of, stored_path
from ethsync.state.view import StateView
from ethsync.store.datadir import LAYERS, PATCHES, Datadir, open_datadir
from ethsync.store.folding import fold_all, fold_some
from ethsync.store.merging import ChangedTrie, encode_changed_tries
from ethsync.store.patches import Kind, Patch
from ethsync.store.schema import ACCOUNT_PAGE, BUNDLE, RECORD, STORAGE_PAGE, TOP, account_key, decode_record
from ethsync.sync.follow import write_step
from ethsync.sync.local_trie import LocalTrie, local_accounts, local_storage
from ethsync.sync.page_updates import updated_pages
from ethsync.sync.staged_trie import StagedTrie
from ethsync.sync.step import Totals
from ethsync.sync.verifier import verify
from ethsync.sync.walk import Region

SPEC = SyntheticSpec(accounts=1_000_000, contracts=50_000, slots=1_400_000, codes=1_000)
ACCOUNTS, SLOTS = 2_500, 7_000

Leaf = tuple[bytes, bytes]


def written() -> int:
    """Bytes that this process has had written to the disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def staged(local: LocalTrie, changed: Iterable[Leaf]) -> StagedTrie:
    """Other values of some leaves of a trie."""
    trie = StagedTrie(local)
    ordered = sorted(changed)
    regions = []
    for path, part in groupby(ordered, key=lambda leaf: path_of(leaf[0], local.depth)):
        leaves = list(part)
        puts = leaves_of([key for key, _ in leaves], [value for _, value in leaves], local.kind)
        regions.append(Region(path, puts=[puts]))
    for page in updated_pages(local, regions):
        trie.stage(page)
    return trie


@dataclass(slots=True)
class World:
    """What there is to change."""

    datadir: Datadir
    rng: Random
    accounts: LocalTrie
    leaves: Sequence[Leaves]
    contracts: Sequence[tuple[bytes, LocalTrie, list[bytes]]]
    bundles: Sequence[PagePath]

    def changed_accounts(self) -> list[Patch]:
        puts: dict[bytes, bytes] = {}
        while len(puts) < ACCOUNTS:
            part = self.rng.choice(self.leaves)
            row = self.rng.randrange(len(part))
            account = decode_slim(part.value(row))
            more = self.rng.randrange(1, 1 << 40)
            puts[part.key(row)] = replace(account, nonce=account.nonce + 1, balance=account.balance + more).slim()
        return list(staged(self.accounts, puts.items()).patches(LAYERS["accounts"], ACCOUNT_PAGE, TOP))

    def changed_slots(self) -> list[Patch]:
        found: list[Patch] = []
        chosen = self.rng.choices(
            range(len(self.contracts)), [len(keys) for _, _, keys in self.contracts], k=SLOTS // 2
        )
        for number in sorted(set(chosen)):
            account, local, keys = self.contracts[number]
            puts = {self.rng.choice(keys): b"\xa0" + self.rng.randbytes(32) for _ in range(chosen.count(number))}
            trie = staged(local, puts.items())
            found += trie.patches(LAYERS["storage"], STORAGE_PAGE + account, TOP + account)
            record = self.datadir.ledger.get(RECORD + account)
            found.append(Patch(LAYERS["ledger"], RECORD + account, Kind.VALUE, record or b""))
        return found

    def changed_bundles(self) -> list[Patch]:
        found: list[Patch] = []
        left = SLOTS // 2
        for path in self.rng.choices(self.bundles, k=SLOTS):
            if left <= 0 or any(patch.key == account_key(BUNDLE, path) for patch in found[-3:]):
                break
            bundle = decode_bundle(path, self.datadir.bundles.get(account_key(BUNDLE, path)) or b"")
            trie = self.rng.randrange(len(bundle))
            rows = range(int(bundle.starts[trie]), int(bundle.starts[trie + 1]))
            slots = {bundle.leaves.key(row): b"\xa0" + self.rng.randbytes(32) for row in rows[:3]}
            left -= len(slots)
            account = bundle.accounts[trie].tobytes()[path.depth // 2 :]
            change = encode_changed_tries(path.depth, {account: ChangedTrie(self.rng.randbytes(32), slots)})
            found.append(Patch(LAYERS["bundles"], account_key(BUNDLE, path), Kind.BUNDLE, change))
        return found


def survey(datadir: Datadir) -> World:
    """Find keys to be changed."""
    view = StateView(datadir)
    leaves = list(view.account_blocks())
    contracts = []
    for account, value in datadir.ledger.scan(RECORD):
        slots = [block.key(row) for block in view.storage_blocks(account) for row in range(len(block))]
        contracts.append((account, local_storage(datadir, account, decode_record(value).depth), slots))
    bundles = [stored_path(key) for key, _ in datadir.bundles.scan(BUNDLE, keys_only=True)]
    return World(datadir, Random(1), local_accounts(datadir, view.accounts.depth), leaves, contracts, bundles)


def timed(what: str, run: Callable[[], object]) -> None:
    """Say how long something takes."""
    started = time.perf_counter()
    run()
    print(f"{what}: {time.perf_counter() - started:.2f} s", flush=True)


def read_all(datadir: Datadir) -> None:
    """Read every account."""
    for _ in StateView(datadir).account_blocks():
        pass


async def check(datadir: Datadir) -> None:
    """As `ethsync verify` does; the roots of changed storage are random here."""
    await verify(datadir, StateView(datadir).state_root, trio.CapacityLimiter(2), lambda share: None)


def main(place: Path, blocks: int) -> None:
    """Measure."""
    create_synthetic(SPEC, place)
    with open_datadir(place, followed=True) as datadir:
        fold_all(datadir)
        world = survey(datadir)
        timed("accounts read without patches", lambda: read_all(datadir))
        timed("verified without patches", lambda: trio.run(check, datadir))
        before, started, logical, records = written(), time.perf_counter(), 0, 0
        last = before
        for number in range(1, blocks + 1):
            patches = world.changed_accounts() + world.changed_slots() + world.changed_bundles()
            begun = time.process_time()
            size = write_step(datadir, StateView(datadir).header, patches, Totals())
            size += fold_some(datadir, patches)
            logical += size
            records += len(patches)
            if number % 20 == 0 or number == 1:
                held = sum(file.stat().st_size for file in (place / PATCHES).iterdir())
                print(
                    f"block {number}: {size / 1e6:.2f} MB handed over ({logical / number / 1e6:.2f} on average), "
                    f"{(written() - before) / number / 1e6:.2f} MB written per block "
                    f"({(written() - last) / 20e6:.2f} over the last 20), {records / number:.0f} records, "
                    f"{time.process_time() - begun:.2f} s CPU to write, {held / 1e6:.0f} MB of patches",
                    flush=True,
                )
                last = written()
        print(f"{(time.perf_counter() - started) / blocks:.2f} s per block with making them up")
        timed("accounts read with patches", lambda: read_all(datadir))
        timed("verified with patches", lambda: trio.run(check, datadir))
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100)
