"""Prose in plain technical English: phrases that the project does not use, with their replacements."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.paths import ROOT

CHECKED = (
    "README.md",
    "docs/*.md",
    "pytest_espperf/**/*.py",
    "tests/**/*.py",
    "tools/*.py",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "noxfile.py",
    ".ci/run",
    ".pre-commit-config.yaml",
    ".github/workflows/*.yml",
    "changelog.d/*.md",
    "examples/**/*.md",
    "examples/**/*.py",
)
"""Patterns of the files that are checked, from the root of the checkout."""

BANNED = {
    r"the bar(?! chart)": "the baseline",
    r"reference sessions?": "baseline",
    r"reference board": "control board",
    r"control board that stays|board that stays": "control board",
    r"weather of the bench": "changes of the bench (a control board subtracts them)",
    r"falls? to pieces|falling to pieces": "heap fragmentation",
    r"(?:is|are|was|were) told(?: by| from| in)?": "is detected by, is reported by",
    r"(?:is|are|was|were) said": "is reported",
    r"it is said": "is reported",
    r"tells apart|told apart": "distinguishes",
    r"put right|set right": "fix",
    r"mend(?:s|ed|ing)?": "fix, repair",
    r"run again to see it again": "run again to confirm",
    r"confirmation rounds?": "confirmation runs",
    r"cell by cell": "profile by profile and phase by phase",
    r"and its kin": "and compatible tools",
    r"last words": "last lines of the console",
    r"in the board's own words": "from the board's console",
    r"of our own making": "of this project",
    r"goes on with": "continues with",
    r"a budget was broken": "exceeds the budget, with the figure and the limit",
    r"short of words": "without output",
    r"into the record": "add to the record",
    r"onto the disk": "write a checkpoint",
    r"must bear|bears? (?:none|it)": "supports",
    r"has everything of": "has all figures of",
    r"what prints data": "commands that print data",
    r"likenesses": "similarities",
}
"""Patterns, without regard to case and to line breaks, and what to write in their place.

Only phrases that are wrong wherever they stand: words that are right in one sense (*note*, *bar*, *cell*) are
left to review.
"""

BANNED_IN_PAGES = BANNED | {r"(?<![-_.\"`])rounds(?![\"`])": "runs"}
"""Those of Markdown pages. In code a name, a key (``gates[].rounds``) and an option may have the word."""


def findings(text: str, banned: Mapping[str, str] = BANNED) -> Iterator[str]:
    """One line for each banned phrase of a text: its line number, itself, and its replacement."""
    between = r"[\s#*>/]+"  # a line break, in a comment or a list as well
    anything = "|".join(rf"(\b(?:{pattern})\b)".replace(" ", between) for pattern in banned)
    for match in re.finditer(anything, text, re.IGNORECASE):
        line = text.count("\n", 0, match.start()) + 1
        replacement = list(banned.values())[(match.lastindex or 0) - 1]
        yield f"{line}: {' '.join(match[0].split())!r}: write {replacement!r}"


def files() -> list[Path]:
    """All checked files, sorted."""
    found = {path for pattern in CHECKED for path in ROOT.glob(pattern) if path.is_file()}
    return sorted(found - {Path(__file__)})


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_words_of_a_file(path: Path) -> None:
    banned = BANNED_IN_PAGES if path.suffix == ".md" else BANNED
    assert list(findings(path.read_text(encoding="utf-8"), banned)) == []


@pytest.mark.parametrize("pattern", CHECKED)
def test_each_pattern_of_files_has_a_file(pattern: str) -> None:
    assert any(ROOT.glob(pattern))


def test_a_phrase_is_found_over_a_line_break_and_in_comments() -> None:
    text = "# It becomes the\n# Bar.\n\nA fault is told\nby its counters.\n"
    assert list(findings(text)) == [
        "1: 'the # Bar': write 'the baseline'",
        "4: 'is told by': write 'is detected by, is reported by'",
    ]


def test_words_that_only_look_alike_are_no_phrases() -> None:
    text = "the barrier, surrounds, amends, retold; the bar chart; --perf-all-rounds and `rounds`"
    assert list(findings(text, BANNED_IN_PAGES)) == []


def test_a_word_that_code_may_have_is_banned_in_pages() -> None:
    assert list(findings("three rounds")) == []
    assert list(findings("three rounds", BANNED_IN_PAGES)) == ["1: 'rounds': write 'runs'"]
