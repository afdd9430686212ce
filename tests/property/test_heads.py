"""Whatever a consensus client or a beacon node sends: an error of ours or a valid value, and never anything else."""

from __future__ import annotations

import base64
import contextlib
import json
import string
from copy import deepcopy
from typing import Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from ethsync.errors import ConfigError, MalformedMessage
from ethsync.hashing import EMPTY_TRIE_ROOT
from ethsync.heads import json_fields
from ethsync.heads.beacon_blocks import (
    decode_block,
    decode_chain_id,
    decode_finalized_root,
    decode_slot_time,
    decode_syncing,
)
from ethsync.heads.engine_methods import Engine
from ethsync.heads.eth_methods import EthMethods
from ethsync.heads.fork_windows import fork_times
from ethsync.heads.head import HeadFeed
from ethsync.heads.http_url import parse_http_url
from ethsync.heads.json_rpc import RpcCode, answer
from ethsync.heads.jwt import NotAuthorized, check_authorization, make_token
from ethsync.heads.payload import Companions, InvalidPayload, check_payload, decode_payload, decode_requests
from ethsync.networks import load_network
from ethsync.wire.headers import build_header
from tests.oracles.beacon_node import bid_block, blinded_block, checkpoints, syncing
from tests.oracles.payloads import header_fields

BOUNDED = settings(max_examples=60, deadline=None)

hexadecimal = st.binary(max_size=300).map(lambda content: f"0x{content.hex()}")
scalars = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**300) | st.floats(allow_nan=False) | st.text(max_size=20)
    | hexadecimal | st.integers(0, 2**260).map(hex) | st.integers(0, 2**80).map(str)
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
)

HEADER = build_header(
    base_fee=7, withdrawals_root=EMPTY_TRIE_ROOT, blob_gas_used=0, excess_blob_gas=0, parent_beacon_root=bytes(32)
)
PAYLOAD: dict[str, Any] = {**header_fields(HEADER), "transactions": [], "withdrawals": []}
DOCUMENTS: list[Any] = [
    *(
        json.loads(each.body)
        for each in (blinded_block(5), bid_block(5, 6), syncing(5, is_syncing=True), checkpoints(7))
    )
]
READERS = (decode_block, decode_syncing, decode_finalized_root, decode_chain_id, decode_slot_time)


@st.composite
def changed(draw: st.DrawFn, document: Any) -> Any:
    """The document with one value somewhere in it replaced, removed or added."""
    document = deepcopy(document)
    place = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return document
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
            place = place[key]
            continue
        action = draw(st.sampled_from(("replace", "remove", "add")))
        if action == "remove":
            del place[key]
        elif action == "add" and isinstance(place, dict):
            place[draw(st.text(max_size=9))] = draw(values)
        else:
            place[key] = draw(values)
        return document


def reads(value: Any, *readers: Any) -> None:
    for reader in readers:
        with contextlib.suppress(MalformedMessage):
            reader(value)


@BOUNDED
@given(st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_document_or_malformed(body: bytes) -> None:
    reads(body, json_fields.parse_json)


@BOUNDED
@given(values | st.sampled_from(DOCUMENTS).flatmap(changed))
def test_any_answer_of_a_beacon_node_is_read_or_refused(document: Any) -> None:
    reads(document, *READERS)


@BOUNDED
@given(values)
def test_any_value_is_of_its_form_or_refused(value: Any) -> None:
    reads(value, lambda each: json_fields.data(each, "x", 32), lambda each: json_fields.data(each, "x", most=9))
    reads(value, lambda each: json_fields.flag(each, "x"), lambda each: json_fields.mapping(each, "x"))
    reads(value, lambda each: json_fields.items(each, "x", 2), lambda each: json_fields.member(each, "a", "b"))
    reads(value, decode_requests)


@BOUNDED
@given(st.integers(0, 2**64 - 1))
def test_numbers_have_one_spelling(number: int) -> None:
    assert json_fields.quantity(hex(number), "x") == number
    assert json_fields.quantity(hex(number).upper().replace("X", "x"), "x") == number
    assert json_fields.decimal(str(number), "x") == number
    for wrong in (f"0x0{number:x}", str(number), f"{number:x}", f"-{number:#x}", f"{number:#x} ", number):
        reads_not(wrong, json_fields.quantity)
    for wrong in (f"0{number}", hex(number), f"+{number}", f"{number} ", f"{number}_0", number):
        reads_not(wrong, json_fields.decimal)


def reads_not(value: Any, reader: Any) -> None:
    try:
        reader(value, "x")
    except MalformedMessage:
        return
    raise AssertionError(f"{value!r} was read")


@BOUNDED
@given(st.binary(max_size=99), st.integers(0, 99))
def test_data_is_read_with_its_width(content: bytes, width: int) -> None:
    text = f"0x{content.hex()}"
    assert json_fields.data(text, "x") == json_fields.data(text.upper().replace("X", "x"), "x") == content
    if width != len(content):
        reads_not(text, lambda value, what: json_fields.data(value, what, width))
    for wrong in (content.hex(), f"{text}0", f"{text} ", f"0X{content.hex()}"):
        reads_not(wrong, json_fields.data)


@BOUNDED
@given(changed(PAYLOAD) | values, st.sampled_from((1, 2, 3, 4)))
def test_any_payload_is_checked_or_refused(value: Any, structure: int) -> None:
    try:
        payload = decode_payload(value, structure)
    except MalformedMessage:
        return
    companions = Companions() if structure < 3 else Companions((), bytes(32), () if structure == 4 else None)
    try:
        block = check_payload(payload, companions)
    except InvalidPayload:
        return
    assert block.header.hash == payload.block_hash


@BOUNDED
@given(st.text(max_size=60) | st.text(string.ascii_letters + string.digits + "-_.", max_size=60))
def test_any_authorization_is_refused_in_our_words(text: str) -> None:
    for header in (text, f"Bearer {text}", f"Bearer eyJhbGciOiJIUzI1NiJ9.{text}.{text}"):
        try:
            check_authorization(header, bytes(32), 0)
        except NotAuthorized:
            continue
        raise AssertionError("a stranger got in")


@BOUNDED
@given(st.binary(max_size=60) | values.map(lambda value: json.dumps(value).encode()))
def test_any_signed_claims_are_judged(claims: bytes) -> None:
    try:
        check_authorization(f"Bearer {make_token(bytes(32), claims)}", bytes(32), 1e9)
    except NotAuthorized:
        return
    assert abs(json.loads(claims)["iat"] - 1e9) <= 60


@BOUNDED
@given(st.binary(min_size=1, max_size=40), st.integers(0, 10_000))
def test_a_token_with_any_bit_changed_is_refused(secret: bytes, place: int) -> None:
    good = make_token(secret, b'{"iat":7}')
    check_authorization(f"Bearer {good}", secret, 7)
    alphabet = (string.ascii_letters + string.digits + "-_")[::-1]
    at = place % len(good)
    other = alphabet[place % 64]
    if other != good[at]:
        try:
            check_authorization(f"Bearer {good[:at]}{other}{good[at + 1 :]}", secret, 7)
        except NotAuthorized:
            return
        raise AssertionError("a changed token was taken")


@BOUNDED
@given(st.text(max_size=40) | st.text(max_size=20).map(lambda text: f"http://{text}"))
def test_any_url_is_read_or_refused(text: str) -> None:
    try:
        url = parse_http_url(text)
    except ConfigError:
        return
    assert parse_http_url(f"{url}{url.path}").authority == url.authority
    base64.b64decode((url.authorization or "Basic ").removeprefix("Basic "), validate=True)


NETWORK = load_network("hoodi")
CODES = {int(code) for code in RpcCode}


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_any_call_has_a_result_or_an_error_and_nothing_breaks(data: st.DataObject) -> None:
    feed = HeadFeed(0)
    engine = Engine(feed, fork_times(NETWORK), lambda: 0.0)
    methods = {**engine.methods(), **EthMethods(feed, NETWORK).methods()}
    state = dict.fromkeys(("headBlockHash", "safeBlockHash", "finalizedBlockHash"), "0x" + "11" * 32)
    likely = st.sampled_from((PAYLOAD, state, [], "0x" + "00" * 32, "0x1", "latest", False, None))
    parameter = likely | values | changed(PAYLOAD) | changed(state)
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": data.draw(st.sampled_from(sorted(methods))),
        "params": data.draw(st.lists(parameter, max_size=5)),
    }
    reply = json.loads(trio.run(answer, json.dumps(call).encode(), methods))
    assert ("result" in reply) != ("error" in reply)
    assert "error" not in reply or reply["error"]["code"] in CODES
    assert "VALID" not in json.dumps(reply).replace("INVALID", "").replace("VALIDATION", "")
