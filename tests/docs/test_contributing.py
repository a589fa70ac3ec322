"""The pages and tools of a contributor: nox, pre-commit, the workflow, changelog fragments."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support.docs_pages import check_links, read_yaml, table_rows
from support.paths import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGES = sorted(
    [
        *(
            ROOT / name
            for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "changelog.d/README.md")
        ),
        *(ROOT / "examples").rglob("README.md"),
    ]
)
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")


def run(*words: str, cwd: Path = ROOT) -> str:
    """Run a module of this environment, which must succeed; return its output."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def sessions() -> set[str]:
    """The names of nox's sessions."""
    return set(re.findall(r"(?m)^[*-] (\w+) ->", run("nox", "--list-sessions")))


def sessions_in(text: str) -> set[str]:
    """The names that follow each ``nox -s`` of a text, in a shell's array as well."""
    calls = re.findall(r"\bnox\S* -s ((?:[a-z]+ ?)+)", text)
    return {name for call in calls for name in call.split()}


# --- pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_each_link_leads_somewhere(page: Path) -> None:
    check_links(page)


def test_the_tests_that_are_named_exist() -> None:
    named = set(re.findall(r"\btests/\S+?\.py\b", CONTRIBUTING))
    assert named
    assert all((ROOT / name).is_file() for name in named)


# --- nox


def test_the_table_has_each_session(sessions: set[str]) -> None:
    first_cells = {cell.strip("`") for cell in table_rows(CONTRIBUTING)}
    assert sessions <= first_cells


def test_only_sessions_that_exist_are_run(sessions: set[str]) -> None:
    for text in (WORKFLOW, (ROOT / ".ci" / "run").read_text(encoding="utf-8")):
        found = sessions_in(text)
        assert found
        assert found <= sessions


def test_the_continuous_integration_runs_each_session(sessions: set[str]) -> None:
    # It runs tests by README's own command, and docs is a part of these.
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert sessions_in(text) == sessions - {"tests", "docs"}


# --- the workflow and pre-commit


def test_the_workflow_is_valid() -> None:
    rules = json.loads((ROOT / "tests/data/schemas/github-workflow.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(rules).validate(read_yaml(WORKFLOW))


def test_the_workflow_tests_each_python_that_is_promised(project: dict[str, Any]) -> None:
    prefix = "Programming Language :: Python :: 3."
    promised = [
        line.rpartition(" ")[2] for line in project["project"]["classifiers"] if line.startswith(prefix)
    ]
    matrix = read_yaml(WORKFLOW)["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python"] == promised
    assert {system.partition("-")[0] for system in matrix["os"]} == {"ubuntu", "macos", "windows"}


def test_the_sessions_of_the_workflow_exist(sessions: set[str]) -> None:
    jobs = read_yaml(WORKFLOW)["jobs"]
    apart = {row["session"] for row in jobs["apart"]["strategy"]["matrix"]["include"]}
    assert apart <= sessions
    everything = apart | sessions_in(WORKFLOW)
    assert everything == sessions - {
        "bench",
        "docs",
    }  # figures need a quiet computer; docs is a part of tests


def test_hooks_use_the_tools_of_this_environment() -> None:
    run("pre_commit", "validate-config")
    (repository,) = read_yaml((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert shutil.which(hook["entry"].split()[0], path=sysconfig.get_path("scripts")), hook["id"]


# --- changelog fragments


def fragments() -> Iterator[Path]:
    return (path for path in (ROOT / "changelog.d").iterdir() if path.name != "README.md")


def test_each_fragment_has_a_known_type_and_a_text(project: dict[str, Any]) -> None:
    types = "|".join(kind["directory"] for kind in project["tool"]["towncrier"]["type"])
    for path in fragments():
        assert re.fullmatch(rf"(\d+|\+[\w-]+)\.({types})(\.\d+)?\.md", path.name), path.name
        assert path.read_text(encoding="utf-8").strip(), path.name


def test_the_types_are_those_that_the_page_lists(project: dict[str, Any]) -> None:
    page = (ROOT / "changelog.d" / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`17\.(\w+)\.md`", page))
    assert listed == {kind["directory"] for kind in project["tool"]["towncrier"]["type"]}


def test_a_draft_has_each_fragment() -> None:
    draft = " ".join(
        run("towncrier", "build", "--draft", "--version", "9.9.9", "--date", "2000-01-01").split()
    )
    assert "## 9.9.9 (2000-01-01)" in draft
    for path in fragments():
        assert " ".join(path.read_text(encoding="utf-8").split()) in draft, path.name


def test_a_release_collects_the_fragments_above_older_releases(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    folder = tmp_path / "changelog.d"
    folder.mkdir()
    for version, name, text in [("0.1.0", "+first.added.md", "A."), ("0.2.0", "17.fixed.md", "B.")]:
        (folder / name).write_text(text, encoding="utf-8")
        run("towncrier", "build", "--yes", "--version", version, "--date", "2000-01-01", cwd=tmp_path)
        assert not list(folder.iterdir())
    written = (tmp_path / "CHANGELOG.md").read_text(encoding="utf-8")
    lines = [line for line in written.partition("-->")[2].splitlines() if line]
    assert lines == [
        "## 0.2.0 (2000-01-01)",
        "### Fixed",
        "- B. (#17)",
        "## 0.1.0 (2000-01-01)",
        "### Added",
        "- A.",
    ]
