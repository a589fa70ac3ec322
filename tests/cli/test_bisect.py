"""``espperf bisect`` on the reference device, with a real repository whose seventh commit is slower."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from support.firmware_repo import BUILD, CULPRIT, IMAGE, FirmwareRepository, make_firmware_repository
from support.short_sessions import NO_TIME_BUDGETS

from pytest_espperf.cli import main
from pytest_espperf.history import HistoryStore, load_session
from pytest_espperf.session.revisions import Revisions
from pytest_espperf.session.searches import MeasuredCommit, SearchFile, SearchState
from pytest_espperf.sim import SimConfig, SimProcess

pytestmark = pytest.mark.timeout(600)

PATIENCE_S = 500
LOAD = (
    "--perf-profiles=python_heavy",
    "--perf-burst-duration=0.5",
    "--perf-long-duration=0.5",
    "--perf-settle-ms=0",
    "--perf-between-runs-ms=0",
    "--perf-metrics-retries=0",
    "--device-boot-timeout-s=6",
    *NO_TIME_BUDGETS,
)


BLIND = (
    f'"{sys.executable}" -c "import urllib.request as r; '
    "r.urlopen(r.Request('http://{ip}:{port}/ota/flash?switch=1', open(r'{dir}/"
    f"{IMAGE}', 'rb').read(), method='POST'))\""
)
"""A command that flashes, and does not look which firmware boots."""


@pytest.fixture
def repository(tmp_path: Path) -> FirmwareRepository:
    return make_firmware_repository(tmp_path, broken=[4], unbootable=[8], boot_s=0.1)


@pytest.fixture
def board() -> Iterator[str]:
    with SimProcess.start(SimConfig(noise="none", rollback=True)) as sim:
        yield f"{sim.host}:{sim.port}"


@pytest.fixture(autouse=True)
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def words(repository: FirmwareRepository, *more: str) -> list[str]:
    flash = repository.flash_command()
    folder = repository.root.parent / "history"
    return [f"--build-cmd={BUILD}", f"--flash-cmd={flash}", f"--perf-history={folder}", *LOAD, *more]


def started(repository: FirmwareRepository, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pytest_espperf.cli", "bisect", *arguments],
        cwd=repository.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_the_culprit_is_found_though_the_power_goes_and_commits_do_not_build(
    repository: FirmwareRepository, board: str
) -> None:
    before = repository.state()
    with started(repository, repository.good, repository.bad, board, *words(repository)) as first:
        assert first.stderr is not None
        measured = 0
        for line in first.stderr:
            measured += "] measured " in line
            if measured == 3:
                break
        first.send_signal(signal.SIGKILL)
        first.wait(30)
    assert measured == 3
    assert repository.state() == before

    with started(repository, "--resume", "--json") as second:
        out, err = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 0, err
    assert repository.state() == before
    found = json.loads(out)
    contest = found["contest"]
    assert found["found"] is True
    assert contest["answer"].startswith(f"{repository.culprit[:7]} (Escape values in the template): 9")
    by_commit = {one["commit"]: one for one in contest["candidates"]}
    assert list(by_commit) == list(repository.commits)
    assert by_commit[repository.culprit]["probability"] > 0.95
    assert 6 < by_commit[repository.bad]["d_pct"] < 20
    total = sum(one["rounds"] for one in contest["candidates"])
    assert err.count("] measured ") == total - 3  # nothing was measured twice
    for index in (4, 8):  # that of the eighth is tried only where it matters
        assert by_commit[repository.commits[index]]["rounds"] == 0

    # The part that was killed is no session of its own, and its runs are not lost.
    history = repository.root.parent / "history"
    (row,) = HistoryStore(history).select()
    assert row.session_id == found["session_id"]
    runs = load_session(history / row.name).raw_runs
    assert sum(run.role == "ab-candidate" for run in runs) >= total
    assert len({(run.role, run.run_index) for run in runs}) == len(runs)

    # It is over: to resume it shows the answer again, which is in the history once.
    kept = sorted(file.name for file in history.iterdir())
    with started(repository, "--resume") as third:
        out, err = third.communicate(timeout=PATIENCE_S)
    assert third.returncode == 0, err
    assert out.startswith("FOUND: ")
    assert f"next: git show {repository.culprit[:12]}" in out
    assert "] measured " not in err
    assert sorted(file.name for file in history.iterdir()) == kept


@pytest.mark.parametrize(
    "case",
    [
        ("good", "", "NOT FOUND: GOOD, {end}, cannot be built: the command that builds it ended "),
        ("bad", "", "NOT FOUND: BAD, broken ({end}), cannot be built: "),
        ("", "false", "NOT FOUND: GOOD, {good}, cannot be measured, in 3 tries: the command that flashes "),
        ("unbootable", BLIND, "NOT FOUND: BAD, {end}, cannot be measured, in 3 tries: /ota:version says '"),
    ],
)
def test_an_end_that_cannot_be_measured_is_no_bad_input(
    case: tuple[str, str, str],
    repository: FirmwareRepository,
    board: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    end, flash, said = case  # which one, a command that flashes, the answer
    monkeypatch.chdir(repository.root)
    broken, good = repository.commits[4], repository.commits[0]
    repository.git("tag", "broken", broken)
    ends = {
        "good": [broken[:7], repository.bad],
        "bad": [good, "broken"],
        "unbootable": [good, repository.commits[8]],
    }.get(end, [good, repository.bad])
    given = words(repository, "--check-url=/ota:version", *([f"--flash-cmd={flash}"] if flash else []))
    assert main(["bisect", *ends, board, *given]) == 1
    out, err = capsys.readouterr()
    named = ends[1][:7] if end == "unbootable" else broken[:7]
    assert out.startswith(said.format(end=named, good=good[:7]))
    assert "next: espperf bisect --resume continues" in out
    if flash == "false":
        assert [line.partition(": try ")[2][0] for line in err.splitlines() if ": try " in line] == ["1", "2"]
    if end not in {"bad", "unbootable"}:  # nothing was measured, and nothing is kept
        assert not list((repository.root.parent / "history").glob("*.json"))
    assert not (repository.root.parent / "history" / "latest.partial.json").exists()


def test_ends_of_one_speed_have_no_culprit(
    repository: FirmwareRepository,
    board: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(repository.root)
    good, bad = repository.commits[0], repository.commits[CULPRIT - 1]
    assert main(["bisect", good, bad, board, *words(repository)]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("NO STEP: ")
    assert f"{bad[:7]} is not slower than {good[:7]}" in said.out
    saved = next(line for line in said.out.splitlines() if line.startswith("saved_json=")).partition("=")[2]
    session = load_session(Path(saved))
    assert session.contest is not None
    assert session.contest.kind == "bisect"
    assert session.comparability is None
    # It is shown as what it is, and no later session is compared with it.
    assert main(["show", saved]) == 0
    assert "NO STEP" in capsys.readouterr().out
    assert not (repository.root / "tools").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{good}", "{bad}", "sim"], "--build-cmd is missing"),
        (["{good}", "{bad}", "sim", "--build-cmd=x"], "--flash-cmd is missing"),
        (["{bad}", "{good}", "sim", "--build-cmd=x", "--flash-cmd=x"], "they are swapped: espperf bisect "),
        (["nothing", "{good}", "sim", "--build-cmd=x", "--flash-cmd=x"], "GOOD: 'nothing': "),
        (
            ["{good}", "{bad}", "10.0.0.1,10.0.0.2", "--build-cmd=x", "--flash-cmd=x"],
            "bisect measures one board",
        ),
        (
            ["{good}", "{bad}", "sim", "--device-ip=sim", "--build-cmd=x", "--flash-cmd=x"],
            "leave out --device-ip",
        ),
        (["{good}", "{bad}", "sim", "--repo=..", "--build-cmd=x", "--flash-cmd=x"], "in the repository"),
        (["--resume"], "no search was begun"),
        (
            ["{good}", "{bad}", "sim", "--build-cmd=x", "--flash-cmd=x", "--profile=a", "--perf-profiles=b"],
            "leave out --perf-profiles",
        ),
        (["{good}", "{bad}", "sim", "--build-cmd=x {{comit}}", "--flash-cmd=x"], "did you mean {commit}?"),
        (
            ["{good}", "{bad}", "sim", "--build-cmd=x", "--flash-cmd=x {{slot}}"],
            "{slot} is known of slots only",
        ),
        (
            ["{good}", "{bad}", "sim", "--build-cmd=x", "--flash-cmd=x", "--check-url=/{{ip}}"],
            "--check-url: {ip}",
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    arguments: list[str],
    message: str,
    repository: FirmwareRepository,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(repository.root)
    given = [word.format(good=repository.good, bad=repository.bad) for word in arguments]
    assert main(["bisect", *given]) == 4
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in said
    assert said.startswith("espperf: ")


def test_the_ends_are_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bisect"])
    assert ended.value.code == 4
    assert "GOOD, BAD, HOST" in capsys.readouterr().err


def test_a_second_search_in_a_repository_waits_for_the_first(
    repository: FirmwareRepository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository.root)
    file = SearchFile(Revisions(repository.root, build="", flash="").key)
    file.folder.mkdir(parents=True)
    with FileLock(file.path.with_suffix(".lock")):
        assert main(["bisect", repository.good, repository.bad, "sim", *words(repository)]) == 4
    assert "another search runs in this repository" in capsys.readouterr().err


# --- a search that goes on


@pytest.fixture
def unfinished(repository: FirmwareRepository, monkeypatch: pytest.MonkeyPatch) -> FirmwareRepository:
    """A repository with a search of which one commit was measured, on the board ``10.0.0.1``."""
    monkeypatch.chdir(repository.root)
    keep_search(repository)
    return repository


def keep_search(repository: FirmwareRepository, **changes: Any) -> SearchFile:
    options = {
        "good": repository.good,
        "bad": "main",
        "host": "10.0.0.1",
        "build_cmd": "true",
        "flash_cmd": "false",
        "device_id": "desk",
    }
    measured = MeasuredCommit(
        commit=11, levels={"python_heavy:rps_ok": 1.1}, before={"python_heavy:rps_ok": 1.0}
    )
    kept: dict[str, Any] = {
        "options": options,
        "folder": str(repository.root),
        "good": repository.good,
        "line": list(repository.commits[1:]),
        "measured": [measured],
        "board": "10.0.0.1",
        "device_id": "desk",
    }
    file = SearchFile(Revisions(repository.root, build="", flash="").key)
    file.save(SearchState(**(kept | changes)))
    return file


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["HEAD~3", "HEAD~1", "10.0.0.2"], "--resume takes no GOOD, BAD: GOOD is 'HEAD~3'"),
        (["{good}", "HEAD~1"], "--resume takes no GOOD, BAD: BAD is 'HEAD~1'"),
        (["{good}", "{bad}", "10.0.0.2"], "the search measures 10.0.0.1 (desk), not 10.0.0.2 (desk)"),
        (["--device-ip=10.0.0.2"], "cannot be joined"),
        (["--device-ip=10.0.0.2", "--device-id=lab"], "not 10.0.0.2 (lab)"),
        (["--device-id=lab"], "not 10.0.0.1 (lab)"),
        (["--new"], "give one of them"),
    ],
)
def test_a_search_goes_on_with_its_own_ends_and_board(
    arguments: list[str], message: str, unfinished: FirmwareRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.format(good=unfinished.good, bad=unfinished.bad) for word in arguments]
    assert main(["bisect", "--resume", *given]) == 4
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_the_same_board_may_have_another_address(
    unfinished: FirmwareRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    # One that does not resolve: the search has got as far as the board.
    assert main(["bisect", "--resume", "--device-ip=board.invalid", "--device-id=desk", *LOAD]) == 4
    said = capsys.readouterr().err
    assert "board.invalid" in said
    assert "cannot be joined" not in said


def begin_another(repository: FirmwareRepository) -> list[str]:
    """The command of another search, whose board has no address."""
    ends = [repository.good, "HEAD~1"]
    return ["bisect", *ends, "board.invalid", "--build-cmd=true", "--flash-cmd=true", *LOAD]


def test_an_unfinished_search_is_not_thrown_away(
    unfinished: FirmwareRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = begin_another(unfinished)
    assert main(begin) == 4
    said = capsys.readouterr().err
    assert f"is not finished ({unfinished.good}..main, 1 measurement, begun in " in said
    assert "--resume continues with it, --new drops it" in said
    (unfinished.root / "README.md").write_text("changed", encoding="utf-8")
    assert main([*begin, "--new"]) == 4  # that the board has no address
    said = capsys.readouterr().err
    assert "board.invalid" in said
    assert "WARNING: uncommitted changes are not measured" in said


@pytest.mark.parametrize("changes", [{"finished": True}, {"measured": []}])
def test_a_search_of_which_nothing_is_lost_is_replaced(
    changes: dict[str, Any], unfinished: FirmwareRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_search(unfinished, **changes)
    begin = begin_another(unfinished)
    assert main(begin) == 4
    assert "board.invalid" in capsys.readouterr().err
