"""Fork ids: the test cases of EIP-2124 and EIP-6122, and the published hashes of the public networks."""

from __future__ import annotations

from itertools import pairwise

import pytest
import rlp as oracle

from ethsync.errors import MalformedMessage, UselessPeer
from ethsync.wire.forkid import ForkId, ForkSchedule, decode_fork_id

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


@pytest.mark.parametrize(
    ("genesis", "genesis_time", "chain"),
    [
        pytest.param(
            MAINNET_GENESIS.hex(),
            0,
            "0 fc64ec04 1150000 97c2c34c 1920000 91d1f948 2463000 7a64da13 2675000 3edd5b10 4370000 a00bc324 "
            "7280000 668db0af 9069000 879d6e30 9200000 e029e991 12244000 0eb440f6 12965000 b715077d "
            "13773000 20c327fc 15050000 f0afd0e3 1681338455 dce96c2d 1710338135 9f3d2254 1746612311 c376cf8b "
            "1764798551 5167e2a6 1765290071 cba2a1c0 1767747671 07c9462e",
            id="mainnet",
        ),
        pytest.param(
            "25a5cc106eea7138acab33231d7160d69cb777ee0c2c553fcddf5138993e6dd9",
            1633267481,
            "0 fe3366e7 1735371 b96cbd13 1677557088 f7f9bc08 1706655072 88cf81d9 1741159776 ed88b5fd "
            "1760427360 e2ae4999 1761017184 56078a1e 1761607008 268956b6 1791294816 6c1d9423",
            id="sepolia",
        ),
        pytest.param(
            "bbe312868b376a3001692a646dd2d7d1e4406380dfd86b98aa8a34d1557c971b",
            1742212800,
            "0 bef71d30 1742999832 0929e24e 1761677592 e7e0e7ff 1762365720 3893353e 1762955544 23aa1351",
            id="hoodi",
        ),
        pytest.param(
            "b5f7f912443c940f21fd611f12828d75b534364ed9e95ca4e307729a4661bde4",
            1695902100,
            "0 c61a6098 1696000704 fd4f016b 1707305664 9b192ad0 1740434112 dfbd9bed 1759308480 783def52 "
            "1759800000 a280a45c 1760389824 9bc6cb31",
            id="holesky",
        ),
    ],
)
def test_fork_ids_of_the_public_networks(genesis: str, genesis_time: int, chain: str) -> None:
    """Values from go-ethereum, core/forkid/forkid_test.go and params/config.go."""
    words = chain.split()
    steps = list(zip(map(int, words[::2]), words[1::2], strict=True))
    forks = [fork for fork, _ in steps[1:]]
    blocks = tuple(fork for fork in forks if fork < 10**9)
    times = tuple(fork for fork in forks if fork >= 10**9)
    schedule = ForkSchedule(bytes.fromhex(genesis), genesis_time, blocks, times)
    for (fork, checksum), (following, _) in pairwise([*steps, (0, "")]):
        number, time = (fork, genesis_time) if fork < 10**9 else (blocks[-1] if blocks else 0, fork)
        assert schedule.fork_id(number, time) == ForkId(bytes.fromhex(checksum), following)
        if following:  # the last block before the next fork
            before = (following - 1, time) if following < 10**9 else (number, following - 1)
            assert schedule.fork_id(*before) == ForkId(bytes.fromhex(checksum), following)


@pytest.mark.parametrize(
    ("number", "time", "checksum", "following"),
    [
        (0, 0, 0xFC64EC04, 1150000),
        (1149999, 0, 0xFC64EC04, 1150000),
        (7280000, 0, 0x668DB0AF, 9069000),
        (15050000, 0, 0xF0AFD0E3, 18000000),
        (18000000, 0, 0x4FB8A872, 1668000000),
        (20000000, 0, 0x4FB8A872, 1668000000),
        (20000000, 1668000000, 0xC1FDF181, 0),
        (20100000, 2669000000, 0xC1FDF181, 0),
    ],
)
def test_creation_cases_of_eip_6122(number: int, time: int, checksum: int, following: int) -> None:
    assert WITHDRAWALS.fork_id(number, time) == fork_id(checksum, following)


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
