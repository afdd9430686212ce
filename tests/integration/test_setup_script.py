"""scripts/setup: what is installed is installed once, whichever script comes first. Python and pip are stand-ins."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[2] / "scripts" / "setup"

PYTHON = """#!/usr/bin/env bash
# Makes a .venv with itself in it, and writes down which lock file pip was given.
case "$*" in
    "-m venv --clear "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
    "-m pip install "*) echo "${@: -1}" | xargs -n 1 basename >>"$INSTALLED" && exit "${PIP_EXIT:-0}" ;;
    *sysconfig*) dirname "$0" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with two lock files, and an interpreter beside them."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(SETUP, tmp_path / "scripts")
    (tmp_path / "requirements.lock").write_text("trio==1\n")
    (tmp_path / "requirements-dev.lock").write_text("-r requirements.lock\npytest==1\n")
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def ensure(checkout: Path, *sets: str, pip_exit: int = 0) -> list[str]:
    """Ask for the sets in turn; return the lock files that were installed."""
    installed = checkout / "installed"
    installed.write_text("")
    script = f'root="{checkout}"; source "$root/scripts/setup"; for set in {" ".join(sets)}; do ensure_venv $set; done'
    environment = os.environ | {
        "PYTHON": str(checkout / "python"),
        "INSTALLED": str(installed),
        "PIP_EXIT": str(pip_exit),
    }
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], env=environment, capture_output=True, check=not pip_exit)
    return installed.read_text().split()


def test_what_tests_need_includes_what_ethsync_runs_on(checkout: Path) -> None:
    assert ensure(checkout, "dev", "runtime", "dev") == ["requirements-dev.lock"]


def test_tests_after_a_run_install_what_is_missing_once(checkout: Path) -> None:
    assert ensure(checkout, "runtime", "dev", "runtime", "dev") == ["requirements.lock", "requirements-dev.lock"]


def test_a_changed_lock_file_is_installed_again(checkout: Path) -> None:
    ensure(checkout, "dev")
    (checkout / "requirements.lock").write_text("trio==2\n")
    assert ensure(checkout, "runtime", "runtime") == ["requirements.lock"]
    assert ensure(checkout, "dev", "runtime") == ["requirements-dev.lock"]


def test_other_tools_for_tests_do_not_concern_a_run(checkout: Path) -> None:
    ensure(checkout, "runtime", "dev")
    (checkout / "requirements-dev.lock").write_text("-r requirements.lock\npytest==2\n")
    assert ensure(checkout, "runtime") == []


def test_a_failed_installation_is_begun_again(checkout: Path) -> None:
    assert ensure(checkout, "runtime", pip_exit=1) == ["requirements.lock"]
    assert ensure(checkout, "runtime", "runtime") == ["requirements.lock"]
