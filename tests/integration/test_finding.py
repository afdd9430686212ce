"""A sync that is told of no peer: it finds one over real UDP sockets, dials it and ends with the whole state."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import trio

from ethsync.discovery.identity import open_identity
from ethsync.discovery.local_record import Announcement
from ethsync.discovery.node import Endpoint
from ethsync.discovery.options import DiscoveryOptions
from ethsync.discovery.start import SOURCES, open_discovery
from ethsync.networks import Network
from ethsync.peers.finding import Finding
from ethsync.peers.keeping import CANDIDATES_FILE
from ethsync.peers.roster import read_roster
from ethsync.serve.demo import demo_network
from ethsync.serve.server import ServerOptions, open_server
from ethsync.serve.spec import SyntheticSpec
from ethsync.serve.synthetic import create_synthetic
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir
from ethsync.sync.chain import only_block
from ethsync.sync.progress import Progress
from ethsync.sync.snap import SnapOptions, run_snap

SPEC = SyntheticSpec(accounts=400, contracts=20, slots=300, codes=10, seed=4, code_bytes=60, headers=20)
LOOPBACK = Endpoint(IPv4Address("127.0.0.1"), 0)


def looking(protocol: str, directory: Path, network: Network, boot: list[str], tcp: int = 0) -> DiscoveryOptions:
    fork_id = network.forks.fork_id(1 << 62, 1 << 40)
    return DiscoveryOptions(frozenset({protocol}), boot, (), [LOOPBACK], directory, fork_id, Announcement(tcp=tcp))


@asynccontextmanager
async def serving_node(
    view: StateView, network: Network, directory: Path, protocol: str, boot: list[str]
) -> AsyncIterator[str]:
    """A node that serves the state and can be found; its record."""
    key = open_identity(directory).key
    async with open_server(view, network=network, options=ServerOptions(key=key)) as server:
        options = looking(protocol, directory, network, boot, tcp=server.enode.tcp_port)
        async with open_discovery(options, 1_700_000_000.0, lambda source, node: None):
            record = open_identity(directory).record
            assert record is not None
            yield str(record)


@pytest.mark.parametrize("protocol", ["v5", "v4"])
async def test_a_peer_is_found_and_synced_from(protocol: str, tmp_path: Path) -> None:
    network = demo_network()
    for name in ("boot", "node"):
        (tmp_path / name).mkdir()
    create_synthetic(SPEC, tmp_path / "served")
    with open_datadir(tmp_path / "served") as datadir:
        view = StateView(datadir)
        # Given a boot node that serves nothing, and a node that serves and knows the boot node only
        async with open_discovery(
            looking(protocol, tmp_path / "boot", network, []), 1_700_000_000.0, lambda source, node: None
        ):
            boot = open_identity(tmp_path / "boot").record
            assert boot is not None
            async with serving_node(view, network, tmp_path / "node", protocol, [str(boot)]):
                # When a sync begins that knows the boot node only
                options = looking(protocol, tmp_path / "state", network, [str(boot)])
                progress = Progress(trio.current_time())
                with trio.fail_after(60):
                    verified = await run_snap(
                        SnapOptions(
                            network, [], only_block(view.header.hash), tmp_path / "state", space_floor=0,
                            finding=Finding(options),
                        ),
                        progress,
                    )  # fmt: skip
    # Then it has the whole state, and remembers from whom.
    assert verified.accounts == SPEC.accounts
    assert verified.state_root == f"0x{view.state_root.hex()}"
    (peer,) = read_roster(tmp_path / "state")[1]
    assert peer["direction"] == "outbound"
    assert (tmp_path / "state" / CANDIDATES_FILE).exists()
    # And who found it, and that it serves, is to be seen.
    source = SOURCES["disc" + protocol]
    assert progress.census is not None
    assert progress.census.searching
    assert (progress.census.by_source[source].connected, progress.census.by_source[source].serving) == (1, 1)
    assert [view.source for view in progress.last_peers] == [source.name.lower()]
