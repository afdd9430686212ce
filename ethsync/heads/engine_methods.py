"""The Engine API as an execution client offers it that executes nothing.

Every payload is checked as far as that goes without a state, and its block hash above all. What passes is remembered,
and answered with SYNCING: the data to validate it are missing, and will be. VALID is never said, not even of the block
whose whole state we hold and verified: that state has the root which the header names, but nobody here has executed
the block to see that it is right (docs/decisions/0006-never-valid.md).

Source: execution-apis, src/engine/{common,paris,shanghai,cancun,prague,osaka,amsterdam,identification}.md.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from ethsync import __version__
from ethsync.errors import MalformedMessage
from ethsync.heads import payload as payloads
from ethsync.heads.fork_windows import in_force, within
from ethsync.heads.head import HeadPhase, TrustedHead
from ethsync.heads.json_fields import data, items, mapping, member, only, quantity
from ethsync.heads.json_rpc import RpcCode, RpcError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ethsync.heads.fork_windows import ForkTimes
    from ethsync.heads.head import HeadFeed
    from ethsync.heads.json_fields import JsonValue
    from ethsync.heads.json_rpc import Method
    from ethsync.heads.known_blocks import KnownBlock
    from ethsync.heads.payload import Companions, Payload

CLIENT_CODE = "ES"
"""Two letters that no client in identification.md has."""

NO_BLOCK = bytes(32)
"""Safe or finalized hash of a chain that has no such block yet."""

MOST_BODIES = 1024
"""Bodies or blobs in one request that we look at at all: at least 32 and 128 (shanghai.md, cancun.md)."""

OLD = 32 * 12.0
"""Seconds after which a head is called old: an epoch of a public network."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NewPayload:
    """One version of engine_newPayload: its structure, its parameters and the forks that it is for."""

    structure: int
    parameters: int = 1
    first: str | None = None
    end: str | None = None
    hash_status: str = "INVALID"
    """What is said of a wrong block hash; version 1 has a status of its own for that (shanghai.md)."""


NEW_PAYLOAD: Mapping[int, NewPayload] = {
    1: NewPayload(1, hash_status="INVALID_BLOCK_HASH"),
    2: NewPayload(2, end="Cancun"),
    3: NewPayload(3, 3, "Cancun", "Prague"),
    4: NewPayload(3, 4, "Prague", "Amsterdam"),
    5: NewPayload(4, 4, "Amsterdam", "Bogota"),
}

_ATTRIBUTES_V1 = ("timestamp", "prevRandao", "suggestedFeeRecipient")
_ATTRIBUTES_V3 = (*_ATTRIBUTES_V1, "withdrawals", "parentBeaconBlockRoot")


@dataclass(frozen=True, slots=True)
class ForkchoiceUpdated:
    """One version of engine_forkchoiceUpdated: fields of its payload attributes and the forks that they are for."""

    attributes: tuple[str, ...]
    first: str | None = None
    end: str | None = None
    takes_columns: bool = False


FORKCHOICE_UPDATED: Mapping[int, ForkchoiceUpdated] = {
    1: ForkchoiceUpdated(_ATTRIBUTES_V1),
    2: ForkchoiceUpdated((*_ATTRIBUTES_V1, "withdrawals"), end="Cancun"),
    3: ForkchoiceUpdated(_ATTRIBUTES_V3, "Cancun", "Amsterdam"),
    4: ForkchoiceUpdated((*_ATTRIBUTES_V3, "slotNumber", "targetGasLimit"), "Amsterdam", "Bogota", takes_columns=True),
}

_ATTRIBUTE_WIDTHS = {"prevRandao": 32, "suggestedFeeRecipient": 20, "parentBeaconBlockRoot": 32}


class Engine:
    """Answers a consensus client's calls and feeds what it names as the head."""

    def __init__(self, feed: HeadFeed, forks: ForkTimes, wall_clock: Callable[[], float]) -> None:
        self._feed = feed
        self._forks = forks
        self._wall_clock = wall_clock
        # Calls are answered in the order in which they came (common.md, "Message ordering"), on all connections.
        self._turn = trio.Lock()

    def methods(self) -> dict[str, Method]:
        """All methods under `engine_`, by name."""
        found: dict[str, Method] = {
            **{f"engine_newPayloadV{n}": functools.partial(self.new_payload, n) for n in NEW_PAYLOAD},
            **{
                f"engine_forkchoiceUpdatedV{n}": functools.partial(self.forkchoice_updated, n)
                for n in FORKCHOICE_UPDATED
            },
            **{f"engine_getPayloadV{n}": get_payload for n in range(1, 7)},
            **{f"engine_getPayloadBodiesByHashV{n}": get_bodies_by_hash for n in (1, 2)},
            **{f"engine_getPayloadBodiesByRangeV{n}": get_bodies_by_range for n in (1, 2)},
            "engine_getBlobsV1": get_blobs_v1,
            **{f"engine_getBlobsV{n}": get_blobs for n in (2, 3)},
            "engine_getBlobsV4": get_blobs_v4,
            "engine_getClientVersionV1": get_client_version,
        }
        names: list[JsonValue] = [*found]

        async def exchange_capabilities(parameters: Sequence[JsonValue]) -> JsonValue:
            """The answer lists all methods but this one (common.md)."""
            items(_parameter(parameters, 0), "capabilities", MOST_BODIES)
            return names

        return {**found, "engine_exchangeCapabilities": exchange_capabilities}

    async def new_payload(self, version: int, parameters: Sequence[JsonValue]) -> JsonValue:
        """engine_newPayloadV1 to V5."""
        async with self._turn:
            method = NEW_PAYLOAD[version]
            payload, companions = await trio.to_thread.run_sync(self._read_payload, version, parameters)
            if not within(self._forks, payload.timestamp, method.first, method.end):
                raise RpcError(RpcCode.UNSUPPORTED_FORK, f"newPayloadV{version} is not for blocks of that time")
            try:
                block = await trio.to_thread.run_sync(payloads.check_payload, payload, companions)
                self._check_ancestry(block)
            except payloads.InvalidPayload as error:
                status = method.hash_status if isinstance(error, payloads.WrongBlockHash) else "INVALID"
                _log.warning("a payload for block %d is invalid: %s", payload.fields["number"], error)
                return _payload_status(status, str(error))
            self._feed.blocks.add(block)
            return _payload_status("ACCEPTED" if self._is_accepted(block) else "SYNCING")

    def _read_payload(self, version: int, parameters: Sequence[JsonValue]) -> tuple[Payload, Companions]:
        """Raises MalformedMessage, which becomes -32602."""
        method = NEW_PAYLOAD[version]
        given = [_parameter(parameters, place) for place in range(method.parameters)]
        if any(each is not None for each in parameters[method.parameters :]):
            raise MalformedMessage(f"newPayloadV{version} has {method.parameters} parameters")
        structure = method.structure
        if version == 2 and not in_force(self._forks, "Shanghai", payloads.payload_timestamp(given[0])):
            structure = 1
        companions = payloads.Companions(
            payloads.decode_hashes(given[1], "a blob hash", payloads.MOST_BLOB_HASHES) if version >= 3 else None,
            data(given[2], "parentBeaconBlockRoot", 32) if version >= 3 else None,
            payloads.decode_requests(given[3]) if version >= 4 else None,
        )
        return payloads.decode_payload(given[0], structure), companions

    def _check_ancestry(self, block: KnownBlock) -> None:
        """Compare a block with its parent, if that is known. Raises InvalidPayload."""
        header, blocks = block.header, self._feed.blocks
        if blocks.is_invalid(header.hash) or blocks.is_invalid(header.parent_hash):
            blocks.mark_invalid(header.hash)
            raise payloads.InvalidPayload("the block descends from an invalid one")
        parent = self._feed.known_header(header.parent_hash)
        if parent is not None and (header.number != parent.number + 1 or header.timestamp <= parent.timestamp):
            blocks.mark_invalid(header.hash)
            raise payloads.InvalidPayload("the block's number or time does not follow its parent's")

    def _is_accepted(self, block: KnownBlock) -> bool:
        """Whether paris.md's conditions of ACCEPTED hold: on a side branch, all ancestors down to our state known."""
        head, held, blocks = self._feed.head, self._feed.held, self._feed.blocks
        if head is None or held is None or not blocks.links(block.header.hash, held.hash):
            return False
        on_branch = blocks.links(block.header.hash, head.block_hash) or blocks.links(head.block_hash, block.header.hash)
        return not on_branch

    async def forkchoice_updated(self, version: int, parameters: Sequence[JsonValue]) -> JsonValue:
        """engine_forkchoiceUpdatedV1 to V4. The head is taken over before the attributes are looked at (paris.md)."""
        async with self._turn:
            method = FORKCHOICE_UPDATED[version]
            head, safe, finalized = _forkchoice_state(_parameter(parameters, 0))
            columns = parameters[2] if len(parameters) > 2 else None
            if columns is not None:
                if not method.takes_columns:
                    raise RpcError(RpcCode.INVALID_PARAMS, f"forkchoiceUpdatedV{version} has 2 parameters")
                data(columns, "custodyColumns", 16)
            status = self._take_over(head, safe, finalized)
            attributes = parameters[1] if len(parameters) > 1 else None
            if attributes is not None:
                self._check_attributes(version, attributes)
            return {"payloadStatus": status, "payloadId": None}

    def _take_over(self, head: bytes, safe: bytes | None, finalized: bytes | None) -> JsonValue:
        blocks = self._feed.blocks
        if blocks.is_invalid(head):
            return _payload_status("INVALID", "the head descends from an invalid block")
        for name, ancestor in (("safe", safe), ("finalized", finalized)):
            if ancestor is not None and blocks.contradicts(head, ancestor):
                raise RpcError(RpcCode.INVALID_FORKCHOICE_STATE, f"the {name} block is no ancestor of the head")
        header = self._feed.known_header(head)
        number = header.number if header is not None else None
        self._feed.publish(TrustedHead(head, number, finalized=finalized, safe=safe))
        if self._feed.state.phase is not HeadPhase.FOLLOWING:
            _log.info("the consensus client names 0x%s as the head", head.hex())
        age = self._wall_clock() - header.timestamp if header is not None else 0.0
        # It says nothing of its own state. A stalled network looks the same, so this is for people only.
        detail = f"the head is {age / 60:.0f} minutes old: the consensus client may be syncing" if age > OLD else ""
        self._feed.report(HeadPhase.FOLLOWING, trio.current_time(), detail)
        return _payload_status("SYNCING")

    def _check_attributes(self, version: int, attributes: JsonValue) -> None:
        """We build no blocks, but wrong attributes are to be refused by everybody. Raises RpcError."""
        method = FORKCHOICE_UPDATED[version]
        try:
            fields = mapping(attributes, "payloadAttributes")
            timestamp = quantity(member(fields, "timestamp"), "timestamp")
            wanted = method.attributes
            if version == 2 and not in_force(self._forks, "Shanghai", timestamp):
                wanted = _ATTRIBUTES_V1
            only(fields, dict.fromkeys(wanted), "payloadAttributes")
            for name in wanted:
                _check_attribute(name, member(fields, name))
        except MalformedMessage as error:
            raise RpcError(RpcCode.INVALID_PAYLOAD_ATTRIBUTES, str(error)) from error
        if not within(self._forks, timestamp, method.first, method.end):
            raise RpcError(RpcCode.UNSUPPORTED_FORK, f"forkchoiceUpdatedV{version} is not for blocks of that time")


def _check_attribute(name: str, value: JsonValue) -> None:
    if name == "withdrawals":
        for withdrawal in items(value, name, payloads.MOST_WITHDRAWALS):
            payloads.decode_withdrawal(withdrawal)
    elif name in _ATTRIBUTE_WIDTHS:
        data(value, name, _ATTRIBUTE_WIDTHS[name])
    else:
        quantity(value, name)


def _forkchoice_state(value: JsonValue) -> tuple[bytes, bytes | None, bytes | None]:
    """ForkchoiceStateV1: head, safe and finalized hash. Raises MalformedMessage, RpcError."""
    names = ("headBlockHash", "safeBlockHash", "finalizedBlockHash")
    only(mapping(value, "forkchoiceState"), dict.fromkeys(names), "forkchoiceState")
    head, safe, finalized = (data(member(value, name), name, 32) for name in names)
    if head == NO_BLOCK:
        raise RpcError(RpcCode.INVALID_FORKCHOICE_STATE, "the head is no block")
    return head, None if safe == NO_BLOCK else safe, None if finalized == NO_BLOCK else finalized


def _parameter(parameters: Sequence[JsonValue], place: int) -> JsonValue:
    """A parameter that must be there. Raises MalformedMessage."""
    if place >= len(parameters) or parameters[place] is None:
        raise MalformedMessage(f"parameter {place + 1} is missing")
    return parameters[place]


def _payload_status(status: str, error: str | None = None) -> JsonValue:
    """PayloadStatusV1. We know of no valid ancestor of anything: we validated none."""
    return {"status": status, "latestValidHash": None, "validationError": error}


async def get_payload(parameters: Sequence[JsonValue]) -> JsonValue:
    """engine_getPayloadV1 to V6: we never began to build one."""
    data(_parameter(parameters, 0), "payloadId", 8)
    raise RpcError(RpcCode.UNKNOWN_PAYLOAD, "no blocks are built here")


async def get_bodies_by_hash(parameters: Sequence[JsonValue]) -> JsonValue:
    """engine_getPayloadBodiesByHashV1 and V2: bodies are not kept."""
    return [None] * len(_asked_for(parameters))


async def get_bodies_by_range(parameters: Sequence[JsonValue]) -> JsonValue:
    """engine_getPayloadBodiesByRangeV1 and V2: we have no latest block, so any range is after it (shanghai.md)."""
    start, count = (quantity(_parameter(parameters, place), name) for place, name in enumerate(("start", "count")))
    if start < 1 or count < 1:
        raise RpcError(RpcCode.INVALID_PARAMS, "start and count are at least 1")
    if count > MOST_BODIES:
        raise RpcError(RpcCode.TOO_LARGE_REQUEST, f"at most {MOST_BODIES}")
    return []


async def get_blobs_v1(parameters: Sequence[JsonValue]) -> JsonValue:
    """engine_getBlobsV1: we have no pool of blobs."""
    return [None] * len(_asked_for(parameters))


async def get_blobs(parameters: Sequence[JsonValue]) -> JsonValue:
    """engine_getBlobsV2 and V3: null from whoever is syncing (osaka.md)."""
    _asked_for(parameters)
    return None


async def get_blobs_v4(parameters: Sequence[JsonValue]) -> JsonValue:
    """engine_getBlobsV4: the same, for some columns of blobs (amsterdam.md)."""
    data(_parameter(parameters, 1), "indices_bitarray", 16)
    return await get_blobs(parameters)


def _asked_for(parameters: Sequence[JsonValue]) -> Sequence[JsonValue]:
    """An array of hashes, at most `MOST_BODIES`. Raises RpcError, MalformedMessage."""
    asked = _parameter(parameters, 0)
    if isinstance(asked, list) and len(asked) > MOST_BODIES:
        raise RpcError(RpcCode.TOO_LARGE_REQUEST, f"at most {MOST_BODIES}")
    hashes = items(asked, "hashes", MOST_BODIES)
    for each in hashes:
        data(each, "a hash", 32)
    return hashes


async def get_client_version(parameters: Sequence[JsonValue]) -> JsonValue:
    """engine_getClientVersionV1. Which commit we are built from is not known to us."""
    mapping(_parameter(parameters, 0), "the client's version")
    return [{"code": CLIENT_CODE, "name": "ethsync", "version": f"v{__version__}", "commit": "0x00000000"}]
