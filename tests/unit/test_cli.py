"""The command line: exit codes, one line for every error of ours, help at once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import click
import pytest

import ethsync
from ethsync import cli
from ethsync.errors import ConfigError, EthsyncError, StateUnavailable

COMMANDS = (
    "snap", "status", "verify", "get", "serve", "bench", "node", "enr", "dns", "probe", "rlpx", "crawl", "peers",
)  # fmt: skip


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Put a command `try` in, which does what the test says."""

    def put(body: Callable[[], Any]) -> None:
        monkeypatch.setitem(cli.commands.commands, "try", click.Command("try", callback=body))

    return put


def raising(error: BaseException) -> Callable[[], None]:
    def body() -> None:
        raise error

    return body


# Exit codes


@pytest.mark.parametrize("result", [None, 0, 1, 130])
def test_the_result_of_a_command_is_the_exit_code(command: Callable[..., None], result: int | None) -> None:
    command(lambda: result)
    assert exit_code("try") == (result or 0)


@pytest.mark.parametrize(
    "arguments",
    [("nonsense",), ("snap",), ("snap", "--nonsense"), ("status",), ("verify",), ("get",), ("get", "0x00"),
     ("snap", "--network", "mainnet", "--min-free", "much"), ("snap", "--network", "mainnet", "--log-format", "xml")],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_is_2_and_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert exit_code(*arguments) == 2
    shown = capsys.readouterr()
    assert "Error:" in shown.err
    assert shown.out == ""


def test_a_configuration_that_cannot_work_is_wrong_usage(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(ConfigError("no such network", hint="name another one")))
    assert exit_code("try") == 2
    assert capsys.readouterr().err == "ethsync: no such network (name another one)\n"


def test_a_failure_is_1_and_one_line_that_says_what_to_do(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(StateUnavailable("nobody serves it", hint="run it again later")))
    assert exit_code("try") == 1
    assert capsys.readouterr().err == "ethsync: nobody serves it (run it again later)\n"


def test_an_error_of_ours_is_found_in_groups(command: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    # Given what two nurseries, one inside the other, make of an error
    command(raising(BaseExceptionGroup("outer", [BaseExceptionGroup("inner", [ConfigError("it cannot work")])])))
    assert exit_code("try") == 2
    assert capsys.readouterr().err == "ethsync: it cannot work\n"


def test_of_several_errors_the_first_is_shown(command: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    command(raising(ExceptionGroup("", [EthsyncError("first"), EthsyncError("second")])))
    assert exit_code("try") == 1
    assert capsys.readouterr().err == "ethsync: first\n"


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError("a bug"), ExceptionGroup("", [EthsyncError("ours"), ZeroDivisionError("a bug")])],
    ids=["alone", "beside an error of ours"],
)
def test_a_bug_is_not_hidden(command: Callable[..., None], error: Exception) -> None:
    command(raising(error))
    with pytest.raises(type(error)) as caught:
        cli.main(["try"])
    assert caught.value is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()], ids=["Ctrl-C", "prompt ended"])
def test_an_interruption_is_130(command: Callable[..., None], error: BaseException) -> None:
    command(raising(error))
    assert exit_code("try") == 130


# Help


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], name: str, flag: str) -> None:
    assert exit_code(name, flag) == 0
    shown = capsys.readouterr().out
    found = cli.commands.commands[name]
    assert found.help
    assert found.help.splitlines()[0] in " ".join(shown.split())
    for parameter in found.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in shown


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--help") == 0
    shown = capsys.readouterr().out
    assert set(cli.commands.commands) == set(COMMANDS)
    for name in COMMANDS:
        assert f"\n  {name} " in shown


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"ethsync, version {ethsync.__version__}\n"


def test_help_comes_at_once() -> None:
    took = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ethsync", "--help"], check=True, capture_output=True, timeout=30)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.3


@pytest.mark.parametrize("module", ["ethsync", "ethsync.cli"])
def test_what_takes_long_to_import_is_left_for_later(module: str) -> None:
    program = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    ended = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=30, text=True)
    heavy = {"numba", "numpy", "trio", "plyvel", "rich", "coincurve", "Crypto", "cryptography"}
    assert heavy & set(ended.stdout.split()) == set()


def test_a_sync_loads_nothing_that_not_every_sync_needs() -> None:
    # numba where kernels are in the cache, rich without a terminal, HTTP and DNS without beacon nodes and lists
    program = "import sys, ethsync.commands.snap; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=100)  # fills the cache
    ended = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=30, text=True)
    assert {"numba", "rich", "h11", "dns"} & set(ended.stdout.split()) == set()
