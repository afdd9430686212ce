"""`ethsync verify`: is what is on disk the state that the block's header names, and are the headers a chain?"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
import trio

from ethsync.errors import ConfigError, DatadirDamaged, NotHeld
from ethsync.fork_overrides import with_overrides
from ethsync.headers.audit import audit_headers
from ethsync.headers.rules import chain_rules
from ethsync.networks import BUILT_IN, load_network
from ethsync.state.view import is_all_held
from ethsync.store.datadir import open_datadir
from ethsync.store.headers import HeaderStore
from ethsync.store.schema import FACT_VERIFIED
from ethsync.sync.chain import stored_pivot
from ethsync.sync.verifier import verify
from ethsync.ui.numbers import several

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ethsync.headers.rules import ChainRules
    from ethsync.store.datadir import Datadir
    from ethsync.store.schema import Format
    from ethsync.sync.verify import Findings


INCOMPLETE = "the sync is not complete: run the same `ethsync snap` again to continue, it verifies at its end"
DAMAGED = "run the same `ethsync snap` again; if that finds the same, sync into another --datadir; nothing was deleted"


def run(path: Path, network: str | None, as_json: bool, forks: Sequence[str] = ()) -> int:
    """Verify; return 0 if everything holds, 1 if not. Raises EthsyncError.

    `network`: name or genesis JSON; `forks`: those elsewhere, as `--override-fork` names them.
    """
    with open_datadir(path) as datadir:
        header = stored_pivot(datadir)
        if header is None:
            raise NotHeld(f"{path} does not hold a block's state yet", hint="run `ethsync snap` into it first")
        rules = _rules(datadir.format, network, forks)
        try:
            findings = trio.run(_verify, datadir, header.state_root)
        except* DatadirDamaged:
            datadir.forget(FACT_VERIFIED)  # `ethsync snap` must not go on calling this state verified
            raise
        if findings.problems:
            datadir.forget(FACT_VERIFIED)
        owed = bool(findings.problems) and not is_all_held(datadir)
        store = HeaderStore(datadir.headers)
        headers = audit_headers(store, rules, lambda share: None) if rules is not None else None
        unaudited = store.top is not None and headers is None
    problems = [*findings.problems, *(headers.problems if headers is not None else [])]
    if as_json:
        facts = {"holds": not problems, "block": header.number, "state_root": f"0x{header.state_root.hex()}"}
        read = asdict(headers) if headers is not None else None
        click.echo(json.dumps({**facts, **asdict(findings), "headers": read}))
        return 1 if problems else 0
    for problem in problems:
        click.echo(f"- {problem}")
    counts = f"{findings.accounts:,} accounts, {findings.slots:,} slots, {findings.codes:,} codes"
    counts += f", {headers.headers:,} headers" if headers is not None and headers.headers else ""
    verdict = f"does not hold: {several(len(problems), 'problem', 'problems')}" if problems else "holds"
    click.echo(f"block {header.number}, state root 0x{header.state_root.hex()}: {counts}; {verdict}")
    if findings.problems:
        click.echo(INCOMPLETE if owed else DAMAGED)
    if unaudited:
        click.echo("headers were not looked at: name the genesis JSON of their network with --network")
    return 1 if problems else 0


def _rules(form: Format, network: str | None, forks: Sequence[str]) -> ChainRules | None:
    """What headers must be like; None if the network is a private one that was not named. Raises ConfigError."""
    if network is None and form.network not in BUILT_IN:
        return None
    found = load_network(network or form.network)
    if f"0x{found.genesis_hash.hex()}" != form.genesis_hash:
        raise ConfigError(
            f"{network or form.network} has another genesis than this data directory, which is of {form.network}",
            hint="name its own network with --network",
        )
    return chain_rules(with_overrides(found, forks))


async def _verify(datadir: Datadir, state_root: bytes) -> Findings:
    limiter = trio.CapacityLimiter(os.cpu_count() or 1)
    return await verify(datadir, state_root, limiter, lambda share: None)
