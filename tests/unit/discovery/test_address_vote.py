"""Our address by vote: who may vote, what wins, and what a liar needs."""

from __future__ import annotations

import random
from ipaddress import ip_address

import pytest

from ethsync.discovery.address_vote import FEWEST_VOTES, MOST_VOTES, ROUND, AddressVote
from ethsync.discovery.node import Endpoint
from ethsync.discovery.protocol import AddressSeen

PORT = 30303
HOME = "89.12.3.4:30303"
NEW_HOME = "89.77.6.5:30303"
LIE = "45.6.6.6:30303"


def endpoint(text: str) -> Endpoint:
    host, _, port = text.rpartition(":")
    return Endpoint(ip_address(host.strip("[]")), int(port))


class Poll:
    """A vote with its voters: each from a network of its own unless told otherwise."""

    def __init__(self, vote: AddressVote) -> None:
        self.vote = vote
        self.now = 0.0
        self._voters = 0

    def says(self, seen: str, source: str = "", reporter: int | None = None) -> str | None:
        """One vote; the new winner if it changes."""
        self._voters += 1
        number = self._voters
        place = source or f"5.{number >> 8 & 255}.{number & 255}.9:30303"
        name = number if reporter is None else reporter
        changed = self.vote.count(AddressSeen(name.to_bytes(32, "big"), endpoint(seen), endpoint(place)), self.now)
        return None if changed is None else str(changed)

    def say(self, count: int, seen: str) -> list[str]:
        """As many votes from as many networks; what they change."""
        return [changed for changed in (self.says(seen) for _ in range(count)) if changed is not None]

    def next_round(self) -> None:
        self.now += ROUND

    def winner(self, version: int = 4) -> str | None:
        found = self.vote.winner(version)
        return None if found is None else str(found)


@pytest.fixture
def poll() -> Poll:
    return Poll(AddressVote(PORT))


class TestFirstAddress:
    def test_three_voters_that_agree_decide_at_once(self, poll: Poll) -> None:
        assert [poll.says(HOME), poll.says(HOME), poll.says(HOME)] == [None, None, HOME]
        assert poll.winner() == HOME

    def test_a_winner_is_told_once(self, poll: Poll) -> None:
        assert poll.say(50, HOME) == [HOME]

    def test_two_that_agree_and_a_liar_wait_for_another(self, poll: Poll) -> None:
        assert [poll.says(each) for each in (HOME, LIE, HOME)] == [None, None, None]
        assert poll.says(HOME) == HOME

    def test_votes_of_a_past_round_are_forgotten(self, poll: Poll) -> None:
        poll.say(2, HOME)
        poll.next_round()

        assert poll.says(HOME) is None
        assert poll.say(2, HOME) == [HOME]

    def test_ipv4_and_ipv6_are_apart(self, poll: Poll) -> None:
        poll.say(2, HOME)
        seen = "[2a02:1::5]:30303"
        changes = [poll.says(seen, f"[2a0{number}:5::1]:30303") for number in (3, 4, 5)]

        assert changes == [None, None, seen]
        assert (poll.winner(4), poll.winner(6)) == (None, seen)
        assert poll.says(HOME) == HOME

    def test_mapped_ipv4_is_ipv4(self, poll: Poll) -> None:
        poll.say(2, HOME)

        assert poll.says("[::ffff:89.12.3.4]:30303", "[::ffff:7.7.7.7]:1") == HOME


class TestPort:
    def test_the_port_is_the_one_that_the_router_shows(self, poll: Poll) -> None:
        assert poll.say(3, "89.12.3.4:41000") == ["89.12.3.4:41000"]

    def test_where_every_voter_sees_another_port_it_is_ours(self, poll: Poll) -> None:
        changes = [poll.says(f"89.12.3.4:{port}") for port in range(41000, 41010)]

        assert [each for each in changes if each] == ["89.12.3.4:30303"]

    def test_a_port_changes_as_an_address_does(self, poll: Poll) -> None:
        poll.say(10, HOME)
        poll.next_round()
        poll.say(6, "89.12.3.4:41000")
        poll.next_round()

        assert poll.says(HOME) == "89.12.3.4:41000"

    def test_a_port_needs_twice_the_votes_of_the_known_one(self, poll: Poll) -> None:
        poll.say(10, HOME)
        poll.next_round()
        poll.say(5, HOME)
        poll.say(9, "89.12.3.4:41000")
        poll.next_round()

        assert poll.says(HOME) is None

    def test_different_ports_leave_the_known_one(self, poll: Poll) -> None:
        poll.say(10, "89.12.3.4:41000")
        poll.next_round()
        assert [poll.says(f"89.12.3.4:{port}") for port in range(42000, 42010)] == [None] * 10
        poll.next_round()

        assert poll.says(HOME) is None
        assert poll.winner() == "89.12.3.4:41000"


class TestVoters:
    def test_a_node_votes_once_per_round(self, poll: Poll) -> None:
        for number in range(20):
            assert poll.says(HOME, source=f"5.5.{number}.1:30303", reporter=7) is None

        poll.next_round()
        assert poll.says(HOME, source="5.5.1.1:30303", reporter=7) is None
        assert poll.say(2, HOME) == [HOME]

    def test_a_network_votes_once_per_round(self, poll: Poll) -> None:
        for host in range(1, 255):
            assert poll.says(LIE, source=f"5.5.5.{host}:30303") is None

    def test_a_customer_with_a_48_of_ipv6_votes_once(self, poll: Poll) -> None:
        for number in range(1000):
            assert poll.says("[2a02:1::5]:1", source=f"[2a03:5:6:{number:x}::1]:30303") is None

    def test_nodes_beside_us_all_vote_on_our_address_there(self, poll: Poll) -> None:
        """A private test network, or one machine."""
        for home, sources in [("10.0.0.5:1", "10.0.0.{}:2"), ("127.0.0.1:1", "127.0.0.1:3000{}")]:
            local = Poll(AddressVote(PORT))
            assert [local.says(home, source=sources.format(number)) for number in (6, 7, 8)] == [None, None, home]

    def test_nodes_beside_us_are_one_voter_on_our_address_in_the_world(self, poll: Poll) -> None:
        for number in range(1, 200):
            assert poll.says(LIE, source=f"192.168.1.{number}:30303") is None

    @pytest.mark.parametrize(
        ("seen", "source"),
        [
            ("127.0.0.1:30303", "5.{}.1.1:1"),
            ("127.0.0.1:30303", "10.{}.1.1:1"),
            ("169.254.1.1:30303", "5.{}.1.1:1"),
            ("0.0.0.0:30303", "5.{}.1.1:1"),
            ("0.0.0.0:30303", "127.0.{}.1:1"),
            ("224.0.0.1:30303", "5.{}.1.1:1"),
            ("255.255.255.255:30303", "10.{}.1.1:1"),
            ("203.0.113.9:30303", "5.{}.1.1:1"),  # for documentation
            ("89.12.3.4:0", "5.{}.1.1:1"),
            ("[::]:30303", "[2a0{}::1]:1"),
            ("[::1]:30303", "[2a0{}::1]:1"),
            ("[fe80::1]:30303", "[2a0{}::1]:1"),
            ("[ff02::1]:30303", "[2a0{}::1]:1"),
            ("[2a02:1::5]:30303", "5.{}.1.1:1"),  # over IPv4 nobody sees an address of IPv6
        ],
    )
    def test_an_address_that_the_voter_cannot_see_us_at_does_not_count(
        self, poll: Poll, seen: str, source: str
    ) -> None:
        for number in range(1, 10):
            assert poll.says(seen, source=source.format(number)) is None

    def test_memory_is_bounded(self, poll: Poll) -> None:
        poll.say(MOST_VOTES, HOME)
        poll.say(3 * MOST_VOTES, LIE)
        poll.next_round()

        assert poll.says(HOME) is None  # otherwise the lie would have won 3 to 1
        assert poll.winner() == HOME


class TestPublicBeforePrivate:
    def test_a_private_address_is_better_than_none(self, poll: Poll) -> None:
        assert poll.say(3, "10.0.0.5:30303") == ["10.0.0.5:30303"]

    def test_a_public_one_takes_over_as_soon_as_three_agree(self, poll: Poll) -> None:
        poll.say(40, "10.0.0.5:30303")

        assert poll.say(3, HOME) == [HOME]

    def test_a_private_one_does_not_take_over_while_anybody_sees_the_public_one(self, poll: Poll) -> None:
        poll.say(5, HOME)
        poll.next_round()
        poll.say(100, "10.0.0.5:30303")
        poll.says(HOME)
        poll.next_round()

        assert poll.say(3, HOME) == []
        assert poll.winner() == HOME

    def test_a_machine_that_moved_into_a_private_network_learns_it(self, poll: Poll) -> None:
        poll.say(5, HOME)
        poll.next_round()
        poll.say(5, "10.0.0.5:30303")
        poll.next_round()

        assert poll.says("10.0.0.5:30303") == "10.0.0.5:30303"

    def test_private_ones_change_only_at_the_end_of_a_round(self, poll: Poll) -> None:
        poll.say(3, "10.0.0.5:30303")
        assert poll.say(10, "10.0.0.6:30303") == []
        poll.next_round()

        assert poll.says("10.0.0.6:30303") == "10.0.0.6:30303"


class TestChange:
    def test_a_new_address_is_taken_at_the_end_of_the_round(self, poll: Poll) -> None:
        """Given a router that has got another address from its provider."""
        poll.say(20, HOME)
        poll.next_round()
        assert poll.say(20, NEW_HOME) == []
        poll.next_round()

        assert poll.says(NEW_HOME) == NEW_HOME

    def test_fewer_than_three_change_nothing(self, poll: Poll) -> None:
        poll.say(20, HOME)
        poll.next_round()
        poll.say(FEWEST_VOTES - 1, NEW_HOME)
        poll.next_round()

        assert poll.says(NEW_HOME) is None

    def test_twice_as_many_are_needed(self, poll: Poll) -> None:
        for votes, expected in [(9, None), (10, NEW_HOME)]:
            other = Poll(AddressVote(PORT))
            other.say(20, HOME)
            other.next_round()
            other.say(5, HOME)
            other.say(votes, NEW_HOME)
            other.next_round()
            assert other.says(HOME) == expected

    def test_of_two_new_ones_with_as_many_votes_neither_wins(self, poll: Poll) -> None:
        poll.say(20, HOME)
        poll.next_round()
        poll.say(5, NEW_HOME)
        poll.say(5, LIE)
        poll.next_round()

        assert poll.says(HOME) is None
        assert poll.winner() == HOME

    def test_two_addresses_that_share_the_voters_do_not_take_turns(self, poll: Poll) -> None:
        """Given two lines to the provider: 40 to 60 voters of 100 see either, for 200 rounds."""
        chance = random.Random(20261006)
        poll.say(3, HOME)
        changes: list[str] = []
        for _ in range(200):
            poll.next_round()
            share = chance.randint(40, 60)
            votes = [HOME] * share + [NEW_HOME] * (100 - share)
            chance.shuffle(votes)
            changes += [changed for changed in map(poll.says, votes) if changed is not None]

        assert changes == []

    def test_voters_that_are_silent_for_hours_leave_everything_as_it_is(self, poll: Poll) -> None:
        poll.say(20, HOME)
        poll.now += 50 * ROUND

        assert poll.says(NEW_HOME) is None
        assert poll.winner() == HOME


class TestSybil:
    """What somebody with many node ids can do, in numbers."""

    def test_ten_thousand_ids_in_two_networks_do_nothing(self, poll: Poll) -> None:
        for number in range(10_000):
            assert poll.says(LIE, source=f"6.6.{number % 2}.{number % 250 + 1}:30303") is None
            poll.now += 1.0

        assert poll.winner() is None

    def test_three_networks_are_enough_before_anybody_else_has_spoken(self, poll: Poll) -> None:
        """The price of deciding at three; who asks only nodes of a liar cannot know better."""
        assert poll.say(3, LIE) == [LIE]

    def test_and_the_honest_majority_corrects_it_within_two_rounds(self, poll: Poll) -> None:
        poll.say(3, LIE)
        poll.say(10, HOME)
        poll.next_round()

        assert poll.says(HOME) == HOME

    def test_a_liar_needs_two_thirds_of_the_networks_that_we_ping(self, poll: Poll) -> None:
        for liars, wins in [(66, False), (67, True)]:
            other = Poll(AddressVote(PORT))
            other.say(3, HOME)
            other.next_round()
            other.say(100 - liars, HOME)
            other.say(liars, LIE)
            other.next_round()
            assert (other.says(HOME) == LIE) is wins


class TestAnnounced:
    def test_voting_never_overrides_what_the_user_announced(self) -> None:
        poll = Poll(AddressVote(PORT, announced={4}))

        assert poll.say(100, HOME) == []
        assert poll.winner() is None

    def test_the_other_ip_version_is_still_voted_on(self) -> None:
        poll = Poll(AddressVote(PORT, announced={6}))

        assert poll.say(3, HOME) == [HOME]
