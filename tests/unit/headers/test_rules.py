"""When which header fields are due, for the networks that are built in and for others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ethsync.fork_overrides import with_overrides
from ethsync.genesis import network_from_genesis
from ethsync.headers.rules import NEVER, chain_rules, field_schedule
from ethsync.networks import load_network
from ethsync.serve.demo import demo_genesis, demo_network
from tests.oracles.headers import ETHTEST


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("mainnet", [12_965_000, 1681338455, 1710338135, 1746612311, NEVER]),
        ("sepolia", [0, 1677557088, 1706655072, 1741159776, 1791294816]),
        ("holesky", [0, 1696000704, 1707305664, 1740434112, NEVER]),
        ("hoodi", [0, 0, 0, 1742999832, NEVER]),
    ],
)
def test_forks_before_a_listed_one_are_in_force_since_the_genesis(name: str, schedule: list[int]) -> None:
    assert field_schedule(load_network(name)).tolist() == schedule
    assert chain_rules(load_network(name)).genesis_hash == load_network(name).genesis_hash


def test_without_later_forks_the_genesis_header_decides() -> None:
    assert field_schedule(demo_network()).tolist() == [0, 0, 0, NEVER, NEVER]
    genesis = demo_genesis()
    genesis["config"] |= {"pragueTime": 0, "amsterdamTime": 0}
    assert field_schedule(network_from_genesis(genesis)).tolist() == [0] * 5
    frontier = demo_genesis()
    frontier["config"] = {"chainId": 5, "homesteadBlock": 0}
    assert field_schedule(network_from_genesis(frontier)).tolist() == [NEVER] * 5


def test_a_fork_of_the_command_line_counts() -> None:
    moved = with_overrides(load_network("mainnet"), ["Amsterdam=1900000000", "London=12965001"])
    assert field_schedule(moved).tolist() == [12_965_001, 1681338455, 1710338135, 1746612311, 1_900_000_000]


def test_a_network_of_which_only_the_name_is_known_has_no_tail() -> None:
    bare = replace(demo_network(), genesis_header_raw=None, named_forks=())
    assert field_schedule(bare).tolist() == [NEVER] * 5


def test_the_chain_that_geth_made() -> None:
    assert field_schedule(network_from_genesis(ETHTEST / "genesis.json")).tolist()[4] == NEVER
