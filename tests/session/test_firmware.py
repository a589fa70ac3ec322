from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_espperf.config.lookup import resolve
from pytest_espperf.config.profiles import load_profiles
from pytest_espperf.errors import DeviceError, UsageError
from pytest_espperf.model.workload import Target
from pytest_espperf.session.confirming import PAIRS, confirmation_runs, pairs
from pytest_espperf.session.firmware import FirmwareSwitch, check_placeholders
from pytest_espperf.session.plan import make_plan

PLAN = make_plan(resolve({}, {}, {}), load_profiles(Path("/nowhere")))


def switch(said: list[str], **options: Any) -> FirmwareSwitch:
    return FirmwareSwitch(resolve(options, {}, {}), say=said.append)


def python(code: str) -> str:
    return f'"{sys.executable}" -c "{code}"'


def test_without_both_commands_nothing_is_switched() -> None:
    said: list[str] = []
    alone = switch(said, perf_ab_baseline_cmd="exit 1")
    assert not alone.available
    alone.ensure("ab-baseline")
    assert said == []


def test_it_switches_only_where_the_other_firmware_is_there(tmp_path: Path) -> None:
    said: list[str] = []
    log = tmp_path / "log"

    def note(name: str) -> str:
        return python(f"open(r'{log}', 'a').write('{name} ')")

    both = switch(said, perf_ab_baseline_cmd=note("old"), perf_ab_candidate_cmd=note("new"))
    for role in ("run", "ab-candidate", "ab-baseline", "ab-baseline", "ab-candidate", "confirm"):
        both.ensure(role)
    assert log.read_text().split() == ["old", "new"]
    assert said == ["switching to the baseline firmware", "switching to the candidate firmware"]


def test_the_commands_get_the_boards_address(tmp_path: Path) -> None:
    log = tmp_path / "log"
    note = python(f"import sys; open(r'{log}', 'w').write(sys.argv[1])")
    told = f"{note} {{ip}}:{{port}}"
    both = switch([], perf_ab_baseline_cmd=told, perf_ab_candidate_cmd="exit 0")
    both.ensure("ab-baseline", target=Target(scheme="http", address="192.0.2.1", port=81, host_header="x"))
    assert log.read_text() == "192.0.2.1:81"


@pytest.mark.parametrize(
    ("word", "said"), [("slot", "is known of slots only"), ("prot", "did you mean {port}")]
)
def test_a_placeholder_that_nobody_replaces_is_refused(word: str, said: str) -> None:
    settings = resolve({"perf_ab_candidate_cmd": f"flash {{{word}}} s3cret"}, {}, {})
    with pytest.raises(UsageError) as caught:
        check_placeholders(settings)
    assert f"--perf-ab-candidate-cmd: {{{word}}} " in str(caught.value)
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)
    check_placeholders(resolve({"perf_ab_candidate_cmd": "flash {ip}:{port} ${slot}"}, {}, {}))


def test_a_failing_command_is_told_with_its_last_words() -> None:
    command = python("import sys; print('no such port'); sys.exit(3)")
    both = switch([], perf_ab_baseline_cmd=command, perf_ab_candidate_cmd=python("pass"))
    with pytest.raises(
        DeviceError, match=r"baseline firmware ended with exit code 3 after .* s: no such port"
    ):
        both.ensure("ab-baseline")
    # What is on the board now is not known: the next phase makes sure.
    both.ensure("run")


def test_a_command_that_hangs_is_ended_with_what_it_started() -> None:
    began = time.monotonic()
    both = switch(
        [],
        perf_ab_baseline_cmd=python("import time; time.sleep(100)") + " ; exit 0",
        perf_ab_candidate_cmd="exit 0",
        perf_ab_timeout_s="0.5",
    )
    with pytest.raises(DeviceError, match=r"not done after 0\.5 s"):
        both.ensure("ab-baseline")
    assert time.monotonic() - began < 100  # nothing is left that holds the pipe


def test_pairs_are_interleaved() -> None:
    planned = pairs(PLAN, ["python_light", "python_heavy"])
    assert len(planned) == PAIRS * 2 * 2 * 2
    order = list(dict.fromkeys((phase.run, phase.role) for phase in planned))
    assert order[:4] == [(1, "ab-baseline"), (1, "ab-candidate"), (2, "ab-candidate"), (2, "ab-baseline")]
    assert len({phase.id for phase in planned}) == len(planned)


def test_confirmation_runs_are_run_major() -> None:
    planned = confirmation_runs(PLAN, {"python_light": 2, "python_heavy": 2})
    assert [(phase.run, phase.profile.name, phase.phase.name) for phase in planned[:4]] == [
        (1, "python_light", "burst"),
        (1, "python_light", "long"),
        (1, "python_heavy", "burst"),
        (1, "python_heavy", "long"),
    ]
    assert {phase.role for phase in planned} == {"confirm"}
