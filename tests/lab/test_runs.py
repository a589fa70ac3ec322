"""Whole sessions over the boards of a lab: labgrid's own coordinator and exporter, and reference devices.

Needs what tests/test_lab.py needs.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.lab_bench import HOST, USER, LabBench, service
from support.pytest_alone import ENVIRONMENT
from support.short_sessions import NO_TIME_BUDGETS

from pytest_espperf.history import HistoryStore
from pytest_espperf.sim import SimConfig, SimProcess

needs_labgrid = pytest.mark.skipif(
    importlib.util.find_spec("labgrid") is None,
    reason="labgrid is not installed here; in an environment of its own: pip install -e '.[lab-test]'",
)
LEFT, RIGHT = "s3-left", "s3/right"
RIGHT_FILES = r"s3-right-[0-9a-f]{6}"
"""What the right one is called where a slash cannot be."""

PERF = ("-m", "pytest", "--pyargs", "pytest_espperf.suite", "-m", "perf")
FAST = (
    "--perf-profiles=one",
    "--perf-runs=2",
    "--perf-burst-duration=0.3",
    "--perf-long-duration=0.3",
    "--perf-burst-clients=3",
    "--perf-long-clients=2",
    "--perf-settle-ms=0",
    "--perf-between-runs-ms=0",
    "--perf-confirm=1",
    # What is slow on purpose is so by more than this; chance, in so short phases, is not.
    "--perf-min-effect=p95_ms:40,rps_ok:200",
    # The rule calls it where the machine is too busy for the noise floor to.
    "--perf-fail-on=rps_ok:70%",
    *NO_TIME_BUDGETS,
)
PATIENCE_S = 100.0
Sims = Mapping[str, SimProcess]


class Project:
    """A firmware project whose lab file names places as boards, each a target of its own."""

    def __init__(self, folder: Path, coordinator: str, **places: str) -> None:
        self.folder = folder
        (folder / "espperf.toml").write_text('[profiles.one]\npaths = ["/hello"]\n', encoding="utf-8")
        targets = {name: {"resources": {"RemotePlace": {"name": place}}} for name, place in places.items()}
        lab = {"targets": targets, "options": {"coordinator_address": coordinator}}
        (folder / "lab.yaml").write_text(json.dumps(lab), encoding="utf-8")
        self.environment = {
            **os.environ,
            **ENVIRONMENT,
            "LG_HOSTNAME": HOST,
            "LG_USERNAME": USER,
            "XDG_STATE_HOME": str(folder / "state"),
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "200",
        }
        for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "PYTEST_XDIST_WORKER"):
            self.environment.pop(name, None)

    @contextmanager
    def going_on(self, *words: str, **environment: str) -> Iterator[Run]:
        """A session over the boards of the lab, while it goes on."""
        process = subprocess.Popen(
            [sys.executable, *PERF, "--device-lab=lab.yaml", "-v", *FAST, *words],
            cwd=self.folder,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        watchdog = threading.Timer(PATIENCE_S, process.kill)
        watchdog.start()
        try:
            yield Run(process)
        finally:
            watchdog.cancel()
            process.kill()
            process.communicate()

    def run(self, *words: str, **environment: str) -> tuple[int, str]:
        """A session's exit code, and what it printed."""
        with self.going_on(*words, **environment) as run:
            return run.end()

    def sessions(self) -> dict[str, dict[str, Any]]:
        """The newest session of each place, whether its board was reached or not."""
        found = {}
        folder = self.folder / "tools" / "perf_history"
        for name in HistoryStore(folder).file_names():
            session = json.loads((folder / name).read_text(encoding="utf-8"))
            found[session["settings"]["device_id"]] = session
        return found

    def verdicts(self) -> dict[str, str]:
        """Their verdicts."""
        return {name: session["gate"]["verdict"] for name, session in self.sessions().items()}


class Run:
    """A session that goes on; what it prints is kept."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.printed = ""

    def until(self, pattern: str) -> None:
        """Wait until it prints a line that has this."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed += line
            if re.search(pattern, line):
                return
        pytest.fail(f"it ended without {pattern}:\n{self.printed}")

    def end(self) -> tuple[int, str]:
        """Its exit code, and all that it printed."""
        assert self.process.stdout is not None
        self.printed += self.process.stdout.read()
        print(self.printed)
        return self.process.wait(), self.printed


def start(bench: LabBench, sims: Sims) -> None:
    """Export the boards."""
    bench.start_exporter("rack1", {name: {"board": service(port=sim.port)} for name, sim in sims.items()})


@pytest.fixture(scope="module")
def sims() -> Iterator[Sims]:
    config = SimConfig(noise="none")
    with ExitStack() as closing:
        yield {name: closing.enter_context(SimProcess.start(config)) for name in ("left", "right")}


PLACES = {LEFT: "rack1/left", RIGHT: "rack1/right"}


@pytest.fixture(scope="module")
def module_bench(tmp_path_factory: pytest.TempPathFactory, sims: Sims) -> Iterator[LabBench]:
    with LabBench.running(tmp_path_factory.mktemp("bench"), PLACES) as bench:
        start(bench, sims)
        bench.client(f"-p {LEFT} set-tags board=s3 side=left", f"-p {RIGHT} set-tags board=s3 side=right")
        yield bench


@pytest.fixture
def bench(module_bench: LabBench) -> Iterator[LabBench]:
    """Both places are ours at first, and nobody's in the end."""
    module_bench.client(*(f"-p {place} acquire" for place in PLACES))
    yield module_bench
    module_bench.client(*(f"-p {place} release -k" for place in module_bench.acquired()))


@pytest.fixture
def project(tmp_path: Path, bench: LabBench) -> Project:
    return Project(tmp_path, bench.address, a=LEFT, b=RIGHT)


@needs_labgrid
def test_each_place_has_its_own_session_bar_and_verdict_and_one_that_regressed_fails_the_run(
    project: Project, sims: Sims
) -> None:
    code, said = project.run("--perf-export=csv=out.csv")
    assert code == 0
    assert project.verdicts() == {LEFT: "no-baseline", RIGHT: "no-baseline"}
    assert re.search(rf"^{LEFT} +no-baseline\n{RIGHT_FILES}  no-baseline$", said, re.MULTILINE)
    exported = {path.stem.removeprefix("out-") for path in project.folder.glob("out-*.csv")}
    (right,) = exported - {LEFT}
    assert re.fullmatch(RIGHT_FILES, right)
    sims["right"].configure(slowdown={"all": 8})
    try:
        code, said = project.run()
    finally:
        sims["right"].configure(slowdown={})
    assert code == 1
    assert project.verdicts() == {LEFT: "unchanged", RIGHT: "regressed"}
    assert f"verdict[{right}-one] - " in said
    assert f"verdict[{LEFT}-one] - " not in said
    for name, place in PLACES.items():
        session = project.sessions()[name]
        assert session["comparability"]["fields"]["board"] == name
        assert session["device"]["place"]["names"] == [name]
        assert session["device"]["place"]["resources"] == [f"{place}/NetworkService/board"]
        assert session["device"]["place"]["notes"] == []


@needs_labgrid
def test_a_place_that_is_not_acquired_fails_its_board_and_no_other(project: Project, bench: LabBench) -> None:
    bench.client(f"-p {RIGHT} release")
    code, said = project.run("--perf-runs=1")
    assert code == 1
    assert project.verdicts() == {LEFT: "no-baseline", RIGHT: "failed"}
    reason = f"place {RIGHT} is not acquired: labgrid-client -p {RIGHT} acquire"
    assert reason in project.sessions()[RIGHT]["hard_stop_reason"]
    assert reason in said


@needs_labgrid
def test_with_xdist_each_board_has_one_worker_and_a_place_that_is_lost_meanwhile_fails_its_board(
    project: Project, bench: LabBench
) -> None:
    with project.going_on("-n2", "--perf-runs=4") as run:
        run.until(r"PASSED .*s3-right")
        bench.client(f"-p {RIGHT} release")
        bench.client(f"-p {RIGHT} acquire", user="bob")
        code, said = run.end()
    assert code == 1
    assert project.verdicts() == {LEFT: "no-baseline", RIGHT: "failed"}
    ours = project.sessions()[RIGHT]
    assert f"place {RIGHT} is acquired no longer" in ours["hard_stop_reason"]
    assert re.search(r"noticed (during|after) \S+ run \d", ours["hard_stop_reason"])
    assert 0 < sum(len(one["results"]) for one in ours["raw_runs"]) < 8
    workers = set(re.findall(r"\[(gw\d)\].*(s3-left|s3-right)", said))
    assert sorted(board for _, board in workers) == ["s3-left", "s3-right"]
    assert len({worker for worker, _ in workers}) == 2


@needs_labgrid
def test_a_reservation_by_tag_gives_the_board(tmp_path: Path, bench: LabBench) -> None:
    bench.client(f"-p {RIGHT} release")
    printed = bench.client("reserve --wait --shell board=s3 side=right")
    token = printed.strip().removeprefix("export LG_TOKEN=")
    bench.client("-p + acquire", token=token)
    project = Project(tmp_path, bench.address, any_s3="+")
    code, _ = project.run("--perf-runs=1", LG_TOKEN=token)
    bench.client(f"cancel-reservation {token}")
    assert code == 0
    assert project.verdicts() == {"any_s3": "no-baseline"}
    session = project.sessions()["any_s3"]
    assert session["comparability"]["fields"]["board"] == "any_s3"
    assert session["device"]["place"]["names"] == [RIGHT]


@needs_labgrid
def test_a_coordinator_that_restarts_loses_the_boards_and_one_that_is_away_for_a_moment_does_not(
    tmp_path: Path, sims: Sims
) -> None:
    (folder := tmp_path / "bench").mkdir()
    with LabBench.running(folder, PLACES) as bench:
        start(bench, sims)
        project = Project(tmp_path, bench.address, a=LEFT, b=RIGHT)
        bench.client(*(f"-p {place} acquire" for place in PLACES))
        with project.going_on("--perf-long-duration=1.5") as run:
            run.until(r"PASSED")
            bench.kill("coordinator")
            bench.start_coordinator()
            code, _ = run.end()
        assert code == 1
        assert project.verdicts() == {LEFT: "failed", RIGHT: "failed"}
        for name, session in project.sessions().items():
            assert f"place {name} is acquired no longer" in session["hard_stop_reason"]

        bench.kill("rack1")
        start(bench, sims)
        bench.client(*(f"-p {place} acquire" for place in PLACES))
        with project.going_on("--perf-runs=1") as run:
            run.until(r"PASSED")
            bench.kill("coordinator")
            code, said = run.end()
        assert code == 0
        assert project.verdicts() == {LEFT: "no-baseline", RIGHT: "no-baseline"}
        unknown = (
            r"warn: for \d+ s it was not known whether place s3.(left|right) was held: the coordinator at"
        )
        assert set(re.findall(unknown, " ".join(said.split()))) == {"left", "right"}


def without_a_lab(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What comes of a command that is to end before any coordinator is asked."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_host_beside_a_lab_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("targets: {}", encoding="utf-8")
    words = ("-m", "pytest_espperf.cli", "run", "--perf-runs=1", "sim", "--device-lab=lab.yaml")
    done = without_a_lab(tmp_path, *words)
    assert done.returncode == 4
    assert "ERROR: --device-lab and --device-ip both name boards: give one of them" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        (*PERF, "--device-lab=lab.yml"),
        ("-m", "pytest", "--device-lab", "lab.yml"),
        ("-m", "pytest_espperf.cli", "run", "--device-lab", "lab.yml"),
    ],
    ids=["-m perf", "plain", "espperf run"],
)
def test_a_file_that_is_not_there_is_an_error_in_one_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "test_own.py").write_text("def test_it():\n    pass\n", encoding="utf-8")
    done = without_a_lab(tmp_path, *words)
    assert done.returncode == 4
    said = [line for line in done.stderr.splitlines() if line]
    path = tmp_path / "lab.yml"
    assert said == [
        f"ERROR: --device-lab: {path} is not there, or is no file: name a labgrid environment file"
    ]
    assert "passed" not in done.stdout
    assert "skipped" not in done.stdout
