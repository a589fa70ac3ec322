"""Firmwares that are built from the commits of a git repository of the user's.

::

    revisions = Revisions(root, build="idf.py build", flash="esptool.py ... {dir}/build/app.bin")
    line = revisions.line("v1.0", "main")
    firmware = revisions.firmware(line[3])

Each commit is built in a folder of its own in the user's cache: a repository that borrows the objects of the
user's one, and has the commit checked out. The user's repository is only read, so that nothing is left in it
whenever this ends: no work tree, no reference, no file. A finished build is kept, by commit and command.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from pytest_espperf.errors import BuildError, DeviceError, UsageError
from pytest_espperf.model.contest import FirmwareFacts
from pytest_espperf.model.text import one_line
from pytest_espperf.model.workload import Target
from pytest_espperf.session.context import Say
from pytest_espperf.session.firmware import run_command
from pytest_espperf.session.placeholders import fill
from pytest_espperf.system.git import GitError, complaint, environment_elsewhere, git
from pytest_espperf.system.homes import cache_folder

BUILD_S = 1800.0
"""Seconds that a build may take, unless told otherwise."""

KEPT_BUILDS = 30
"""Builds that are kept of a repository: those used last, besides all of the last day."""

UNCOMMITTED = "WARNING: uncommitted changes are not measured: firmwares are built from commits"
"""The warning where a work tree differs from its commit."""

_LEAST_ID = 4
_DAY_S = 86400.0
_GIT_S = 60.0
_FETCH_S = 600.0
_LISTED_BYTES = 32 * 1024 * 1024
_BUILD_LINES = 3
_MARK = "\x01"
_OBEYED = ("core.autocrlf", "core.eol", "core.symlinks", "core.longpaths", "core.filemode")


@dataclass(frozen=True)
class Revision:
    """A commit.

    Attributes:
        commit: its full id.
        subject: first line of its message.
        paths: the files that it touches, where they were asked for.
        name: that the user gave it, "" where it has none.
    """

    commit: str
    subject: str
    paths: tuple[str, ...] = ()
    name: str = ""

    @property
    def short(self) -> str:
        """The beginning of its id."""
        return self.commit[:7]

    @property
    def shown(self) -> str:
        """What messages call it: ``v1.0 (0ce3bbc)``, or the beginning of its id alone."""
        is_id = len(self.name) >= _LEAST_ID and self.commit.startswith(self.name)
        return f"{self.name} ({self.short})" if self.name and not is_id else self.short


class Revisions:
    """The commits of a repository, and their builds.

    Args:
        root: a folder in the repository.
        build: command of the user that builds, in the folder of the commit; "" for none.
        flash: command of the user that puts a build on a board.
        build_s: seconds that a build may take.
        flash_s: seconds that putting it on a board may take.
        say: takes one line for the user.
        builds: where the builds are kept; by default in the user's cache.
        clock: monotonic seconds.

    Raises:
        UsageError: there is no repository, or git cannot be asked.
    """

    def __init__(
        self,
        root: Path,
        *,
        build: str,
        flash: str,
        build_s: float = BUILD_S,
        flash_s: float = 120.0,
        say: Say = print,
        builds: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root = root
        self.build_command = build
        self.flash_command = flash
        self.flash_s = flash_s
        self.clock = clock
        self._build_s = build_s
        self._say = say
        self._git_folder = Path(os.path.abspath(root / self._ask("rev-parse", "--git-common-dir").strip()))  # noqa: PTH100 - a link stays one
        self._folder = (builds or cache_folder() / "builds") / self.key
        self._swept = False

    @property
    def key(self) -> str:
        """A name for the repository among those of this computer."""
        folder = self._git_folder
        name = folder.parent.name if folder.name == ".git" else folder.name
        return f"{''.join(c if c.isalnum() else '-' for c in name)[:40]}-{_digest(str(folder))}"

    # --- commits

    def revision(self, name: str, source: str) -> Revision:
        """Resolve the name of a commit.

        Args:
            name: anything that git takes for one.
            source: where it came from, for the message.

        Raises:
            UsageError: it names no commit.
        """
        words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        found = self._run(*words)
        if found.returncode != 0:
            why = complaint(found.stderr) or f"git knows no such commit in {self.root}{self._shallow()}"
            raise UsageError(f"{source}: {name!r}: {why}; see git log --oneline")
        commit = found.stdout.strip()
        return Revision(commit, self._ask("log", "-1", "--format=%s", commit).strip(), name=name)

    def _shallow(self) -> str:
        """Say that commits may be missing; "" where none are."""
        if not (self._git_folder / "shallow").exists():
            return ""
        return ", which is a shallow clone: 'git fetch --unshallow' gets the other commits"

    def line(self, good: Revision, bad: Revision) -> list[Revision]:
        """List the commits from behind ``good`` to ``bad``, oldest first, with the files that each touches.

        A merge stands for all that it brought.

        Raises:
            UsageError: ``good`` does not come before ``bad``, or lies beside the line that leads to it.
        """
        if good.commit == bad.commit:
            raise UsageError(f"GOOD and BAD are the same commit, {good.shown}: there is nothing between them")
        if self._run("merge-base", "--is-ancestor", good.commit, bad.commit).returncode != 0:
            base = self._run("merge-base", good.commit, bad.commit).stdout.strip()
            if base == bad.commit:
                first, second = bad.name or bad.short, good.name or good.short
                raise UsageError(
                    f"GOOD ({good.shown}) comes after BAD ({bad.shown}), they are swapped: "
                    f"espperf bisect {first} {second}"
                )
            none = f"they have no commit in common here{self._shallow()}"
            advice = f"take {base[:7]}, where they part" if base else none
            raise UsageError(f"GOOD ({good.shown}) does not come before BAD ({bad.shown}): {advice}")
        span = f"{good.commit}..{bad.commit}"
        form = f"--format={_MARK}%H%x00%P%x00%s"
        names = ("-m", "--name-only", "--no-renames")
        words = ("-c", "core.quotePath=false", "log", "--first-parent", "--reverse", *names, form, span)
        blocks = self._ask(*words, keep=_LISTED_BYTES).split(_MARK)[1:]
        found, parents = [], []
        for block in blocks:
            head, *paths = block.splitlines()
            commit, its_parents, subject = head.split("\0", 2)
            found.append(Revision(commit, subject, tuple(filter(None, paths))))
            parents.append(its_parents.split())
        if not parents or good.commit not in parents[0][:1]:
            joined = found[0] if found else bad
            raise UsageError(
                f"GOOD ({good.short}) lies on a branch that was merged later, by {joined.short} or after it: "
                f"give a commit that 'git log --first-parent {bad.short}' lists"
            )
        return [*found[:-1], replace(found[-1], name=bad.name)]

    def is_dirty(self) -> bool:
        """Whether anything is uncommitted, and so in no build."""
        return bool(self._run("status", "--porcelain", "--untracked-files=no").stdout.strip())

    def warn_of_uncommitted(self) -> None:
        """Say so where anything is uncommitted, since no build has it."""
        if self.is_dirty():
            self._say(UNCOMMITTED)

    # --- builds

    def firmware(
        self, revision: Revision, label: str = "", *, build: str = "", flash: str = ""
    ) -> RevisionFirmware:
        """Make the firmware of a commit.

        Args:
            revision: the commit.
            label: what messages call it; by default the beginning of its id.
            build: command that builds it, in place of that of all.
            flash: command that flashes it, likewise.
        """
        commands = build or self.build_command, flash or self.flash_command
        return RevisionFirmware(self, revision, label or revision.short, *commands)

    def is_built(self, revision: Revision, build: str = "") -> bool:
        """Whether a finished build of a commit is kept."""
        return _stamp(self._place(revision, build or self.build_command)).exists()

    def built(self, revision: Revision, build: str, label: str) -> Path:
        """Return the folder with the build of a commit; build it unless a finished build is kept.

        Raises:
            BuildError: it cannot be built; says how the command ended.
        """
        folder = self._place(revision, build)
        with _explained(revision), self._locked(folder):
            stamp = _stamp(folder)
            if not (stamp.exists() and folder.is_dir()):
                self._say(f"building {label}: {one_line(revision.subject, 60)}")
                self._build(revision, build, folder)
            stamp.touch()
        return folder

    def _place(self, revision: Revision, build: str) -> Path:
        return self._folder / f"{revision.commit[:12]}-{_digest(build)}"

    def _build(self, revision: Revision, build: str, folder: Path) -> None:
        self._sweep()
        _stamp(folder).unlink(missing_ok=True)
        _remove(folder)
        try:
            self._check_out(revision, folder)
            if build:
                run_command(
                    fill(build, commit=revision.commit, dir=str(folder)),
                    "that builds it",
                    timeout_s=self._build_s,
                    clock=self.clock,
                    folder=folder,
                    environment=environment_elsewhere(),
                    lines=_BUILD_LINES,
                )
        except BaseException:  # Ctrl-C as well: half a build is none
            _remove(folder)
            raise
        _stamp(folder).touch()

    def _check_out(self, revision: Revision, folder: Path) -> None:
        """Make a repository that borrows the user's objects, with a commit checked out."""
        folder.mkdir(parents=True)
        made = self._run("rev-parse", "--show-object-format")
        kind = made.stdout.strip() if made.returncode == 0 else "sha1"
        _must(folder, "init", "--quiet", f"--object-format={kind}")
        objects = folder / ".git" / "objects" / "info"
        objects.mkdir(parents=True, exist_ok=True)
        (objects / "alternates").write_text(
            f"{(self._git_folder / 'objects').as_posix()}\n", encoding="utf-8"
        )
        shallow = self._git_folder / "shallow"
        if shallow.exists():
            shutil.copyfile(shallow, folder / ".git" / "shallow")
        origin = self._run("config", "--get", "remote.origin.url").stdout.strip() or str(self.root)
        settings = {name: self._run("config", "--get", name).stdout.strip() for name in _OBEYED}
        for name, value in {"remote.origin.url": origin, "core.hooksPath": os.devnull, **settings}.items():
            if value:
                _must(folder, "config", name, value)
        # Builds name their version by `git describe`.
        tags = self._ask("for-each-ref", "--format=create %(refname) %(objectname)", "refs/tags")
        _must(folder, "update-ref", "--stdin", stdin=tags.encode())
        quiet = ("-c", "advice.detachedHead=false")
        _must(
            folder, *quiet, "checkout", "--quiet", "--force", "--detach", revision.commit, within_s=_FETCH_S
        )
        _fill_submodules(folder, self._git_folder, self.root)

    @contextmanager
    def _locked(self, folder: Path) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock"), timeout=self._build_s):
            yield

    def _sweep(self) -> None:
        """Remove old builds, once."""
        if self._swept:
            return
        self._swept = True
        stamps = sorted(self._folder.glob("*.built"), key=lambda stamp: -stamp.stat().st_mtime)
        for stamp in stamps[KEPT_BUILDS:]:
            if time.time() - stamp.stat().st_mtime > _DAY_S:
                folder = stamp.with_suffix("")
                stamp.unlink(missing_ok=True)
                _remove(folder)
                folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)

    # --- git

    def _run(self, *words: str, keep: int = _LISTED_BYTES) -> Any:
        try:
            return git(self.root, *words, timeout_s=_GIT_S, keep=keep, elsewhere=True)
        except GitError as error:
            raise UsageError(f"{self.root}: {error}") from None

    def _ask(self, *words: str, keep: int = _LISTED_BYTES) -> str:
        done = self._run(*words, keep=keep)
        if done.returncode != 0:
            raise UsageError(
                f"{self.root}: git says {complaint(done.stderr) or 'nothing'!r}; "
                "run this in the repository of the firmware"
            )
        return str(done.stdout)


class RevisionFirmware:
    """A firmware that is built from a commit.

    Args:
        revisions: the repository.
        revision: the commit.
        label: what messages call it.
        build: command that builds it.
        flash: command that puts the build on a board.
    """

    def __init__(self, revisions: Revisions, revision: Revision, label: str, build: str, flash: str) -> None:
        self.facts = FirmwareFacts(label=label, how="revision", commit=revision.commit)
        self.revision = revision
        self._revisions = revisions
        self._build = build
        self._flash = flash

    def prepare(self) -> None:
        """Build it, unless a build is kept.

        Raises:
            BuildError: it cannot be built.
        """
        self._folder()

    def put(self, target: Target, within_s: float) -> None:
        """Flash it.

        Raises:
            BuildError: it cannot be built.
            DeviceError: the command failed, or took too long.
        """
        folder, revisions = self._folder(), self._revisions
        run_command(
            fill(self._flash, target, commit=self.revision.commit, dir=str(folder)),
            f"that flashes {self.facts.label}",
            timeout_s=min(revisions.flash_s, within_s),
            clock=revisions.clock,
            folder=folder,
            environment=environment_elsewhere(),
        )

    def _folder(self) -> Path:
        return self._revisions.built(self.revision, self._build, self.facts.label)


def _fill_submodules(folder: Path, git_folder: Path, tree: Path) -> None:
    """Check out the submodules of a commit: from the user's copies of them, else from where they come from.

    Args:
        folder: where the commit is checked out.
        git_folder: of the repository that it comes from.
        tree: work tree of that.
    """
    if not (folder / ".gitmodules").exists():
        return
    listed = _must(folder, "config", "--file", ".gitmodules", "--get-regexp", r"^submodule\..*\.path$")
    for row in listed.splitlines():
        key, _, path = row.partition(" ")
        name = key.removeprefix("submodule.").removesuffix(".path")
        _must(folder, "submodule", "--quiet", "init", "--", path)
        own = _copy_of(name, path, git_folder, tree)
        update = ("-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--force", "--", path)
        if own is not None:
            url = _must(folder, "config", "--get", f"submodule.{name}.url").strip()
            _must(folder, "config", f"submodule.{name}.url", str(own))
            if git(folder, *update, timeout_s=_FETCH_S, elsewhere=True).returncode != 0:
                _must(folder, "config", f"submodule.{name}.url", url)
                git(folder, "submodule", "--quiet", "deinit", "--force", "--", path, elsewhere=True)
                _must(folder, "submodule", "--quiet", "init", "--", path)
                _remove(folder / ".git" / "modules" / name)
                own = None
        if own is None:
            _must(folder, *update, within_s=_FETCH_S)
        _fill_submodules(folder / path, own or git_folder, tree / path)


def _copy_of(name: str, path: str, git_folder: Path, tree: Path) -> Path | None:
    """Find the user's own copy of a submodule."""
    places = (git_folder / "modules" / name, tree / path / ".git")
    return next((place for place in places if (place / "HEAD").exists()), None)


def _must(folder: Path, *words: str, within_s: float = _GIT_S, stdin: bytes = b"") -> str:
    """Run git in a folder of ours.

    Raises:
        DeviceError: it fails.
    """
    done = git(folder, *words, timeout_s=within_s, elsewhere=True, stdin=stdin)
    if done.returncode != 0:
        verb = next((word for word in words if not word.startswith("-") and "=" not in word), "")
        raise DeviceError(f"git {verb} says {complaint(done.stderr) or 'nothing'!r}")
    return done.stdout


@contextmanager
def _explained(revision: Revision) -> Iterator[None]:
    """Make one kind of error of all that keeps a commit from being built."""
    try:
        yield
    except (DeviceError, GitError, TimeoutError) as error:
        raise BuildError(f"{revision.short} cannot be built: {error}") from None
    except OSError as error:
        raise BuildError(
            f"{revision.short} cannot be built: {error.filename or 'the folder of builds'}: "
            f"{error.strerror or error}"
        ) from None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:10]


def _stamp(folder: Path) -> Path:
    """Locate the file that says that a build was finished; its time is that of the last use."""
    return folder.with_name(f"{folder.name}.built")


def _remove(folder: Path) -> None:
    """Remove a folder with all that is in it, as far as that can be done."""

    def make_writable(function: Callable[[str], object], path: str, _: object) -> None:
        with suppress(OSError):
            os.chmod(path, stat.S_IWRITE | stat.S_IREAD | stat.S_IEXEC)  # noqa: PTH101 - rmtree's own text
            function(path)

    if sys.version_info >= (3, 12):
        shutil.rmtree(folder, onexc=make_writable)
    else:
        shutil.rmtree(folder, onerror=make_writable)
