"""Blocks around the Amsterdam fork as go-ethereum served them (tests/vectors/amsterdam)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "vectors" / "amsterdam" / "blocks.json"


@dataclass(frozen=True, slots=True)
class ServedBlock:
    """One block. `after` is what geth's RPC says of the accounts in the access list, after the block."""

    number: int
    hash: bytes
    header: bytes
    body: bytes
    receipts: bytes
    access_list: bytes | None
    after: dict[bytes, Any]


def blocks_around_amsterdam() -> list[ServedBlock]:
    """Blocks 5 (the last before the fork), 6 and 13."""
    return [_block(fields) for fields in json.loads(FILE.read_text())]


def _block(fields: dict[str, Any]) -> ServedBlock:
    header, body, receipts = (bytes.fromhex(fields[name]) for name in ("header", "body", "receipts"))
    access_list = None if fields["access_list"] is None else bytes.fromhex(fields["access_list"])
    after = {bytes.fromhex(address): _state(values) for address, values in (fields["after"] or {}).items()}
    return ServedBlock(fields["number"], bytes.fromhex(fields["hash"]), header, body, receipts, access_list, after)


def _state(values: dict[str, Any]) -> dict[str, Any]:
    return {
        "balance": int(values["balance"], 16),
        "nonce": values["nonce"],
        "code": None if values["code"] is None else bytes.fromhex(values["code"]),
        "slots": {int(slot, 16): int(value, 16) for slot, value in values["slots"].items()},
    }
