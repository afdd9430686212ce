"""A sync in the middle of its work, as counters."""

from __future__ import annotations

import pytest

from ethsync.counters import Counters
from ethsync.sync.progress import Limit, PeerView, Phase, Progress

ROOT = "0xd7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544"


@pytest.fixture
def progress() -> Progress:
    """Mainnet-sized, 43.2 % of the key space, started at second 1,000."""
    return Progress(
        started=1000.0,
        phase=Phase.DOWNLOADING,
        block_number=23_872_855,
        block_hash="0x" + "ab" * 32,
        state_root=ROOT,
        key_space=0.4321,
        accounts=Counters(items=177_000_000, bytes=8_700_000_000, in_flight=6, owed=4, started=1002.0),
        storage=Counters(items=600_000_000, bytes=46_000_000_000, in_flight=9, owed=1240, started=1003.0),
        contracts=10_000_000,
        codes=Counters(items=840_000, bytes=5_200_000_000, in_flight=2, owed=311, started=1003.0),
        peers=[
            PeerView("besu/v26.1.0", "[2001:db8::1]:30303", 800, 2, 2.1e6, 1.0),
            PeerView("Geth/v1.17.2-stable/linux-amd64/go1.24", "127.0.0.1:30303", 900, 3, 5.1e6, 1.0),
            PeerView("idle", "127.0.0.1:30305", 1, 0, 0.0, 1.0),
            PeerView("new", "127.0.0.1:30304", 2, 0, 9e6, 1.0),
        ],
        wire_bytes=61_000_000_000,
        written_bytes=60_000_000_000,
        write_queue=3,
        limit=Limit.CPU,
    )
