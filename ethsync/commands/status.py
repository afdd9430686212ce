"""`ethsync status`: what is kept, what is missing, per stage."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ethsync.state.pages import KEY_SPACE
from ethsync.store.datadir import Datadir, free_bytes, open_datadir
from ethsync.store.schema import BUNDLE, CODE, RECORD, decode_record
from ethsync.sync.chain import stored_pivot
from ethsync.sync.resume import read_kept
from ethsync.sync.snap import stored_verdict
from ethsync.sync.sweep import Sweep

if TYPE_CHECKING:
    from pathlib import Path


def run(path: Path, as_json: bool) -> int:
    """Print the status; return 0. Raises EthsyncError."""
    with open_datadir(path) as datadir:
        facts = collect(datadir)
    if as_json:
        click.echo(json.dumps(facts))
    else:
        for line in _lines(facts):
            click.echo(line)
    return 0


def collect(datadir: Datadir) -> dict[str, Any]:
    """Everything that is known without recomputing it. Raises DatadirDamaged."""
    header, verified = stored_pivot(datadir), stored_verdict(datadir)
    kept = read_kept(datadir)
    sweep = Sweep(((marker.origin, marker.end) for marker in kept.markers), kept.depth)
    records = [decode_record(value) for _, value in datadir.ledger.scan(RECORD)]
    return {
        "datadir": str(datadir.path),
        "network": datadir.format.network,
        "chain_id": datadir.format.chain_id,
        "block": None
        if header is None
        else {
            "number": header.number,
            "hash": f"0x{header.hash.hex()}",
            "state_root": f"0x{header.state_root.hex()}",
        },
        "verified": asdict(verified) if verified is not None else None,
        "accounts": {
            "stored": sum(marker.leaves for marker in kept.markers),
            "bytes": sum(marker.size for marker in kept.markers),
            "key_space": sweep.stored / KEY_SPACE,
            "ranges_missing": sweep.open_gaps,
            "page_depth": kept.depth,
        },
        "storage": {
            "bundles": sum(1 for _ in datadir.bundles.scan(BUNDLE, keys_only=True)),
            "big_contracts": sum(record.complete for record in records),
            "big_contracts_begun": sum(not record.complete for record in records),
            "contracts_missing": sum(len(debt.contracts) for debt in kept.debts),
        },
        "codes": {
            "stored": sum(1 for _ in datadir.codes.scan(CODE, keys_only=True)),
            "missing": len({code for debt in kept.debts for code in debt.codes}),
        },
        "pages_in_debt": len(kept.debts),
        "disk_bytes": sum(file.stat().st_size for file in datadir.path.rglob("*") if file.is_file()),
        "free_bytes": free_bytes(datadir.path),
    }


def _lines(facts: dict[str, Any]) -> list[str]:
    """The same for people."""
    block, verified = facts["block"], facts["verified"]
    accounts, storage, codes = facts["accounts"], facts["storage"], facts["codes"]
    lines = [f"{facts['datadir']}: {facts['network']} (chain {facts['chain_id']}), {facts['disk_bytes'] / 1e6:,.0f} MB"]
    if block is None:
        return [*lines, "no block is known yet: nothing was downloaded"]
    lines.append(f"block {block['number']}, {block['hash']}, state root {block['state_root']}")
    if verified is not None:
        lines.append(
            f"complete and verified: {verified['accounts']:,} accounts, {verified['slots']:,} slots in "
            f"{verified['contracts']:,} contracts, {verified['codes']:,} codes"
        )
        return lines
    lines += [
        f"accounts   {accounts['stored']:,} stored, {100 * accounts['key_space']:.2f} % of the key space, "
        f"{accounts['ranges_missing']} ranges missing",
        f"storage    {storage['bundles']:,} bundles and {storage['big_contracts']:,} big contracts stored, "
        f"{storage['big_contracts_begun']} begun; {storage['contracts_missing']:,} contracts missing",
        f"bytecodes  {codes['stored']:,} stored, {codes['missing']:,} of stored accounts missing",
        "not verified yet: run the same `ethsync snap` again to continue",
    ]
    return lines
