"""Headers made for tests, and as EELS (`ethereum-execution`) reads them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import rlp as oracle
from ethereum.crypto.hash import keccak256 as eels_keccak256
from ethereum_rlp import rlp as eels

from ethsync.hashing import keccak256
from ethsync.headers.rules import NEVER, ChainRules
from ethsync.serve.demo import demo_network
from ethsync.serve.demo_chain import demo_headers
from ethsync.wire import rlp
from ethsync.wire.headers import build_header, decode_header

ETHTEST = Path(__file__).parents[1] / "vectors" / "ethtest"

TAILS: dict[str, dict[str, bytes | int]] = {
    "frontier": {},
    "london": {"base_fee": 7},
    "paris": {"base_fee": 7},
    "shanghai": {"base_fee": 7, "withdrawals_root": b"w" * 32},
    "cancun": {
        "base_fee": 7, "withdrawals_root": b"w" * 32, "blob_gas_used": 0, "excess_blob_gas": 131072,
        "parent_beacon_root": b"b" * 32,
    },
}  # fmt: skip
TAILS["prague"] = TAILS["osaka"] = {**TAILS["cancun"], "requests_hash": b"r" * 32}
"""Tail fields by the name of the fork in EELS."""

AMSTERDAM: dict[str, bytes | int] = {**TAILS["prague"], "block_access_list_hash": b"a" * 32, "slot_number": 9}
"""EELS does not have this fork yet."""


def eels_header(fork: str, raw: bytes) -> Any:
    """Read a header as the specification of a fork does. Raises whatever EELS raises."""
    return eels.decode_to(import_module(f"ethereum.forks.{fork}.blocks").Header, raw)


def eels_hash(header: Any) -> bytes:
    """The hash that EELS gives to a header that it has read."""
    return bytes(eels_keccak256(eels.encode(header)))


def chain_headers() -> list[bytes]:
    """Headers of the 600 blocks in chain.rlp, which geth made."""
    data, headers, position = (ETHTEST / "chain.rlp").read_bytes(), [], 0
    while position < len(data):
        _, _, end = rlp.item_bounds(data, position, len(data))
        headers.append(rlp.split_list(data[position:end])[0])
        position = end
    return headers


def reply(request_id: int, raws: Sequence[bytes]) -> bytes:
    """A BlockHeaders message."""
    number = request_id.to_bytes((request_id.bit_length() + 7) // 8, "big")
    return bytes(oracle.encode([number, [oracle.decode(raw) for raw in raws]]))


def relinked(raws: Sequence[bytes], at: int, **fields: bytes | int) -> list[bytes]:
    """A chain with other fields in one header, and hashes that fit again."""
    changed = list(raws)
    for row in range(at, len(raws)):
        header = decode_header(raws[row])
        known = {name: getattr(header, name) for name in header.__dataclass_fields__ if name not in ("raw", "hash")}
        if row > 0:
            known["parent_hash"] = keccak256(changed[row - 1])
        changed[row] = build_header(**{**known, **(fields if row == at else {})}).raw
    return changed


def demo_chain(count: int, seed: int = 1) -> list[bytes]:
    """The first headers of the demo network."""
    return list(demo_headers(seed, count))


def demo_rules() -> ChainRules:
    """The rules of the demo network: Cancun since its genesis, and nothing after it."""
    return ChainRules(np.array([0, 0, 0, NEVER, NEVER], np.int64), demo_network().genesis_hash)


def random_header(rng: Random, number: int = 1, **fields: bytes | int) -> bytes:
    """A header with random contents."""
    return build_header(
        number=number, parent_hash=rng.randbytes(32), logs_bloom=rng.randbytes(256), timestamp=rng.randrange(2**33),
        gas_limit=rng.randrange(2**30), extra_data=rng.randbytes(rng.randrange(32)), difficulty=rng.randrange(2**60),
        **fields,
    ).raw  # fmt: skip
