"""Forks of node records: who may be dialled, and what most nodes know that we do not."""

from __future__ import annotations

from zlib import crc32

import coincurve
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ethsync.discovery.forks import (
    FEWEST_VOTERS,
    MOST_VOTERS,
    NextForks,
    check_fork_entry,
    fork_between,
    presumed_head,
)
from ethsync.fork_overrides import with_overrides
from ethsync.networks import load_network
from ethsync.wire import rlp
from ethsync.wire.enr import NodeRecord, parse_record, sign_record
from ethsync.wire.forkid import ForkId, ForkSchedule

KEY = coincurve.PrivateKey(b"\x17" * 32)
MAINNET = load_network("mainnet").forks
BPO1, BPO2 = 1765290071, 1767747671
NOW = 1790000000
AMSTERDAM = 1800000000  # not a date that anybody has named
UPDATED = with_overrides(load_network("mainnet"), [f"Amsterdam={AMSTERDAM}"]).forks
HEAD = 25_000_000


def record_of(fork_id: ForkId | None, **entries: bytes) -> NodeRecord:
    eth = {} if fork_id is None else {b"eth": rlp.encode_list([fork_id.encode()])}
    return sign_record(KEY, 1, {**eth, **{name.encode(): value for name, value in entries.items()}})


def fork_id(digest: str, following: int = 0) -> ForkId:
    return ForkId(bytes.fromhex(digest), following)


class TestDialling:
    """Given mainnet after BPO2, the last fork that we know."""

    @pytest.mark.parametrize(
        "remote",
        [
            fork_id("07c9462e"),
            fork_id("07c9462e", AMSTERDAM),  # a fork that we do not know, and that nobody has passed
            fork_id("cba2a1c0", BPO2),  # still syncing
            fork_id("fc64ec04", 1150000),  # just begun
        ],
        ids=str,
    )
    def test_a_node_on_our_chain_may_be_dialled(self, remote: ForkId) -> None:
        assert check_fork_entry(record_of(remote), MAINNET, HEAD, NOW) is None

    @pytest.mark.parametrize(
        ("remote", "complaint"),
        [
            # The hash alone would not tell: the first two are hashes of our chain.
            (fork_id("cba2a1c0"), "too old: it does not know the fork at 1767747671"),
            (fork_id("07c9462e", NOW), f"passed a fork at {NOW} that we do not know"),
            (fork_id("268956b6"), "another chain or a fork we do not know"),  # Sepolia
            (UPDATED.fork_id(HEAD, AMSTERDAM), "another chain or a fork we do not know"),
        ],
        ids=str,
    )
    def test_a_node_that_cannot_be_on_our_chain_is_left_alone(self, remote: ForkId, complaint: str) -> None:
        why = check_fork_entry(record_of(remote), MAINNET, HEAD, NOW)

        assert why is not None
        assert complaint in why

    def test_a_consensus_node_is_left_alone(self) -> None:
        for text in load_network("mainnet").v5_boot_nodes:
            why = check_fork_entry(parse_record(text), MAINNET, HEAD, NOW)

            assert why == "its record has no eth entry: it does not speak the eth protocol"

    @pytest.mark.parametrize("value", [b"\xc0", b"\x83eth", rlp.encode_list([rlp.encode_list([b"\x84abcd"])])])
    def test_a_malformed_entry_is_said_to_be_one(self, value: bytes) -> None:
        why = check_fork_entry(record_of(None, eth=value), MAINNET, HEAD, NOW)

        assert why == "the eth entry of its record is malformed"


class TestPresumedHead:
    def test_a_synced_node_has_passed_all_forks_by_number_and_those_by_time_up_to_now(self) -> None:
        for now, digest in [(BPO2 - 0.5, "cba2a1c0"), (BPO2, "07c9462e"), (NOW, "07c9462e")]:
            assert MAINNET.fork_id(*presumed_head(MAINNET, now)).hash.hex() == digest

    def test_a_chain_with_forks_by_number_alone_counts_from_its_genesis(self) -> None:
        """Any node on it may be ahead of us; nobody is refused but for another chain."""
        schedule = ForkSchedule(b"\xaa" * 32, 1000, (5, 9), ())

        assert presumed_head(schedule, NOW) == (0, 1000)
        assert check_fork_entry(record_of(schedule.fork_id(9, 0)), schedule, *presumed_head(schedule, NOW)) is None

    def test_a_clock_before_the_genesis_is_no_error(self) -> None:
        hoodi = load_network("hoodi").forks

        assert hoodi.fork_id(*presumed_head(hoodi, 0)).hash.hex() == "bef71d30"


class TestForkBetween:
    @pytest.mark.parametrize(
        ("before", "after", "fork"),
        # Published hashes of mainnet and Sepolia: CRC-32 of go-ethereum, run backwards.
        [("fc64ec04", "97c2c34c", 1150000), ("f0afd0e3", "dce96c2d", 1681338455), ("cba2a1c0", "07c9462e", BPO2),
         ("268956b6", "6c1d9423", 1791294816)],
    )  # fmt: skip
    def test_two_hashes_tell_the_fork_between_them(self, before: str, after: str, fork: int) -> None:
        assert fork_between(bytes.fromhex(before), bytes.fromhex(after)) == fork

    @given(st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4))
    def test_the_number_found_leads_from_one_to_the_other(self, before: bytes, after: bytes) -> None:
        number = fork_between(before, after)

        assert crc32(number.to_bytes(8, "big"), int.from_bytes(before, "big")) == int.from_bytes(after, "big")


class TestHint:
    @staticmethod
    def counted(*announced: ForkId, schedule: ForkSchedule = MAINNET, now: int = NOW) -> NextForks:
        forks = NextForks(schedule)
        for number, remote in enumerate(announced):
            forks.see(number.to_bytes(32, "big"), remote, HEAD, now)
        return forks

    def test_most_nodes_expect_a_fork_that_we_do_not_know(self) -> None:
        forks = self.counted(*[fork_id("07c9462e", AMSTERDAM)] * 31, *[fork_id("07c9462e")] * 9)

        assert forks.hint(NOW) == (
            "most nodes (31 of 40) expect a fork at 1800000000 (2027-01-15 08:00:00 UTC) that this version "
            "does not know; use --override-fork NAME=1800000000"
        )

    def test_what_the_hint_says_makes_us_agree_with_them(self) -> None:
        remote = UPDATED.fork_id(HEAD, AMSTERDAM)
        assert check_fork_entry(record_of(remote), MAINNET, HEAD, AMSTERDAM) is not None

        assert check_fork_entry(record_of(remote), UPDATED, HEAD, AMSTERDAM) is None
        assert self.counted(*[fork_id("07c9462e", AMSTERDAM)] * 20, schedule=UPDATED).hint(NOW) is None

    def test_most_nodes_passed_a_fork_that_we_do_not_know(self) -> None:
        """Their hash alone tells when, though they announce nothing any more."""
        later = AMSTERDAM + 5000
        forks = self.counted(*[UPDATED.fork_id(HEAD, later)] * 20, *[fork_id("07c9462e")] * 3, now=later)

        hint = forks.hint(later)

        assert hint is not None
        assert hint.startswith("most nodes (20 of 23) passed a fork at 1800000000 (2027-01-15 08:00:00 UTC) that this")

    def test_a_fork_at_another_time_than_ours_is_news(self) -> None:
        forks = self.counted(*[fork_id("07c9462e", AMSTERDAM - 1000)] * 20, schedule=UPDATED)

        assert "expect a fork at 1799999000" in str(forks.hint(NOW))

    def test_before_and_after_a_fork_the_same_nodes_count_for_it(self) -> None:
        later = AMSTERDAM + 5000
        forks = self.counted(*[fork_id("07c9462e", AMSTERDAM)] * 20)
        for number in range(10):
            forks.see(number.to_bytes(32, "big"), UPDATED.fork_id(HEAD, later), HEAD, later)

        assert "(20 of 20) passed a fork at 1800000000" in str(forks.hint(later))

    @pytest.mark.parametrize("knowing", [0, 1, 10])
    def test_half_of_them_are_not_most(self, knowing: int) -> None:
        forks = self.counted(*[fork_id("07c9462e", AMSTERDAM)] * knowing, *[fork_id("07c9462e")] * (20 - knowing))

        assert forks.hint(NOW) is None

    def test_a_few_nodes_say_nothing(self) -> None:
        announced = [fork_id("07c9462e", AMSTERDAM)] * FEWEST_VOTERS

        assert self.counted(*announced[1:]).hint(NOW) is None
        assert self.counted(*announced).hint(NOW) is not None

    def test_one_node_has_one_voice_its_latest(self) -> None:
        forks = NextForks(MAINNET)
        for _ in range(50):
            forks.see(bytes(32), fork_id("07c9462e", AMSTERDAM), HEAD, NOW)

        assert forks.hint(NOW) is None

    @pytest.mark.parametrize(
        "remote",
        [
            fork_id("268956b6", AMSTERDAM),  # Sepolia
            fork_id("cba2a1c0", BPO2),  # behind us
            fork_id("fc64ec04", 1150000),
            fork_id("deadbeef", AMSTERDAM),
        ],
        ids=str,
    )
    def test_nodes_elsewhere_count_neither_for_nor_against_it(self, remote: ForkId) -> None:
        announced = [*[remote] * 100, *[fork_id("07c9462e", AMSTERDAM)] * FEWEST_VOTERS]

        assert self.counted(*announced[:-1]).hint(NOW) is None
        assert f"({FEWEST_VOTERS} of {FEWEST_VOTERS})" in str(self.counted(*announced).hint(NOW))

    def test_nobody_can_have_passed_a_fork_of_the_future(self) -> None:
        assert self.counted(*[UPDATED.fork_id(HEAD, AMSTERDAM)] * 20, now=AMSTERDAM - 1).hint(NOW) is None

    @pytest.mark.parametrize("following", [0, 5, 30_000_000, BPO1, BPO2, 2**32, 2**64 - 1])
    def test_what_can_be_no_time_of_a_fork_is_no_news(self, following: int) -> None:
        assert self.counted(*[fork_id("07c9462e", following)] * 30).hint(NOW) is None

    def test_who_speaks_again_is_forgotten_last(self) -> None:
        """Given a full memory whose first node knows nothing: another node takes the second one's place."""
        forks = self.counted(fork_id("07c9462e"), *[fork_id("07c9462e", AMSTERDAM)] * (MOST_VOTERS - 1))
        forks.see(bytes(32), fork_id("07c9462e"), HEAD, NOW)
        forks.see(b"\xff" * 32, fork_id("07c9462e"), HEAD, NOW)

        assert f"({MOST_VOTERS - 2} of {MOST_VOTERS})" in str(forks.hint(NOW))

    def test_memory_is_bounded_and_the_newest_count(self) -> None:
        forks = self.counted(*[fork_id("07c9462e")] * 700, *[fork_id("07c9462e", AMSTERDAM)] * (MOST_VOTERS - 300))

        assert f"({MOST_VOTERS - 300} of {MOST_VOTERS})" in str(forks.hint(NOW))
