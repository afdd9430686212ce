"""Documents lead somewhere: decisions are numbered one after another, and what is linked or named exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
OF_TESTS = [path for path in (ROOT / "tests").glob("*/**/README.md") if "node_modules" not in path.parts]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *OF_TESTS])

LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]+)")
NAMED = re.compile(r"[Dd]ecisions? (\d+)|decisions/(\d{4})")


def test_decisions_are_numbered_one_after_another_and_their_titles_say_the_same() -> None:
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    for number, path in enumerate(DECISIONS, 1):
        assert path.read_text(encoding="utf-8").startswith(f"# {number}. "), path.name


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_to_files(path: Path) -> None:
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_decisions_that_are_named_anywhere_exist() -> None:
    found = set()
    for path in (*DOCUMENTS, *(ROOT / "ethsync").rglob("*.py"), *(ROOT / "tests").rglob("*.py")):
        for word, file in NAMED.findall(path.read_text(encoding="utf-8")):
            assert 1 <= int(word or file) <= len(DECISIONS), path
            found.add(int(word or file))
    assert found == set(range(1, len(DECISIONS) + 1))
