"""Fork ids: the test cases of EIP-2124, EIP-6122 and go-ethereum."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import rlp as oracle

from ethsync.errors import MalformedMessage, UselessPeer
from ethsync.networks import load_network
from ethsync.wire.forkid import ForkId, ForkSchedule, decode_fork_id

GETH = json.loads((Path(__file__).parents[2] / "vectors" / "forkid" / "geth.json").read_text())
GETH_LATEST = 1767747671  # the last fork that this go-ethereum knew of any network: BPO2 of mainnet
VERDICTS = {
    "remote stale": "too old: it does not know the fork",
    "incompatible": "follows another chain or a fork we do not know|passed a fork at .* that we do not know",
}

MAINNET_GENESIS = bytes.fromhex("d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3")
MAINNET_BLOCKS = (
    1150000, 1920000, 2463000, 2675000, 4370000, 7280000, 9069000, 9200000, 12244000, 12965000, 13773000, 15050000,
)  # fmt: skip
FUTURE = 2**64 - 1

# EIP-2124 ends with Petersburg; EIP-6122 adds a merge netsplit at block 18,000,000 and Shanghai at time 1668000000.
PETERSBURG = ForkSchedule(MAINNET_GENESIS, 0, MAINNET_BLOCKS[:6], ())
WITHDRAWALS = ForkSchedule(MAINNET_GENESIS, 0, (*MAINNET_BLOCKS, 18000000), (1668000000,))


def fork_id(checksum: int, following: int) -> ForkId:
    return ForkId(checksum.to_bytes(4, "big"), following)


@pytest.mark.parametrize("network", ["mainnet", "sepolia", "hoodi", "holesky"])
def test_creation_cases_of_go_ethereum(network: str) -> None:
    known = load_network(network).forks
    times = tuple(time for time in known.time_forks if time <= GETH_LATEST)
    schedule = ForkSchedule(known.genesis_hash, known.genesis_time, known.block_forks, times)
    for number, time, checksum, following in GETH["creation"][network]:
        assert schedule.fork_id(number, time) == ForkId(bytes.fromhex(checksum), following)


@pytest.mark.parametrize("case", GETH["validation"], ids=str)
def test_validation_cases_of_go_ethereum(case: tuple[bool, int, int, str, int, str]) -> None:
    with_times, number, time, checksum, following, verdict = case
    mainnet = load_network("mainnet").forks
    schedule = ForkSchedule(MAINNET_GENESIS, 0, mainnet.block_forks, mainnet.time_forks if with_times else ())
    remote = ForkId(bytes.fromhex(checksum), following)
    if verdict == "accepted":
        schedule.validate(remote, number, time)
        return
    with pytest.raises(UselessPeer, match=VERDICTS[verdict]):
        schedule.validate(remote, number, time)


@pytest.mark.parametrize(
    ("genesis", "chain"),
    [
        # mainnet up to Petersburg, Ropsten, Rinkeby and Görli up to Istanbul, as the EIP has them
        (MAINNET_GENESIS.hex(),
         "0 fc64ec04 1150000 97c2c34c 1920000 91d1f948 2463000 7a64da13 2675000 3edd5b10 4370000 a00bc324 "
         "7280000 668db0af"),
        ("41941023680923e0fe4d74a34bdac8141f2540e3ae90623718e47d66d1ca4a2d",
         "0 30c7ddbc 10 63760190 1700000 3ea159c7 4230000 97b544f3 4939394 d6e2149b 6485846 4bc66396"),
        ("6341fd3daf94b748c72ced5a5b26028f2474f5f00d824504e4fa37a75767e177",
         "0 3b8e0691 1 60949295 2 8bde40dd 3 cb3a64bb 1035301 8d748b57 3660663 e49cab14 4321234 afec6b27 "
         "5435345 cbdb8838"),
        ("bf7e331f7f7c1dd2e05159666b3bf8bc7a8a3a9eb1d518969eab529dd9b88c1a", "0 a3f5ab08 1561651 c25efa5c"),
    ],
    ids=["mainnet", "ropsten", "rinkeby", "goerli"],
)  # fmt: skip
def test_creation_cases_of_eip_2124(genesis: str, chain: str) -> None:
    words = chain.split()
    forks, hashes = list(map(int, words[::2])), [bytes.fromhex(word) for word in words[1::2]]
    schedule = ForkSchedule(bytes.fromhex(genesis), 0, tuple(forks[1:]), ())
    for fork, checksum, following in zip(forks, hashes, [*forks[1:], 0], strict=True):
        assert schedule.fork_id(fork, 0) == ForkId(checksum, following)
        assert schedule.fork_id(max(forks) + 10**6, 0) == ForkId(hashes[-1], 0)
        if following:  # the last block before the next fork
            assert schedule.fork_id(following - 1, 0) == ForkId(checksum, following)


@pytest.mark.parametrize(
    ("number", "time", "checksum", "following"),
    [
        (0, 0, 0xFC64EC04, 1150000),
        (1149999, 0, 0xFC64EC04, 1150000),
        (7280000, 0, 0x668DB0AF, 9069000),
        (1150000, 0, 0x97C2C34C, 1920000),
        (1920000, 0, 0x91D1F948, 2463000),
        (2463000, 0, 0x7A64DA13, 2675000),
        (2675000, 0, 0x3EDD5B10, 4370000),
        (4370000, 0, 0xA00BC324, 7280000),
        (9069000, 0, 0x879D6E30, 9200000),
        (9200000, 0, 0xE029E991, 12244000),
        (12244000, 0, 0x0EB440F6, 12965000),
        (12965000, 0, 0xB715077D, 13773000),
        (13773000, 0, 0x20C327FC, 15050000),
        (15050000, 0, 0xF0AFD0E3, 18000000),
        (18000000, 0, 0x4FB8A872, 1668000000),
        (20000000, 0, 0x4FB8A872, 1668000000),
        (20000000, 1668000000, 0xC1FDF181, 0),
        (20000000, 2668000000, 0xC1FDF181, 0),
    ],
)
def test_creation_cases_of_eip_6122(number: int, time: int, checksum: int, following: int) -> None:
    assert WITHDRAWALS.fork_id(number, time) == fork_id(checksum, following)


def test_a_time_fork_may_follow_homestead() -> None:
    """EIP-6122, "Specification"."""
    schedule = ForkSchedule(MAINNET_GENESIS, 0, (1150000,), (1668000000,))
    assert schedule.fork_id(1150000, 1668000000) == fork_id(0xCB37B2EE, 0)


def test_a_fork_hash_says_how_many_forks_are_passed() -> None:
    assert WITHDRAWALS.points == (*MAINNET_BLOCKS, 18000000, 1668000000)
    assert [WITHDRAWALS.passed(fork_id(checksum, 0).hash) for checksum in (0xFC64EC04, 0x97C2C34C, 0xC1FDF181)] == [
        0,
        1,
        14,
    ]
    assert WITHDRAWALS.passed(b"\xaf\xec\x6b\x27") is None  # Rinkeby


@pytest.mark.parametrize(
    ("head", "checksum", "following"),
    [
        (7987396, 0x668DB0AF, 0),  # the same
        (7987396, 0x668DB0AF, FUTURE),  # the same, and a fork of theirs that may come
        (7279999, 0xA00BC324, 0),  # they do not know Petersburg, which nobody has passed
        (7279999, 0xA00BC324, 7280000),
        (7279999, 0xA00BC324, FUTURE),  # both know another next fork; undecided
        (7987396, 0xA00BC324, 7280000),  # they are behind
        (7987396, 0x3EDD5B10, 4370000),  # they are far behind
        (7279999, 0x668DB0AF, 0),  # we are behind
        (4369999, 0xA00BC324, 0),
    ],
)
def test_peers_that_eip_2124_accepts(head: int, checksum: int, following: int) -> None:
    PETERSBURG.validate(fork_id(checksum, following), head, 0)


@pytest.mark.parametrize(
    ("head", "checksum", "following", "complaint"),
    [
        (7987396, 0xA00BC324, 0, "too old: it does not know the fork at 7280000"),
        (7987396, 0x5CDDC0E1, 0, "another chain or a fork we do not know"),
        (7279999, 0x5CDDC0E1, 0, "another chain or a fork we do not know"),
        (7987396, 0xAFEC6B27, 0, "another chain"),  # Rinkeby
        (88888888, 0x668DB0AF, 88888888, "passed a fork at 88888888"),
        (7279999, 0xA00BC324, 7279999, "passed a fork at 7279999"),
    ],
)
def test_peers_that_eip_2124_rejects(head: int, checksum: int, following: int, complaint: str) -> None:
    with pytest.raises(UselessPeer, match=complaint):
        PETERSBURG.validate(fork_id(checksum, following), head, 0)


@pytest.mark.parametrize(
    ("head", "time", "checksum", "following"),
    [
        (20000000, 1668000001, 0xC1FDF181, 0),
        (20000000, 1668000001, 0xC1FDF181, FUTURE),
        (7279999, 1667999999, 0xA00BC324, 0),
        (7279999, 1667999999, 0xA00BC324, 7280000),
        (7279999, 1667999999, 0xA00BC324, FUTURE),
        (20000000, 1668000000, 0xA00BC324, 7280000),
        (20000000, 1668000001, 0x3EDD5B10, 4370000),
        (7279999, 1667999999, 0x668DB0AF, 0),
        (4369999, 1667999999, 0xA00BC324, 0),
    ],
)
def test_peers_that_eip_6122_accepts(head: int, time: int, checksum: int, following: int) -> None:
    WITHDRAWALS.validate(fork_id(checksum, following), head, time)


@pytest.mark.parametrize(
    ("head", "time", "checksum", "following"),
    [
        (20000000, 1668000001, 0xA00BC324, 0),
        (20000000, 1668000001, 0x5CDDC0E1, 0),
        (20000000, 1668000001, 0xAFEC6B27, 0),
        (88888888, 1668000001, 0xF0AFD0E3, 88888888),
        (20000000, 1668000001, 0xA00BC324, 7279999),
        (20000000, 1668000001, 0xC1FDF181, 1668000001),  # a time fork of theirs that we have passed
    ],
)
def test_peers_that_eip_6122_rejects(head: int, time: int, checksum: int, following: int) -> None:
    with pytest.raises(UselessPeer):
        WITHDRAWALS.validate(fork_id(checksum, following), head, time)


def test_a_time_fork_of_theirs_counts_even_while_we_wait_for_a_block() -> None:
    """geth, core/forkid: a `next` that can only be a time is compared with our time too."""
    with pytest.raises(UselessPeer, match="passed a fork at 1600000000"):
        WITHDRAWALS.validate(fork_id(0xF0AFD0E3, 1600000000), 15050000, 1600000000)
    WITHDRAWALS.validate(fork_id(0xF0AFD0E3, 1600000000), 15050000, 1599999999)


def test_after_the_last_fork_by_number_a_chain_without_forks_by_time_counts_blocks() -> None:
    with pytest.raises(UselessPeer, match="passed a fork at 8000000"):
        PETERSBURG.validate(fork_id(0x668DB0AF, 8000000), 8000000, 0)
    PETERSBURG.validate(fork_id(0x668DB0AF, 8000000), 7999999, 1500000000)


def test_after_the_last_fork_by_time_a_chain_counts_seconds() -> None:
    """A chain that is young enough for its times to be no larger than block numbers, as in tests."""
    young = ForkSchedule(MAINNET_GENESIS, 0, (), (60,))
    now = young.fork_id(0, 60)
    with pytest.raises(UselessPeer, match="passed a fork at 120"):
        young.validate(ForkId(now.hash, 120), 0, 120)
    young.validate(ForkId(now.hash, 120), 500, 119)


def test_forks_of_the_genesis_block_and_repetitions_do_not_count() -> None:
    plain = ForkSchedule(MAINNET_GENESIS, 1000, (5, 7), (2000,))
    noisy = ForkSchedule(MAINNET_GENESIS, 1000, (7, 0, 5, 5, 0), (2000, 1000, 0, 999, 2000))
    for number, time in [(0, 1000), (5, 1000), (7, 1999), (7, 2000)]:
        assert noisy.fork_id(number, time) == plain.fork_id(number, time)


def test_a_chain_without_forks_accepts_itself() -> None:
    schedule = ForkSchedule(MAINNET_GENESIS, 0, (), ())
    assert schedule.fork_id(10**9, 10**10) == fork_id(0xFC64EC04, 0)
    schedule.validate(fork_id(0xFC64EC04, 0), 5, 5)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (fork_id(0, 0), "c6840000000080"),
        (fork_id(0xDEADBEEF, 0xBADDCAFE), "ca84deadbeef84baddcafe"),
        (fork_id(0xFFFFFFFF, FUTURE), "ce84ffffffff88ffffffffffffffff"),
    ],
)
def test_encoding_cases_of_eip_2124(value: ForkId, encoded: str) -> None:
    assert value.encode().hex() == encoded
    assert decode_fork_id(bytes.fromhex(encoded)) == value


def test_a_hash_that_lost_its_leading_zeros_is_padded() -> None:
    assert decode_fork_id(oracle.encode([b"\xaa\xbb\xcc", 5])) == fork_id(0x00AABBCC, 5)


@pytest.mark.parametrize("item", [[b"12345", 0], [b"1234"], [b"1234", 0, 0], [b"1234", b"\0"], [[], 0]])
def test_a_broken_fork_id_is_malformed(item: list[object]) -> None:
    with pytest.raises(MalformedMessage):
        decode_fork_id(oracle.encode(item))
