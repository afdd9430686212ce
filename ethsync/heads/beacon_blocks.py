"""What beacon blocks say about execution blocks: JSON of the Beacon API in, hashes out.

Until Fulu a beacon block carries its execution payload, or in the blinded form the payload's header. From Gloas on
(EIP-7732) it carries a bid: a promise of a payload that its builder reveals later, or not. What is certain then is
`parent_block_hash`, the newest payload that was revealed and that this block builds on. It is one slot older than the
promise, and it is what consensus clients themselves call finalized (consensus-specs, specs/gloas/fork-choice.md,
notify_forkchoice_updated) and what the light client protocol proves (specs/gloas/light-client). The payload's envelope
would be newer by that slot, at the price of the whole payload in JSON every slot; a pivot is 64 blocks back anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ethsync.errors import MalformedMessage
from ethsync.heads.json_fields import JsonValue, data, decimal, flag, mapping, member

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NO_HASH = bytes(32)
"""Hash in place of a block that there is not: a payload before the merge, a checkpoint before any is final."""


@dataclass(frozen=True, slots=True)
class ExecutionRef:
    """The execution block that a beacon block stands for. `number` and `parent_hash` are None where it says none."""

    slot: int
    block_hash: bytes
    parent_hash: bytes | None
    number: int | None
    optimistic: bool
    """The beacon node has not had the block executed."""


@dataclass(frozen=True, slots=True)
class NodeSyncing:
    """A beacon node about itself (`/eth/v1/node/syncing`). `distance` is in slots."""

    distance: int
    is_syncing: bool
    is_optimistic: bool
    execution_offline: bool


_Found: TypeAlias = "tuple[bytes, bytes | None, int | None]"  # hash, parent's hash, number


def _from_payload(body: JsonValue) -> _Found:
    fields = mapping(body, "body")
    payload = fields.get("execution_payload_header") or fields.get("execution_payload")
    found = tuple(
        data(member(payload, name), name, 32) for name in ("block_hash", "parent_hash")
    )  # fmt: skip
    return found[0], found[1], decimal(member(payload, "block_number"), "block_number")


def _from_bid(body: JsonValue) -> _Found:
    bid = member(body, "signed_execution_payload_bid", "message")
    return data(member(bid, "parent_block_hash"), "parent_block_hash", 32), None, None


_READERS: Mapping[str, Callable[[JsonValue], _Found]] = {
    **dict.fromkeys(("bellatrix", "capella", "deneb", "electra", "fulu"), _from_payload),
    **dict.fromkeys(("gloas", "heze"), _from_bid),
}
"""By the fork that the response names. Heze only adds to the bid (consensus-specs, specs/heze/beacon-chain.md)."""


def decode_block(document: JsonValue, version: str | None = None) -> ExecutionRef:
    """Read the answer for a block, whole or blinded (`/eth/v2/beacon/blocks`, `/eth/v1/beacon/blinded_blocks`).

    `version` is the header Eth-Consensus-Version, for servers that leave it out of the document. Raises
    MalformedMessage, also for blocks from before the merge and of forks that are not known here.
    """
    fields = mapping(document, "the answer")
    named = fields.get("version", version)
    reader = _READERS.get(named) if isinstance(named, str) else None
    if reader is None:
        raise MalformedMessage(
            f"a beacon block of the fork {str(named)[:20]!r} names no execution block that we can read"
        )
    message = member(fields, "data", "message")
    block_hash, parent_hash, number = reader(member(message, "body"))
    if block_hash == NO_HASH:
        raise MalformedMessage("the beacon block is from before the merge: it names no execution block")
    optimistic = flag(fields.get("execution_optimistic") or False, "execution_optimistic")
    return ExecutionRef(decimal(member(message, "slot"), "slot"), block_hash, parent_hash, number, optimistic)


def decode_syncing(document: JsonValue) -> NodeSyncing:
    """Read the answer of `/eth/v1/node/syncing`. Raises MalformedMessage."""
    fields = mapping(member(document, "data"), "data")
    return NodeSyncing(
        decimal(fields.get("sync_distance"), "sync_distance"),
        flag(fields.get("is_syncing"), "is_syncing"),
        flag(fields.get("is_optimistic") or False, "is_optimistic"),  # added to the API later than the rest
        flag(fields.get("el_offline") or False, "el_offline"),
    )


def decode_finalized_root(document: JsonValue) -> bytes | None:
    """Read the answer of `/eth/v1/beacon/states/head/finality_checkpoints`: root of the finalized beacon block.

    None if nothing is final yet. Raises MalformedMessage.
    """
    root = data(member(document, "data", "finalized", "root"), "the finalized root", 32)
    return None if root == NO_HASH else root


def decode_chain_id(document: JsonValue) -> int:
    """Read the chain id in `/eth/v1/config/deposit_contract`. Raises MalformedMessage."""
    return decimal(member(document, "data", "chain_id"), "chain_id")


def decode_slot_time(document: JsonValue) -> float | None:
    """Read the seconds of a slot in `/eth/v1/config/spec`; None if they are not there. Raises MalformedMessage.

    The name and unit changed (consensus-specs, configs/mainnet.yaml); servers give one or both.
    """
    config = mapping(member(document, "data"), "data")
    if config.get("SLOT_DURATION_MS") is not None:
        return decimal(config["SLOT_DURATION_MS"], "SLOT_DURATION_MS") / 1000
    if config.get("SECONDS_PER_SLOT") is not None:
        return float(decimal(config["SECONDS_PER_SLOT"], "SECONDS_PER_SLOT"))
    return None
