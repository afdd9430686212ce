"""The table of scenarios names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TABLE = TESTS / "faults" / "SCENARIOS.md"
NAMED = re.findall(r"`tests/([\w/]+\.py)(?:::(\w+))?`", TABLE.read_text())


def test_the_table_was_read() -> None:
    assert len(NAMED) > 40


@pytest.mark.parametrize(("file", "test"), sorted(set(NAMED)))
def test_a_test_that_the_table_names_is_there(file: str, test: str) -> None:
    text = (TESTS / file).read_text()
    assert re.search(rf"def {test}\(" if test else r"def test_", text)
