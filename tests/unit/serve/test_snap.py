"""Replies of the server: exactly what geth sends, and provable by our own client."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
import rlp
from trie import HexaryTrie

from ethsync.errors import Disproved, MalformedMessage
from ethsync.hashing import EMPTY_CODE_HASH, EMPTY_TRIE_ROOT, keccak256
from ethsync.serve.served import ServedStates
from ethsync.serve.snap import serve
from ethsync.serve.spec import SyntheticSpec
from ethsync.serve.synthetic import create_synthetic
from ethsync.state.account import decode_slim
from ethsync.state.pages import SMALL_TRIE
from ethsync.state.proofs import verify_range
from ethsync.state.replies import ProofNodes, scan_account_range, scan_storage_ranges
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir
from ethsync.wire.snap import (
    MAX_PROOF_NODES,
    SOFT_RESPONSE_LIMIT,
    ByteCodes,
    GetAccountRange,
    GetByteCodes,
    GetStorageRanges,
    GetTrieNodes,
    SnapMessage,
    TrieNodes,
    decode_account_range,
    decode_byte_codes,
    decode_storage_ranges,
    decode_trie_nodes,
)
from tests.oracles.ranges import after
from tests.oracles.served import Truth

ZERO, MAX = bytes(32), b"\xff" * 32
NO_NODES = ProofNodes(np.empty(0, np.uint8), np.empty(0, np.int64), np.empty(0, np.int64))


def any_key(rng: Random, keys: list[bytes]) -> bytes:
    """A key of the trie, one right before or after it, a random one, or an end of the key space."""
    key = rng.choice(keys)
    return rng.choice((key, after(key), after(key, -1), rng.randbytes(32), ZERO, MAX))


def sizes(rng: Random) -> int:
    return rng.choice((0, 1, 100, 500, 4_000, 50_000, SOFT_RESPONSE_LIMIT, 2**40))


@pytest.mark.parametrize("seed", range(60))
def test_account_ranges_are_geths_and_provable(states: ServedStates, view: StateView, truth: Truth, seed: int) -> None:
    rng = Random(seed)
    keys = [key for key, _ in truth.accounts]
    origin, limit, most = any_key(rng, keys), any_key(rng, keys), sizes(rng)
    # When any range is asked for
    reply = serve(states, GetAccountRange(seed, view.state_root, origin, limit, most))
    # Then it holds what geth would send,
    decoded = decode_account_range(reply.payload)
    expected = truth.account_range(origin, limit, most)
    assert (decoded.request_id, list(decoded.accounts)) == (seed, expected)
    assert 0 < len(decoded.proof) <= MAX_PROOF_NODES
    # the counters say so,
    size = sum(32 + len(value) for _, value in expected)
    assert (reply.message, reply.items, reply.size) == (SnapMessage.ACCOUNT_RANGE, len(expected), size)
    # and the client's verifier accepts it.
    scanned = scan_account_range(reply.payload)
    proven = verify_range(view.state_root, origin, scanned.leaves, scanned.proof)
    assert proven.more == bool(expected and expected[-1][0] < keys[-1])


# (bytes, origin, limit) → accounts, after the cases of go-ethereum's cmd/devp2p/internal/ethtest/snap.go
@pytest.mark.parametrize("most", [0, 1])
@pytest.mark.parametrize(("origin", "limit"), [(ZERO, MAX), (ZERO, ZERO), (b"\x80" + ZERO[1:], b"\x20" + ZERO[1:])])
def test_at_least_one_account_is_sent(
    states: ServedStates, view: StateView, truth: Truth, most: int, origin: bytes, limit: bytes
) -> None:
    reply = decode_account_range(serve(states, GetAccountRange(1, view.state_root, origin, limit, most)).payload)
    assert [key for key, _ in reply.accounts] == [next(key for key, _ in truth.accounts if key >= origin)]


def test_the_end_of_the_trie_is_proven_without_accounts(states: ServedStates, view: StateView, truth: Truth) -> None:
    origin = after(truth.accounts[-1][0])
    scanned = scan_account_range(serve(states, GetAccountRange(1, view.state_root, origin, MAX, 1000)).payload)
    assert len(scanned.leaves) == 0
    assert not verify_range(view.state_root, origin, scanned.leaves, scanned.proof).more


@pytest.mark.parametrize("root", [EMPTY_TRIE_ROOT, b"\x01" * 32])
def test_nothing_is_sent_of_a_state_that_is_not_known(states: ServedStates, truth: Truth, root: bytes) -> None:
    account = next(iter(truth.storage))
    ranges = serve(states, GetAccountRange(7, root, ZERO, MAX, 1000))
    storage = serve(states, GetStorageRanges(7, root, (account,), b"", b"", 1000))
    nodes = serve(states, GetTrieNodes(7, root, ((b"\x00",),), 1000))
    assert [rlp.decode(reply.payload) for reply in (ranges, storage, nodes)] == [
        [b"\x07", [], []], [b"\x07", [], []], [b"\x07", []],
    ]  # fmt: skip


def test_a_storage_root_is_not_a_state(states: ServedStates, truth: Truth) -> None:
    root = decode_slim(dict(truth.accounts)[next(iter(truth.storage))]).storage_root
    assert serve(states, GetAccountRange(7, root, ZERO, MAX, 1000)).items == 0


def test_a_forgotten_root_is_answered_like_an_unknown_one(states: ServedStates, view: StateView) -> None:
    assert serve(states, GetAccountRange(1, view.state_root, ZERO, MAX, 1000)).items > 0
    states.forget_root(view.state_root)
    assert serve(states, GetAccountRange(1, view.state_root, ZERO, MAX, 1000)).items == 0
    states.add(view)
    assert serve(states, GetAccountRange(1, view.state_root, ZERO, MAX, 1000)).items > 0


def contracts(truth: Truth) -> list[bytes]:
    return sorted(truth.storage)


def check_storage(view: StateView, truth: Truth, request: GetStorageRanges, payload: bytes) -> None:
    """The client's verifier accepts every set: whole tries without a proof, the last one perhaps with one."""
    scanned = scan_storage_ranges(payload, len(request.accounts))
    asked = [account for account in request.accounts if account in truth.storage]
    starts = scanned.starts.tolist()
    for number in range(len(scanned)):
        slots = scanned.leaves[starts[number] : starts[number + 1]]
        root = decode_slim(dict(truth.accounts)[asked[number]]).storage_root
        last = number == len(scanned) - 1
        origin = (request.origin or ZERO) if number == 0 else ZERO
        nodes = scanned.proof if last else NO_NODES
        if not len(nodes) and number == 0 and slots.key(-1) < truth.storage[asked[0]][-1][0]:
            # geth's habit: a range from zero that ends at the limit cannot be verified.
            with pytest.raises((Disproved, MalformedMessage)):
                verify_range(root, origin, slots, nodes)
        else:
            proven = verify_range(root, origin, slots, nodes)
            assert proven.more == (slots.key(-1) < truth.storage[asked[number]][-1][0])


@pytest.mark.parametrize("seed", range(80))
def test_storage_ranges_are_geths_and_provable(states: ServedStates, view: StateView, truth: Truth, seed: int) -> None:
    rng = Random(seed)
    accounts = rng.sample(contracts(truth), rng.choice((1, 2, 5, 40)))
    if rng.random() < 0.3:  # accounts without storage, and some that do not exist, are left out
        accounts[rng.randrange(len(accounts)) :] += [truth.accounts[5][0], rng.randbytes(32), *accounts[:1]]
    slots = [key for key, _ in truth.storage.get(accounts[0], [(ZERO, b"")])]
    origin = rng.choice((b"", b"", ZERO, any_key(rng, slots)))
    limit = rng.choice((b"", b"", MAX, any_key(rng, slots)))
    request = GetStorageRanges(seed, view.state_root, tuple(accounts), origin, limit, sizes(rng))
    # When storage is asked for
    reply = serve(states, request)
    # Then it holds what geth would send,
    decoded = decode_storage_ranges(reply.payload)
    expected, proven = truth.storage_ranges(accounts, origin, limit, request.response_bytes)
    assert [list(part) for part in decoded.slots] == expected
    exists = accounts[0] in truth.storage
    assert bool(decoded.proof) == (proven and (exists or len(expected) > 0))
    assert reply.items == sum(map(len, expected))
    assert reply.size == sum(32 + len(value) for part in expected for _, value in part)
    # and our client can prove it, as far as it can be proven at all.
    if exists and expected and (expected[0][0][0] in slots):
        check_storage(view, truth, request, reply.payload)


@pytest.mark.parametrize("most", [200, 3_000, 20_000])
def test_a_big_trie_is_fetched_in_proven_parts(states: ServedStates, view: StateView, truth: Truth, most: int) -> None:
    # Given the contract with a third of all slots
    account = max(truth.storage, key=lambda key: len(truth.storage[key]))
    root = decode_slim(dict(truth.accounts)[account]).storage_root
    found: list[bytes] = []
    origin, more = b"", True
    # When it is fetched until nothing is left
    while more:
        reply = serve(states, GetStorageRanges(1, view.state_root, (account,), origin, b"", most))
        scanned = scan_storage_ranges(reply.payload, 1)
        assert len(scanned.proof)
        proven = verify_range(root, origin or ZERO, scanned.leaves, scanned.proof)
        found += [scanned.leaves.key(row) for row in range(len(scanned.leaves))]
        more, origin = proven.more, after(found[-1])
    # Then every slot has come once.
    assert found == [key for key, _ in truth.storage[account]]


def test_the_end_of_a_storage_trie_is_proven_without_slots(states: ServedStates, view: StateView, truth: Truth) -> None:
    account = next(key for key in contracts(truth) if len(truth.storage[key]) > SMALL_TRIE)
    origin = after(truth.storage[account][-1][0])
    reply = serve(states, GetStorageRanges(1, view.state_root, (account,), origin, b"", 1000))
    scanned = scan_storage_ranges(reply.payload, 1)
    assert (len(scanned), len(scanned.leaves)) == (0, 0)
    root = decode_slim(dict(truth.accounts)[account]).storage_root
    assert not verify_range(root, origin, scanned.leaves, scanned.proof).more


def code_hashes(truth: Truth) -> list[bytes]:
    hashes = {decode_slim(slim).code_hash for _, slim in truth.accounts} - {EMPTY_CODE_HASH}
    return sorted(hashes)


def test_codes_come_in_the_order_asked_for_and_unknown_ones_are_left_out(states: ServedStates, truth: Truth) -> None:
    known = code_hashes(truth)[:6][::-1]
    asked = (*known[:3], b"\x01" * 32, EMPTY_CODE_HASH, *known[3:], known[0])
    codes = decode_byte_codes(serve(states, GetByteCodes(1, asked, 10**6)).payload).codes
    assert [keccak256(code) for code in codes] == [*known[:3], EMPTY_CODE_HASH, *known[3:], known[0]]


def test_codes_end_after_the_one_that_exceeds_the_limit(states: ServedStates, view: StateView, truth: Truth) -> None:
    known = code_hashes(truth)[:10]
    lengths = [len(view.code(code_hash)) for code_hash in known]
    for most in (0, lengths[0] - 1, lengths[0], sum(lengths[:5]), 10**9):
        reply = decode_byte_codes(serve(states, GetByteCodes(1, tuple(known), most)).payload)
        expected = next((n for n in range(1, 11) if sum(lengths[:n]) > most), 10)
        assert len(reply.codes) == expected


def test_at_most_1024_codes_are_looked_up(states: ServedStates, truth: Truth) -> None:
    asked = (*[b"\x01" * 32] * 1023, *code_hashes(truth)[:3])
    assert serve(states, GetByteCodes(1, asked, 10**6)).items == 1
    assert isinstance(decode_byte_codes(serve(states, GetByteCodes(1, asked, 10**6)).payload), ByteCodes)


def nodes_of(states: ServedStates, view: StateView, paths: list[tuple[bytes, ...]], most: int = 10**6) -> TrieNodes:
    return decode_trie_nodes(serve(states, GetTrieNodes(1, view.state_root, tuple(paths), most)).payload)


def test_trie_nodes_are_found_by_path(states: ServedStates, view: StateView, truth: Truth) -> None:
    # Given the nodes of a proof, from the root on
    key = truth.accounts[100][0]
    proof = view.proof(key).nodes
    # When they are asked for by the paths of growing length to the key
    encoded = [bytes([0x00]), *(bytes([0x10 | key[0] >> 4]),), bytes([0x00, key[0]])]
    found = nodes_of(states, view, [(path,) for path in encoded]).nodes
    # Then the same nodes come.
    assert list(found) == list(proof[:3])
    assert keccak256(found[0]) == view.state_root


def test_storage_nodes_are_found_below_their_account(states: ServedStates, view: StateView, truth: Truth) -> None:
    account = max(truth.storage, key=lambda key: len(truth.storage[key]))
    slot = truth.storage[account][7][0]
    expected = view.proof(account, [slot]).slots[0].nodes
    found = nodes_of(states, view, [(account, b"\x00", bytes([0x10 | slot[0] >> 4]))]).nodes
    assert list(found) == list(expected[:2])


def test_paths_without_a_node_are_empty_items_and_absent_accounts_nothing(
    states: ServedStates, view: StateView, truth: Truth
) -> None:
    # geth: "The leaf is only a couple of levels down, so the continued trie traversal causes lookup failures"
    key = truth.accounts[100][0]
    assert nodes_of(states, view, [(b"\x00" + key[:20],), (b"\x01" * 32, b"\x00"), (b"\x00",)]).nodes[0] == b""
    assert len(nodes_of(states, view, [(b"\x01" * 32, b"\x00", b"\x00")]).nodes) == 0


def test_nodes_end_at_the_limits(states: ServedStates, view: StateView) -> None:
    assert len(nodes_of(states, view, [(b"\x00",)] * 2000).nodes) == 1024
    assert len(nodes_of(states, view, [(b"\x00",)] * 10, most=0).nodes) == 1


def test_proofs_of_replies_satisfy_the_trie_package(states: ServedStates, view: StateView, truth: Truth) -> None:
    reply = decode_account_range(serve(states, GetAccountRange(1, view.state_root, ZERO, MAX, 2_000)).payload)
    nodes = [rlp.decode(node) for node in reply.proof]
    key, slim = reply.accounts[-1]
    assert HexaryTrie.get_from_proof(view.state_root, key, nodes) == decode_slim(slim).full()


def test_states_share_their_tables_but_not_their_nodes(states: ServedStates, view: StateView, tmp_path: Path) -> None:
    # Given two states that are served side by side
    create_synthetic(SyntheticSpec(accounts=500, seed=9), tmp_path / "other")
    with open_datadir(tmp_path / "other") as datadir:
        other = StateView(datadir)
        states.add(other)
        # when the same path is asked for under each root, then each answers with its own node.
        for each in (view, other, view):
            reply = serve(states, GetTrieNodes(1, each.state_root, ((b"\x00",),), 10**6))
            assert [keccak256(node) for node in decode_trie_nodes(reply.payload).nodes] == [each.state_root]
