"""Networks: what tells one Ethereum chain from another, and where its nodes are.

Built-in networks are TOML files in `data/`, which the wheel carries inside the package. Any other network is described
by the genesis JSON that go-ethereum takes; everything else about it is computed from that file.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ethsync.errors import ConfigError
from ethsync.wire.forkid import ForkSchedule

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.resources.abc import Traversable

    from ethsync.wire.forkid import ForkId

BUILT_IN = ("mainnet", "sepolia", "hoodi", "holesky")
"""Names that `load_network` knows; each is a file in `data/`."""

BLOCK_FORKS = (
    "Homestead", "DAO", "Tangerine Whistle", "EIP-155", "Spurious Dragon", "Byzantium", "Constantinople", "Petersburg",
    "Istanbul", "Muir Glacier", "Berlin", "London", "Arrow Glacier", "Gray Glacier", "Merge netsplit",
)  # fmt: skip
"""Forks by block number, in their order (go-ethereum at 02b73d4e, params/config.go, CheckConfigForkOrder)."""

TIME_FORKS = ("Shanghai", "Cancun", "Prague", "Osaka", "BPO1", "BPO2", "BPO3", "BPO4", "BPO5", "Amsterdam", "Bogota")
"""Forks by time, in their order (go-ethereum at 02b73d4e, params/config.go, CheckConfigForkOrder, without UBT)."""


class Fork(NamedTuple):
    """A change of rules under its name. `at` is a block number or, if `by_time`, seconds since 1970."""

    name: str
    at: int
    by_time: bool


@dataclass(frozen=True, slots=True)
class Network:
    """One chain: its identity, its forks and its entry points.

    The genesis header and state root are known only where the genesis state itself is, which is so for networks read
    from a genesis JSON.
    """

    name: str
    chain_id: int
    """What transactions are signed for (EIP-155)."""
    network_id: int
    """What the eth Status message compares; the same number as the chain id on all networks here."""
    forks: ForkSchedule
    boot_nodes: tuple[str, ...] = ()
    """`enode://` URLs of discv4 (and RLPx) entry points."""
    v5_boot_nodes: tuple[str, ...] = ()
    """`enr:` records of discv5 entry points."""
    dns: tuple[str, ...] = ()
    """`enrtree://` URLs of EIP-1459 node lists."""
    named_forks: tuple[Fork, ...] = ()
    """Every fork of `forks` under its name, in their order; several may be passed at once."""
    genesis_header_raw: bytes | None = None
    """RLP of the genesis header."""
    genesis_state_root: bytes | None = None
    """32 bytes."""

    @property
    def genesis_hash(self) -> bytes:
        """Hash of the genesis block, 32 bytes."""
        return self.forks.genesis_hash

    @property
    def genesis_time(self) -> int:
        """Timestamp of the genesis block, in seconds since 1970."""
        return self.forks.genesis_time

    def fork_name(self, passed: int) -> str:
        """What the rules are called after so many forks: the name of the last one, or of all that came with it."""
        if passed == 0:
            return "genesis"
        point = self.forks.points[passed - 1]
        return ", ".join(fork.name for fork in self.named_forks if fork.at == point) or f"the fork at {point}"


def load_network(name_or_path: str | Path) -> Network:
    """Return the built-in network of that name, or the one that a go-ethereum genesis JSON describes.

    Raises `ConfigError` if it is neither, or if the file is not a usable genesis.
    """
    if name_or_path in BUILT_IN:
        return _built_in(str(name_or_path))
    path = Path(name_or_path)
    if not path.is_file():
        known = ", ".join(BUILT_IN)
        raise ConfigError(
            f"'{name_or_path}' is neither a built-in network nor a file",
            hint=f"use one of {known}, or the path of a genesis JSON in go-ethereum's format",
        )
    # Only here: computing a state root needs the kernels, which take a while to import.
    from ethsync.genesis import network_from_genesis

    return network_from_genesis(path)


def check_private(network: Network) -> None:
    """Refuse what is for private networks only. Raises `ConfigError`."""
    if any(network.genesis_hash == public.genesis_hash for public in built_in_networks()):
        raise ConfigError(f"EIP-7542 was withdrawn: nobody on {network.name} speaks it", hint="leave out --eip-7542")


def built_in_networks() -> tuple[Network, ...]:
    """All built-in networks."""
    return tuple(_built_in(name) for name in BUILT_IN)


def _data_directory() -> Traversable:
    package = resources.files("ethsync")
    installed = package / "data"
    # In a checkout `data/` lies beside the package; the wheel carries it inside.
    return installed if installed.is_dir() else Path(str(package)).parent / "data"


def _built_in(name: str) -> Network:
    directory = _data_directory()
    facts = tomllib.loads((directory / f"{name}.toml").read_text(encoding="utf-8"))
    discv5 = tomllib.loads((directory / "discv5.toml").read_text(encoding="utf-8"))
    genesis_hash = bytes.fromhex(facts["genesis_hash"].removeprefix("0x"))
    named_forks = (*_forks(facts, "block_forks", by_time=False), *_forks(facts, "time_forks", by_time=True))
    return Network(
        name=name,
        chain_id=facts["chain_id"],
        network_id=facts["network_id"],
        forks=fork_schedule(genesis_hash, facts["genesis_time"], named_forks),
        boot_nodes=tuple(facts["boot_nodes"]),
        v5_boot_nodes=tuple(discv5["boot_nodes"]),
        dns=tuple(facts["dns"]),
        named_forks=named_forks,
    )


def _forks(facts: dict[str, Any], key: str, *, by_time: bool) -> tuple[Fork, ...]:
    return tuple(Fork(fork["name"], fork["at"], by_time) for fork in facts[key])


def fork_schedule(genesis_hash: bytes, genesis_time: int, named_forks: tuple[Fork, ...]) -> ForkSchedule:
    """The schedule that these forks make."""
    return ForkSchedule(
        genesis_hash,
        genesis_time,
        block_forks=tuple(dict.fromkeys(fork.at for fork in named_forks if not fork.by_time)),
        time_forks=tuple(dict.fromkeys(fork.at for fork in named_forks if fork.by_time)),
    )


def name_fork_id(fork_id: ForkId, networks: Iterable[Network]) -> str | None:
    """Say which of these networks a fork id belongs to and how far it is: "mainnet, after BPO2"; None if to none."""
    for network in networks:
        passed = network.forks.passed(fork_id.hash)
        if passed is not None:
            return f"{network.name}, {'at' if passed == 0 else 'after'} {network.fork_name(passed)}"
    return None
