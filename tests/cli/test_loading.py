"""Each command loads what it needs, and no other command's part."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_espperf.cli.program import MODULES, make_parser

LOADED = """
import sys
from pytest_espperf.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print("LOADED", *sys.modules)
"""


def loaded(*words: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.rpartition("LOADED ")[2].split())


def commands_in(names: set[str]) -> set[str]:
    prefix = "pytest_espperf.cli."
    return {name.removeprefix(prefix) for name in names if name.startswith(prefix)} & set(MODULES.values())


@pytest.mark.parametrize(
    ("words", "modules"),
    [
        (["--version"], set()),
        (["run", "--help"], {"run"}),
        (["list", "--help"], {"list"}),
        (["accept", "--help"], {"decide"}),
        (["--help"], set(MODULES.values())),
    ],
)
def test_a_command_loads_its_own_module_alone(words: list[str], modules: set[str]) -> None:
    assert commands_in(loaded(*words)) == modules


@pytest.mark.parametrize("words", [["--version"], ["run", "--help"]])
def test_the_way_to_a_session_loads_nothing_heavy(words: list[str]) -> None:
    assert not loaded(*words) & {"httpx", "asyncio", "msgspec", "sqlite3", "ssl"}


def test_the_history_s_commands_load_no_pytest() -> None:
    assert not loaded("list", "--help") & {"pytest", "_pytest", "httpx", "asyncio"}


@pytest.mark.parametrize("command", MODULES)
def test_each_command_is_in_the_module_of_the_table(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        make_parser(command).parse_args([command, "--help"])
    assert ended.value.code == 0
    assert f"espperf {command}" in capsys.readouterr().out
