"""Networks and genesis files: identity, forks, and the values computed from a genesis JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from trie import HexaryTrie

from ethsync.errors import ConfigError
from ethsync.genesis import (
    GenesisAccount,
    fork_points,
    genesis_header,
    genesis_state,
    named_forks,
    network_from_genesis,
    state_root,
)
from ethsync.hashing import EMPTY_TRIE_ROOT
from ethsync.networks import (
    BLOCK_FORKS,
    BUILT_IN,
    TIME_FORKS,
    Fork,
    Network,
    built_in_networks,
    load_network,
    name_fork_id,
)
from ethsync.wire import rlp
from ethsync.wire.enode import parse_enode
from ethsync.wire.enr import parse_record
from ethsync.wire.forkid import ForkId, ForkSchedule
from ethsync.wire.headers import decode_header

ETHTEST = Path(__file__).parent.parent / "vectors" / "ethtest"

FORK_IDS: dict[str, list[tuple[int, int, str]]] = {
    # (number, time) of a head at which each fork has just passed, and the fork hash from there on. Values of
    # go-ethereum's core/forkid/forkid_test.go; those of Amsterdam on Sepolia from its pull request 35734.
    "mainnet": [
        (0, 0, "fc64ec04"),
        (1150000, 0, "97c2c34c"),
        (1920000, 0, "91d1f948"),
        (2463000, 0, "7a64da13"),
        (2675000, 0, "3edd5b10"),
        (4370000, 0, "a00bc324"),
        (7280000, 0, "668db0af"),
        (9069000, 0, "879d6e30"),
        (9200000, 0, "e029e991"),
        (12244000, 0, "0eb440f6"),
        (12965000, 0, "b715077d"),
        (13773000, 0, "20c327fc"),
        (15050000, 0, "f0afd0e3"),
        (20000000, 1681338455, "dce96c2d"),
        (20000000, 1710338135, "9f3d2254"),
        (20000000, 1746612311, "c376cf8b"),
        (20000000, 1764798551, "5167e2a6"),
        (20000000, 1765290071, "cba2a1c0"),
        (20000000, 1767747671, "07c9462e"),
    ],
    "sepolia": [
        (0, 1633267481, "fe3366e7"),
        (1735371, 1633267481, "b96cbd13"),
        (1735372, 1677557088, "f7f9bc08"),
        (1735372, 1706655072, "88cf81d9"),
        (1735372, 1741159776, "ed88b5fd"),
        (1735372, 1760427360, "e2ae4999"),
        (1735372, 1761017184, "56078a1e"),
        (1735372, 1761607008, "268956b6"),
        (1735372, 1791294816, "6c1d9423"),
    ],
    "hoodi": [
        (0, 1742212800, "bef71d30"),
        (1, 1742999832, "0929e24e"),
        (1, 1761677592, "e7e0e7ff"),
        (1, 1762365720, "3893353e"),
        (1, 1762955544, "23aa1351"),
    ],
    "holesky": [
        (0, 1695902100, "c61a6098"),
        (1, 1696000704, "fd4f016b"),
        (1, 1707305664, "9b192ad0"),
        (1, 1740434112, "dfbd9bed"),
        (1, 1759308480, "783def52"),
        (1, 1759800000, "a280a45c"),
        (1, 1760389824, "9bc6cb31"),
    ],
}


def reference_root(keys: list[bytes], values: list[bytes]) -> bytes:
    """Trie root by the `trie` package."""
    trie = HexaryTrie({})
    for key, value in zip(keys, values, strict=True):
        trie[key] = value
    root: bytes = trie.root_hash
    return root


def smallest_genesis(**changes: object) -> dict[str, Any]:
    genesis = {"config": {"chainId": 7}, "gasLimit": "0x1388", "difficulty": "0x1", "alloc": {}}
    return {**genesis, **changes}


class TestBuiltInNetworks:
    @pytest.mark.parametrize("name", BUILT_IN)
    def test_fork_ids_follow_the_published_tables(self, name: str) -> None:
        forks = load_network(name).forks

        expected = FORK_IDS[name]
        ids = [forks.fork_id(number, time) for number, time, _ in expected]

        assert [fork_id.hash.hex() for fork_id in ids] == [digest for _, _, digest in expected]
        # Each id announces the point at which the next one starts, and the last one announces nothing.
        assert [fork_id.next for fork_id in ids] == [*forks.block_forks, *forks.time_forks, 0]

    @pytest.mark.parametrize("name", BUILT_IN)
    def test_entry_points_have_the_form_that_discovery_expects(self, name: str) -> None:
        network = load_network(name)

        assert network.name == name
        assert network.boot_nodes
        assert network.v5_boot_nodes
        assert all(parse_enode(url).tcp_port == 30303 for url in network.boot_nodes)
        assert all(parse_record(record).value(b"eth2") is not None for record in network.v5_boot_nodes)
        assert [url.partition("@")[2] for url in network.dns] == [f"all.{name}.ethdisco.net"]
        assert all(url.startswith("enrtree://") for url in network.dns)
        assert len(set(network.boot_nodes)) == len(network.boot_nodes)

    def test_chain_ids(self) -> None:
        assert {name: load_network(name).chain_id for name in BUILT_IN} == {
            "mainnet": 1,
            "sepolia": 11155111,
            "hoodi": 560048,
            "holesky": 17000,
        }

    @pytest.mark.parametrize("name", BUILT_IN)
    def test_every_fork_has_a_name(self, name: str) -> None:
        network = load_network(name)

        points = network.forks.points
        assert tuple(dict.fromkeys(fork.at for fork in network.named_forks)) == points
        names = ", ".join(network.fork_name(passed + 1) for passed in range(len(points)))
        assert names == ", ".join(fork.name for fork in network.named_forks)
        assert {fork.name for fork in network.named_forks if fork.by_time} <= set(TIME_FORKS)
        assert {fork.name for fork in network.named_forks if not fork.by_time} <= set(BLOCK_FORKS)
        assert network.fork_name(0) == "genesis"

    def test_loading_one_needs_no_kernels(self) -> None:
        """`ethsync --help` must stay fast, so numba may not be imported for a name."""
        program = "import sys; from ethsync.networks import load_network; load_network('hoodi'); print(*sys.modules)"

        finished = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ETHTEST.parents[2]
        )

        assert "ethsync.networks" in finished.stdout.split()
        assert "numba" not in finished.stdout.split()

    def test_an_unknown_name_is_an_error_that_lists_the_known_ones(self) -> None:
        with pytest.raises(ConfigError, match=r"'mainet' is neither .* \(use one of mainnet, sepolia, hoodi, holesky"):
            load_network("mainet")


class TestForkIdsByName:
    @pytest.mark.parametrize(
        ("digest", "expected"),
        [
            ("07c9462e", "mainnet, after BPO2"),
            ("668db0af", "mainnet, after Constantinople, Petersburg"),
            ("fc64ec04", "mainnet, at genesis"),
            ("6c1d9423", "sepolia, after Amsterdam"),
            ("23aa1351", "hoodi, after BPO2"),
            ("afec6b27", None),  # Rinkeby
        ],
    )
    def test_a_hash_tells_network_and_fork(self, digest: str, expected: str | None) -> None:
        assert name_fork_id(ForkId(bytes.fromhex(digest), 0), built_in_networks()) == expected

    def test_a_fork_without_a_name_is_called_by_its_point(self) -> None:
        network = Network(
            "test", 7, 7, ForkSchedule(b"\xaa" * 32, 0, (5,), (77,)), named_forks=(Fork("First", 5, False),)
        )

        assert [network.fork_name(passed) for passed in (0, 1, 2)] == ["genesis", "First", "the fork at 77"]


class TestGenesisOfARealChain:
    """go-ethereum made the 600 blocks of ethtest on top of its genesis; block 1 names the genesis as its parent."""

    def test_hash_is_the_parent_of_block_1(self) -> None:
        chain = (ETHTEST / "chain.rlp").read_bytes()
        _, _, end = rlp.item_bounds(chain, 0, len(chain))
        block_1 = decode_header(rlp.split_list(chain[:end])[0])

        network = load_network(ETHTEST / "genesis.json")

        assert network.genesis_hash == block_1.parent_hash
        assert network.name == "genesis"

    def test_header_and_state_root_belong_to_that_hash(self) -> None:
        network = load_network(str(ETHTEST / "genesis.json"))
        assert network.genesis_header_raw is not None

        header = decode_header(network.genesis_header_raw)

        assert header.hash == network.genesis_hash
        assert header.state_root == network.genesis_state_root
        assert (header.number, header.base_fee, header.withdrawals_root) == (0, 10**9, EMPTY_TRIE_ROOT)
        assert header.blob_gas_used is None  # Cancun comes later, at time 60

    def test_chain_id_and_forks_are_those_of_its_environment(self) -> None:
        environment = json.loads((ETHTEST / "forkenv.json").read_bytes())

        network = load_network(ETHTEST / "genesis.json")

        assert network.chain_id == int(environment["HIVE_CHAIN_ID"])
        assert network.network_id == int(environment["HIVE_NETWORK_ID"])
        assert network.forks.block_forks == ()
        assert network.forks.time_forks == (
            int(environment["HIVE_CANCUN_TIMESTAMP"]),
            int(environment["HIVE_PRAGUE_TIMESTAMP"]),
        )

    def test_state_root_agrees_with_the_trie_package(self) -> None:
        accounts = genesis_state(ETHTEST / "genesis.json")

        assert any(account.storage for account in accounts)
        assert any(account.code for account in accounts)
        assert state_root(accounts) == state_root(accounts, reference_root)


def test_mainnet_genesis_state_and_hash() -> None:
    """8,893 accounts, from the executable specification of Ethereum (which has no wheels for Python 3.13 yet)."""
    pytest.importorskip("ethereum")
    network = load_network(str(resources.files("ethereum") / "assets" / "mainnet.json"))

    assert network.genesis_state_root is not None
    assert network.genesis_state_root.hex() == "d7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544"
    assert network.genesis_hash == load_network("mainnet").genesis_hash
    assert network.chain_id == load_network("mainnet").chain_id


class TestHeaderTail:
    """Each fork that is active in the genesis adds its header fields."""

    LONDON: dict[str, Any] = {"chainId": 7, "londonBlock": 0}  # noqa: RUF012
    CANCUN: dict[str, Any] = {**LONDON, "shanghaiTime": 5, "cancunTime": 5}  # noqa: RUF012
    AMSTERDAM: dict[str, Any] = {**CANCUN, "pragueTime": 5, "osakaTime": 5, "amsterdamTime": 10}  # noqa: RUF012

    def test_none_before_london(self) -> None:
        header = genesis_header(smallest_genesis(config={"chainId": 7, "londonBlock": 1}), EMPTY_TRIE_ROOT)

        assert len(rlp.split_list(header.raw)) == 15

    def test_base_fee_defaults_to_one_gwei(self) -> None:
        header = genesis_header(smallest_genesis(config=self.LONDON), EMPTY_TRIE_ROOT)

        assert header.base_fee == 10**9

    def test_a_time_fork_counts_from_its_very_second(self) -> None:
        before = genesis_header(smallest_genesis(config=self.CANCUN, timestamp="0x4"), EMPTY_TRIE_ROOT)
        at = genesis_header(smallest_genesis(config=self.CANCUN, timestamp="0x5", blobGasUsed="0x9"), EMPTY_TRIE_ROOT)

        assert before.withdrawals_root is None
        assert (at.withdrawals_root, at.blob_gas_used, at.excess_blob_gas) == (EMPTY_TRIE_ROOT, 9, 0)
        assert at.parent_beacon_root == bytes(32)
        assert at.requests_hash is None

    def test_amsterdam_adds_the_access_list_hash_and_the_slot(self) -> None:
        document = smallest_genesis(config=self.AMSTERDAM, timestamp=10, slotNumber="3", baseFeePerGas=None)
        header = genesis_header(document, EMPTY_TRIE_ROOT)

        assert len(rlp.split_list(header.raw)) == 23
        assert header.requests_hash == sha256(b"").digest()
        assert header.block_access_list_hash is not None
        assert header.block_access_list_hash.hex().startswith("1dcc4de8")  # keccak of c0, EIP-7928
        assert header.slot_number == 3

    def test_a_fork_without_its_predecessor_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="cancunTime but not shanghaiTime"):
            genesis_header(smallest_genesis(config={**self.LONDON, "cancunTime": 0}), EMPTY_TRIE_ROOT)


class TestForkPoints:
    def test_equal_points_are_one_fork_and_those_of_the_genesis_are_none(self) -> None:
        config = {"chainId": 1, "homesteadBlock": 0, "eip155Block": 9, "eip158Block": 9, "londonBlock": 4}
        times = {"shanghaiTime": 50, "cancunTime": 100, "pragueTime": 101, "osakaTime": 101, "bpo1Time": None}

        assert fork_points({**config, **times}, genesis_time=100) == ((4, 9), (101,))

    def test_they_have_the_names_of_their_keys(self) -> None:
        config = {"chainId": 1, "homesteadBlock": 0, "eip155Block": 9, "eip158Block": 9, "terminalTotalDifficulty": 5}
        times = {"bpo1Time": 300, "shanghaiTime": 50, "cancunTime": 100, "osakaTime": 300, "pragueTime": 200}

        assert named_forks({**config, **times}, genesis_time=50) == (
            Fork("EIP-155", 9, by_time=False),
            Fork("Spurious Dragon", 9, by_time=False),
            Fork("Cancun", 100, by_time=True),
            Fork("Prague", 200, by_time=True),
            Fork("BPO1", 300, by_time=True),
            Fork("Osaka", 300, by_time=True),
        )

    def test_a_fork_of_the_future_counts_by_its_name(self) -> None:
        assert fork_points({"fantasyTime": "0x65", "terminalTotalDifficulty": 5}, genesis_time=0) == ((), (101,))


class TestAccounts:
    def test_fields_are_read_as_go_ethereum_reads_them(self) -> None:
        alloc = {
            "0x" + "11" * 20: {"balance": "0x10", "nonce": "3", "code": "0x6001"},
            "22" * 20: {"balance": "17", "storage": {"0x01": "0x0a", "2": "00ff", "0x03": "0x00"}},
        }

        first, second = genesis_state(smallest_genesis(alloc=alloc))

        assert first == GenesisAccount(b"\x11" * 20, nonce=3, balance=16, code=b"\x60\x01", storage={})
        # A slot set to zero does not exist.
        assert second == GenesisAccount(b"\x22" * 20, nonce=0, balance=17, code=b"", storage={1: 10, 2: 255})

    def test_an_empty_state_has_the_empty_root(self) -> None:
        network = network_from_genesis(smallest_genesis())

        assert network.genesis_state_root == EMPTY_TRIE_ROOT


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ({"alloc": {}}, "no 'config' section"),
        (smallest_genesis(alloc=None), "no 'alloc' section"),
        (smallest_genesis(config={}), "lacks 'chainId'"),
        (smallest_genesis(gasLimit=None), "lacks 'gasLimit'"),
        (
            smallest_genesis(difficulty="many"),
            "a number of at most 256 bits: 'many'",
        ),
        (smallest_genesis(difficulty=-1), "'difficulty' of the genesis is not a number"),
        (smallest_genesis(difficulty=True), "'difficulty' of the genesis is not a number"),
        (smallest_genesis(nonce=1 << 64), "'nonce'"),
        (smallest_genesis(timestamp=hex(1 << 64)), "'timestamp'"),
        (smallest_genesis(parentHash="0x00"), "'parentHash' of the genesis has 1 bytes instead of 32"),
        (smallest_genesis(extraData=5), "'extraData' of the genesis is not a hexadecimal string"),
        (smallest_genesis(alloc={"0x12": {}}), "account 0x12 of the genesis is not an address"),
        (smallest_genesis(alloc={"11" * 20: {}, "0x" + "11" * 20: {}}), "names an account twice"),
        (smallest_genesis(alloc={"11" * 20: 5}), "is not an address with its fields"),
        (smallest_genesis(alloc={"11" * 20: {"code": "0xzz"}}), "not hexadecimal: '0xzz'"),
        (smallest_genesis(alloc={"11" * 20: {"storage": ["0x1"]}}), "not an object of slots and values"),
        (smallest_genesis(alloc={"11" * 20: {"storage": {"0x1": "0x" + "01" * 33}}}), "more than 32 bytes"),
    ],
)
def test_a_genesis_that_cannot_work_is_an_error_that_says_why(document: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        network_from_genesis(document)


def test_a_file_that_is_not_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "genesis.json"
    path.write_text("chain: 1")

    with pytest.raises(ConfigError, match=r"genesis\.json is not JSON"):
        load_network(path)


def test_a_json_file_that_is_not_an_object_is_named(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text("[]")

    with pytest.raises(ConfigError, match=r"list\.json is not a JSON object"):
        load_network(path)
