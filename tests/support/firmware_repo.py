"""A git repository of a firmware for the reference device: twelve commits, whose seventh is slower by 12 %.

Each commit is what a project has: sources of handlers, documentation, tests, and a ``build.py`` that reads
the sources and writes an image. A program beside the repository flashes it with ``POST /ota/flash``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

SLOWER = 1.12
"""Factor on the service time of ``python_heavy`` from the culprit on."""

COMMITS = 12
CULPRIT = 6
"""Index of the commit that made it slower: the seventh."""

IMAGE = "build/firmware.json"

BUILD = f'"{sys.executable}" build.py'
"""The command that builds a commit, in its folder; writes :data:`IMAGE`."""

_BUILD_PY = '''\
"""Build the firmware: python build.py [KEY=VALUE ...]; writes build/firmware.json."""

import json
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def constant(path, name):
    """Read a number from a source."""
    source = (HERE / path).read_text(encoding="utf-8")
    found = re.search(rf"^{name} = ([0-9.]+)$", source, re.MULTILINE)
    if found is None:
        sys.exit(f"{path}: error: {name!r} undeclared")
    return float(found[1])


def version():
    """Name the commit."""
    asked = ["git", "-C", str(HERE), "rev-parse", "--short=10", "HEAD"]
    done = subprocess.run(asked, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def build(knobs):
    """Make the image from the sources; a syntax error in any of them fails the build."""
    for source in sorted((HERE / "src").rglob("*.py")):
        compile(source.read_text(encoding="utf-8"), str(source), "exec")
    workers = int(knobs.get("WORKERS", constant("src/server.py", "WORKERS")))
    heavy = constant("src/handlers/template.py", "COST")
    return {
        "version": version(),
        # Six workers are right: fewer leave requests waiting, more fight for the processor.
        "slowdown": {"python_heavy": heavy * (1 + 0.05 * abs(workers - 6))},
        "boot_s": constant("src/boot.py", "BOOT_S"),
        "boots": not (HERE / "src" / "panic.py").exists(),
    }


if __name__ == "__main__":
    image = build(dict(word.split("=", 1) for word in sys.argv[1:]))
    target = HERE / "build" / "firmware.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(image), encoding="utf-8")
    print(f"built {image['version']}")
'''

_FLASH_PY = '''\
"""Flash an image: python flash.py HOST PORT IMAGE [SLOT]; into the slot that does not run, and boot it."""

import json
import sys
import time
import urllib.error
import urllib.request

TRIES = 200


def flash(host, port, image, slot=""):
    """Flash, and wait until the device runs what was flashed."""
    url = f"http://{host}:{port}"
    chosen = f"slot={slot}&" if slot else ""
    with open(image, "rb") as file:
        data = file.read()
    request = urllib.request.Request(f"{url}/ota/flash?{chosen}switch=1", data, method="POST")
    try:
        flashed = json.load(urllib.request.urlopen(request, timeout=10))["slot"]
    except urllib.error.HTTPError as error:
        sys.exit(f"flashing failed: {error.read().decode()}")
    for _ in range(TRIES):
        time.sleep(0.05)
        try:
            running = json.load(urllib.request.urlopen(f"{url}/ota", timeout=2))["running"]
        except (OSError, ValueError):
            continue  # it boots
        if running == flashed:
            return
    sys.exit("the device did not boot")


if __name__ == "__main__":
    flash(*sys.argv[1:])
'''


@dataclass(frozen=True)
class FirmwareRepository:
    """The repository.

    Attributes:
        root: its folder.
        commits: ids, oldest first.
        subjects: of the commits.
        flash_script: the program that flashes, outside of the repository:
            ``python flash.py HOST PORT IMAGE [SLOT]``.
    """

    root: Path
    commits: tuple[str, ...]
    subjects: tuple[str, ...]
    flash_script: Path

    @property
    def good(self) -> str:
        """The first commit."""
        return self.commits[0]

    @property
    def bad(self) -> str:
        """The last commit."""
        return self.commits[-1]

    @property
    def culprit(self) -> str:
        """The commit that made it slower."""
        return self.commits[CULPRIT]

    def flash_command(self, folder: str = "{dir}", host: str = "{ip}", port: str = "{port}") -> str:
        """The command that flashes what was built in a folder, with placeholders by default."""
        return f'"{sys.executable}" "{self.flash_script}" {host} {port} "{folder}/{IMAGE}"'

    def git(self, *words: str) -> str:
        """Run git in it; return what it prints."""
        return _git(self.root, *words)

    def state(self) -> tuple[str, ...]:
        """What nothing may change: status, references, worktrees, configuration, and stashes."""
        return (
            self.git("status", "--porcelain", "--ignored"),
            self.git("for-each-ref"),
            self.git("symbolic-ref", "HEAD"),
            self.git("worktree", "list", "--porcelain"),
            self.git("config", "--local", "--list"),
            self.git("stash", "list"),
        )


def make_firmware_repository(
    folder: Path,
    *,
    slower: float = SLOWER,
    broken: Collection[int] = (),
    unbootable: Collection[int] = (),
    boot_s: float = 0.5,
) -> FirmwareRepository:
    """Make the repository in a new folder of ``folder``.

    Args:
        folder: an empty one.
        slower: factor on the service time from the seventh commit on.
        broken: indices of commits that do not build.
        unbootable: indices of commits whose image does not boot.
        boot_s: seconds of the device that each image takes to boot.
    """
    root = folder / "firmware"
    root.mkdir(parents=True)
    flash_script = folder / "flash.py"
    flash_script.write_text(_FLASH_PY, encoding="utf-8")
    _git(root, "init", "--quiet", "--initial-branch=main")
    _git(root, "config", "core.autocrlf", "false")
    commits = []
    for index, (subject, files) in enumerate(_changes(slower, boot_s)):
        for name, text in files.items():
            _write(root / name, text)
        _put(root / "src" / "panic.py", "raise SystemExit\n", there=index in unbootable)
        _put(root / "src" / "generated.py", "LIMIT = (\n", there=index in broken)
        _git(root, "add", "--all")
        _git(root, "commit", "--quiet", "--message", subject, when=f"2026-01-{index + 1:02}T12:00:00Z")
        commits.append(_git(root, "rev-parse", "HEAD"))
    return FirmwareRepository(
        root, tuple(commits), tuple(subject for subject, _ in _changes(slower, boot_s)), flash_script
    )


def _changes(slower: float, boot_s: float) -> list[tuple[str, dict[str, str]]]:
    """What each commit changes: its subject, and the files that it writes."""
    template = "src/handlers/template.py"
    fast, slow = _handler(1.0), _handler(slower)
    return [
        (
            "Serve a page from a template",
            {
                ".gitignore": "build/\n",
                "build.py": _BUILD_PY,
                "README.md": "# Firmware\n",
                "src/server.py": "WORKERS = 6\n",
                "src/boot.py": f"BOOT_S = {boot_s}\n",
                template: fast,
                "src/handlers/hello.py": 'TEXT = "hello"\n',
            },
        ),
        ("Describe how to build", {"README.md": "# Firmware\n\n    python build.py\n"}),
        ("Answer in capitals", {"src/handlers/hello.py": 'TEXT = "HELLO"\n'}),
        ("Test the template", {"tests/test_template.py": "def test_template():\n    assert True\n"}),
        ("Log each request", {"src/log.py": "LEVEL = 1\n"}),
        ("List the routes in the manual", {"docs/routes.md": "- /template\n- /hello\n"}),
        ("Escape values in the template", {template: slow}),
        ("Log less", {"src/log.py": "LEVEL = 0\n"}),
        ("Run the tests in CI", {".github/workflows/ci.yml": "on: push\n"}),
        ("Add a sign of life", {"src/handlers/alive.py": 'TEXT = "alive"\n'}),
        ("Comment the template", {template: f"{slow}# Values are escaped.\n"}),
        ("Answer politely", {"src/handlers/hello.py": 'TEXT = "Good day"\n'}),
    ]


def _handler(cost: float) -> str:
    return f'"""The page."""\n\nCOST = {cost}\n'


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _put(path: Path, text: str, *, there: bool) -> None:
    if there:
        _write(path, text)
    else:
        path.unlink(missing_ok=True)


_NOBODY = {
    "GIT_AUTHOR_NAME": "Ana",
    "GIT_AUTHOR_EMAIL": "ana@example.org",
    "GIT_COMMITTER_NAME": "Ana",
    "GIT_COMMITTER_EMAIL": "ana@example.org",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
}


def _git(root: Path, *words: str, when: str = "2026-01-01T12:00:00Z") -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *words],
        capture_output=True,
        check=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        env={**os.environ, **_NOBODY, "GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when},
    )
    return done.stdout.strip()
