"""A consensus client drives us: real HTTP, answers compared with the public schemas, and never the word VALID."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import trio
from trio.testing import MockClock

from ethsync.errors import ConfigError
from ethsync.fork_overrides import with_forks
from ethsync.genesis import network_from_genesis
from ethsync.hashing import keccak256
from ethsync.heads.engine import SILENCE, run_engine
from ethsync.heads.engine_methods import MOST_BODIES
from ethsync.heads.head import HeadFeed, HeadPhase, TrustedHead
from ethsync.networks import Network
from ethsync.wire.headers import Header, build_header
from tests.oracles.engine_client import NOW, SCHEMAS, CallFailed, EngineClient, open_engine
from tests.oracles.payloads import blob_hashes_of, chain_blocks, header_fields, hexed, payload_of

GENESIS = Path(__file__).parents[2] / "vectors" / "ethtest" / "genesis.json"
CANCUN, PRAGUE, AMSTERDAM, BOGOTA = 60, 120, 10_000, 20_000
ZERO = "0x" + "00" * 32


@cache
def network() -> Network:
    """That of geth's chain (Shanghai from the start), with forks to come."""
    return with_forks(network_from_genesis(GENESIS), [("Osaka", 9_000), ("Amsterdam", AMSTERDAM), ("Bogota", BOGOTA)])


@cache
def blocks() -> list[tuple[Header, bytes]]:
    return list(chain_blocks())


@pytest.fixture
async def client() -> AsyncIterator[EngineClient]:
    async with open_engine(network()) as client:
        yield client
        assert "VALID" not in client.statuses


def call_for(number: int) -> tuple[str, list[Any]]:
    """The call that a consensus client makes for a block of geth's chain: method and parameters."""
    header, raw = blocks()[number - 1]
    assert header.number == number
    if header.timestamp < CANCUN:
        return "engine_newPayloadV2", [payload_of(raw)]
    parameters = [payload_of(raw), blob_hashes_of(raw), hexed(header.parent_beacon_root or b"")]
    return ("engine_newPayloadV3", parameters) if header.timestamp < PRAGUE else (
        "engine_newPayloadV4", [*parameters, []]
    )  # fmt: skip


def made(structure: int, *, parent: Header | None = None, **fields: Any) -> tuple[Header, dict[str, Any]]:
    """An empty block with these header fields, and its payload."""
    tail: dict[str, Any] = {"base_fee": 7}
    if structure >= 2:
        tail["withdrawals_root"] = bytes.fromhex("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421")
    if structure >= 3:
        tail |= {"blob_gas_used": 0, "excess_blob_gas": 0, "parent_beacon_root": bytes(32)}
    if parent is not None:
        fields = {"parent_hash": parent.hash, "number": parent.number + 1, "timestamp": parent.timestamp + 1, **fields}
    header = build_header(**{**tail, **fields})
    payload = {**header_fields(header), "transactions": []}
    return header, payload | ({"withdrawals": []} if structure >= 2 else {})


def state(head: bytes, *, safe: bytes = bytes(32), finalized: bytes = bytes(32)) -> dict[str, str]:
    return {"headBlockHash": hexed(head), "safeBlockHash": hexed(safe), "finalizedBlockHash": hexed(finalized)}


async def code_of(client: EngineClient, method: str, *parameters: Any) -> int:
    with pytest.raises(CallFailed) as caught:
        await client.call(method, *parameters)
    return caught.value.code


@pytest.mark.parametrize("number", [1, 5, 6, 11, 12, 320])
async def test_a_good_payload_is_syncing_and_its_header_known(client: EngineClient, number: int) -> None:
    method, parameters = call_for(number)
    assert await client.call(method, *parameters) == {
        "status": "SYNCING",
        "latestValidHash": None,
        "validationError": None,
    }
    header = blocks()[number - 1][0]
    assert client.feed.known_header(header.hash) == header
    # A payload alone makes no head: that is what forkchoiceUpdated is for.
    assert client.feed.head is None


async def test_payloads_link_the_head_back_to_where_a_pivot_would_be(client: EngineClient) -> None:
    for number in range(200, 300):
        method, parameters = call_for(number)
        await client.call(method, *parameters)
    head = blocks()[298][0]
    await client.call("engine_forkchoiceUpdatedV3", state(head.hash), None)
    assert client.feed.head == TrustedHead(head.hash, 299)
    assert [header.number for header in client.feed.blocks.back_from(head.hash)] == list(range(299, 199, -1))


@pytest.mark.parametrize(("version", "status"), [(1, "INVALID_BLOCK_HASH"), (2, "INVALID")])
async def test_a_wrong_block_hash_is_noticed(client: EngineClient, version: int, status: str) -> None:
    header, payload = made(version)
    answer = await client.call(f"engine_newPayloadV{version}", {**payload, "blockHash": ZERO})
    assert (answer["status"], answer["latestValidHash"]) == (status, None)
    assert hexed(header.hash) in answer["validationError"]
    assert len(client.feed.blocks) == 0


@pytest.mark.parametrize("number", [6, 320])
async def test_anything_that_differs_from_the_block_is_invalid(client: EngineClient, number: int) -> None:
    method, parameters = call_for(number)
    for place, wrong in (
        (0, {**parameters[0], "stateRoot": ZERO}),
        (0, {**parameters[0], "transactions": []}),
        (0, {**parameters[0], "transactions": [*parameters[0]["transactions"], "0x"]}),
        (1, [*parameters[1], ZERO]),
        (2, ZERO),
        *([(3, ["0x0102"])] if len(parameters) > 3 else []),
    ):
        answer = await client.call(method, *parameters[:place], wrong, *parameters[place + 1 :])
        assert answer["status"] == "INVALID"
        assert answer["latestValidHash"] is None
        assert answer["validationError"]
    assert len(client.feed.blocks) == 0


@pytest.mark.parametrize(
    ("version", "timestamp", "code"),
    [
        (1, 5, None), (2, 5, None), (2, CANCUN - 1, None), (2, CANCUN, -38005),
        (3, CANCUN - 1, -38005), (3, CANCUN, None), (3, PRAGUE - 1, None), (3, PRAGUE, -38005),
        (4, PRAGUE - 1, -38005), (4, PRAGUE, None), (4, 9_500, None), (4, AMSTERDAM, -38005),
        (5, AMSTERDAM - 1, -38005), (5, AMSTERDAM, None), (5, BOGOTA - 1, None), (5, BOGOTA, -38005),
    ],
)  # fmt: skip
async def test_each_version_is_for_its_forks(
    client: EngineClient, version: int, timestamp: int, code: int | None
) -> None:
    structure = {1: 1, 2: 2, 3: 3, 4: 3, 5: 4}[version]
    _, payload = made(structure, timestamp=timestamp)
    if version == 5:
        payload |= {"blockAccessList": "0xc0", "slotNumber": "0x5"}
    parameters = [payload, [], ZERO, []][: {1: 1, 2: 1, 3: 3}.get(version, 4)]
    if code is None:
        await client.call(f"engine_newPayloadV{version}", *parameters)
    else:
        assert await code_of(client, f"engine_newPayloadV{version}", *parameters) == code


async def test_a_payload_of_amsterdam_is_checked_with_its_access_list_and_slot(client: EngineClient) -> None:
    requests_hash = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    header, payload = made(
        3, timestamp=AMSTERDAM, requests_hash=requests_hash, block_access_list_hash=keccak256(b"\xc0"), slot_number=77
    )
    payload["blockAccessList"] = "0xc0"
    assert payload["slotNumber"] == "0x4d"
    answer = await client.call("engine_newPayloadV5", payload, [], ZERO, [])
    assert answer["status"] == "SYNCING"
    assert client.feed.known_header(header.hash) == header
    for name, wrong in (("blockAccessList", "0xc1c0"), ("slotNumber", "0x4e")):
        answer = await client.call("engine_newPayloadV5", {**payload, name: wrong}, [], ZERO, [])
        assert answer["status"] == "INVALID"
        # Without them the parameters are not those of this version (amsterdam.md).
        assert await code_of(client, "engine_newPayloadV5", {**payload, name: None}, [], ZERO, []) == -32602


async def test_version_2_takes_the_structure_that_its_time_wants() -> None:
    shanghai_later = with_forks(
        network_from_genesis(json.loads(GENESIS.read_text()) | {"config": PARIS}), [("Shanghai", 50)]
    )
    async with open_engine(shanghai_later) as client:
        for structure, timestamp, right in ((1, 49, True), (2, 49, False), (1, 50, False), (2, 50, True)):
            _, payload = made(structure, timestamp=timestamp)
            if right:
                assert (await client.call("engine_newPayloadV2", payload))["status"] == "SYNCING"
            else:
                assert await code_of(client, "engine_newPayloadV2", payload) == -32602


PARIS = {"chainId": 5, "londonBlock": 0, "terminalTotalDifficulty": 0}


@pytest.mark.parametrize("wrong", [[], [None], [{}], [[]], ["0x"], [{"parentHash": "0x"}]])
@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
async def test_other_parameters_are_invalid(client: EngineClient, version: int, wrong: list[Any]) -> None:
    assert await code_of(client, f"engine_newPayloadV{version}", *wrong) == -32602
    assert await code_of(client, f"engine_forkchoiceUpdatedV{min(version, 4)}", *wrong) == -32602


async def test_parameters_beside_the_payload_must_be_there_and_no_others(client: EngineClient) -> None:
    method, (payload, hashes, root, requests) = call_for(320)
    for wrong in (
        [payload, hashes, root],
        [payload, hashes, root, None],
        [payload, None, root, requests],
        [payload, hashes, None, requests],
        [payload, hashes, "0x00", requests],
        [payload, ["0x00"], root, requests],
        [payload, hashes, root, ["0x01"]],
        [payload, hashes, root, requests, []],
    ):
        assert await code_of(client, method, *wrong) == -32602


async def test_a_block_that_does_not_follow_its_parent_is_invalid_with_all_that_descends_from_it(
    client: EngineClient,
) -> None:
    parent, payload = made(2, number=10, timestamp=5)
    await client.call("engine_newPayloadV2", payload)
    for wrong in ({"number": 12}, {"timestamp": 5}, {"number": 10}):
        child, payload = made(2, parent=parent, **wrong)
        grandchild, next_payload = made(2, parent=child)
        for each in (payload, next_payload, next_payload, payload):
            assert (await client.call("engine_newPayloadV2", each))["status"] == "INVALID"
        # And it does not become the head.
        for head in (child, grandchild):
            answer = await client.call("engine_forkchoiceUpdatedV2", state(head.hash), None)
            assert answer["payloadStatus"]["status"] == "INVALID"
    assert client.feed.head is None


async def test_an_invalid_block_stays_invalid_when_its_parent_is_forgotten(client: EngineClient) -> None:
    header, payload = made(2, number=10, timestamp=5)
    client.feed.blocks.mark_invalid(header.hash)
    assert (await client.call("engine_newPayloadV2", payload))["status"] == "INVALID"
    assert client.feed.known_header(header.hash) is None


async def test_a_block_that_used_more_gas_than_its_limit_is_invalid(client: EngineClient) -> None:
    for used, status in ((100, "SYNCING"), (101, "INVALID")):
        _, payload = made(2, timestamp=5, gas_limit=100, gas_used=used)
        assert (await client.call("engine_newPayloadV2", payload))["status"] == status


async def test_a_forkchoice_makes_the_head(client: EngineClient) -> None:
    head, safe, finalized = (bytes((number,)) * 32 for number in (1, 2, 3))
    answer = await client.call("engine_forkchoiceUpdatedV3", state(head, safe=safe, finalized=finalized), None)
    status = {"status": "SYNCING", "latestValidHash": None, "validationError": None}
    assert answer == {"payloadStatus": status, "payloadId": None}
    assert client.feed.head == TrustedHead(head, safe=safe, finalized=finalized)
    assert client.feed.state.phase is HeadPhase.FOLLOWING
    # Zeros stand for no block.
    await client.call("engine_forkchoiceUpdatedV1", state(safe))
    assert client.feed.head == TrustedHead(safe)


async def test_a_forkchoice_without_head_or_against_what_is_known_is_refused(client: EngineClient) -> None:
    trunk, payload = made(2, number=10, timestamp=5)
    left, left_payload = made(2, parent=trunk, extra_data=b"left")
    right, right_payload = made(2, parent=trunk, extra_data=b"right")
    for each in (payload, left_payload, right_payload):
        await client.call("engine_newPayloadV2", each)
    await client.call("engine_forkchoiceUpdatedV2", state(left.hash, safe=trunk.hash, finalized=trunk.hash))
    for wrong in (
        state(bytes(32)),
        state(left.hash, finalized=right.hash),
        state(left.hash, safe=right.hash),
        state(trunk.hash, safe=left.hash),
    ):
        assert await code_of(client, "engine_forkchoiceUpdatedV2", wrong) == -38002
    assert client.feed.head == TrustedHead(left.hash, 11, finalized=trunk.hash, safe=trunk.hash)


V1 = {"timestamp": "0x5", "prevRandao": ZERO, "suggestedFeeRecipient": "0x" + "00" * 20}
V2 = {**V1, "withdrawals": []}
V3 = {**V2, "timestamp": hex(CANCUN), "parentBeaconBlockRoot": ZERO}
V4 = {**V3, "timestamp": hex(AMSTERDAM), "slotNumber": "0x1", "targetGasLimit": "0x1"}


@pytest.mark.parametrize(
    ("version", "attributes", "code"),
    [
        (1, V1, None), (1, V2, -38003),
        (2, V2, None), (2, V1, -38003), (2, V3, -38003), (2, {**V2, "timestamp": hex(CANCUN)}, -38005),
        (3, V3, None), (3, {**V3, "timestamp": hex(PRAGUE)}, None), (3, V2, -38003), (3, V4, -38003),
        (3, {**V3, "timestamp": hex(CANCUN - 1)}, -38005), (3, {**V3, "timestamp": hex(AMSTERDAM)}, -38005),
        (3, {**V3, "withdrawals": [{}]}, -38003), (3, {**V3, "prevRandao": "0x"}, -38003), (3, [], -38003),
        (4, V4, None), (4, V3, -38003), (4, {**V4, "timestamp": hex(AMSTERDAM - 1)}, -38005),
        (4, {**V4, "timestamp": hex(BOGOTA)}, -38005),
    ],
)  # fmt: skip
async def test_attributes_of_another_form_or_fork_are_refused_after_the_head_was_taken_over(
    client: EngineClient, version: int, attributes: Any, code: int | None
) -> None:
    head = bytes((version,)) * 32
    method = f"engine_forkchoiceUpdatedV{version}"
    if code is None:
        # Right attributes begin nothing: the head is not valid, and blocks are not built here.
        assert (await client.call(method, state(head), attributes))["payloadId"] is None
    else:
        assert await code_of(client, method, state(head), attributes) == code
    assert client.feed.head == TrustedHead(head)


async def test_custody_columns_are_taken_by_version_4_alone(client: EngineClient) -> None:
    head = state(bytes((1,)) * 32)
    for columns in (None, "0x" + "ff" * 16):
        await client.call("engine_forkchoiceUpdatedV4", head, None, columns)
    assert await code_of(client, "engine_forkchoiceUpdatedV4", head, None, "0xff") == -32602
    assert await code_of(client, "engine_forkchoiceUpdatedV3", head, None, "0x" + "ff" * 16) == -32602


async def test_a_block_whose_state_is_held_is_syncing_all_the_same(client: EngineClient) -> None:
    # Given a complete state of the very head
    header, payload = made(2, number=10, timestamp=5)
    client.feed.held = header
    await client.call("engine_newPayloadV2", payload)
    # Then neither payload nor forkchoice is VALID: nobody here executed it.
    for _ in range(2):
        answer = await client.call("engine_forkchoiceUpdatedV2", state(header.hash))
        assert answer["payloadStatus"]["status"] == "SYNCING"
        assert (await client.call("engine_newPayloadV2", payload))["status"] == "SYNCING"


async def test_a_side_branch_from_the_state_that_is_held_is_accepted(client: EngineClient) -> None:
    held, payload = made(2, number=10, timestamp=5)
    head, head_payload = made(2, parent=held, extra_data=b"head")
    side, side_payload = made(2, parent=held, extra_data=b"side")
    _, next_payload = made(2, parent=head)
    _, gap_payload = made(2, number=90, timestamp=9, parent_hash=bytes((9,)) * 32)
    for each in (payload, head_payload):
        await client.call("engine_newPayloadV2", each)
    await client.call("engine_forkchoiceUpdatedV2", state(head.hash))
    # Given no state, then everything is SYNCING; with one, then what is known to branch off above it is ACCEPTED.
    assert (await client.call("engine_newPayloadV2", side_payload))["status"] == "SYNCING"
    client.feed.held = held
    expected = (
        (side_payload, "ACCEPTED"),
        (head_payload, "SYNCING"),
        (next_payload, "SYNCING"),
        (gap_payload, "SYNCING"),
    )
    for each, status in expected:
        assert await client.call("engine_newPayloadV2", each) == {
            "status": status,
            "latestValidHash": None,
            "validationError": None,
        }
    assert client.feed.known_header(side.hash) == side


async def test_capabilities_are_all_methods_but_the_one_that_lists_them(client: EngineClient) -> None:
    names = await client.call("engine_exchangeCapabilities", ["engine_newPayloadV4"])
    wanted = {f"engine_newPayloadV{n}" for n in range(1, 6)} | {f"engine_forkchoiceUpdatedV{n}" for n in range(1, 5)}
    assert wanted <= set(names)
    assert "engine_exchangeCapabilities" not in names
    assert len(names) == len(set(names))
    # And every one of them exists.
    for name in names:
        assert await code_of(client, name) == -32602
    assert await code_of(client, "engine_exchangeCapabilities", "x") == -32602


async def test_we_say_who_we_are(client: EngineClient) -> None:
    (version,) = await client.call("engine_getClientVersionV1", {"code": "LH", "name": "Lighthouse"})
    assert (version["code"], version["name"]) == ("ES", "ethsync")
    assert len(version["commit"]) == 10


async def test_what_a_client_without_blocks_and_blobs_answers(client: EngineClient) -> None:
    two = [ZERO, ZERO]
    for version in range(1, 7):
        assert await code_of(client, f"engine_getPayloadV{version}", "0x" + "00" * 8) == -38001
    for version in (1, 2):
        assert await client.call(f"engine_getPayloadBodiesByHashV{version}", two) == [None, None]
        assert await client.call(f"engine_getPayloadBodiesByRangeV{version}", "0x1", "0x20") == []
        assert await code_of(client, f"engine_getPayloadBodiesByRangeV{version}", "0x0", "0x1") == -32602
        assert await code_of(client, f"engine_getPayloadBodiesByRangeV{version}", "0x1", "0x0") == -32602
        assert await code_of(client, f"engine_getPayloadBodiesByRangeV{version}", "0x1", "0xffff") == -38004
        assert await code_of(client, f"engine_getPayloadBodiesByHashV{version}", [ZERO] * (MOST_BODIES + 1)) == -38004
    assert await client.call("engine_getBlobsV1", two) == [None, None]
    assert await client.call("engine_getBlobsV2", [ZERO] * 128) is None
    assert await client.call("engine_getBlobsV3", two) is None
    assert await client.call("engine_getBlobsV4", two, "0x" + "ff" * 16) is None
    for wrong in ([], ["0xff"]):
        assert await code_of(client, "engine_getBlobsV4", two, *wrong) == -32602
    assert await code_of(client, "engine_getBlobsV2", [ZERO] * (MOST_BODIES + 1)) == -38004


async def test_a_forkchoice_waits_for_the_payload_before_it(client: EngineClient) -> None:
    # Given a batch in which a large payload comes first
    method, parameters = call_for(11)
    head = blocks()[10][0]
    calls = ((method, parameters), ("engine_forkchoiceUpdatedV3", [state(head.hash), None]))
    batch = [{"jsonrpc": "2.0", "id": n, "method": name, "params": given} for n, (name, given) in enumerate(calls)]
    _, body = await client.post(json.dumps(batch).encode())
    assert [reply["result"].get("status") for reply in json.loads(body)] == ["SYNCING", None]
    assert client.feed.head == TrustedHead(head.hash, 11)


async def test_an_old_head_is_pointed_out(client: EngineClient) -> None:
    header, payload = made(2, timestamp=50)
    await client.call("engine_newPayloadV2", payload)
    await client.call("engine_forkchoiceUpdatedV2", state(header.hash))
    assert f"{(NOW - 50) / 60:.0f} minutes old" in client.feed.state.detail


async def test_a_consensus_client_that_falls_silent_is_lost(autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.05
    async with open_engine(network()) as client:
        assert client.feed.state.phase is HeadPhase.WAITING
        assert "has called" in client.feed.state.detail
        await trio.sleep(SILENCE + 1)
        assert client.feed.state.phase is HeadPhase.WAITING
        await client.post_here("engine_forkchoiceUpdatedV3", state(bytes((1,)) * 32))
        # Given a client that calls now and then, then nothing is said; one that stops is lost.
        await trio.sleep(SILENCE - 5)
        await client.post_here("eth_chainId")
        seen = []
        for seconds in (SILENCE - 5, 10):
            await trio.sleep(seconds)
            seen.append(client.feed.state.phase)
        assert client.feed.head is not None
        # When it comes back, then it is followed again.
        await client.post_here("engine_forkchoiceUpdatedV3", state(bytes((2,)) * 32))
        seen.append(client.feed.state.phase)
        assert seen == [HeadPhase.FOLLOWING, HeadPhase.LOST, HeadPhase.FOLLOWING]


async def test_an_address_that_is_taken_is_named(client: EngineClient) -> None:
    with pytest.raises(ConfigError, match=f"cannot listen on TCP 127.0.0.1:{client.endpoint.port}"):
        await run_engine(network(), HeadFeed(0), client.endpoint, bytes(32))


def test_the_schemas_can_say_no() -> None:
    schema = {**SCHEMAS["results"]["engine_newPayloadV4"], "components": SCHEMAS["components"]}
    for wrong in ({}, {"status": "INVALID_BLOCK_HASH"}, {"status": "SYNCING", "latestValidHash": "0x00"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema, jsonschema.Draft202012Validator)
