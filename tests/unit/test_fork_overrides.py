"""Forks that the user puts at another time or block number, and what is wrong with other ones."""

from __future__ import annotations

from typing import Any

import pytest

from ethsync.errors import ConfigError
from ethsync.fork_overrides import parse_fork_override, with_forks, with_overrides
from ethsync.genesis import network_from_genesis
from ethsync.networks import Fork, Network, load_network
from ethsync.wire.forkid import ForkId


def private(**config: int) -> Network:
    """A network of a genesis file whose genesis is of the time 0."""
    genesis: dict[str, Any] = {"config": {"chainId": 7, **config}, "gasLimit": "0x1388", "difficulty": "0x1"}
    return network_from_genesis({**genesis, "alloc": {}})


class TestForksByTime:
    def test_one_that_we_do_not_know_yet_is_added(self) -> None:
        network = with_overrides(load_network("hoodi"), ["Amsterdam=1793102400"])

        assert network.named_forks[-1] == Fork("Amsterdam", 1793102400, by_time=True)
        assert network.forks.fork_id(1, 1793102399) == ForkId(bytes.fromhex("23aa1351"), 1793102400)
        assert network.forks.fork_id(1, 1793102400).hash not in (bytes.fromhex("23aa1351"), bytes(4))
        assert network.forks.fork_id(1, 1793102400).next == 0

    def test_amsterdam_of_sepolia_is_what_others_computed(self) -> None:
        """Given Sepolia as it was before Amsterdam had a date. The hash is of go-ethereum's pull request 35734."""
        sepolia = load_network("sepolia")
        earlier = with_overrides(sepolia, ["Amsterdam=1999999999"])
        assert earlier.forks.fork_id(1735372, 1761607008) == ForkId(bytes.fromhex("268956b6"), 1999999999)

        assert with_overrides(earlier, ["amsterdam=1791294816"]) == sepolia
        assert sepolia.forks.fork_id(1735372, 1791294816) == ForkId(bytes.fromhex("6c1d9423"), 0)

    def test_nothing_else_changes(self) -> None:
        mainnet = load_network("mainnet")
        changed = with_overrides(mainnet, ["Amsterdam=1800000000"])

        assert (changed.name, changed.chain_id, changed.boot_nodes) == ("mainnet", 1, mainnet.boot_nodes)
        assert changed.genesis_hash == mainnet.genesis_hash
        assert changed.named_forks[:-1] == mainnet.named_forks
        assert mainnet == load_network("mainnet") == with_overrides(mainnet, [])

    def test_two_may_come_together_and_one_of_them_can_be_moved(self) -> None:
        network = with_overrides(load_network("hoodi"), ["BPO3=1793102400", "Amsterdam=1793102400"])

        assert network.forks.points == (*load_network("hoodi").forks.points, 1793102400)
        assert network.fork_name(5) == "BPO3, Amsterdam"
        assert with_overrides(private(osakaTime=300, bpo1Time=300), ["BPO1=400"]).forks.points == (300, 400)

    @pytest.mark.parametrize("turn", [1, -1])
    def test_several_are_moved_past_each_other_in_any_order_of_the_options(self, turn: int) -> None:
        texts = ["BPO1=1767747672", "BPO2=1767747673"][::turn]

        assert with_overrides(load_network("mainnet"), texts).forks.points[-2:] == (1767747672, 1767747673)

    def test_a_name_that_nobody_knows_yet_is_the_last_fork(self) -> None:
        network = with_overrides(load_network("mainnet"), ["Coimbra=1900000000"])

        assert network.named_forks[-1] == Fork("Coimbra", 1900000000, by_time=True)
        with pytest.raises(ConfigError, match="Coimbra at 1700000000 would come before Cancun"):
            with_overrides(load_network("mainnet"), ["Coimbra=1700000000"])


class TestForksByBlockNumber:
    def test_the_last_one_of_mainnet_can_be_moved(self) -> None:
        """Without Gray Glacier's delay the fork hash before it would have announced another block."""
        network = with_overrides(load_network("mainnet"), ["Gray Glacier=15050001"])

        assert Fork("Gray Glacier", 15050001, by_time=False) in network.named_forks
        assert network.forks.fork_id(15050000, 0) == ForkId(bytes.fromhex("20c327fc"), 15050001)
        assert network.forks.fork_id(15050001, 0).hash != bytes.fromhex("f0afd0e3")
        assert with_overrides(network, ["gray-glacier=15050000"]) == load_network("mainnet")

    def test_one_of_two_at_the_same_block_can_be_moved(self) -> None:
        network = with_overrides(load_network("mainnet"), ["Petersburg=7280001"])

        assert network.forks.points[5:7] == (7280000, 7280001)
        assert (network.fork_name(6), network.fork_name(7)) == ("Constantinople", "Petersburg")

    def test_the_netsplit_of_eip_6122_is_added_where_a_network_has_none(self) -> None:
        """By EIP-6122's example, which puts it at 18,000,000 of mainnet; times come after all numbers."""
        network = with_overrides(load_network("mainnet"), ["merge netsplit=18000000"])

        assert network.forks.fork_id(15050000, 0) == ForkId(bytes.fromhex("f0afd0e3"), 18000000)
        assert network.forks.fork_id(18000000, 0).next == 1681338455

    def test_those_of_a_genesis_file_have_the_same_names(self) -> None:
        network = private(homesteadBlock=0, eip150Block=4, eip155Block=5, eip158Block=5, londonBlock=9, shanghaiTime=90)

        moved = with_overrides(network, ["Spurious Dragon=6", "London=10"])

        assert moved.forks.block_forks == (4, 5, 6, 10)
        assert moved.forks.time_forks == (90,)

    def test_one_that_only_its_network_knows_stays_of_its_kind(self) -> None:
        network = private(fantasyBlock=5, shanghaiTime=90)

        assert with_overrides(network, ["fantasy=7"]).forks.block_forks == (7,)
        with pytest.raises(ConfigError, match="Fantasy cannot be at block 1800000000"):
            with_overrides(network, ["fantasy=1800000000"])

    def test_of_a_name_that_nobody_knows_the_number_decides_where_no_fork_has_a_time(self) -> None:
        """As for everybody who reads a fork id: what is larger than the time of mainnet's genesis is a time."""
        assert with_overrides(private(), ["Fantasy=1438269973"]).forks.block_forks == (1438269973,)
        assert with_overrides(private(), ["Fantasy=1438269974"]).forks.time_forks == (1438269974,)


@pytest.mark.parametrize(
    ("network", "text", "complaint"),
    [
        ("mainnet", "Amsterdam=0", "cannot be at 0 on mainnet .give the time in seconds"),
        ("hoodi", "Amsterdam=1742212800", "cannot be at 1742212800 on hoodi"),  # its genesis
        ("mainnet", "Amsterdam=1800000000000", "cannot be at 1800000000000"),  # milliseconds
        ("mainnet", "Amsterdam=1767747670", "Amsterdam at 1767747670 would come before BPO2 at 1767747671"),
        ("mainnet", "Prague=1764798552", "Osaka at 1764798551 would come before Prague at 1764798552"),
        ("sepolia", "BPO3=1791294817", "Amsterdam at 1791294816 would come before BPO3 at 1791294817"),
        ("hoodi", "Cancun=1742212801", "Cancun is in force since the genesis of hoodi"),
        ("mainnet", "Amstredam=1800000000", "no fork is called 'Amstredam' .did you mean Amsterdam"),
        ("mainnet", "london=1800000000", "London cannot be at block 1800000000 on mainnet .it is a fork by block"),
        ("mainnet", "London=0", "London cannot be at block 0 on mainnet"),
        ("mainnet", "London=13773001", "Arrow Glacier at 13773000 would come before London at 13773001"),
        ("mainnet", "Arrow Glacier=15050001", "Gray Glacier at 15050000 would come before Arrow Glacier"),
        ("hoodi", "London=5", "London is in force since the genesis of hoodi"),
        ("sepolia", "Merge netspilt=5", "no fork is called 'Merge netspilt' .did you mean Merge netsplit"),
    ],
)
def test_nonsense_is_explained(network: str, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        with_overrides(load_network(network), [text])


def test_what_a_genesis_header_shows_is_not_moved() -> None:
    with pytest.raises(ConfigError, match="London is in force since the genesis of genesis"):
        with_overrides(private(londonBlock=0), ["London=5"])
    assert with_overrides(private(londonBlock=0), ["Arrow Glacier=5"]).forks.block_forks == (5,)


def test_one_fork_is_not_put_at_two_places() -> None:
    with pytest.raises(ConfigError, match="Amsterdam is given twice"):
        with_overrides(load_network("mainnet"), ["Amsterdam=1800000000", "amsterdam=1800000001"])


@pytest.mark.parametrize("text", ["", "Berlin", "Berlin=", "=5", " =5", "Berlin=-5", "Berlin=0x5", "A\nb=5", "A=٣"])
def test_an_option_of_another_form_is_explained(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a fork with its time or block number"):
        parse_fork_override(text)


def test_an_option_is_read() -> None:
    assert parse_fork_override("Amsterdam=1791294816") == ("Amsterdam", 1791294816)
    assert parse_fork_override("Gray Glacier=15050000") == ("Gray Glacier", 15050000)
    assert parse_fork_override("Amsterdam=" + "9" * 10_000)[1] > 10**11
    assert with_forks(load_network("sepolia"), []) == load_network("sepolia")
