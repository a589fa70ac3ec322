"""``espperf ab``: options, answers, exit codes, and what of it the other commands show."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.firmware_repo import BUILD, make_firmware_repository
from support.slot_board import Slot, SlotBoard, slot_board

from pytest_espperf.cli import ab, main
from pytest_espperf.history import HistoryStore, load_session, names
from pytest_espperf.load import guard
from pytest_espperf.session import boots, placer
from pytest_espperf.sim import SimConfig, SimProcess

SHORT = [
    "--perf-profiles=page",
    "--perf-burst-duration=0.15",
    "--perf-long-duration=0.15",
    "--perf-burst-clients=2",
    "--perf-long-clients=1",
    "--perf-settle-ms=0",
    "--perf-between-runs-ms=0",
    "--perf-metrics-retries=0",
    "--perf-request-timeout=2",
    "--perf-link-probes=off",
    "--perf-max-p95-ms=1e9",
    "--perf-max-p99-ms=1e9",
    "--perf-max-tail-p95-ratio=1e9",
    "--perf-max-error-rate=100",
]
SLOTS = ["--switch-url=/switch?slot={slot}", "--old-slot=a", "--new-slot=b"]
SIM_SLOTS = ["--switch-url=/ota/switch?slot={slot}", *SLOTS[1:], "--check-url=/ota:running"]
NO_CHANGE = ["--perf-min-effect=rps_ok:1e6,p95_ms:1e6", "--tolerance=900%"]
SIM = [
    "--perf-profiles=python_heavy",
    *SHORT[1:],
    "--sim-time-scale=0.05",
    "--sim-noise=none",
]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A project of its own, and figures that are compared however busy this machine is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(placer, "WARM_S", 0.05)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(ab, "MOST_TOLERANCE_PCT", 1000)
    for name in ("BOUND_CPU_SHARE", "BOUND_TURNAROUND_SHARE", "BOUND_LAG_MS"):
        monkeypatch.setattr(guard, name, float("inf"))
    (tmp_path / "espperf.toml").write_text(
        '[profiles.page]\npaths = ["/"]\n[telemetry]\nstats = ""\nmemory = ""\n', encoding="utf-8"
    )


@pytest.fixture
def board() -> Iterator[SlotBoard]:
    """A board whose slot b is ten times as slow."""
    with slot_board(a=Slot(delay_s=0.003), b=Slot(delay_s=0.03)) as board:
        yield board


def history() -> Path:
    return Path("tools") / "perf_history"


# --- answers


def test_a_slower_firmware_fails_and_is_shown_by_every_command(
    board: SlotBoard, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["--perf-export=badge=figures.json", "--perf-tag=pr1"]
    assert main(["ab", board.address, *SLOTS, *SHORT, *words]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("SLOWER: page is ")
    assert " % slower " in said.out
    assert " pairs in " in said.out.replace("\n  ", " ")
    assert "saved_json=" in said.out
    assert "switching to the old firmware" in said.err
    assert json.loads((tmp_path / "figures.json").read_text())
    (row,) = HistoryStore(history()).select()
    assert row.tag == "pr1"
    session = load_session(history() / row.name)
    assert session.contest is not None
    assert session.contest.pairs >= 3
    for command in (["show", "-v"], ["export", "csv"], ["report"]):
        words = [command[0], row.session_id[:8], *command[1:], f"--perf-history={history()}"]
        if command[0] == "export":
            words = ["export", row.session_id[:8], f"csv={tmp_path / 'x.csv'}", f"--perf-history={history()}"]
        assert main(words) == 0, words
    shown = capsys.readouterr().out
    assert "SLOWER: page is " in shown
    assert "slot a" in shown
    assert "switches" in shown
    assert main(["list"]) == 0
    assert "regressed (slower)" in capsys.readouterr().out
    short = row.session_id[:8]
    for command in (["show", "latest"], ["report", "latest~0"], ["export", "latest", "csv=x.csv"]):
        assert main(command) == 4, command
        refused = capsys.readouterr().err
        assert f"is never 'latest', and the newest one is {short} (espperf show {short})" in refused
    for command in (["judge", short], ["compare", short, short], ["pin", short, "--reason=x"]):
        assert main(command) == 4, command
        assert "compares firmwares" in capsys.readouterr().err
    assert main(["pin", short, "--undo"]) == 0
    assert main(["comment", short]) == 0
    assert "**SLOWER**: page is " in capsys.readouterr().out
    assert main(["prune", "--keep=0"]) == 0
    assert main(["run", board.address, *SHORT, "--perf-runs=1", f"--perf-baseline={short}"]) == 4


def test_json_has_the_answer_alone_on_the_standard_output(
    board: SlotBoard, capsys: pytest.CaptureFixture[str]
) -> None:
    board.slots["b"].delay_s = 0.003
    main(["ab", board.address, *SLOTS, *SHORT, *NO_CHANGE, "--pairs=3", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["answer"] in {"same", "unclear"}  # on a machine that other work disturbs
    assert found["fails"] is False
    assert [one["slot"] for one in found["contest"]["firmwares"]] == ["a", "b"]


def test_a_comparison_changes_no_baseline(board: SlotBoard, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["run", board.address, *SHORT, "--perf-runs=1", "--perf-confirm=0"]
    assert main(run) == 0
    latest = (history() / names.LATEST).read_bytes()
    assert main(["ab", board.address, *SLOTS, *SHORT]) == 1
    assert (history() / names.LATEST).read_bytes() == latest
    board.switch("a")
    capsys.readouterr()
    assert main([*run, "--perf-min-effect=rps_ok:1e6,p95_ms:1e6", "--perf-tolerance=1000"]) == 0
    said = capsys.readouterr().out
    assert "against 1 session of" in said
    assert "without a record" not in said
    ab = next(row for row in HistoryStore(history()).select() if row.verdict == "regressed")
    assert main(["accept", ab.session_id[:8], "--reason", "meant"]) == 4
    assert "compares firmwares" in capsys.readouterr().err


def test_a_board_that_went_back_is_noticed(board: SlotBoard, capsys: pytest.CaptureFixture[str]) -> None:
    board.slots["b"].boots, board.rolls_back = False, True
    assert main(["ab", board.address, *SLOTS, *SHORT, "--check-url=/slot"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "with the new firmware as with the old one: the board did not switch, or went back" in said


def test_a_firmware_that_does_not_boot_is_named(board: SlotBoard, capsys: pytest.CaptureFixture[str]) -> None:
    board.slots["b"].boots = False
    assert main(["ab", board.address, *SLOTS, *SHORT, "--device-boot-timeout-s=1"]) == 1
    assert "after the new firmware was put on it" in " ".join(capsys.readouterr().out.split())
    (row,) = HistoryStore(history()).select()
    assert row.verdict == "failed"


def test_a_command_that_fails_is_named_and_not_shown(
    board: SlotBoard, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boots, "GOES_AWAY_S", 0.1)
    python = f'"{sys.executable}" -c'
    commands = [f'--old-cmd={python} "pass" s3cret', f'--new-cmd={python} "exit(7)" s3cret']
    assert main(["ab", board.address, *commands, *SHORT]) == 1
    said = capsys.readouterr()
    assert "the command for the new firmware ended with exit code 7" in " ".join(said.out.split())
    assert "s3cret" not in said.out + said.err
    for file in history().glob("*.json"):
        assert "s3cret" not in file.read_text(encoding="utf-8")


# --- the reference device, end to end


def test_the_reference_device_with_two_slots(capsys: pytest.CaptureFixture[str]) -> None:
    slots = ["--sim-slot=a:version=1.0", "--sim-slot=b:version=1.1,python_heavy=3"]
    assert main(["ab", "sim", *SIM_SLOTS, *SIM, *slots]) == 1
    out = capsys.readouterr().out
    assert out.startswith("SLOWER: python_heavy is ")


def test_the_version_that_a_board_tells_tells_firmwares_apart(capsys: pytest.CaptureFixture[str]) -> None:
    Path("espperf.toml").unlink()  # which switches telemetry off
    facts = {"noise": "none", "time_scale": 0.05}
    words = [word for word in SIM if not word.startswith("--sim")] + [*SIM_SLOTS[:3], *NO_CHANGE, "--pairs=3"]
    for versions, said in ((("1.0", "1.1"), ""), (("1.0", "1.0"), "tells version 1.0 with either firmware")):
        images = {slot: {"version": version} for slot, version in zip("ab", versions, strict=True)}
        with SimProcess.start(SimConfig().merged({**facts, "slot": images})) as sim:
            assert main(["ab", f"127.0.0.1:{sim.port}", *words, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [one["version"] for one in found["contest"]["firmwares"]] == list(versions)
        assert found["contest"]["told_apart"] is (not said)
        messages = " ".join(one["message"] for one in found["gate"]["findings"])
        assert (said in messages) if said else ("either firmware" not in messages)


def test_a_firmware_of_the_reference_device_that_rolls_back(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"noise": "none", "time_scale": 0.05, "rollback": True, "slot": {"b": {"boots": False}}}
    with SimProcess.start(SimConfig().merged(facts)) as sim:
        options = [word for word in SIM if not word.startswith("--sim")]
        assert main(["ab", f"127.0.0.1:{sim.port}", *SIM_SLOTS, *options]) == 1
    assert "went back" in " ".join(capsys.readouterr().out.split())


def test_commits_are_built_flashed_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = make_firmware_repository(tmp_path / "firmware", slower=3.0)
    before = repository.state()
    monkeypatch.chdir(repository.root)
    config = SimConfig().merged({"noise": "none", "time_scale": 0.05})
    with SimProcess.start(config) as sim:
        old, new = repository.commits[2], repository.commits[9]
        words = [f"--old={old}", f"--new={new}", f"--build-cmd={BUILD}"]
        words += [f"--flash-cmd={repository.flash_command()}", f"--perf-history={tmp_path / 'history'}"]
        options = [word for word in SIM if not word.startswith("--sim")]
        code = main(["ab", f"127.0.0.1:{sim.port}", *words, *options, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == 1
    assert found["answer"] == "slower"
    assert [one["commit"] for one in found["contest"]["firmwares"]] == [old, new]
    assert repository.state() == before


# --- two boards


def test_two_boards_are_measured_at_once_and_swapped(capsys: pytest.CaptureFixture[str]) -> None:
    def slots() -> dict[str, Slot]:
        return {"a": Slot(delay_s=0.004), "b": Slot(delay_s=0.04)}

    with slot_board(**slots()) as one, slot_board(**slots()) as other:
        one.boot_s = other.boot_s = 0.05
        code = main(["ab", f"{one.address},{other.address}", *SLOTS, *SHORT, "--json"])
        assert one.booted[:2] == ["a", "b"]
        assert other.booted[:2] == ["b", "a"]
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert f"switching to the old firmware on {one.address}" in said.err
    assert f"127.0.0.1-{one.port}" not in said.err + said.out
    assert code == 1
    assert found["answer"] == "slower"
    assert found["contest"]["boards"] == [one.address, other.address]
    assert found["contest"]["board_pct"]
    (row,) = HistoryStore(history()).select()
    runs = load_session(history() / row.name).raw_runs
    assert {run.board for run in runs} == set(found["contest"]["boards"])
    first = {run.role: run.board for run in runs if run.run_index == 1}
    last = {run.role: run.board for run in runs if run.run_index == max(one.run_index for one in runs)}
    assert first["ab-baseline"] != first["ab-candidate"]
    assert first != last


def test_of_two_boards_the_one_that_fails_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with slot_board() as one, slot_board() as other:
        other.slots["b"].boots = False
        words = ["--device-boot-timeout-s=1"]
        assert main(["ab", f"{one.address},{other.address}", *SLOTS, *SHORT, *words]) == 1
    assert "the new firmware" in " ".join(capsys.readouterr().out.split())


# --- options


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing says how the firmwares get on the board"),
        (["--old-cmd=x"], "--old-cmd needs --new-cmd as well"),
        (["--new-cmd=x"], "--new-cmd needs --old-cmd as well"),
        (["--old-cmd=x", "--new-cmd=x"], "are one command"),
        (["--old-cmd=x", "--new-cmd= x "], "are one command"),
        (["--old-cmd=x {commit}", "--new-cmd=y"], "--old-cmd: {commit} is known of commits only"),
        (["--old-cmd=x {ip}", "--new-cmd=y {slot}"], "--new-cmd: {slot} is known of slots only"),
        (["--old-cmd=x {prot}", "--new-cmd=y"], "--old-cmd: {prot} is no placeholder; did you mean {port}?"),
        (["--old-cmd=x", "--new-cmd=y", "--check-url=/v/{slot}"], "--check-url: {slot} is known of slots"),
        (["--old-cmd=x", "--new-cmd=y", "--check-url=/{bank}"], "{bank} is no placeholder (none can stand"),
        (
            ["--switch-url=/s?{slto}", *SLOTS[1:]],
            "--switch-url: {slto} is no placeholder; did you mean {slot}?",
        ),
        (["--switch-url=/s?{slot}&a={ip}", *SLOTS[1:]], "{ip} is known of the board only: here {slot} can"),
        (["--switch-cmd=x {slot} {dir}", *SLOTS[1:]], "--switch-cmd: {dir} is known of builds of commits"),
        (["--old=HEAD", "--flash-cmd=x {slot}"], "--flash-cmd: {slot} is known of slots only"),
        (
            ["--old=HEAD", "--flash-cmd=x", "--build-cmd=x {ip}"],
            "--build-cmd: {ip} is known of the board only",
        ),
        ([*SLOTS, "--perf-report=file/x.html"], "--perf-report: file/x.html cannot be written: "),
        ([*SLOTS, "--perf-export=csv=file/x.csv"], "--perf-export: file/x.csv cannot be written: "),
        (["--old-cmd=x", "--new-cmd=y", "--old-slot=a"], "in several ways"),
        (["--old-cmd=x", "--new-cmd=y", "--old=HEAD~1"], "in several ways"),
        (["--switch-url=/s?{slot}", "--old-slot=a"], "give both"),
        (["--switch-url=/s?{slot}", "--old-slot=a", "--new-slot=a"], "are both 'a'"),
        (["--old-slot=a", "--new-slot=b"], "either --switch-url or --switch-cmd"),
        (["--switch-url=/s?{slot}", "--switch-cmd=x", "--old-slot=a", "--new-slot=b"], "either --switch-url"),
        (["--switch-url=/s", "--old-slot=a", "--new-slot=b"], "{slot} is missing"),
        (["--old=HEAD~1"], "--flash-cmd is missing"),
        (["--build-cmd=make", "--flash-cmd=x"], "--old is missing"),
        (["--device-ip=sim", "--old-cmd=x", "--new-cmd=y"], "leave out --device-ip"),
        ([*SLOTS, "--perf-profiles=pgae"], "did you mean"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").touch()
    assert main(["ab", "127.0.0.1:9", *words]) == 4
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert not history().exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pairs=2"], "at least 3"),
        (["--tolerance=0"], "above 0"),
        (["--tolerance=1001"], "above the greatest value"),
        (["--flash-cmd= "], "it is empty"),
        (["--old-cmd="], "it is empty"),
        (["--minutes=-1"], "above 0"),
        (["--switch-url=http://x/s"], "begins with '/'"),
        (["--check-url=version"], "neither PATH nor PATH:FIELD"),
        (["--check-url=/version:"], "no field behind the colon"),
        (["--perf-runs=3"], "unrecognized arguments"),
    ],
)
def test_bad_values_are_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["ab", "sim", *words])
    assert ended.value.code == 4
    assert said in capsys.readouterr().err


def test_the_board_may_be_named_by_device_ip(board: SlotBoard) -> None:
    assert main(["ab", "--device-ip", board.address, *SLOTS, *SHORT]) == 1


@pytest.mark.parametrize("boards", ["127.0.0.1:9,sim", "sim,127.0.0.1:9", "SIM,127.0.0.1:9"])
def test_the_reference_device_is_no_board_beside_another(
    boards: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ab", boards, *SLOTS, *SHORT]) == 4
    assert "sim is the built-in reference device, which is like no board" in capsys.readouterr().err
    assert not history().exists()


@pytest.mark.parametrize("boards", ["127.0.0.1:9,localhost:9", "127.0.0.1,127.0.0.1:8080"])
def test_one_board_in_two_spellings_is_no_pair(boards: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ab", boards, *SLOTS, *SHORT]) == 4
    assert "are one board" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["--old-cmd=x {ip}", "--new-cmd=y"], "--new-cmd"),
        (["--switch-cmd=x {slot}", "--old-slot=a", "--new-slot=b"], "--switch-cmd"),
        (["--old=HEAD", "--flash-cmd=x {dir} ${ip}"], "--flash-cmd"),
    ],
)
def test_of_two_boards_a_command_says_which(
    words: list[str], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ab", "127.0.0.1:8,127.0.0.1:9", *words, *SHORT]) == 4
    said = capsys.readouterr().err
    assert f"{flag}: it has neither {{ip}} nor {{port}}, so that it changes the same board" in said
    assert not history().exists()


def test_a_tolerance_beyond_which_nothing_lies_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    with pytest.raises(SystemExit) as ended:
        main(["ab", "sim", "--tolerance=500"])
    assert ended.value.code == 4
    assert "500 is above the greatest value, 100" in capsys.readouterr().err


def test_a_history_that_cannot_be_written_is_known_before_anything_is_built(
    board: SlotBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = make_firmware_repository(tmp_path)
    monkeypatch.chdir(repository.root)
    (tmp_path / "file").touch()
    built = tmp_path / "built"
    words = ["--old=HEAD~1", f"--build-cmd=touch {built}", "--flash-cmd=x"]
    assert main(["ab", board.address, *words, *SHORT[1:], f"--perf-history={tmp_path / 'file' / 'h'}"]) == 4
    assert "cannot be written" in capsys.readouterr().err
    assert not built.exists()


def test_a_commit_that_does_not_build_leaves_no_session(
    board: SlotBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = make_firmware_repository(tmp_path)
    monkeypatch.chdir(repository.root)
    words = ["--old=HEAD~1", "--build-cmd=exit 3", "--flash-cmd=x", f"--perf-history={tmp_path / 'history'}"]
    assert main(["ab", board.address, *words, *SHORT[1:]]) in {1, 3, 4}
    assert "cannot be built" in capsys.readouterr().err
    assert not list((tmp_path / "history").glob("*.json"))


def test_three_boards_are_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ab", "127.0.0.1:7,127.0.0.1:8,127.0.0.1:9", *SLOTS, *SHORT]) == 4
    assert "one board or two" in capsys.readouterr().err


# --- interruptions


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_was_measured_survives(how: signal.Signals, board: SlotBoard) -> None:
    board.slots["b"].delay_s = 0.003
    words = [sys.executable, "-m", "pytest_espperf.cli", "ab", board.address, *SLOTS, *SHORT, "--pairs=900"]
    noisy = ["--tolerance=0.0001", "--perf-export=csv=kept.csv", "--perf-report=kept.html"]
    with subprocess.Popen(
        [*words, *noisy], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if "pair 1:" in line:
                    break
            time.sleep(0.2)
            process.send_signal(how)
            out, said = process.communicate(timeout=60)
        finally:
            process.kill()
    kept = load_session(history() / names.PARTIAL)
    assert kept.partial
    assert {run.firmware for run in kept.raw_runs} == {"old", "new"}
    if how != signal.SIGKILL:
        assert process.returncode == (2 if how == signal.SIGINT else 128 + how)
        assert "interrupted" in said or "terminated" in said
        assert out.startswith("INCOMPLETE: interrupted after ")
        assert "saved_json=" in out
        assert Path("kept.csv").exists()
        assert Path("kept.html").exists()
        (row,) = HistoryStore(history()).select()
        assert row.verdict == "incomplete"
