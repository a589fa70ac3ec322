"""Beside the real pytest-embedded: whole sessions, with a ``dut`` whose serial port is a pty.

Every test of an environment in which it is installed loads it: it has one of its own.
``pip install -e ".[embedded-test]"`` there, and ``pytest tests/test_embedded.py -p no:pytest_embedded``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.embedded_bench import DUMP, ORDERS, Board, Project, Samples
from support.paths import ROOT

from pytest_espperf.model.registry import METRICS
from pytest_espperf.sim import SimConfig, SimProcess

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("pytest_embedded_serial") is None,
        reason="pytest-embedded is not installed here; in an environment of its own: "
        "pip install -e '.[embedded-test]'",
    ),
    # Where it is loaded in this run, too: an autouse fixture of its asks for what pytest warns of.
    pytest.mark.filterwarnings("ignore:record_xml_attribute is an experimental"),
]
needs_ptys = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells the other end of a pty that it was opened"
)
PAGE = ROOT / "docs" / "pytest-embedded.md"
in_each_order = pytest.mark.parametrize("order", ORDERS, ids="-then-".join)

MEASURES = "def test_perf(perf_phase):\n    assert perf_phase.report.ok\n"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture(scope="module")
def board() -> Iterator[Board]:
    with Board.running() as board:
        yield board


@pytest.fixture(scope="module")
def device() -> Iterator[SimProcess]:
    """A board whose console nobody has."""
    with SimProcess.start(SimConfig(time_scale=0.1, noise="none")) as device:
        yield device


@pytest.fixture(scope="module")
def page() -> tuple[list[dict[str, str]], list[str]]:
    """The files that the page has written before each command, and the commands."""
    from support.docs_pages import Block, steps

    files: list[dict[str, str]] = []
    commands: list[str] = []
    written: dict[str, str] = {}
    for step in steps(PAGE):
        if isinstance(step, Block):
            written[step.file_name] = step.text
        else:
            files.append(dict(written))
            commands.append(step.text)
    return files, commands


def as_the_page_says(project: Project, page: Any, number: int, board: Board) -> list[str]:
    """Write the files of one of its commands; the command's words, with the board's port."""
    files, commands = page[0][number], page[1][number]
    for name, text in files.items():
        project.write(name, text)
    words: list[str] = commands.replace("/dev/ttyUSB0", board.port).split()
    assert words.pop(0) == "pytest"
    assert f"--port={board.port}" in words
    return words


def cells(project: Project) -> dict[str, Any]:
    """What was measured, by cell."""
    artifact = project.artifact()
    assert artifact["gate"]["verdict"] == "no-baseline"
    return dict(artifact["aggregated"])


# --- the names


def fixtures(listed: str, package: str) -> list[str]:
    """The names of those of a package's that ``pytest --fixtures`` lists."""
    return re.findall(rf"(?m)^(\w+)(?: \[\w+ scope\])? -- \S*pytest_{package}\S*:\d+$", listed)


@in_each_order
def test_nothing_of_one_has_the_name_of_anything_of_the_other(project: Project, order: Sequence[str]) -> None:
    project.write("dump.py", DUMP)
    project.write("test_nothing.py", "def test_nothing():\n    pass\n")
    project.run("-p", "dump", "--collect-only", "-q", order=order, PYTHONPATH=str(project.folder))
    found = json.loads((project.folder / "found.json").read_text(encoding="utf-8"))
    theirs, ours = found["pytest_embedded"], found["espperf"]
    assert sorted(ORDERS[0], key=found["order"].index) == list(order)
    listed = project.run("--fixtures", "-vv", order=order)
    theirs["fixtures"], ours["fixtures"] = (fixtures(listed, name) for name in ("embedded", "espperf"))
    for kind in ("flags", "dests", "ini", "fixtures", "answers"):
        assert set(theirs[kind]).isdisjoint(ours[kind]), kind
    assert set(theirs["fixtures"]).isdisjoint(ours["dests"])
    assert {"--port", "--metric-path"} <= set(theirs["flags"])
    assert {"dut", "log_metric"} <= set(theirs["fixtures"])
    assert {"device_ip", "perf_phase"} <= set(ours["fixtures"])
    assert {"perf", "skip_if_soc"} <= set(found["markers"])
    assert len(set(found["markers"])) == len(found["markers"])


# --- the address


@needs_ptys
@in_each_order
def test_the_address_comes_from_a_dut_as_the_page_says(
    project: Project, page: Any, board: Board, order: Sequence[str]
) -> None:
    words, boots = as_the_page_says(project, page, 0, board), board.boots
    named = [f"--device-ip=127.0.0.1:{board.device.port}"] if order == ORDERS[1] else []
    output = project.run(
        *words, *named, "--junitxml=junit.xml", order=order, ESPPERF_DEVICE_PORT=str(board.device.port)
    )
    assert "4 passed" in output
    assert set(cells(project)) == {"python_heavy:burst", "python_heavy:long"}
    assert board.boots == boots + 1
    assert "log_metric" not in output
    assert not list(project.folder.rglob("*.prom*"))
    # pytest-embedded writes it anew once pytest has written it.
    suite = ET.parse(project.folder / "junit.xml").getroot()
    told = {part.get("name"): part.get("value") for part in suite.iter("property")}
    assert told["espperf.board"] == "s3-left"
    assert len(list(suite.iter("testcase"))) == 4


@needs_ptys
def test_a_dut_for_each_phase_is_a_boot_between_phases(project: Project, board: Board) -> None:
    project.write(
        "conftest.py",
        """
import pytest

@pytest.fixture
def device_ip(dut):
    return dut.expect(r"IPv4 address: (\\d+\\.\\d+\\.\\d+\\.\\d+)[^\\d]", timeout=30)[1].decode()
""",
    )
    project.write("test_perf.py", MEASURES)
    boots = board.boots
    output = project.run(
        "-m",
        "perf",
        "--embedded-services=serial",
        f"--port={board.port}",
        exit_code=1,
        ESPPERF_DEVICE_PORT=str(board.device.port),
    )
    assert board.boots == boots + 2
    assert "the board shows signs of a reboot: boot_id went from" in " ".join(output.split())


@needs_ptys
def test_of_two_duts_one_is_measured(project: Project, board: Board) -> None:
    project.write(
        "conftest.py",
        """
import pytest

ADDRESS = {}

@pytest.fixture
def device_ip(request):
    if not ADDRESS:
        dut = request.getfixturevalue("dut")[1]
        found = dut.expect(r"IPv4 address: (\\d+\\.\\d+\\.\\d+\\.\\d+)[^\\d]", timeout=30)
        ADDRESS["board"] = found[1].decode()
    return ADDRESS["board"]
""",
    )
    project.write("test_perf.py", MEASURES)
    boots = board.boots
    with Board.running() as other:
        project.run(
            "-m",
            "perf",
            "--embedded-services=serial",
            "--count=2",
            f"--port={other.port}|{board.port}",
            ESPPERF_DEVICE_PORT=str(board.device.port),
        )
        assert (other.boots, board.boots) == (1, boots + 1)
    assert project.artifact()["target"] == f"127.0.0.1:{board.device.port}"


@needs_ptys
def test_a_port_that_moves_the_root_directory_is_refused(project: Project) -> None:
    project.write(
        "conftest.py", "import pytest\n\n@pytest.fixture\ndef device_ip():\n    return '127.0.0.1'\n"
    )
    project.write("test_perf.py", MEASURES)
    words = ("-m", "perf", "-p", "no:cacheprovider", "--port")
    output = project.run(*words, os.devnull, exit_code=4)
    assert "--port: pytest took /dev/null for a test and moved its root directory to /dev; " in output
    assert "write --port=/dev/null" in output
    # Nothing of ours is at stake there.
    project.write("test_perf.py", "def test_own():\n    pass\n")
    assert "1 passed" in project.run(*words[2:], os.devnull)


# --- the medians

LOGS = """
def test_perf(perf_phase, log_metric, request):
    log_metric("p95_ms", perf_phase.report.p95_ms, item=request.node.name)
"""


def at(device: SimProcess) -> str:
    return f"--device-ip=127.0.0.1:{device.port}"


def check_medians(project: Project, found: Samples, **labels: str) -> None:
    """All medians of the session's cells are there, once."""
    aggregated = cells(project)
    measured = {name for name in METRICS if name in aggregated["python_heavy:burst"]}
    assert len([name for name in found if name.startswith("espperf_")]) == len(measured) + 2
    for cell, figures in aggregated.items():
        profile, _, phase = cell.partition(":")
        where = frozenset({"profile": profile, "phase": phase, **labels}.items())
        assert found["espperf_rps_ok"][where] == figures["rps_ok"]["median"]
        assert found["espperf_p95_seconds"][where] == pytest.approx(figures["p95_ms"]["median"] / 1000)
    (facts,) = (dict(told) for told in found["espperf_pass"])
    assert facts == {"session": project.artifact()["session_id"], "verdict": "no-baseline", **labels}


@needs_ptys
def test_medians_stand_beside_what_tests_log_as_the_page_says(
    project: Project, page: Any, board: Board
) -> None:
    words, boots = as_the_page_says(project, page, 1, board), board.boots
    project.write("perf.prom", "stale 1\n")
    output = project.run(
        *words,
        "--perf-export=openmetrics=export.prom",
        "--device-id=s3-left",
        ESPPERF_DEVICE_PORT=str(board.device.port),
    )
    assert f"exported log_metric: {project.folder / 'perf.prom'}" in output
    assert board.boots == boots + 1
    found, exported = project.logged(), project.logged("export.prom")
    assert len(found.pop("p95_ms")) == 2
    check_medians(project, found, board="s3-left")
    for samples in exported.values():
        for labels in [labels for labels in samples if "path" in dict(labels)]:
            del samples[labels]
    assert found == {name: samples for name, samples in exported.items() if samples}


@needs_ptys
def test_under_xdist_the_controller_adds_the_medians(project: Project, page: Any, board: Board) -> None:
    words, boots = as_the_page_says(project, page, 1, board), board.boots
    name = 'the "left"\\one'
    project.run(*words, "-n1", f"--device-id={name}", ESPPERF_DEVICE_PORT=str(board.device.port))
    assert board.boots == boots + 1
    found = project.logged()
    assert len(found.pop("p95_ms")) == 2
    check_medians(project, found, board=name)


def test_what_tests_have_logged_is_kept_over_confirmation_rounds(
    project: Project, device: SimProcess
) -> None:
    project.write("test_perf.py", LOGS)
    # The rule calls what is eight times as slow where the machine is too busy for the noise floor to.
    rule = "--perf-fail-on=rps_ok:60%"
    words = ("-m", "perf", at(device), "--metric-path=out/perf.prom", "--perf-min-effect=p95_ms:100", rule)
    project.run(*words)
    device.configure(slowdown={"python_heavy": 8})
    project.run(*words, exit_code=1, ESPPERF_PERF_CONFIRM="1")
    device.configure(slowdown={})
    found = project.logged("out/perf.prom")
    rounds = [dict(labels)["item"].partition("-")[0] for labels in found["p95_ms"]]
    assert rounds == ["test_perf[run1", "test_perf[run1", "test_perf[confirm1", "test_perf[confirm1"]
    ((facts, passed),) = found["espperf_pass"].items()
    assert (dict(facts)["verdict"], passed) == (project.artifact()["gate"]["verdict"], 0)


def test_boards_share_the_file(project: Project, device: SimProcess) -> None:
    project.write("test_perf.py", MEASURES)
    with SimProcess.start(SimConfig(time_scale=0.1, noise="none")) as other:
        boards = [at(device), at(other)]
        output = project.run("-m", "perf", *boards, "--metric-path=perf.prom")
    assert output.count("exported log_metric") == 1
    for name, samples in project.logged().items():
        assert len({dict(labels)["board"] for labels in samples}) == 2, name


@pytest.mark.parametrize("when", ["from the start", "in the end"])
def test_a_file_that_cannot_be_written_fails_no_session(
    project: Project, device: SimProcess, when: str
) -> None:
    taken = "pathlib.Path('out/perf.prom').mkdir(exist_ok=True)" if when == "in the end" else ""
    project.write("test_perf.py", f"import pathlib\n\n{MEASURES}    {taken}\n")
    if when == "from the start":
        project.write("out", "a file")
    output = project.run("-m", "perf", at(device), "--metric-path=out/perf.prom")
    path = project.folder / "out" / "perf.prom"
    assert f"WARNING: --metric-path: {path} cannot be written: [Errno " in output
    assert "exported log_metric" not in output
    assert "4 passed" in output


def test_a_file_of_its_is_not_written_by_an_export(project: Project, device: SimProcess) -> None:
    project.write("test_perf.py", MEASURES)
    words = ("--metric-path=perf.prom", "--perf-export=openmetrics=./perf.prom")
    output = project.run("-m", "perf", at(device), *words, exit_code=4)
    assert "--perf-export: --metric-path and openmetrics would both write" in output
