"""The command line, run in this process."""

from __future__ import annotations

import pytest

from ethsync import cli
from tests.unit.commands.running import Run


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line; exit code, standard output, standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert isinstance(caught.value.code, int)
        shown = capsys.readouterr()
        return caught.value.code, shown.out, shown.err

    return call
