"""Storage tries and honest answers about them, made with the `trie` and `rlp` packages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

import rlp
import trio
from trie import HexaryTrie

from ethsync.store.datadir import Datadir
from ethsync.store.writer import Write, Writer
from tests.oracles import messages
from tests.oracles.accounts import scalar
from tests.oracles.messages import Pair
from tests.oracles.tries import proof_of, trie_of

ZERO = bytes(32)


@dataclass(frozen=True)
class Storage:
    """One contract's storage: sorted (slot hash, RLP of the number), and its trie."""

    pairs: list[Pair]
    trie: HexaryTrie

    @property
    def root(self) -> bytes:
        return bytes(self.trie.root_hash)

    def __len__(self) -> int:
        return len(self.pairs)

    def proof(self, origin: bytes, last: bytes | None = None) -> list[bytes]:
        """The nodes on the two edges of a range; those of one edge if it is empty."""
        return proof_of(self.trie, origin, *([] if last is None else [last]))

    def range(self, origin: int, most: int) -> bytes:
        """The answer to a request for slots from `origin` on: at most so many, always with a proof."""
        key = origin.to_bytes(32, "big")
        found = [pair for pair in self.pairs if pair[0] >= key][:most]
        return messages.storage_ranges(1, [found] if found else [], self.proof(key, found[-1][0] if found else None))


def storage(seed: int, slots: int) -> Storage:
    """Slots at random places, with values of every length."""
    rng = Random(f"{seed} {slots}")
    return storage_at([rng.randbytes(32) for _ in range(slots)])


def storage_at(places: Iterable[bytes]) -> Storage:
    """Slots at these places."""
    keys = sorted(places)
    rng = Random(keys[0])
    values = [bytes(rlp.encode(scalar(rng.getrandbits(rng.choice((1, 7, 8, 64, 256))) | 1))) for _ in keys]
    return Storage(list(zip(keys, values, strict=True)), trie_of(keys, values))


def whole(*storages: Storage) -> bytes:
    """The answer that has all of several tries, without proof."""
    return messages.storage_ranges(1, [each.pairs for each in storages])


def cut_off(*storages: Storage, slots: int) -> bytes:
    """The answer that has all tries but the last, of which it has only the first slots, with a proof."""
    *complete, last = storages
    part = last.pairs[:slots]
    return messages.storage_ranges(1, [*(each.pairs for each in complete), part], last.proof(ZERO, part[-1][0]))


async def written(writer: Writer, datadir: Datadir) -> None:
    """Wait until everything queued so far is in the databases, but for what waits for a sync."""
    done = trio.Event()
    await writer.write(Write(datadir.headers, [], done=done.set))
    await done.wait()
