"""A synthetic state, deterministic in its seed, written into a data directory as a finished sync would have left it.

Keys are random, as hashes are. A few accounts are contracts; one contract holds a third of all slots, a few hold
thousands, most a handful; one in twenty has the same storage as others, and codes are shared too. The state is made in
slices of the key space, so that memory does not grow with it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from ethsync.errors import ConfigError, DatadirMismatch
from ethsync.serve import random_leaves
from ethsync.serve.demo import demo_network, synthetic_header, write_genesis
from ethsync.serve.page_writer import Batch, PageWriter
from ethsync.serve.random_leaves import ACCOUNT_WORDS, KEY_WORDS, SLOT_WORDS, Kind, under, words
from ethsync.state.columns import KEY_BYTES, Leaves
from ethsync.state.pages import SMALL_TRIE, Bundle, depth_for, encode_bundle
from ethsync.state.tries import roots
from ethsync.store.datadir import open_datadir
from ethsync.store.schema import (
    ACCOUNT_PAGE,
    BUNDLE,
    CODE,
    FACT,
    FACT_DEPTH,
    FACT_PIVOT,
    FORMAT_VERSION,
    RECORD,
    STORAGE_PAGE,
    TOP,
    Format,
    Marker,
    TrieRecord,
    account_key,
    header_key,
)
from ethsync.store.schema import MARKER as ACCOUNT_MARKER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ethsync.state.columns import Bytes, Ints
    from ethsync.store.datadir import Datadir
    from ethsync.wire.headers import Header

FACT_SYNTHETIC = FACT + b"synthetic"

SLICE_LEAVES = 65_536
"""Most leaves per slice, about: 40 MB of columns and scratch space."""

CODES_AT_ONCE = 4_096
"""Codes per round: 12 MB of 1.5 kB codes, a multiple of every number of hash lanes."""

SHARED_STORAGE = 20  # one contract in so many has the same storage as some others
SHARERS = 10  # contracts that have it, on average
MIDDLING = 250  # one contract in so many is of middling size


@dataclass(frozen=True, slots=True)
class SyntheticSpec:
    """How much of what. `contracts` have storage, at least one slot each; `codes` are distinct."""

    accounts: int
    contracts: int = 0
    slots: int = 0
    codes: int = 0
    seed: int = 1
    code_bytes: int = 1500

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 0 or self.accounts < 1 or self.code_bytes < 18:
            raise ConfigError(f"no state can be made of {self}", hint="accounts ≥ 1, code_bytes ≥ 18, nothing below 0")
        if max(self.contracts, self.codes) > self.accounts:
            raise ConfigError(f"{self.accounts} accounts cannot have {self.contracts} contracts and {self.codes} codes")
        if self.slots < self.contracts or (self.slots and not self.contracts):
            raise ConfigError(f"{self.slots} slots for {self.contracts} contracts: each has at least one")

    def __str__(self) -> str:
        return ",".join(f"{name}={value}" for name, value in asdict(self).items())


def parse_spec(text: str) -> SyntheticSpec:
    """Read "accounts=1000000,contracts=50000,slots=1400000,codes=50000,seed=1". Raises ConfigError."""
    fields: dict[str, int] = {}
    for item in text.split(","):
        name, _, value = item.strip().partition("=")
        digits = value.replace("_", "")
        if name not in SyntheticSpec.__slots__ or not (digits.isascii() and digits.isdigit()) or name in fields:
            raise ConfigError(
                f"'{item}' is not a part of a synthetic state", hint="write accounts=N,contracts=N,slots=N,codes=N,seed=N"
            )
        fields[name] = int(digits)
    if "accounts" not in fields:
        raise ConfigError(f"'{text}' does not say how many accounts")
    return SyntheticSpec(**fields)


DEMO_SPEC = SyntheticSpec(accounts=200_000, contracts=10_000, slots=300_000, codes=5_000)
"""What `--network demo` serves."""


def create_synthetic(spec: SyntheticSpec, path: Path, *, progress: Callable[[float], None] | None = None) -> Header:
    """Write the state into a data directory, unless it is there already; return the header of its block.

    Synchronous: run it in a thread. `progress` gets the share that is done, 0 to 1, from that thread. One that was
    interrupted is made again in place. Raises ConfigError, DatadirBusy, DatadirMismatch (other contents), DiskFull.
    """
    network = demo_network()
    wanted = Format(FORMAT_VERSION, network.name, network.chain_id, "0x" + network.genesis_hash.hex())
    with open_datadir(path, wanted) as datadir:
        found = datadir.accounts.get(FACT_SYNTHETIC)
        header = synthetic_header(spec.seed, datadir.accounts.get(FACT_PIVOT))
        if found is None and datadir.accounts.get(FACT_DEPTH) is not None:
            raise DatadirMismatch(f"{path} holds a state that was synced", hint="use another directory")
        if found is not None and json.loads(found) != asdict(spec):
            raise DatadirMismatch(f"{path} holds another synthetic state", hint="use another directory")
        if header is None:
            datadir.accounts.put(FACT_SYNTHETIC, json.dumps(asdict(spec)).encode())
            header = synthetic_header(spec.seed, None, _Build(spec, datadir, progress).run())
    return header
