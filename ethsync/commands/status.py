"""`ethsync status`: which block, what is kept, what is missing, per stage."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ethsync.errors import DatadirBusy
from ethsync.state.pages import KEY_SPACE
from ethsync.store.datadir import Datadir, free_bytes, open_datadir
from ethsync.store.headers import HeaderStore
from ethsync.store.schema import FACT_CODES, FACT_HEALED, FACT_MIXED, RECORD, decode_record
from ethsync.sync.chain import stored_moves, stored_pivot
from ethsync.sync.fingerprints import Fingerprints
from ethsync.sync.resume import read_kept
from ethsync.sync.snap import stored_verdict
from ethsync.sync.summary import read_summary
from ethsync.sync.sweep import Sweep
from ethsync.ui.numbers import duration, printable, several

if TYPE_CHECKING:
    from pathlib import Path

    from ethsync.wire.headers import Header


def run(path: Path, as_json: bool) -> int:
    """Print the status; return 0. While a sync runs, what that says of itself. Raises EthsyncError."""
    try:
        with open_datadir(path) as datadir:
            facts = collect(datadir, time.time())
        lines = _lines(facts)
    except DatadirBusy:
        said = read_summary(path)
        if said is None:
            raise
        facts = {"datadir": str(path), "running": said}
        lines = running_lines(str(path), said, time.time())
    if as_json:
        click.echo(json.dumps(facts))
    else:
        for line in lines:
            click.echo(line)
    return 0


def collect(datadir: Datadir, now: float) -> dict[str, Any]:
    """Everything that is known without recomputing it. `now`: Unix seconds. Raises DatadirDamaged."""
    header, verified = stored_pivot(datadir), stored_verdict(datadir)
    kept = read_kept(datadir, Fingerprints())
    sweep = Sweep(((marker.origin, marker.end) for marker in kept.markers), kept.depth)
    records = [decode_record(value) for _, value in datadir.ledger.scan(RECORD)]
    # Other accounts, or what these become in the block's state, may lack more.
    least = 0 if sweep.done and datadir.accounts.get(FACT_MIXED) is None else None
    return {
        "datadir": str(datadir.path),
        "network": datadir.format.network,
        "chain_id": datadir.format.chain_id,
        "block": _block(header, stored_moves(datadir), now) if header is not None else None,
        "verified": asdict(verified) if verified is not None else None,
        "healing": _healing(datadir),
        "headers": _headers(HeaderStore(datadir.headers)),
        "accounts": {
            # Markers are the download's; healing and following have changed the pages since.
            "stored": verified.accounts if verified is not None else sum(marker.leaves for marker in kept.markers),
            "bytes": sum(marker.size for marker in kept.markers),
            "key_space": sweep.stored / KEY_SPACE,
            "ranges_missing": sweep.open_gaps,
            "page_depth": kept.depth,
        },
        "storage": {
            "big_contracts": sum(record.complete for record in records),
            "big_contracts_begun": sum(not record.complete for record in records),
            "contracts_missing": sum(len(debt.contracts) for debt in kept.debts) or least,
        },
        "codes": {
            "stored": verified.codes if verified is not None else int(datadir.codes.get(FACT_CODES) or b"0"),
            "missing": len({digest for debt in kept.debts for digest in debt.codes}) or least,
        },
        "pages_in_debt": len(kept.debts),
        "disk_bytes": sum(file.stat().st_size for file in datadir.path.rglob("*") if file.is_file()),
        "free_bytes": free_bytes(datadir.path),
    }


def _block(header: Header, moves: int, now: float) -> dict[str, Any]:
    return {
        "number": header.number,
        "hash": f"0x{header.hash.hex()}",
        "state_root": f"0x{header.state_root.hex()}",
        "age_s": round(now - header.timestamp),
        "moves": moves,
    }


def running_lines(path: str, said: dict[str, Any], now: float) -> list[str]:
    """What a running sync said of itself, for people. `now`: Unix seconds."""
    block, accounts, storage, codes = said["block"], said["accounts"], said["storage"], said["codes"]
    since, peers = duration(max(0.0, now - said["at"])), several(said["peers"], "peer", "peers")
    lines = [f"{path}: {said['phase']} in process {said['process']}, as of {since} ago, {peers}"]
    if block is not None:
        lines.append(_block_line(block))
    if said["held"] is not None:
        lag = said.get("behind")
        behind = f", {several(lag, 'block', 'blocks')} behind the head" if lag is not None else ""
        lines.append(f"held       the whole state of block {said['held']}{behind}")
    headers = said["headers"]
    if headers["held"] or headers["left"]:
        lines.append(f"headers    {headers['held']:,} held, {headers['left']:,} left")
    lines += [
        f"accounts   {accounts['stored']:,} stored, {100 * accounts['key_space']:.2f} % of the key space",
        f"storage    {storage['slots']:,} slots of {storage['contracts']:,} contracts stored; "
        f"{_missing(storage['contracts_missing'], 'contracts')}",
        f"bytecodes  {codes['stored']:,} stored, {_missing(codes['missing'], 'of stored accounts')}",
        *_healing_lines(said["healing"]),
    ]
    return [*lines, printable(said["trouble"])] if said["trouble"] else lines


def _missing(count: int | None, what: str) -> str:
    """How many are known to be missing."""
    return "it is not known how many are missing" if count is None else f"{count:,} {what} missing"


def _healing(datadir: Datadir) -> dict[str, Any] | None:
    """How far pages of several states have become those of one; None if all are of one."""
    if datadir.accounts.get(FACT_MIXED) is None:
        return None
    return {"equal": float(datadir.accounts.get(FACT_HEALED) or b"0")}


def _headers(store: HeaderStore) -> dict[str, Any]:
    """The proven headers: how many, from where to where, and how many are left of those that are wanted."""
    if store.top is None:
        return {"held": 0, "lowest": None, "highest": None, "wanted": None, "left": None}
    held = store.top.number - store.low + 1
    lowest = store.low if held else None
    return {"held": held, "lowest": lowest, "highest": store.top.number, "wanted": store.floor, "left": store.missing}


def _healing_lines(healing: dict[str, Any] | None) -> list[str]:
    if healing is None:
        return []
    share = f"{100 * healing['equal']:.2f} % of the key space"
    return [f"healing    pages are of several blocks; {share} proven equal to this one's"]


def _block_line(block: dict[str, Any]) -> str:
    moves = f"; the pivot has moved {several(block['moves'], 'time', 'times')}" if block["moves"] else ""
    age = duration(max(0, block["age_s"]))
    return f"block {block['number']}, {block['hash']}, state root {block['state_root']}, {age} old{moves}"


def _block_lines(facts: dict[str, Any]) -> list[str]:
    """The block, and the headers behind it, if there are some."""
    headers = facts["headers"]
    lines = [_block_line(facts["block"])]
    if headers["held"]:
        end = f"block {headers['wanted']}" if headers["wanted"] else "genesis"
        all_held = f", all from {end} on" if headers["wanted"] else ", all of them"
        left = f"; {headers['left']:,} left down to {end}" if headers["left"] else all_held
        lines.append(f"headers    {headers['held']:,} held, up to block {headers['highest']}{left}")
    return lines


def _lines(facts: dict[str, Any]) -> list[str]:
    """The same for people."""
    block, verified = facts["block"], facts["verified"]
    accounts, storage, codes = facts["accounts"], facts["storage"], facts["codes"]
    lines = [f"{facts['datadir']}: {facts['network']} (chain {facts['chain_id']}), {facts['disk_bytes'] / 1e6:,.0f} MB"]
    if block is None:
        return [*lines, "no block is known yet: nothing was downloaded"]
    lines += _block_lines(facts)
    if verified is not None:
        lines.append(
            f"complete and verified: {verified['accounts']:,} accounts, {verified['slots']:,} slots in "
            f"{verified['contracts']:,} contracts, {verified['codes']:,} codes"
        )
        return lines
    lines += [
        f"accounts   {accounts['stored']:,} stored, {100 * accounts['key_space']:.2f} % of the key space, "
        f"{several(accounts['ranges_missing'], 'range', 'ranges')} missing",
        f"storage    {storage['big_contracts']:,} big contracts stored, "
        f"{storage['big_contracts_begun']} begun; {_missing(storage['contracts_missing'], 'contracts')}",
        f"bytecodes  {codes['stored']:,} stored, {_missing(codes['missing'], 'of stored accounts')}",
        *_healing_lines(facts["healing"]),
        "not verified yet: run the same `ethsync snap` again to continue",
    ]
    return lines
