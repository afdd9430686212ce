"""How long modules and functions may be: what CONTRIBUTING.md says."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2] / "ethsync"

MODULES = {str(path.relative_to(ROOT)): path.read_text() for path in ROOT.rglob("*.py")}


def test_a_module_has_at_most_500_lines() -> None:
    assert {name for name, text in MODULES.items() if text.count("\n") > 500} == set()


def test_a_function_has_at_most_40_lines_unless_it_is_a_kernel() -> None:
    long = {
        (name, node.name)
        for name, text in MODULES.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= 40
    }
    assert {each for each in long if not each[0].startswith("kernels/")} == set()
    # and what the test reads are functions: the longest kernel is there.
    assert ("kernels/trie.py", "build") in long
