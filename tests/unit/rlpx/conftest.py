"""Published vectors and running MAC states that several RLPx tests share."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coincurve
import pytest
from Crypto.Hash import keccak

from ethsync.rlpx.handshake import Secrets

VECTORS = Path(__file__).parents[2] / "vectors" / "rlpx"


def mac_state(*parts: bytes) -> Any:
    state = keccak.new(digest_bits=256, update_after_digest=True)
    for part in parts:
        state.update(part)
    return state


@dataclass(frozen=True)
class Eip8:
    """The handshake vectors of EIP-8: node A calls node B."""

    values: dict[str, str]

    def bytes(self, name: str) -> bytes:
        return bytes.fromhex(self.values[name])

    def key(self, name: str) -> coincurve.PrivateKey:
        return coincurve.PrivateKey(self.bytes(name))


@dataclass(frozen=True)
class Capture:
    """One direction of a real session: frames as sent, and the secrets to read or to write them."""

    values: dict[str, Any]

    @property
    def frames(self) -> list[bytes]:
        return [bytes.fromhex(message["data"]) for message in self.values["messages"]]

    @property
    def frame_sizes(self) -> list[int]:
        return [message["frame_size"] for message in self.values["messages"]]

    def secrets(self) -> Secrets:
        """Fresh secrets with which a decoder reads, and an encoder writes, the captured direction."""
        start = [bytes.fromhex(part) for part in self.values["ingress_gen"]]
        return Secrets(
            bytes.fromhex(self.values["aes_secret"]),
            bytes.fromhex(self.values["mac_secret"]),
            egress=mac_state(*start),
            ingress=mac_state(*start),
        )


@pytest.fixture(scope="session")
def eip8() -> Eip8:
    return Eip8(json.loads((VECTORS / "eip8.json").read_text()))


@pytest.fixture(scope="session")
def capture() -> Capture:
    return Capture(json.loads((VECTORS / "session.json").read_text()))


@pytest.fixture
def new_secrets() -> Callable[[], Secrets]:
    """Make secrets with which an encoder and a decoder understand each other."""

    def make() -> Secrets:
        return Secrets(b"a" * 32, b"m" * 32, egress=mac_state(b"start"), ingress=mac_state(b"start"))

    return make
