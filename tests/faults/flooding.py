"""A flood of UDP packets from a process of its own, and syncs measured while it lasts.

    python -m tests.faults.flooding PORT NODE_ID

sends forged discv4 and discv5 packets for that node to that port of this machine, as fast as it can, until it is asked
to end. Then it prints how many arrived, in the sense that somebody had the port open.
"""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import trio

from ethsync.commands.child import ServingProcess
from ethsync.discovery.identity import open_identity
from ethsync.wire import keys
from tests.unit.discovery.spoofed import Forger

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
OF_EACH_KIND = 20
PORTS = 20_000, 32_000  # Linux's own begin at 32,768 (ip_local_port_range)
TIME_LIMIT = 120.0  # seconds for one sync


class Target(Enum):
    """Whom a flood goes to."""

    NOBODY = "nobody"
    A_BYSTANDER = "a bystander"
    """A socket that nobody reads: what sending costs this machine."""
    US = "us"


@dataclass(frozen=True, slots=True)
class Measured:
    """One sync. `cpu_seconds` is of its process, `arrived` in packets per second."""

    wall_seconds: float
    cpu_seconds: float
    leaves_per_second: float
    lag_p99_ms: float
    arrived: float


def send_until_asked_to_end(port: int, node_id: bytes) -> None:
    forger = Forger(node_id, bytes(32))
    packets = [make() for make in forger.kinds.values() for _ in range(OF_EACH_KIND)]
    arrived = 0

    def end(number: int, frame: object) -> None:
        print(arrived, flush=True)
        raise SystemExit

    signal.signal(signal.SIGTERM, end)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((HOST, port))
        while True:
            for packet in packets:
                try:
                    sock.send(packet)
                    arrived += 1
                except ConnectionRefusedError:  # the port is not open yet, or no longer
                    pass


@asynccontextmanager
async def open_flood(port: int, node_id: bytes) -> AsyncIterator[list[int]]:
    """Flood a port inside the block. When it ends, the number of packets that arrived is put into the list."""
    command = [sys.executable, "-m", "tests.faults.flooding", str(port), node_id.hex()]
    process = await trio.lowlevel.open_process(command, cwd=ROOT, stdout=subprocess.PIPE)
    arrived: list[int] = []
    try:
        yield arrived
        process.terminate()
        assert process.stdout is not None
        arrived.append(int(b"".join([chunk async for chunk in process.stdout])))
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def measure_sync(server: ServingProcess, place: Path, target: Target) -> Measured:
    """Sync from a server into a new directory, with discovery on, under a flood or not."""
    datadir, report = place / "state", place / "report.json"
    await trio.Path(datadir).mkdir(parents=True)
    node_id = keys.node_id(keys.identity(open_identity(datadir).key.public_key))
    port = _free_port()
    command = [
        *(sys.executable, "-m", "ethsync", "snap", "--network", server.genesis, "--head", server.head),
        *("--peer", server.enode, "--datadir", str(datadir), "--report", str(report), "--min-free", "0"),
        *("--discovery", "v4,v5", "--listen", f"{HOST}:{port}"),
    ]
    began, arrived = trio.current_time(), [0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bystander:
        bystander.bind((HOST, 0))
        ports = {Target.US: port, Target.A_BYSTANDER: bystander.getsockname()[1]}
        async with AsyncExitStack() as stack:
            if target in ports:
                arrived = await stack.enter_async_context(open_flood(ports[target], node_id))
            with trio.fail_after(TIME_LIMIT):
                await trio.run_process(command, cwd=ROOT, capture_stdout=True, capture_stderr=True)
    rate = arrived[0] / (trio.current_time() - began)
    facts = json.loads(await trio.Path(report).read_text())
    sync, cpu = facts["sync"], facts["cpu"]
    used = cpu["user_s"] + cpu["system_s"]
    return Measured(sync["wall_s"], used, sync["leaves_per_s"], sync["loop_lag_p99_ms"], rate)


def _free_port() -> int:
    """A port that nobody has, for TCP and for UDP, below those that the system gives away by itself."""
    while True:
        port = random.randrange(*PORTS)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            try:
                udp.bind((HOST, port))
                tcp.bind((HOST, port))
            except OSError:
                continue
            return port


if __name__ == "__main__":
    send_until_asked_to_end(int(sys.argv[1]), bytes.fromhex(sys.argv[2]))
