"""Imports run one way: what each folder of ethsync may import when it runs. docs/architecture.md says what is in them.

Imports for annotations only (`if TYPE_CHECKING`) do not count: they make nothing depend on anything when it runs.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2] / "ethsync"

EVERYBODY = {"errors", "hashing", "jsonfile", "logs"}

MAY_IMPORT = {
    "kernels": set[str](),
    "wire": set[str](),
    "rlpx": {"wire"},
    "discovery": {"wire"},
    "store": {"kernels", "wire"},
    "state": {"kernels", "wire", "store"},
    "peers": {"rlpx", "discovery", "wire"},
    "heads": {"discovery", "networks", "state", "wire"},
    "headers": {"kernels", "peers", "store", "wire"},
    "serve": {"genesis", "kernels", "networks", "rlpx", "state", "store", "wire"},
    "sync": {"headers", "heads", "kernels", "peers", "state", "store", "wire"},
    "ui": {"kernels", "sync"},
    "crawl": {"discovery", "peers", "rlpx", "state", "ui", "wire"},
    "console": {"peers", "rlpx", "state", "ui", "wire"},
}

ONLY_THERE = {
    ("state", "store"): {"view.py", "paged.py"},  # readers of a data directory; the rest of state/ is pure
    ("ui", "kernels"): {"machine.py"},  # which processor the kernels are for
}


def imported(nodes: list[ast.stmt]) -> Iterator[str]:
    """What is imported when these statements run: `sync`, `errors`, ..."""
    for node in nodes:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("ethsync."):
            yield node.module.split(".")[1]
        for field in ("body", "orelse", "handlers", "finalbody", "cases"):
            yield from imported(getattr(node, field, []))


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).glob("**/*.py"))


def test_every_folder_has_its_place() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders == {*MAY_IMPORT, "commands"}  # commands may import everything


def test_the_table_has_no_cycle() -> None:
    left = {folder: allowed & MAY_IMPORT.keys() for folder, allowed in MAY_IMPORT.items()}
    while free := {folder for folder, below in left.items() if not below}:
        left = {folder: below - free for folder, below in left.items() if folder not in free}
    assert left == {}


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_imports_what_is_below_it(folder: str) -> None:
    for path in modules(folder):
        found = set(imported(ast.parse(path.read_text()).body)) - {folder} - EVERYBODY
        for other in found:
            assert other in MAY_IMPORT[folder], f"{path} imports {other}"
            assert path.name in ONLY_THERE.get((folder, other), {path.name}), f"{path} imports {other}"


@pytest.mark.parametrize("folder", ["wire", "kernels", "state"])
def test_formats_and_kernels_know_no_event_loop(folder: str) -> None:
    for path in modules(folder):
        names = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert "trio" not in names, path
