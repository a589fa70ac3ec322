"""The layout of text: wrapping, clipping, columns."""

from __future__ import annotations

import pytest

from pytest_espperf.model.text import clip, flat, one_line
from pytest_espperf.report.layout import WIDTH, columns, wrapped

HOSTILE = "a\x1b[2J\u202eb"


def test_lines_end_between_words_and_hang_behind_the_first() -> None:
    lines = wrapped("next: " + "word " * 40, indent=2, hanging=6)
    assert all(len(line) <= WIDTH for line in lines)
    assert lines[0].startswith("  next: word")
    assert all(line.startswith(" " * 8 + "word") for line in lines[1:])
    assert " ".join(" ".join(lines).split()) == "next:" + " word" * 40


def test_a_path_sticks_out_unless_words_may_be_broken() -> None:
    path = "/x" * WIDTH
    assert wrapped(f"see {path}", indent=2) == ["  see", f"  {path}"]
    assert max(map(len, wrapped(f"see {path}", indent=2, break_words=True))) == WIDTH


def test_an_empty_text_has_no_line() -> None:
    assert wrapped(" \n ") == []


def test_texts_stand_on_the_left_and_figures_on_the_right() -> None:
    assert columns(("name", "1.0", "+2 %"), (6, 5, 7)) == "name    1.0   +2 %"
    assert columns(("profile", "A", "1"), (6, 3, 3), texts=2) == "prof… A    1"
    assert columns(("a", "1,234,567"), (3, 5)) == "a  1,234,567", "a figure is never cut"


@pytest.mark.parametrize(
    ("text", "width", "short"), [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("", 3, ""), (HOSTILE, 9, "a?[2J?b")]
)
def test_a_clipped_text_is_printable(text: str, width: int, short: str) -> None:
    assert clip(text, width) == short


def test_what_is_wrapped_or_put_on_one_line_moves_no_cursor() -> None:
    assert wrapped(HOSTILE) == ["a?[2J?b"]
    assert flat(f" {HOSTILE}\n\tc ") == "a?[2J?b c"
    assert one_line(f"{HOSTILE}\nc", most=6) == "a [2J…"
