"""Server profiles: each is wrong in exactly the way that its name says, and only there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ethsync.errors import ConfigError, Disproved, MalformedMessage
from ethsync.hashing import keccak256
from ethsync.serve.profiles import CAPPED_BYTES, PROFILES, Profile, encode_reply, profile_named
from ethsync.serve.served import ServedStates
from ethsync.serve.snap import Reply, empty_reply, serve
from ethsync.state.account import decode_slim
from ethsync.state.proofs import verify_range
from ethsync.state.replies import scan_account_range, scan_storage_ranges
from ethsync.state.view import StateView
from ethsync.wire.snap import (
    REPLY_DECODERS,
    GetAccountRange,
    GetByteCodes,
    GetStorageRanges,
    GetTrieNodes,
    SnapRequest,
    decode_account_range,
    decode_byte_codes,
    peek_request_id,
)
from tests.oracles.ranges import after
from tests.oracles.served import Truth

ZERO, MAX = bytes(32), b"\xff" * 32
ORIGIN = b"\x31" + bytes(31)

# Those whose ranges the verifier must refuse, in accounts and in a part of a big storage trie.
LIARS = ("missing-proof-node", "corrupt-proof", "misplaced-proof", "no-proof", "gap", "reordered",
         "duplicated", "changed-key", "changed-value")  # fmt: skip
HARMLESS = ("geth", "nethermind", "bloated-proof", "reversed-proof", "late-duplicates", "capped", "truncated")


def giant(truth: Truth) -> bytes:
    return max(truth.storage, key=lambda key: len(truth.storage[key]))


def ask(profile: Profile, states: ServedStates, request: SnapRequest, number: int = 0) -> Reply:
    reply = profile.answer(states, request, number)
    assert reply is not None
    return reply


def prove_accounts(profile: Profile, states: ServedStates, view: StateView) -> int:
    request = GetAccountRange(9, view.state_root, ORIGIN, MAX, 4_000)
    scanned = scan_account_range(ask(profile, states, request).payload)
    return len(verify_range(view.state_root, ORIGIN, scanned.leaves, scanned.proof).leaves)


def prove_storage(profile: Profile, states: ServedStates, view: StateView, truth: Truth) -> int:
    account = giant(truth)
    request = GetStorageRanges(9, view.state_root, (account,), ORIGIN, b"", 4_000)
    scanned = scan_storage_ranges(ask(profile, states, request).payload, 1)
    root = decode_slim(dict(truth.accounts)[account]).storage_root
    return len(verify_range(root, ORIGIN, scanned.leaves, scanned.proof).leaves)


@pytest.mark.parametrize("name", LIARS)
def test_ranges_of_liars_are_refused(name: str, states: ServedStates, view: StateView, truth: Truth) -> None:
    with pytest.raises((Disproved, MalformedMessage)):
        prove_accounts(PROFILES[name], states, view)
    with pytest.raises((Disproved, MalformedMessage)):
        prove_storage(PROFILES[name], states, view, truth)


@pytest.mark.parametrize("name", HARMLESS)
def test_ranges_of_honest_peers_are_accepted(name: str, states: ServedStates, view: StateView, truth: Truth) -> None:
    assert prove_accounts(PROFILES[name], states, view) > 0
    assert prove_storage(PROFILES[name], states, view, truth) > 0


def test_a_whole_trie_cut_short_is_refused(states: ServedStates, view: StateView, truth: Truth) -> None:
    account = sorted(truth.storage)[0]
    request = GetStorageRanges(9, view.state_root, (account,), b"", b"", 10**6)
    scanned = scan_storage_ranges(ask(PROFILES["truncated"], states, request).payload, 1)
    with pytest.raises((Disproved, MalformedMessage)):
        verify_range(decode_slim(dict(truth.accounts)[account]).storage_root, ZERO, scanned.leaves, scanned.proof)


@pytest.mark.parametrize("name", ["bloated-proof", "reversed-proof", "misplaced-proof", "corrupt-proof"])
def test_strange_proofs_differ_from_the_honest_one(name: str, states: ServedStates, view: StateView) -> None:
    request = GetAccountRange(9, view.state_root, ORIGIN, MAX, 4_000)
    honest = decode_account_range(serve(states, request).payload)
    strange = decode_account_range(ask(PROFILES[name], states, request).payload)
    assert strange.accounts == honest.accounts
    assert strange.proof != honest.proof


def test_lies_begin_when_they_are_told_to(states: ServedStates, view: StateView) -> None:
    late = replace(PROFILES["gap"], first_lie=2)
    request = GetAccountRange(9, view.state_root, ORIGIN, MAX, 4_000)
    honest = serve(states, request).payload
    assert [ask(late, states, request, number).payload == honest for number in range(4)] == [True, True, False, False]


def every_request(view: StateView, truth: Truth, root: bytes | None = None) -> list[SnapRequest]:
    code = next(account.code_hash for account in map(decode_slim, dict(truth.accounts).values()) if account.has_code)
    root = root or view.state_root
    return [
        GetAccountRange(9, root, ZERO, MAX, 10_000),
        GetStorageRanges(9, root, tuple(sorted(truth.storage)[:5]), b"", b"", 10_000),
        GetByteCodes(9, (code,), 10_000),
        GetTrieNodes(9, root, ((b"\x00",),), 10_000),
    ]


def test_replies_survive_decoding_and_encoding(states: ServedStates, view: StateView, truth: Truth) -> None:
    for request in every_request(view, truth):
        reply = serve(states, request)
        assert reply.items > 0
        assert encode_reply(REPLY_DECODERS[reply.message](reply.payload)) == reply.payload


def test_besu_is_always_empty(states: ServedStates, view: StateView, truth: Truth) -> None:
    for request in every_request(view, truth):
        assert ask(PROFILES["besu"], states, request) == empty_reply(request)


@pytest.mark.parametrize(("name", "useless"), [("no-accounts", 0), ("no-storage", 1), ("no-codes", 2)])
def test_some_serve_everything_but_one_thing(
    name: str, useless: int, states: ServedStates, view: StateView, truth: Truth
) -> None:
    for number, request in enumerate(every_request(view, truth)):
        assert (ask(PROFILES[name], states, request).items == 0) == (number == useless)


@pytest.mark.parametrize(
    ("number", "scan"), [(0, scan_account_range), (1, lambda payload: scan_storage_ranges(payload, 5))]
)
def test_nethermind_sends_malformed_lists_for_roots_it_lost(
    number: int, scan: Callable[[bytes], object], states: ServedStates, view: StateView, truth: Truth
) -> None:
    request = every_request(view, truth, b"\x01" * 32)[number]
    with pytest.raises(MalformedMessage):
        scan(ask(PROFILES["nethermind"], states, request).payload)


def test_nethermind_does_not_prove_that_a_trie_ends(states: ServedStates, view: StateView, truth: Truth) -> None:
    request = GetAccountRange(9, view.state_root, after(truth.accounts[-1][0]), MAX, 10_000)
    assert ask(PROFILES["nethermind"], states, request).payload == empty_reply(request).payload
    assert ask(PROFILES["geth"], states, request).payload != empty_reply(request).payload


def test_capped_peers_send_little_and_one_code(states: ServedStates, view: StateView, truth: Truth) -> None:
    accounts, storage, _, _ = every_request(view, truth)
    assert CAPPED_BYTES < ask(PROFILES["capped"], states, accounts).size < CAPPED_BYTES + 200
    assert CAPPED_BYTES <= ask(PROFILES["capped"], states, storage).size < CAPPED_BYTES * 1.1 + 65
    codes = sorted({account.code_hash for account in map(decode_slim, dict(truth.accounts).values())})[:5]
    assert ask(PROFILES["capped"], states, GetByteCodes(9, tuple(codes), 10**6)).items == 1


def test_silent_peers_say_nothing(states: ServedStates, view: StateView, truth: Truth) -> None:
    for request in every_request(view, truth):
        assert PROFILES["silent"].answer(states, request, 0) is None


def test_a_full_set_comes_with_a_proof_and_is_accepted(states: ServedStates, view: StateView, truth: Truth) -> None:
    account = sorted(truth.storage)[0]
    request = GetStorageRanges(9, view.state_root, (account,), b"", b"", 10**6)
    scanned = scan_storage_ranges(ask(PROFILES["proof-of-full-set"], states, request).payload, 1)
    assert len(scanned.proof) > 0
    root = decode_slim(dict(truth.accounts)[account]).storage_root
    assert not verify_range(root, ZERO, scanned.leaves, scanned.proof).more


@pytest.mark.parametrize(
    ("name", "same_order", "subset"),
    [("wrong-code", False, False), ("missing-codes", True, True), ("reordered-codes", False, True),
     ("unasked-code", False, False)],
)  # fmt: skip
def test_codes_can_be_wrong_in_every_way(
    name: str, same_order: bool, subset: bool, states: ServedStates, view: StateView, truth: Truth
) -> None:
    asked = sorted({account.code_hash for account in map(decode_slim, dict(truth.accounts).values())})[:6]
    reply = ask(PROFILES[name], states, GetByteCodes(9, tuple(asked), 10**6))
    found = [keccak256(code) for code in decode_byte_codes(reply.payload).codes]
    assert found != asked
    assert (set(found) <= set(asked)) is subset
    assert (found == [each for each in asked if each in found]) is same_order


def test_a_wrong_id_is_all_that_is_wrong(states: ServedStates, view: StateView, truth: Truth) -> None:
    for request in every_request(view, truth):
        reply = ask(PROFILES["wrong-id"], states, request)
        assert peek_request_id(reply.payload) == request.request_id + 1
        honest = REPLY_DECODERS[reply.message](serve(states, request).payload)
        assert replace(REPLY_DECODERS[reply.message](reply.payload), request_id=9) == honest


def test_small_replies_survive_every_lie(states: ServedStates, view: StateView, truth: Truth) -> None:
    # Given replies with nothing in them, or hardly anything
    requests: list[SnapRequest] = [
        GetAccountRange(9, b"\x01" * 32, ZERO, MAX, 1),
        GetAccountRange(9, view.state_root, MAX, MAX, 1),
        GetAccountRange(9, view.state_root, ZERO, MAX, 1),
        GetStorageRanges(9, view.state_root, (truth.accounts[0][0],), b"", b"", 1),
        GetStorageRanges(9, view.state_root, (giant(truth),), MAX, b"", 1),
        GetByteCodes(9, (), 1),
    ]
    # Then no lie stumbles over them.
    for profile in PROFILES.values():
        for request in requests:
            reply = profile.answer(states, request, 0)
            assert reply is None or reply.payload


def test_every_profile_has_its_name() -> None:
    assert all(profile_named(name) is profile and profile.name == name for name, profile in PROFILES.items())
    with pytest.raises(ConfigError):
        profile_named("parity")
