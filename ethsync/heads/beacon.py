"""Heads from beacon nodes: their REST API is asked once every slot.

A beacon node that is asked is trusted: what it names is the head. Several must agree (`agreement`). Whatever goes wrong
with one (it is away, starts anew, is syncing, answers nonsense) is shown in the feed's state and tried again a slot
later; the last head stays.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from ethsync.errors import ConfigError, PeerError
from ethsync.heads.agreement import Agreement
from ethsync.heads.beacon_blocks import (
    decode_block,
    decode_chain_id,
    decode_finalized_root,
    decode_slot_time,
    decode_syncing,
)
from ethsync.heads.head import HeadPhase, TrustedHead
from ethsync.heads.http_client import HttpRefused, open_http
from ethsync.heads.json_fields import parse_json

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from ethsync.heads.beacon_blocks import ExecutionRef, NodeSyncing
    from ethsync.heads.head import HeadFeed
    from ethsync.heads.http_client import HttpClient
    from ethsync.heads.http_url import HttpUrl
    from ethsync.heads.json_fields import JsonValue

SLOT_TIME = 12.0
"""Seconds of a slot on mainnet, sepolia, hoodi and holesky (consensus-specs, configs/mainnet.yaml; eth-clients,
metadata/config.yaml of the others), until a beacon node says another. If it is wrong, heads come late, no more."""

SLOT_TIMES = (1.0, 60.0)
"""Bounds on what a beacon node may say: we neither flood it nor fall asleep."""

MOST_SMALL = 1 << 20
"""Bytes of an answer about the node, its checkpoints or its configuration; the last is the longest, some 20 kB."""

MOST_BLOCK = 48 << 20
"""Bytes of a block in JSON: a payload has at most 10 MiB (EIP-7934), doubled by hexadecimal digits, and as much again
for blobs' commitments, attestations and what forks may add. The blinded form has about 100 kB."""

NEAR_HEAD = 32
"""Slots from the head at which a syncing node's head is used all the same: an epoch, half of what a pivot is behind."""

_BLOCK_FORMS = ("/eth/v1/beacon/blinded_blocks/", "/eth/v2/beacon/blocks/")
"""The blinded form has no transactions and is a hundredth of the whole; not all servers have it, and from Gloas on it
is not defined."""

_LARGE = 1 << 16  # bytes of JSON that take about a millisecond to parse: then in a thread

_log = logging.getLogger(__name__)


class BeaconNode:
    """One beacon node as it was seen at the last polls."""

    def __init__(self, url: HttpUrl, chain_id: int, tls: ssl.SSLContext | None) -> None:
        self.url = url
        self.trouble = "it was not asked yet"
        """Why the last poll brought nothing; empty if it brought something."""
        self.syncing: NodeSyncing | None = None
        self.only_finalized = False
        self.slot_time: float | None = None
        self._chain_id = chain_id
        self._tls = tls
        self._checked = False
        self._has_heads = False
        self._forms: tuple[str, ...] = _BLOCK_FORMS
        self._finalized_root: bytes | None = None
        self._finalized: ExecutionRef | None = None

    async def poll(self) -> tuple[ExecutionRef, ExecutionRef | None] | None:
        """Ask for the head and the finalized block. None if there was trouble, or if the node is syncing.

        Raises ConfigError if it follows another chain.
        """
        self.syncing = None
        try:
            async with open_http(self.url, self._tls) as http:
                if not self._checked:
                    await self._check(http)
                self.syncing = await self._ask_syncing(http)
                if self.syncing is not None and self.syncing.is_syncing and self.syncing.distance > NEAR_HEAD:
                    self.trouble = ""
                    return None
                found = await self._head(http), await self._ask_finalized(http)
        except PeerError as error:
            named = str(error).startswith(str(self.url))  # decoders do not know whose answer they read
            self.trouble = str(error) if named else f"{self.url}: {error}"
            return None
        self.trouble = ""
        return found

    async def _check(self, http: HttpClient) -> None:
        """Once: does it follow our chain, and how long is a slot there? Servers may leave both out."""
        document = await _optional(http, "/eth/v1/config/deposit_contract")
        if document is not None and (chain_id := decode_chain_id(document)) != self._chain_id:
            raise ConfigError(
                f"{self.url} follows the chain {chain_id} instead of {self._chain_id}",
                hint="give --head a beacon node of this network",
            )
        document = await _optional(http, "/eth/v1/config/spec")
        if document is not None:
            self.slot_time = decode_slot_time(document)
            if self.slot_time is None:
                _log.warning("%s does not say how long a slot is: %g s are taken for it", self.url, SLOT_TIME)
        self._checked = True

    async def _ask_syncing(self, http: HttpClient) -> NodeSyncing | None:
        document = await _optional(http, "/eth/v1/node/syncing")
        return decode_syncing(document) if document is not None else None

    async def _head(self, http: HttpClient) -> ExecutionRef:
        """The head; from a server that has finalized blocks only, the last of these."""
        try:
            head = await self._block(http, "head")
        except HttpRefused as error:
            if error.status != 404 or self._has_heads:  # a node that is starting may have no head for a moment
                raise
            head = await self._block(http, "finalized")
            self.only_finalized = True
            return head
        self.only_finalized, self._has_heads = False, True
        return head

    async def _ask_finalized(self, http: HttpClient) -> ExecutionRef | None:
        """The finalized block, fetched only when another one became final."""
        document = await _optional(http, "/eth/v1/beacon/states/head/finality_checkpoints")
        root = decode_finalized_root(document) if document is not None else None
        if root is None:
            return None
        if root != self._finalized_root:
            try:
                self._finalized = await self._block(http, f"0x{root.hex()}")
            except HttpRefused as error:
                if error.status != 404:
                    raise
                self._finalized = None  # it began at a checkpoint and has not fetched what is before it
            self._finalized_root = root
        return self._finalized

    async def _block(self, http: HttpClient, block_id: str) -> ExecutionRef:
        """A block in the first form that the node has. The form is remembered.

        Raises HttpRefused, with the status of the whole block's answer, if it has neither.
        """
        for place, form in enumerate(self._forms):
            try:
                response = await http.get_response(form + block_id, MOST_BLOCK)
            except HttpRefused as error:
                if place == len(self._forms) - 1 or error.status == 503:
                    raise
                continue
            if place:
                self._forms = self._forms[place:]
            return decode_block(await _parse(response.body), response.headers.get("eth-consensus-version"))
        raise AssertionError("no form of a block is left to ask for")


async def _optional(http: HttpClient, path: str) -> JsonValue:
    """Ask for something small that not all servers have; None if this one has not."""
    try:
        return await _parse(await http.get(path, MOST_SMALL))
    except HttpRefused as error:
        if error.status in (404, 405, 501):
            return None
        raise


async def _parse(body: bytes) -> JsonValue:
    return await trio.to_thread.run_sync(parse_json, body) if len(body) > _LARGE else parse_json(body)


async def run_beacon(
    urls: Sequence[HttpUrl],
    feed: HeadFeed,
    *,
    chain_id: int,
    tls: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Publish what the beacon nodes at these URLs agree on, until cancelled.

    Raises ConfigError if one of them follows another chain. Nothing else that they do ends it.
    """
    nodes = [BeaconNode(url, chain_id, tls) for url in urls]
    heads, finals = Agreement(len(nodes)), Agreement(len(nodes))

    async def poll(place: int) -> None:
        found = await nodes[place].poll()
        if found is not None:
            heads.note(place, found[0])
            if found[1] is not None:
                finals.note(place, found[1])

    task_status.started()
    while True:
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            for place in range(len(nodes)):
                nursery.start_soon(poll, place)
        _conclude(nodes, heads, finals, feed)
        # Nothing tells us of a new block but asking; nodes' event streams end with every restart and differ.
        await trio.sleep_until(started + min(_slot_time(node) for node in nodes))


def _slot_time(node: BeaconNode) -> float:
    least, most = SLOT_TIMES
    return SLOT_TIME if node.slot_time is None else min(max(node.slot_time, least), most)


def _conclude(nodes: Sequence[BeaconNode], heads: Agreement, finals: Agreement, feed: HeadFeed) -> None:
    """Publish the agreed head, and say how things are. One node that is silent or syncing holds up all."""
    phase, detail = _phase(nodes, feed)
    if phase is HeadPhase.FOLLOWING:
        agreed, final = heads.agreed(), finals.agreed()
        if agreed is not None:
            feed.publish(
                TrustedHead(
                    agreed.block_hash,
                    agreed.number,
                    finalized=final.block_hash if final is not None else None,
                    slot=agreed.slot,
                    optimistic=agreed.optimistic,
                    only_finalized=any(node.only_finalized for node in nodes),
                )
            )
        if agreed is None or not heads.is_close(agreed):
            phase, detail = HeadPhase.DISAGREEING, _differences(nodes, heads)
    if phase is not feed.state.phase:
        level = logging.INFO if phase is HeadPhase.FOLLOWING else logging.WARNING
        _log.log(level, "trusted head: %s%s", phase.value, f": {detail}" if detail else "")
    feed.report(phase, trio.current_time(), detail)


def _phase(nodes: Sequence[BeaconNode], feed: HeadFeed) -> tuple[HeadPhase, str]:
    for node in nodes:
        if node.trouble:
            return (HeadPhase.WAITING if feed.head is None else HeadPhase.LOST), node.trouble
    for node in nodes:
        if node.syncing is not None and node.syncing.is_syncing and node.syncing.distance > NEAR_HEAD:
            return HeadPhase.SYNCING, f"{node.url} is {node.syncing.distance} slots from its head"
    if any(node.only_finalized for node in nodes):
        return HeadPhase.FOLLOWING, "finalized blocks only"
    return HeadPhase.FOLLOWING, ""


def _differences(nodes: Sequence[BeaconNode], heads: Agreement) -> str:
    named = zip(nodes, heads.newest(), strict=True)
    return "; ".join(f"{node.url} names {f'0x{head.hex()}' if head else 'nothing'}" for node, head in named)
