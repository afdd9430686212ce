"""What beacon blocks say about execution blocks, fork by fork."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ethsync.errors import MalformedMessage
from ethsync.heads.beacon_blocks import (
    decode_block,
    decode_chain_id,
    decode_finalized_root,
    decode_slot_time,
    decode_syncing,
)
from ethsync.heads.json_fields import parse_json
from tests.oracles.beacon_node import bid_block, blinded_block, checkpoints, hex32, syncing

VECTORS = Path(__file__).parents[2] / "vectors" / "beacon"


@pytest.mark.parametrize(
    ("name", "version", "number", "block_hash"),
    [
        ("capella", "capella", 18189758, "802acf5c350f4252e31d83c431fcb259470250fa0edf49e8391cfee014239820"),
        ("electra_deposits", "electra", 140858, "1f2637170986346c7993d5adbadbebbf4c9ed89c6a4d2dff653db99c8c168076"),
        ("electra_deposits", "fulu", 140858, "1f2637170986346c7993d5adbadbebbf4c9ed89c6a4d2dff653db99c8c168076"),
    ],
)
def test_blocks_of_public_networks_name_their_payload(name: str, version: str, number: int, block_hash: str) -> None:
    message = json.loads((VECTORS / f"block_{name}.json").read_text())
    ref = decode_block({"version": version, "data": {"message": message, "signature": "0x"}})
    assert (ref.number, ref.block_hash.hex(), ref.slot) == (number, block_hash, int(message["slot"]))
    assert ref.parent_hash == bytes.fromhex(message["body"]["execution_payload"]["parent_hash"][2:])


def test_a_blinded_block_names_the_same() -> None:
    ref = decode_block(parse_json(blinded_block(7, slot=9).body))
    assert (ref.block_hash, ref.parent_hash, ref.number, ref.slot) == (
        *(bytes.fromhex(hex32(7)[2:]), bytes.fromhex(hex32(6)[2:])),
        *(7, 9),
    )


@pytest.mark.parametrize("version", ["gloas", "heze"])
def test_after_gloas_the_payload_that_was_built_upon_counts_not_the_promised_one(version: str) -> None:
    # Given a block whose builder promised payload 8, on top of payload 7
    ref = decode_block(parse_json(bid_block(7, promised=8, version=version).body))
    # Then 7 is the head: whether 8 will be revealed is not known. Nor is any number.
    assert (ref.block_hash.hex(), ref.number, ref.parent_hash) == (hex32(7)[2:], None, None)


def test_the_version_decides_and_not_what_a_body_happens_to_have() -> None:
    document: Any = json.loads(bid_block(7, promised=8).body)
    document["data"]["message"]["body"] |= {"execution_payload_header": {"block_hash": hex32(3)}}
    assert decode_block(document).block_hash.hex() == hex32(7)[2:]
    document["version"] = "fulu"
    with pytest.raises(MalformedMessage, match="parent_hash is missing"):
        decode_block(document)


def test_the_version_may_stand_in_the_header_only() -> None:
    document: Any = json.loads(blinded_block(7).body)
    del document["version"]
    assert decode_block(document, "deneb").number == 7
    with pytest.raises(MalformedMessage, match="fork 'None'"):
        decode_block(document)


@pytest.mark.parametrize("version", ["phase0", "altair", "unheard-of", "", 5, None])
def test_blocks_of_forks_without_payload_or_unknown_are_refused(version: Any) -> None:
    document: Any = json.loads(blinded_block(7).body)
    with pytest.raises(MalformedMessage, match="names no execution block"):
        decode_block({**document, "version": version})


def test_a_block_from_before_the_merge_has_no_head() -> None:
    with pytest.raises(MalformedMessage, match="before the merge"):
        decode_block(parse_json(blinded_block(0, parent=0, version="bellatrix").body))


def test_an_optimistic_block_says_so() -> None:
    document: Any = json.loads(blinded_block(7).body)
    assert not decode_block(document).optimistic
    assert decode_block({**document, "execution_optimistic": True}).optimistic


def test_a_node_that_is_syncing_says_how_far_it_is() -> None:
    found = decode_syncing(parse_json(syncing(77, is_syncing=True, optimistic=True).body))
    assert (found.distance, found.is_syncing, found.is_optimistic, found.execution_offline) == (77, True, True, False)
    with pytest.raises(MalformedMessage):
        decode_syncing({"data": {"sync_distance": "1"}})


def test_nothing_is_final_as_long_as_the_root_is_zero() -> None:
    assert decode_finalized_root(parse_json(checkpoints(0).body)) is None
    assert decode_finalized_root(parse_json(checkpoints(5).body)) == bytes.fromhex(hex32(5)[2:])


def test_the_length_of_a_slot_has_two_names() -> None:
    assert decode_slot_time({"data": {"SECONDS_PER_SLOT": "12"}}) == 12
    assert decode_slot_time({"data": {"SECONDS_PER_SLOT": "12", "SLOT_DURATION_MS": "6500"}}) == 6.5
    assert decode_slot_time({"data": {"CONFIG_NAME": "mainnet"}}) is None
    for wrong in ('{"SECONDS_PER_SLOT": 12}', '{"SLOT_DURATION_MS": "twelve"}', "[]"):
        with pytest.raises(MalformedMessage):
            decode_slot_time(parse_json(b'{"data": %s}' % wrong.encode()))


def test_the_chain_id_is_a_decimal_string() -> None:
    assert decode_chain_id({"data": {"chain_id": "560048"}}) == 560048
    for wrong in (560048, "0x1", "-1", "01", "1" * 30, " 1", "١"):
        with pytest.raises(MalformedMessage):
            decode_chain_id({"data": {"chain_id": wrong}})
