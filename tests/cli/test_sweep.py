"""``espperf sweep`` on the reference device: six workers are right, four and eight are slower alike."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.firmware_repo import BUILD, FirmwareRepository, make_firmware_repository
from support.short_sessions import NO_TIME_BUDGETS
from support.slot_board import Slot, slot_board

from pytest_espperf.cli import main
from pytest_espperf.sim import SimConfig, SimProcess

pytestmark = pytest.mark.timeout(600)

LOAD = (
    "--perf-profiles=python_heavy",
    "--perf-burst-duration=0.4",
    "--perf-long-duration=0.4",
    "--perf-settle-ms=0",
    "--perf-between-runs-ms=0",
    "--perf-metrics-retries=0",
    *NO_TIME_BUDGETS,
)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FirmwareRepository:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    repository = make_firmware_repository(tmp_path, boot_s=0.1)
    monkeypatch.chdir(repository.root)
    return repository


@pytest.fixture
def board() -> Iterator[str]:
    with SimProcess.start(SimConfig(noise="none")) as sim:
        yield f"{sim.host}:{sim.port}"


def test_every_value_is_built_and_measured_and_one_is_best(
    repository: FirmwareRepository, board: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = repository.state()
    words = [
        f"--build-cmd={BUILD} {{knob}}={{value}}",
        f"--flash-cmd={repository.flash_command()}",
        f"--perf-history={repository.root.parent / 'history'}",
        "--rounds=5",
        "--json",
        *LOAD,
    ]
    # Far apart, so that a busy computer does not hide it: 1 is slower by 25 %, 14 by 40 %.
    assert main(["sweep", "WORKERS=1,6,14", board, *words]) == 0
    said = capsys.readouterr()
    contest = json.loads(said.out)["contest"]
    assert contest["answer"].startswith("WORKERS: 6 is best; ")
    assert {one["label"]: one["word"] for one in contest["candidates"]} == {
        "1": "worse",
        "6": "best",
        "14": "worse",
    }
    assert repository.state() == before
    assert said.err.count("] building WORKERS=") == 3


def test_a_board_may_be_configured_without_a_build(
    repository: FirmwareRepository, board: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log = repository.root.parent / "log"
    flash = f"echo {{value}} {{port}} >> {log}"
    words = [f"--flash-cmd={flash}", f"--perf-history={repository.root.parent / 'history'}", *LOAD]
    assert main(["sweep", "POOL=a,b", board, "--rounds=3", "--repo=/nowhere", *words]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("SWEEP: POOL: ")
    assert "3 rounds of POOL=a, b; about " in said.err
    switched = log.read_text().split()[::2]
    assert set(switched) == {"a", "b"}


def test_a_value_that_the_board_went_back_from_is_left_out(
    repository: FirmwareRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    slots = {name: Slot(delay_s=0.003, boots=name != "c") for name in "abc"}
    with slot_board(**slots) as board:
        board.rolls_back = True
        (repository.root / "espperf.toml").write_text(
            '[profiles.python_heavy]\npaths = ["/"]\n[telemetry]\nstats = ""\nmemory = ""\n'
        )
        switch = (
            f'"{sys.executable}" -c "import urllib.request as r; '
            "r.urlopen(r.Request('http://{ip}:{port}/switch?slot={value}', method='POST'))\""
        )
        words = [f"--flash-cmd={switch}", "--check-url=/slot", "--rounds=3", "--json"]
        history = f"--perf-history={repository.root.parent / 'history'}"
        code = main(["sweep", "SLOT=a,b,c", board.address, *words, history, *LOAD])
        said = capsys.readouterr()
        assert code == 0, said.err
    found = {one["label"]: one for one in json.loads(said.out)["contest"]["candidates"]}
    assert "'b' with the SLOT=c firmware as with the SLOT=b one" in found["c"]["trouble"]
    assert (found["a"]["rounds"], found["b"]["rounds"], found["c"]["rounds"]) == (3, 3, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["A=1,2", "sim"], "--flash-cmd is missing"),
        (
            ["A=1,2", "sim", "--build-cmd=x", "--flash-cmd=y"],
            "--build-cmd and --flash-cmd: {value} is",
        ),
        (["A=1,2", "sim", "--flash-cmd=y"], "espperf: --flash-cmd: {value} is missing"),
        (["A=1,2", "sim", "--build-cmd=x {value}", "--flash-cmd=y", "--at=nothing"], "--at: 'nothing': "),
        (
            ["A=1,2", "sim", "--build-cmd=make {KNOB}={value}", "--flash-cmd=x {KNOB}", "--at=nothing"],
            "--at: 'nothing': ",
        ),
        (["A=1,2", "10.0.0.1,10.0.0.2", "--flash-cmd={value}"], "sweep measures one board"),
        (
            ["A=1,2", "sim", "--flash-cmd={value} {knbo}"],
            "--flash-cmd: {knbo} is no placeholder; did you mean",
        ),
        (
            ["A=1,2", "sim", "--flash-cmd={value} {dir}"],
            "--flash-cmd: {dir} is known of builds of commits only",
        ),
        (["A=1,2", "sim", "--flash-cmd=x", "--build-cmd={value} {ip}"], "--build-cmd: {ip} is known of the"),
        (["A=1,2", "sim", "--flash-cmd={value}", "--at=HEAD"], "--at names the commit that is built, and"),
        (["A=1,2", "sim", "--flash-cmd={value}", "--check-url=/{value}"], "--check-url: {value} is known of"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    arguments: list[str], message: str, repository: FirmwareRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repository.good
    assert main(["sweep", *arguments]) == 4
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["WORKERS=1,1,2", "sim"], "1 is given twice"),
        (["WORKERS=", "sim"], "is no knob with values"),
        (["W=1,2", "sim", "--rounds", "0"], "--rounds"),
    ],
)
def test_a_mistake_is_not_hidden_by_a_long_usage(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sweep", *words])
    assert ended.value.code == 4
    said = capsys.readouterr().err.splitlines()
    assert message in said[-1]
    assert len(said) == 2
    assert "--help" in said[0]


def test_a_knob_needs_values(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sweep", "A=1", "sim"])
    assert ended.value.code == 4
    assert "two different values" in capsys.readouterr().err
