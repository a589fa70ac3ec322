"""``--perf-baseline`` in a run of several boards: each is judged by its own session of that name."""

from __future__ import annotations

import pytest
from support.plugin_project import Project, Web
from support.short_sessions import ANY_CHANGE

pytestmark = pytest.mark.timeout(600)  # several sessions, on a machine that may be busy


def test_each_board_has_its_own_baseline_and_one_without_fails_alone(
    project: Project, reference: Web
) -> None:
    first, second = project.web.address, reference.address
    assert project.run("--perf-tag=v1").ret == 0
    words = ("--perf-baseline=v1", ANY_CHANGE, f"--device-ip={first},{second}")
    run = project.run(*words, device=False)
    assert run.ret == 1
    names = [address.replace(":", "-") for address in (first, second)]
    run.stdout.fnmatch_lines([f"{names[0]}  unchanged", f"{names[1]}  failed*"])
    told = {one["target"]: one["gate"] for one in project.sessions()[1:]}
    assert told[first]["verdict"] == "unchanged"
    assert told[second]["verdict"] == "failed"
    (why,) = [one["message"] for one in told[second]["findings"] if one["severity"] == "fail"]
    assert why.startswith(f"--perf-baseline: no session of board '{second}' in ")
