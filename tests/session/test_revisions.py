"""Firmwares built from commits: the line between two, kept builds, and a repository left as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.paths import ROOT

from pytest_espperf.errors import BuildError, DeviceError, UsageError
from pytest_espperf.model.workload import Target
from pytest_espperf.session import revisions as module
from pytest_espperf.session.revisions import UNCOMMITTED, Revisions

BOARD = Target("http", "127.0.0.1", 8080, "board")
COPY = f'"{sys.executable}" build.py'
BUILD_PY = "import pathlib; pathlib.Path('out').write_text(pathlib.Path('source').read_text())\n"
SHOW = f"\"{sys.executable}\" -c \"import sys; open(sys.argv[1], 'a').write(' '.join(sys.argv[2:]) + '|')\""


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always", *words],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def commit(folder: Path, subject: str, **files: str) -> str:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", subject)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Three commits; the build of the second fails."""
    folder = tmp_path / "firm ware"
    folder.mkdir()
    git(folder, "init", "--quiet", "-b", "main")
    (folder / "build.py").write_text(BUILD_PY, encoding="utf-8")
    commit(folder, "one", source="1")
    git(folder, "tag", "-a", "v1", "-m", "first")
    (folder / "build.py").write_text("print('a'); raise SystemExit('b is\\nmissing')\n", encoding="utf-8")
    commit(folder, "two", docs__page="x")
    (folder / "build.py").write_text(BUILD_PY, encoding="utf-8")
    commit(folder, "three", source="3")
    return folder


def of(
    project: Path, said: list[str] | None = None, *, build: str = COPY, flash: str = "exit 0"
) -> Revisions:
    say = (said if said is not None else []).append
    return Revisions(project, build=build, flash=flash, say=say, builds=project.parent / "builds", build_s=60)


def state(folder: Path) -> dict[str, bytes]:
    """Every file of a repository, but for the index, whose time stamps git may refresh."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != "index"
    }


# --- commits


def test_a_line_has_the_files_that_each_commit_touches(project: Path) -> None:
    revisions = of(project)
    line = revisions.line(revisions.revision("v1", "GOOD"), revisions.revision("main", "BAD"))
    assert [one.subject for one in line] == ["two", "three"]
    assert sorted(line[0].paths) == ["build.py", "docs/page"]
    assert line[1].commit.startswith(line[1].short)


def test_a_merge_stands_for_all_that_it_brought(project: Path) -> None:
    good = git(project, "rev-parse", "HEAD")
    git(project, "checkout", "--quiet", "-b", "side")
    side = commit(project, "side", source="4")
    git(project, "checkout", "--quiet", "main")
    commit(project, "four", other="4")
    git(project, "merge", "--quiet", "--no-ff", "-m", "merged", "side")
    commit(project, "five", other="5")
    revisions = of(project)
    line = revisions.line(revisions.revision(good, "GOOD"), revisions.revision("HEAD", "BAD"))
    assert [one.subject for one in line] == ["four", "merged", "five"]
    assert line[1].paths == ("source",)
    with pytest.raises(UsageError, match="lies on a branch that was merged later, by"):
        revisions.line(revisions.revision(side, "GOOD"), revisions.revision("HEAD", "BAD"))


def test_names_that_git_does_not_know_are_refused(project: Path) -> None:
    revisions = of(project)
    for name in ("nothing", "--all", "", "HEAD:source"):
        with pytest.raises(UsageError, match="GOOD: "):
            revisions.revision(name, "GOOD")


def test_ends_without_a_line_between_them_are_refused(project: Path) -> None:
    revisions = of(project)
    first, last = revisions.revision("v1", "GOOD"), revisions.revision("HEAD", "BAD")
    with pytest.raises(UsageError, match="are the same commit"):
        revisions.line(last, last)
    with pytest.raises(UsageError, match=r"they are swapped: espperf bisect v1 HEAD$"):
        revisions.line(last, first)
    git(project, "checkout", "--quiet", "-b", "side", "v1")
    side = revisions.revision(commit(project, "side", source="4"), "GOOD")
    with pytest.raises(UsageError, match=f"take {first.short}, where they part"):
        revisions.line(side, last)


def test_commits_are_shown_as_they_were_named(project: Path) -> None:
    revisions = of(project)
    first, last = revisions.revision("v1", "GOOD"), revisions.revision("main", "BAD")
    assert (first.shown, last.shown) == (f"v1 ({first.short})", f"main ({last.short})")
    assert [one.shown for one in revisions.line(first, last)][-1] == last.shown
    for name in (last.commit, last.short, last.commit[:12]):
        assert revisions.revision(name, "BAD").shown == last.short


def test_a_shallow_clone_is_told(project: Path, tmp_path: Path) -> None:
    first = git(project, "rev-parse", "v1^{commit}")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{project.as_posix()}", "shallow")
    revisions = of(tmp_path / "shallow")
    with pytest.raises(UsageError, match=r"a shallow clone: 'git fetch --unshallow' gets the other"):
        revisions.revision(first, "GOOD")
    with pytest.raises(UsageError, match=r"no such commit in [^,]*; see"):
        of(project).revision("nothing", "GOOD")


def test_a_folder_without_a_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run this in the repository of the firmware"):
        of(tmp_path)


def test_odd_names_and_subjects(project: Path) -> None:
    commit(project, 'ümläut "quoted" \x7f', **{"ä b.c": "1"})
    revisions = of(project)
    line = revisions.line(revisions.revision("HEAD~1", "GOOD"), revisions.revision("HEAD", "BAD"))
    assert line[0].paths == ("ä b.c",)
    assert line[0].subject.startswith("ümläut")


# --- builds


def test_a_build_is_made_once_and_kept_by_commit_and_command(project: Path) -> None:
    said: list[str] = []
    for _ in range(2):  # another process finds it as well
        revisions = of(project, said)
        firmware = revisions.firmware(revisions.revision("v1", "x"))
        firmware.prepare()
        firmware.prepare()
        assert revisions.is_built(firmware.revision)
    assert said == [f"building {firmware.revision.short}: one"]
    other = of(project, said, build=f"{COPY} --debug")
    assert not other.is_built(firmware.revision)
    other.firmware(firmware.revision, "old").prepare()
    assert said[1:] == ["building old: one"]


def test_flashing_knows_the_folder_the_commit_and_the_board(project: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    revisions = of(project, flash=f'{SHOW} "{log}" {{commit}} {{ip}}:{{port}} {{dir}} ${{HOME}}')
    firmware = revisions.firmware(revisions.revision("HEAD", "x"))
    firmware.put(BOARD, 60)
    commit_id, address, *folder = log.read_text(encoding="utf-8").rstrip("|").split(" ")
    assert (commit_id, address) == (firmware.revision.commit, "127.0.0.1:8080")
    assert (Path(folder[0]) / "out").read_text() == "3"
    assert firmware.facts.commit == firmware.revision.commit


def test_a_failed_build_is_told_with_its_last_lines_and_leaves_nothing(project: Path) -> None:
    before = state(project)
    revisions = of(project)
    firmware = revisions.firmware(revisions.revision("HEAD~1", "x"))
    with pytest.raises(BuildError, match=r"cannot be built: .* exit code 1 after .* s: a \| b is \| missing"):
        firmware.put(BOARD, 60)
    assert not revisions.is_built(firmware.revision)
    assert not list((project.parent / "builds").rglob("source"))
    assert state(project) == before


def test_a_command_that_fails_to_flash_is_told(project: Path) -> None:
    revisions = of(project, flash=f'"{sys.executable}" -c "import sys; sys.exit(\'no port\')"')
    with pytest.raises(DeviceError, match=r"that flashes \w{7} ended with exit code 1 .*: no port") as met:
        revisions.firmware(revisions.revision("HEAD", "x")).put(BOARD, 60)
    assert not isinstance(met.value, BuildError)


def test_the_repository_is_left_as_it_was(project: Path) -> None:
    (project / "source").write_text("changed", encoding="utf-8")
    (project / "untracked").write_text("new", encoding="utf-8")
    git(project, "config", "user.email", "a@b")
    hook = project / ".git" / "hooks" / "post-checkout"
    hook.write_text("#!/bin/sh\ntouch hooked\n", encoding="utf-8")
    hook.chmod(0o755)
    before = state(project)
    revisions = of(project)
    assert revisions.is_dirty()
    folder = revisions.built(revisions.revision("HEAD", "x"), COPY, "x")
    assert (folder / "out").read_text() == "3"
    assert not (folder / "hooked").exists()
    assert not (folder / "untracked").exists()
    assert state(project) == before


def test_builds_see_a_clean_repository_with_its_tags(project: Path) -> None:
    revisions = of(project, build="git describe --tags --dirty > described")
    folder = revisions.built(revisions.revision("HEAD", "x"), revisions.build_command, "x")
    assert (folder / "described").read_text().startswith("v1-2-g")
    assert "dirty" not in (folder / "described").read_text()


def test_a_repository_that_the_environment_names_is_not_meant(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / "index"))
    revisions = of(project)
    assert (revisions.built(revisions.revision("HEAD", "x"), COPY, "x") / "out").read_text() == "3"


def test_a_linked_work_tree_and_a_shallow_one_build_as_well(project: Path, tmp_path: Path) -> None:
    linked, shallow = tmp_path / "linked", tmp_path / "shallow"
    git(project, "worktree", "add", "--quiet", "--detach", str(linked))
    git(tmp_path, "clone", "--quiet", "--depth=1", project.as_uri(), str(shallow))
    for tree in (linked, shallow):
        revisions = of(tree)
        folder = revisions.built(revisions.revision("HEAD", "x"), COPY, "x")
        assert (folder / "out").read_text() == "3"


def test_submodules_come_from_the_users_own_copies(project: Path, tmp_path: Path) -> None:
    inner, library = tmp_path / "inner", tmp_path / "library"
    for folder in (inner, library):
        folder.mkdir()
        git(folder, "init", "--quiet")
    commit(inner, "inner", deep="d1")
    commit(library, "library", code="c1")
    git(library, "submodule", "--quiet", "add", str(inner), "inner")
    commit(library, "with inner")
    git(project, "submodule", "--quiet", "add", str(library), "parts/library")
    git(project, "submodule", "--quiet", "update", "--init", "--recursive")
    commit(project, "with library")
    commit(library, "later", code="c2")
    inner.rename(tmp_path / "gone")  # no network is needed where the user has the objects
    library.rename(tmp_path / "gone too")
    before = state(project)
    revisions = of(project)
    folder = revisions.built(revisions.revision("HEAD", "x"), COPY, "x")
    assert (folder / "parts/library/code").read_text() == "c1"
    assert (folder / "parts/library/inner/deep").read_text() == "d1"
    assert state(project) == before


def test_a_submodule_that_the_user_has_no_copy_of_is_fetched(project: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    git(library, "init", "--quiet")
    commit(library, "library", code="c1")
    git(project, "submodule", "--quiet", "add", str(library), "library")
    commit(project, "with library")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(project), str(clone))
    revisions = of(clone)
    folder = revisions.built(revisions.revision("HEAD", "x"), COPY, "x")
    assert (folder / "library/code").read_text() == "c1"
    library.rename(tmp_path / "gone")
    commit(clone, "later")
    with pytest.raises(BuildError, match="git submodule says"):
        revisions.built(revisions.revision("HEAD", "x"), COPY, "x")


def test_a_build_that_hangs_is_ended(project: Path) -> None:
    revisions = Revisions(
        project,
        build=f'"{sys.executable}" -c "import time; time.sleep(100)"',
        flash="",
        say=print,
        builds=project.parent / "builds",
        build_s=1,
    )
    with pytest.raises(BuildError, match="not done after 1 s"):
        revisions.firmware(revisions.revision("HEAD", "x")).prepare()


def test_old_builds_are_removed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BUILDS", 1)
    revisions = of(project)
    line = [revisions.revision(name, "x") for name in ("HEAD~2", "HEAD")]
    folders = [revisions.built(one, COPY, "x") for one in line]
    old = time.time() - 10 * 86400
    for folder in folders:
        stamp = folder.with_name(f"{folder.name}.built")
        os.utime(stamp, (old, old))
        old += 3600
    again = of(project)
    again.built(line[0], f"{COPY} x", "x")
    assert not folders[0].exists()
    assert folders[1].exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_build_leaves_the_repository_as_it_was(
    project: Path, tmp_path: Path, sent: signal.Signals
) -> None:
    before = state(project)
    builds, began = tmp_path / "builds", tmp_path / "began"
    script = (
        "import pathlib, sys\n"
        "from pytest_espperf.session.revisions import UNCOMMITTED, Revisions\n"
        f"build = 'touch {began}; sleep 60'\n"
        f"r = Revisions(pathlib.Path({str(project)!r}), build=build, flash='',"
        f" builds=pathlib.Path({str(builds)!r}))\n"
        "r.firmware(r.revision('HEAD', 'x')).prepare()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(600):
        if began.exists():
            break
        time.sleep(0.05)
    process.send_signal(sent)
    assert process.wait(30) != 0
    assert state(project) == before
    assert not list(builds.rglob("*.built"))
    if sent == signal.SIGINT:
        assert not list(builds.rglob("source"))
    # Half a build is none: it is made again.
    revisions = of(project)
    revision = revisions.revision("HEAD", "x")
    assert (revisions.built(revision, COPY, "x") / "out").read_text() == "3"


def test_uncommitted_changes_are_warned_of(project: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    revisions = Revisions(project, build="", flash="", builds=tmp_path / "builds", say=lines.append)
    revisions.warn_of_uncommitted()
    assert lines == []
    (project / "source").write_text("changed", encoding="utf-8")
    revisions.warn_of_uncommitted()
    assert lines == [UNCOMMITTED]
