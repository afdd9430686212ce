"""Which forks are in force when, on built-in networks and on those of a genesis file."""

from __future__ import annotations

from typing import Any

import pytest

from ethsync.genesis import network_from_genesis
from ethsync.heads.fork_windows import fork_times, in_force, within
from ethsync.networks import load_network


def test_mainnet_has_its_published_times() -> None:
    times = fork_times(load_network("mainnet"))
    assert [times[fork] for fork in ("Shanghai", "Cancun", "Prague", "Osaka")] == [
        *(1681338455, 1710338135, 1746612311, 1764798551),
    ]
    assert times["Bogota"] is None


def test_hoodi_began_with_cancun() -> None:
    times = fork_times(load_network("hoodi"))
    assert [times[fork] for fork in ("Shanghai", "Cancun")] == [0, 0]
    assert times["Prague"] == 1742999832


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, [None, None, None, None]),
        ({"shanghaiTime": 0}, [0, None, None, None]),
        ({"shanghaiTime": 0, "cancunTime": 0, "pragueTime": 0}, [0, 0, 0, None]),
        ({"shanghaiTime": 0, "cancunTime": 0, "pragueTime": 500}, [0, 0, 500, None]),
        ({"shanghaiTime": 0, "cancunTime": 0, "pragueTime": 0, "amsterdamTime": 900}, [0, 0, 0, 900]),
    ],
)
def test_a_genesis_says_which_forks_are_in_force_from_the_beginning(
    config: dict[str, int], expected: list[int | None]
) -> None:
    genesis: dict[str, Any] = {
        "config": {"chainId": 5, "londonBlock": 0, **config},
        "alloc": {},
        "difficulty": "0x0",
        "gasLimit": "0x1",
    }
    times = fork_times(network_from_genesis(genesis))
    assert [times[fork] for fork in ("Shanghai", "Cancun", "Prague", "Amsterdam")] == expected


def test_a_fork_begins_with_its_first_second_and_ends_before_the_next() -> None:
    times = {"Cancun": 100, "Prague": 200, "Amsterdam": None}
    assert [in_force(times, "Cancun", time) for time in (99, 100, 300)] == [False, True, True]
    assert [within(times, time, "Cancun", "Prague") for time in (99, 100, 199, 200)] == [False, True, True, False]
    assert within(times, 10**9, "Prague", "Amsterdam")
    assert not within(times, 10**9, "Amsterdam", None)
    assert within(times, 0, None, "Cancun")
    assert not within(times, 10**9, "Unheard of", None)
