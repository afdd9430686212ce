"""`ethsync get`: read an account, storage slots and code back, and check the proof before showing anything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ethsync.api import State, open_state_now
from ethsync.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from ethsync.state.account import Account

HASH = "hash:"
"""Before the hash of a slot: 64 digits alone are a number, as in eth_getStorageAt."""


def run(account: str, slots: tuple[str, ...], code: bool, path: Path, as_json: bool) -> int:
    """Print what is asked for; return 0. Raises NotHeld, VerificationFailed, ConfigError."""
    where = parse_account(account)
    wanted = [parse_slot(text) for text in slots]
    with open_state_now(path) as state:
        facts = _collect(state, where, wanted, code)
    click.echo(json.dumps(facts) if as_json else "\n".join(_lines(facts)))
    return 0


def parse_account(text: str) -> bytes:
    """An address (20 bytes) or an account hash (32 bytes). Raises ConfigError."""
    try:
        value = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        value = b""
    if len(value) not in (20, 32):
        raise ConfigError(f"'{text}' is neither an address nor an account hash", hint="40 or 64 hexadecimal digits")
    return value


def parse_slot(text: str) -> int | bytes:
    """A slot's number, decimal or 0x…, or its hash (32 bytes) behind `hash:`. Raises ConfigError."""
    try:
        slot = bytes.fromhex(text[len(HASH) :].removeprefix("0x")) if text.startswith(HASH) else int(text, 0)
    except ValueError:
        slot = -1
    if (len(slot) != 32) if isinstance(slot, bytes) else not 0 <= slot < 1 << 256:
        raise ConfigError(
            f"'{text}' is not the number of a storage slot", hint="decimal, 0x…, or hash:0x… for its hash"
        )
    return slot


def _slot_name(slot: int | bytes) -> str:
    return f"0x{slot:x}" if isinstance(slot, int) else f"{HASH}0x{slot.hex()}"


def _collect(state: State, where: bytes, slots: list[int | bytes], code: bool) -> dict[str, Any]:
    proof = state.proof(where, slots)
    account = proof.account
    facts: dict[str, Any] = {
        "block": {"number": state.block.number, "hash": f"0x{state.block.hash.hex()}"},
        "state_root": f"0x{state.block.state_root.hex()}",
        "account_hash": f"0x{proof.key.hex()}",
        "exists": account is not None,
        "proof": "checked",
    }
    if account is not None:
        facts |= _account_facts(account)
    if slots:
        facts["slots"] = {
            _slot_name(name): f"0x{slot.value:064x}" for name, slot in zip(slots, proof.slots, strict=True)
        }
    if code:
        facts["code"] = f"0x{state.code(where).hex()}"
    return facts


def _account_facts(account: Account) -> dict[str, Any]:
    return {
        "nonce": account.nonce,
        "balance": str(account.balance),
        "storage_root": f"0x{account.storage_root.hex()}",
        "code_hash": f"0x{account.code_hash.hex()}",
    }


def _lines(facts: dict[str, Any]) -> list[str]:
    block = facts["block"]
    lines = [f"block {block['number']} ({block['hash']}), proof checked against its state root"]
    if not facts["exists"]:
        lines.append(f"there is no account with hash {facts['account_hash']} in this state")
    for name in ("nonce", "balance", "storage_root", "code_hash"):
        if name in facts:
            unit = " wei" if name == "balance" else ""
            lines.append(f"{name.replace('_', ' '):<13} {facts[name]}{unit}")
    lines += [f"slot {number:<8} {value}" for number, value in facts.get("slots", {}).items()]
    if "code" in facts:
        lines.append(f"code          {facts['code']}")
    return lines
