"""Imports run one way, those for annotations too: what each folder of ethsync may import.

docs/architecture.md says what is in them.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2] / "ethsync"

EVERYBODY = {"arrays", "counters", "errors", "hashing", "jsonfile", "logs"}

MAY_IMPORT = {
    "kernels": set[str](),
    "wire": set[str](),
    "rlpx": {"wire"},
    "discovery": {"wire"},
    "store": {"kernels", "wire"},
    "state": {"kernels", "wire", "store"},
    "peers": {"discovery", "networks", "rlpx", "wire"},
    "heads": {"discovery", "networks", "state", "wire"},
    "headers": {"kernels", "networks", "peers", "store", "wire"},
    "serve": {"genesis", "kernels", "networks", "rlpx", "state", "store", "wire"},
    "sync": {"headers", "heads", "kernels", "networks", "peers", "state", "store", "wire"},
    "ui": {"discovery", "kernels", "peers", "sync"},
    "crawl": {"discovery", "networks", "peers", "rlpx", "state", "ui", "wire"},
    "console": {"peers", "rlpx", "state", "ui", "wire"},
}

ONLY_THERE = {
    ("state", "store"): {"view.py", "paged.py"},  # readers of a data directory; the rest of state/ is pure
    ("ui", "kernels"): {"machine.py"},  # which processor the kernels are for
}

ANNOTATED_ONLY = {("store", "schema.py", "state")}
"""Keys of pages are made of a page's path, which belongs to the format of pages: `schema` only names its type."""


def is_for_annotations(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imported(nodes: list[ast.stmt], *, annotations: bool) -> Iterator[str]:
    """What these statements import, when they run or for annotations: `sync`, `errors`, ..."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("ethsync."):
            yield node.module.split(".")[1]
        if is_for_annotations(node) and not annotations:
            continue
        for field in ("body", "orelse", "handlers", "finalbody", "cases"):
            yield from imported(getattr(node, field, []), annotations=annotations)


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
        tree = ast.parse(path.read_text()).body
        for other in set(imported(tree, annotations=True)) - {folder} - EVERYBODY:
            assert other in MAY_IMPORT[folder] or (folder, path.name, other) in ANNOTATED_ONLY, f"{path} names {other}"
        for other in set(imported(tree, annotations=False)) - {folder} - EVERYBODY:
            assert other in MAY_IMPORT[folder], f"{path} imports {other}"
            assert path.name in ONLY_THERE.get((folder, other), {path.name}), f"{path} imports {other}"


def test_what_everybody_may_import_imports_nothing_of_ours_but_each_other() -> None:
    for name in EVERYBODY:
        found = set(imported(ast.parse((ROOT / f"{name}.py").read_text()).body, annotations=True))
        assert found <= EVERYBODY, name


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
