"""Which protocols are shared, and which ids they get."""

from __future__ import annotations

import pytest

from ethsync.errors import DisconnectReason, LocalProtocolError, MalformedMessage, UselessPeer
from ethsync.rlpx.capabilities import SharedCapability, negotiate, split_message_id
from ethsync.wire.p2p import Capability

ETH_68, ETH_69, SNAP_1 = Capability("eth", 68), Capability("eth", 69), Capability("snap", 1)
ETH_70, ETH_71, EIP_7542 = Capability("eth", 70), Capability("eth", 71), Capability("eth7542", 70)
OURS = (ETH_68, ETH_69, ETH_70, ETH_71, SNAP_1)


@pytest.mark.parametrize(
    ("theirs", "eth_version", "snap_offset"),
    [
        ((ETH_69, SNAP_1), 69, 0x22),
        ((ETH_68, SNAP_1), 68, 0x21),
        ((SNAP_1, ETH_69, ETH_68), 69, 0x22),
        ((ETH_69, ETH_70, SNAP_1), 70, 0x22),
        ((ETH_71, ETH_70, ETH_69, SNAP_1), 71, 0x24),
        ((ETH_70, EIP_7542, SNAP_1), 70, 0x22),  # not shared, so it takes no ids
        ((ETH_69, Capability("eth", 72), SNAP_1, Capability("snap", 2)), 69, 0x22),  # geth 1.17.5 with --snap.v2
        ((ETH_68, ETH_69, SNAP_1, SNAP_1, Capability("aaa", 1), Capability("wit", 0)), 69, 0x22),
    ],
)
def test_the_length_of_the_eth_version_decides_where_snap_begins(
    theirs: tuple[Capability, ...], eth_version: int, snap_offset: int
) -> None:
    shared = negotiate(OURS, theirs)
    assert list(shared) == ["eth", "snap"]
    assert (shared["eth"].version, shared["eth"].offset) == (eth_version, 0x10)
    assert shared["snap"] == SharedCapability("snap", 1, snap_offset, 8)


def test_eip_7542_stands_between_eth_and_snap_where_both_offer_it() -> None:
    shared = negotiate((*OURS, EIP_7542), (ETH_70, SNAP_1, EIP_7542))
    assert [(each.name, each.offset, each.length) for each in shared.values()] == [
        ("eth", 0x10, 18),
        ("eth7542", 0x22, 17),
        ("snap", 0x33, 8),
    ]


def test_eth_alone_is_enough() -> None:
    assert list(negotiate(OURS, [ETH_69])) == ["eth"]


@pytest.mark.parametrize(
    "theirs", [(), (SNAP_1,), (Capability("eth", 67), SNAP_1), (Capability("eth", 72), Capability("les", 4))]
)
def test_a_peer_without_a_version_of_eth_in_common_is_useless(theirs: tuple[Capability, ...]) -> None:
    with pytest.raises(UselessPeer) as failure:
        negotiate(OURS, theirs)
    assert failure.value.reason is DisconnectReason.USELESS_PEER


def test_announcing_what_we_cannot_number_is_our_own_mistake() -> None:
    with pytest.raises(LocalProtocolError, match="eth/72"):
        negotiate([Capability("eth", 72)], [Capability("eth", 72)])


def test_ids_belong_to_the_capability_whose_range_they_are_in() -> None:
    shared = negotiate((ETH_68, ETH_69, SNAP_1), OURS)
    assert split_message_id(shared, 0x10) == ("eth", 0)
    assert split_message_id(shared, 0x21) == ("eth", 0x11)
    assert split_message_id(shared, 0x22) == ("snap", 0)
    assert split_message_id(shared, 0x29) == ("snap", 7)


@pytest.mark.parametrize("message_id", [0x0F, 0x2C, 2**64 - 1])
def test_an_id_outside_all_ranges_is_malformed(message_id: int) -> None:
    with pytest.raises(MalformedMessage, match="no shared protocol"):
        split_message_id(negotiate(OURS, OURS), message_id)
