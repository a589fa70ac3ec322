"""Check of a built sdist and wheel: ``python tools/check_dist.py FOLDER``.

The sdist holds every file that git tracks, so that others can test and package it; the wheel holds the
package alone. Prints one line for each file too many or too few, and exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "pytest_espperf/"
MADE = ("PKG-INFO", "setup.cfg")
"""Files that setuptools adds to an sdist, beside its ``.egg-info`` folder."""


def sdist_faults(names: Iterable[str], tracked: Iterable[str]) -> list[str]:
    """Compare an sdist's files with those that git tracks.

    Args:
        names: of the archive's files, with its top folder.
        tracked: paths of the repository.

    Returns:
        One line for each difference, sorted.
    """
    held = {name.partition("/")[2] for name in names}
    held = {name for name in held if name not in MADE and not name.partition("/")[0].endswith(".egg-info")}
    return _differences("sdist", held, set(tracked))


def wheel_faults(names: Iterable[str], tracked: Iterable[str]) -> list[str]:
    """Compare a wheel's files with the package's that git tracks; its metadata stands beside them.

    Args:
        names: of the archive's files.
        tracked: paths of the repository.

    Returns:
        One line for each difference, sorted.
    """
    held = {name for name in names if not name.partition("/")[0].endswith(".dist-info")}
    return _differences("wheel", held, {path for path in tracked if path.startswith(PACKAGE)})


def _differences(kind: str, held: set[str], wanted: set[str]) -> list[str]:
    missing = [f"{kind}: {name} is missing" for name in wanted - held]
    return sorted([*missing, *(f"{kind}: {name} does not belong there" for name in held - wanted)])


def main() -> int:
    """Check the one sdist and the one wheel of a folder."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="what `python -m build` wrote into")
    folder = parser.parse_args().folder
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    git = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    tracked = [path for path in git.stdout.split("\0") if path]
    with tarfile.open(sdist) as archive, zipfile.ZipFile(wheel) as packed:
        members = [member.name for member in archive if not member.isdir()]
        faults = [*sdist_faults(members, tracked), *wheel_faults(packed.namelist(), tracked)]
    for fault in faults:
        print(fault)
    if not faults:
        print(f"{len(members)} files in {sdist.name}, {len(packed.namelist())} in {wheel.name}: complete")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
