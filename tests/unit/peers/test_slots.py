"""The peer slots: who gets one, who keeps it, who has to go."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from ethsync.discovery.candidate import Reason, Source
from ethsync.discovery.candidates import Candidates
from ethsync.errors import DisconnectReason
from ethsync.peers.slots import (
    CLIENTS,
    MOST_PER_NETWORK_6,
    MOST_PER_SUBNET,
    ROTATION,
    TRIAL,
    Admission,
    Admitted,
    Refused,
    Replaces,
    Slots,
)
from ethsync.peers.standing import MANY, Standing
from ethsync.peers.track import Outcome
from tests.unit.discovery.crowds import crowded, key, node, offer_all, scattered

UNTRIED = Standing()
SERVING = Standing(served=5, last=Outcome.SERVED, score=5.0)
STALE = Standing(served=5, refused=3, last=Outcome.EMPTY)
DOUBTFUL = Standing(refused=1, last=Outcome.EMPTY)
USELESS = Standing(refused=MANY, last=Outcome.EMPTY)


def admit(
    slots: Slots,
    name: int | str,
    *,
    ip: str | None = None,
    inbound: bool = False,
    fixed: bool = False,
    client: str = "Geth/v1.16",
    now: float = 0.0,
) -> Admission:
    """Let a node ask for a slot; without `ip` it has a /24 of its own."""
    digest = key(name)
    address = ip_address(ip) if ip is not None else ip_address(f"{20 + digest[0] % 60}.{digest[1]}.{digest[2]}.1")
    return slots.admit(digest, address, client, now, inbound=inbound, fixed=fixed)


def judge(slots: Slots, name: int | str, standing: Standing) -> None:
    """A peer that came without a past has become this."""
    slots.judge(key(name), Standing())
    slots.judge(key(name), standing)


def full(*, inbound: int = 3, outbound: int = 7, client: str = "Geth/v1.16") -> Slots:
    """Ten slots, taken at time 0 by 'in 0', …, and 'out 0', …"""
    slots = Slots(10)
    for n in range(inbound):
        assert admit(slots, f"in {n}", inbound=True, client=client) == Admitted()
    for n in range(outbound):
        assert admit(slots, f"out {n}", client=client) == Admitted()
    return slots


# How many


def test_a_third_of_fifty_slots_is_for_those_who_dial_us() -> None:
    slots = Slots()
    inbound = sum(admit(slots, f"in {n}", inbound=True) == Admitted() for n in range(60))
    outbound = sum(admit(slots, f"out {n}") == Admitted() for n in range(60))
    assert (inbound, outbound, len(slots)) == (16, 34, 50)


def test_trusted_peers_come_beyond_the_maximum_and_static_ones_in_somebodys_place() -> None:
    slots = full()
    assert slots.admit(key("trusted"), None, "Geth/v1", 0.0, inbound=True, trusted=True) == Admitted()
    assert len(slots) == 11
    assert isinstance(admit(slots, "static", fixed=True), Replaces)
    assert len(slots) == 11
    # And while there are more than there should be, nobody else is let in or dialled.
    assert slots.useful_dials == 0
    slots.left(key("out 0"))
    assert isinstance(admit(slots, "stranger"), Refused)


def test_without_a_listener_all_slots_are_for_those_we_dial() -> None:
    slots = Slots(10, inbound_share=0.0)
    assert admit(slots, "in", inbound=True) == Refused(DisconnectReason.TOO_MANY_PEERS, "all slots are taken")
    assert sum(admit(slots, n) == Admitted() for n in range(20)) == 10


def test_a_peer_that_leaves_makes_room() -> None:
    slots = full()
    assert isinstance(admit(slots, "late"), Refused)
    slots.left(key("out 3"))
    slots.left(key("nobody"))
    assert admit(slots, "late") == Admitted()


def test_nobody_has_two_slots() -> None:
    slots = Slots()
    admit(slots, 1)
    refused = admit(slots, 1, inbound=True, fixed=True)
    assert isinstance(refused, Refused)
    assert refused.reason is DisconnectReason.ALREADY_CONNECTED


def test_it_is_known_how_many_dials_are_of_use() -> None:
    slots = Slots(10)
    assert (slots.free_outbound, slots.useful_dials) == (10, 80)
    for n in range(9):
        admit(slots, n, inbound=n < 3)
    assert (slots.free_outbound, slots.useful_dials) == (1, 8)
    admit(slots, 9)
    assert (slots.free_outbound, slots.useful_dials) == (0, 0)


# Inbound slots that are lent


def lent(standing: Standing = UNTRIED) -> Slots:
    """Ten slots, all of them taken at time 0 by dialled peers, 'out 0', …, who have become this."""
    slots = full(inbound=0, outbound=10)
    for n in range(10):
        judge(slots, f"out {n}", standing)
    return slots


def test_all_slots_are_filled_with_dialled_peers_while_nobody_calls() -> None:
    slots = Slots()
    assert sum(admit(slots, f"out {n}") == Admitted() for n in range(60)) == 50


def test_callers_take_back_their_share_of_the_least_useful_and_no_more() -> None:
    slots = lent()
    judge(slots, "out 3", DOUBTFUL)
    judge(slots, "out 7", USELESS)
    first, second = (admit(slots, f"in {n}", inbound=True, now=TRIAL) for n in range(2))
    assert (first, second) == tuple(Replaces(key(f"out {n}"), "another peer needs the slot") for n in (7, 3))
    assert isinstance(admit(slots, "in 2", inbound=True, now=TRIAL), Replaces)
    # What is left is the share of those whom we dial.
    assert isinstance(admit(slots, "in 3", inbound=True, now=TRIAL), Refused)
    assert sum(key(f"out {n}") in slots for n in range(10)) == 7
    assert len(slots) == 10


def test_a_slot_that_a_caller_leaves_is_lent_again() -> None:
    slots = lent()
    admit(slots, "in 0", inbound=True, now=TRIAL)
    assert slots.free_outbound == 0
    slots.left(key("in 0"))
    assert slots.free_outbound == 1
    assert admit(slots, "out 10", now=TRIAL) == Admitted()


@pytest.mark.parametrize("standing", [SERVING, STALE])
def test_dialled_peers_that_were_of_use_keep_what_they_were_lent(standing: Standing) -> None:
    assert isinstance(admit(lent(standing), "in", inbound=True, now=1e6), Refused)


def test_dialled_peers_have_their_trial_and_those_who_were_named_stay() -> None:
    assert isinstance(admit(lent(), "in", inbound=True, now=TRIAL - 1), Refused)
    slots = Slots(10)
    for n in range(10):
        admit(slots, f"fixed {n}", fixed=True)
    assert isinstance(admit(slots, "in", inbound=True, now=1e6), Refused)


# From where


@pytest.mark.parametrize(
    ("template", "most"),
    [("66.6.6.{}", MOST_PER_SUBNET), ("2a01:4f8:1:2::{}", MOST_PER_SUBNET), ("2a01:4f8:{}::1", MOST_PER_NETWORK_6)],
)
def test_few_peers_are_of_one_public_network(template: str, most: int) -> None:
    slots = Slots()
    asked = [admit(slots, n, ip=template.format(n + 1), inbound=bool(n % 2)) for n in range(10)]
    assert asked.count(Admitted()) == most
    refused = asked[-1]
    assert isinstance(refused, Refused)
    assert refused.reason is DisconnectReason.TOO_MANY_PEERS
    # One that leaves makes room.
    slots.left(key(0))
    assert admit(slots, "next", ip=template.format(77)) == Admitted()


@pytest.mark.parametrize("template", ["10.0.0.{}", "127.0.0.{}", "fd00::{}"])
def test_private_networks_and_this_machine_have_no_such_limit(template: str) -> None:
    slots = Slots()
    assert all(admit(slots, n, ip=template.format(n + 1)) == Admitted() for n in range(20))


def test_what_the_user_named_does_not_count_for_its_network() -> None:
    slots = Slots()
    assert all(admit(slots, n, ip=f"66.6.6.{n + 1}", fixed=True) == Admitted() for n in range(5))
    assert admit(slots, "stranger", ip="66.6.6.99") == Admitted()


def test_a_candidate_is_not_dialled_if_it_would_not_get_a_slot() -> None:
    candidates, slots = Candidates(random.Random(1)), Slots(10)
    candidates.offer(node("near", "66.6.6.3"), Source.DISCV5, 0.0)
    candidates.offer(node("named", "66.6.6.4"), Source.STATIC, 0.0)
    near, named = candidates.get(key("near")), candidates.get(key("named"))
    assert near is not None
    assert named is not None
    assert slots.refuses(near) is None
    for n in range(2):
        admit(slots, n, ip=f"66.6.6.{n + 1}")
    assert slots.refuses(near) == "2 peers are of its network already"
    slots.left(key(0))
    for n in range(10, 20):
        admit(slots, n)
    assert slots.refuses(near) == "all slots are taken"
    assert slots.refuses(named) is None
    admit(slots, "named", ip="66.6.6.4", fixed=True)
    assert slots.refuses(named) == "it is connected"


# What the user named


@pytest.mark.parametrize("inbound", [False, True])
def test_static_and_trusted_peers_always_get_a_slot_that_of_the_least_useful(inbound: bool) -> None:
    slots = full()
    for n in range(7):
        judge(slots, f"out {n}", SERVING)
    judge(slots, "in 0", SERVING)
    judge(slots, "in 1", DOUBTFUL)
    assert admit(slots, "friend", inbound=inbound, fixed=True) == Replaces(key("in 1"), "another peer needs the slot")
    assert key("friend") in slots
    assert key("in 1") not in slots
    assert len(slots) == 10


def test_even_that_of_a_useful_one_if_there_is_no_other() -> None:
    slots = full(inbound=0, outbound=7)
    for n in range(3):
        admit(slots, f"fixed {n}", fixed=True)
    for n in range(7):
        judge(slots, f"out {n}", Standing(served=9, last=Outcome.SERVED, score=float(n)))
    assert admit(slots, "friend", fixed=True) == Replaces(key("out 0"), "another peer needs the slot")


def test_they_never_replace_each_other() -> None:
    slots = Slots(3)
    assert all(admit(slots, n, fixed=True) == Admitted() for n in range(5))
    assert isinstance(admit(slots, "stranger"), Refused)


# Who is replaced by a newcomer


@pytest.mark.parametrize("standing", [SERVING, STALE, Standing()])
def test_peers_that_are_of_use_or_were_not_tried_yet_keep_their_slots(standing: Standing) -> None:
    slots = full()
    for name in ("in 0", "in 1", "in 2"):
        judge(slots, name, standing)
    assert isinstance(admit(slots, "late", inbound=True, now=1e6), Refused)


@pytest.mark.parametrize("standing", [DOUBTFUL, USELESS])
def test_a_peer_that_gave_nothing_makes_room_for_a_newcomer_after_its_trial(standing: Standing) -> None:
    slots = full()
    judge(slots, "in 1", standing)
    assert isinstance(admit(slots, "late", inbound=True, now=TRIAL - 1), Refused)
    assert isinstance(admit(slots, "late"), Refused)  # that dialled peer needs another slot
    assert admit(slots, "late", inbound=True, now=TRIAL) == Replaces(key("in 1"), "another peer needs the slot")


def test_what_a_peer_failed_to_give_before_it_came_back_is_not_held_against_it() -> None:
    slots = full()
    slots.judge(key("in 1"), USELESS)
    assert isinstance(admit(slots, "late", inbound=True, now=TRIAL), Refused)
    slots.judge(key("in 1"), Standing(refused=MANY + 1, last=Outcome.EMPTY))
    assert isinstance(admit(slots, "late", inbound=True, now=TRIAL), Replaces)


def test_an_untried_peer_of_a_client_that_dominates_makes_room_for_one_that_we_have_none_of() -> None:
    slots = full(client="Geth/v1.16")
    assert isinstance(admit(slots, "same", now=TRIAL, client="Geth/v1.17"), Refused)
    assert isinstance(admit(slots, "first", now=TRIAL, client="Nethermind/v1.37"), Replaces)
    # Its place is taken by one of the kind; a second one has no such claim, nor have invented names more than one.
    assert isinstance(admit(slots, "second", now=2 * TRIAL, client="Nethermind/v1.37"), Refused)


def test_names_of_clients_gain_an_attacker_one_slot_each_and_invented_ones_one_in_all() -> None:
    slots = Slots(60, inbound_share=0.0)
    for n in range(60):
        admit(slots, f"out {n}")
    for n in range(100):
        admit(slots, f"inventor {n}", now=TRIAL + n, client=f"Client{n}/v1")
    assert sum(key(f"inventor {n}") in slots for n in range(100)) == 1
    for n in range(100):
        admit(slots, f"attacker {n}", now=200.0 + n, client=f"{CLIENTS[n % len(CLIENTS)]}/v6.6.6")
    assert sum(key(f"attacker {n}") in slots for n in range(100)) == len(CLIENTS) - 1


def test_of_equally_useless_peers_one_of_the_most_common_client_goes() -> None:
    slots = Slots(10)
    for name, client in (("a", "Besu/v25"), ("b", "Geth/v1"), ("c", "Geth/v1"), ("d", "Reth/v1"), ("e", "Erigon/v3")):
        admit(slots, name, client=client)
        judge(slots, name, USELESS)
    admit(slots, "server")
    judge(slots, "server", SERVING)
    assert slots.rotation(TRIAL, replacements=0) in (key("b"), key("c"))


# Rotation


def test_with_a_replacement_at_hand_a_dialled_peer_goes_that_gave_nothing_when_asked_once() -> None:
    slots = full()
    judge(slots, "out 0", SERVING)
    judge(slots, "out 4", DOUBTFUL)
    assert slots.rotation(TRIAL, replacements=0) is None
    assert slots.rotation(TRIAL - 1, replacements=5) is None
    assert slots.rotation(TRIAL, replacements=5) == key("out 4")


def test_while_there_are_free_slots_only_a_peer_that_was_tried_often_enough_goes() -> None:
    slots = full(outbound=6)
    judge(slots, "out 0", SERVING)
    judge(slots, "out 4", DOUBTFUL)
    assert slots.rotation(TRIAL, replacements=5) is None
    judge(slots, "out 5", USELESS)
    assert slots.rotation(TRIAL, replacements=0) == key("out 5")


def test_an_inbound_peer_goes_only_if_it_was_tried_often_enough() -> None:
    slots = full()
    judge(slots, "out 0", SERVING)
    judge(slots, "in 0", DOUBTFUL)
    assert slots.rotation(TRIAL, replacements=5) is None
    judge(slots, "in 0", USELESS)
    assert slots.rotation(TRIAL, replacements=5) == key("in 0")


def test_nobody_goes_while_nobody_serves_any_more() -> None:
    # Then it is the state root that nobody has, and hanging up would leave us alone.
    slots = full()
    for n in range(7):
        judge(slots, f"out {n}", USELESS)
    judge(slots, "in 0", STALE)
    assert slots.rotation(1e6, replacements=100) is None


def test_among_none_but_useless_peers_those_that_were_tried_often_make_room_for_others() -> None:
    slots = full()
    for n in range(7):
        judge(slots, f"out {n}", DOUBTFUL)
    assert slots.rotation(100.0, replacements=100) is None
    judge(slots, "out 3", USELESS)
    assert slots.rotation(100.0, replacements=0) is None
    assert slots.rotation(100.0, replacements=1) == key("out 3")
    # With a slot to be had, there is no need.
    slots.left(key("out 4"))
    assert slots.rotation(200.0, replacements=1) is None


@pytest.mark.parametrize("standing", [SERVING, STALE, Standing()])
def test_peers_that_have_served_or_were_not_asked_stay(standing: Standing) -> None:
    slots = full()
    judge(slots, "out 0", SERVING)
    for n in range(1, 7):
        judge(slots, f"out {n}", standing)
    assert slots.rotation(1e6, replacements=100) is None


def test_what_the_user_named_stays_however_useless() -> None:
    slots = Slots(10)
    admit(slots, "friend", fixed=True)
    admit(slots, "server")
    judge(slots, "friend", USELESS)
    judge(slots, "server", SERVING)
    assert slots.rotation(1e6, replacements=100) is None


def test_one_peer_goes_at_a_time_the_worst_first() -> None:
    slots = full()
    judge(slots, "out 0", SERVING)
    judge(slots, "out 1", DOUBTFUL)
    judge(slots, "out 2", USELESS)
    assert slots.rotation(100.0, replacements=9) == key("out 2")
    slots.left(key("out 2"))
    admit(slots, "new", now=100.0)
    assert slots.rotation(100.0 + ROTATION - 1, replacements=9) is None
    assert slots.rotation(100.0 + ROTATION, replacements=9) == key("out 1")


# Eclipse


@dataclass
class World:
    """Ten minutes of dialling and being dialled: whoever is not honest always answers, at once, and stays."""

    candidates: Candidates
    slots: Slots
    rng: random.Random
    most_dials: int = 0

    def run(self, attackers: list[bytes], seconds: int) -> None:
        hostile = set(attackers)
        for second in range(seconds):
            now = float(second)
            under_way = []
            while (candidate := self.candidates.next(now, most=min(16, self.slots.useful_dials))) is not None:
                if self.slots.refuses(candidate) is not None:
                    self.candidates.defer(candidate.public_key, now + 60.0)
                    continue
                self.candidates.dialled(candidate.public_key, now)
                under_way.append(candidate)
            self.most_dials = max(self.most_dials, sum(each.public_key in hostile for each in under_way))
            for each in under_way:
                reached = each.public_key in hostile or self.rng.random() < 0.2
                if reached and not isinstance(
                    self.slots.admit(each.public_key, each.ip, "Geth/v1.16", now, inbound=False), Refused
                ):
                    self.candidates.connected(each.public_key, "Geth/v1.16", now)
                else:
                    self.candidates.failed(each.public_key, Reason.TOO_MANY_PEERS, now)
            for attacker in self.rng.sample(attackers, 20):  # and they dial us, too
                known = self.candidates.get(attacker)
                address = known.ip if known is not None else ip_address(f"66.6.{self.rng.randrange(1, 5)}.9")
                self.slots.admit(attacker, address, "Geth/v1.16", now, inbound=True)


@pytest.mark.parametrize("seed", range(3))
def test_ten_thousand_attackers_of_four_subnets_get_eight_of_fifty_slots(seed: int) -> None:
    # Given 300 honest nodes, of which one dial in five comes to something, and 10,000 attackers who came first
    rng = random.Random(seed)
    candidates, slots = Candidates(rng), Slots()
    attackers = crowded(10_000, ["66.6.1", "66.6.2", "66.6.3", "66.6.4"])
    offer_all(candidates, attackers)
    offer_all(candidates, scattered(300))
    # When ten minutes have passed
    world = World(candidates, slots, rng)
    world.run([each.public_key for each in attackers], 600)
    # Then they hold two slots per subnet and never had more than two dials per subnet, and the rest is honest.
    hostile = sum(each.public_key in slots for each in attackers)
    assert hostile == 4 * MOST_PER_SUBNET == 8
    assert world.most_dials <= 8
    honest = Counter(each.public_key in slots for each in scattered(300))[True]
    assert honest >= 26
