"""Sizes of the firmware's files: bytes of a whole file, or of an ELF file's sections."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from pytest_espperf.config.settings import Settings
from pytest_espperf.errors import UsageError
from pytest_espperf.model.artifact import OwnFigure
from pytest_espperf.model.own_figures import MOST_FIGURES, check_name
from pytest_espperf.system.homes import expand_user

MAGIC = b"\x7fELF"
UNIT = "bytes"


def file_figures(settings: Settings) -> dict[str, OwnFigure]:
    """Measure the files that ``--perf-file`` names.

    Raises:
        UsageError: one is not of the form NAME=PATH, cannot be read, or is a broken ELF file; or it is an ELF
            file, and pyelftools is missing.
    """
    source = settings.where("perf_file")
    sizes: dict[str, int] = {}
    for text in settings.perf_file:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise UsageError(
                f"{source}: {text!r} is not of the form NAME=PATH, for example app=build/app.bin"
            )
        try:
            check_name(name)
            found = _sizes(name, Path(expand_user(path, source)), source)
        except ValueError as error:
            raise UsageError(f"{source}: {error}") from None
        if twice := next((one for one in found if one in sizes), ""):
            raise UsageError(f"{source}: {twice} is given twice: choose another name for one of the two")
        sizes |= found
    if len(sizes) > MOST_FIGURES:
        raise UsageError(f"{source}: {len(sizes)} sizes are more than a session keeps ({MOST_FIGURES})")
    return {
        name: OwnFigure(unit=UNIT, better="lower", values=[float(size)], source="file")
        for name, size in sizes.items()
    }


def _sizes(name: str, path: Path, source: str) -> dict[str, int]:
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return {name: path.stat().st_size}
            file.seek(0)
            return _sections(name, path, file, source)
    except OSError as error:
        raise UsageError(f"{source}: {path} cannot be read: {error.strerror or error}") from None


def _sections(name: str, path: Path, file: IO[bytes], source: str) -> dict[str, int]:
    """Return the sizes of the sections that take memory on the board."""
    try:
        from elftools.elf.constants import SH_FLAGS  # noqa: PLC0415 - an extra
        from elftools.elf.elffile import ELFFile  # noqa: PLC0415 - likewise
    except ImportError:
        raise UsageError(
            f"{source}: {path} is an ELF file, which needs pyelftools: pip install 'pytest-espperf[elf]'"
        ) from None
    try:
        sizes: dict[str, int] = {}
        for section in ELFFile(file).iter_sections():
            if section["sh_flags"] & SH_FLAGS.SHF_ALLOC and section["sh_size"] and section.name:
                key = check_name(
                    f"{name}{section.name}" if section.name[0] == "." else f"{name}.{section.name}"
                )
                sizes[key] = sizes.get(key, 0) + section["sh_size"]
    except (OSError, ValueError):
        raise
    except Exception as error:  # noqa: BLE001 - pyelftools raises what its parts do: its own, construct's, struct's
        raise UsageError(f"{source}: {path} is a broken ELF file: {error or type(error).__name__}") from None
    if not sizes:
        raise UsageError(f"{source}: {path} is an ELF file without a section that takes memory")
    return sizes
