"""docs/format.md names every file of a data directory, and every key of its databases."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ethsync.commands import heads
from ethsync.discovery import identity
from ethsync.peers import keeping, roster
from ethsync.serve import demo
from ethsync.store import datadir, schema
from ethsync.sync import summary

DOCUMENT = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")

FILES = [
    datadir.LOCK_FILE, identity.KEY_FILE, identity.IDENTITY_FILE, roster.FILE, keeping.CANDIDATES_FILE,
    keeping.BANS_FILE, summary.FILE, demo.GENESIS_FILE, heads.SECRET_NAME,
]  # fmt: skip

FACTS = [value.decode() for name, value in vars(schema).items() if name.startswith("FACT_")]


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_named(name: str) -> None:
    assert re.search(rf"^  {re.escape(name)} ", DOCUMENT, re.MULTILINE)


@pytest.mark.parametrize("fact", FACTS)
def test_every_fact_is_named(fact: str) -> None:
    assert f"`{fact}`" in DOCUMENT
