"""The first words of a session: the board, what will run, about how long, against which baseline."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_espperf.config.lookup import resolve
from pytest_espperf.session.context import Context, make_context
from pytest_espperf.session.opening import LINE, opening_lines


def context(tmp_path: Path, **words: str) -> Context:
    return make_context(resolve(words, {}, {}), tmp_path, folder=tmp_path)


def text(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines)


def test_it_names_board_plan_time_and_baseline(tmp_path: Path) -> None:
    of = context(tmp_path, perf_preset="quick", perf_profiles="python_light", perf_runs="1")
    lines = opening_lines(of, of.plan.phases(), "b", "no baseline yet")
    assert lines == ["board b: python_light x 1 run (burst 2 s, long 3 s), about 6 s; no", "  baseline yet"]


def test_it_fits_the_width_and_keeps_numbers_with_their_units(tmp_path: Path) -> None:
    of = context(tmp_path, perf_preset="balanced")
    for length in range(40):
        lines = opening_lines(of, of.plan.phases(), "b" * length, "against 6 accepted sessions")
        assert all(len(line) <= LINE for line in lines)
        assert not any(line.strip().startswith(("s,", "s)", "s;", "min")) for line in lines)
        assert "c_static_only, python_light, python_heavy x 6 runs (burst 3 to 8 s, long 4 to 15 s)" in text(
            lines
        )
        assert "\u00a0" not in text(lines)


@pytest.mark.parametrize(
    ("preset", "runs", "about"),
    [("quick", "1", "about 17 s;"), ("quick", "9", "about 3 min;"), ("soak", "6", "about 3 h 21 min;")],
)
def test_the_time_is_rounded_to_what_an_estimate_is_worth(
    tmp_path: Path, preset: str, runs: str, about: str
) -> None:
    of = context(tmp_path, perf_preset=preset, perf_runs=runs)
    assert about in text(opening_lines(of, of.plan.phases(), "b", "x"))


def test_of_a_selection_only_what_is_selected_is_named(tmp_path: Path) -> None:
    of = context(tmp_path, perf_preset="quick")
    chosen = [one for one in of.plan.phases() if one.profile.name == "python_heavy" and one.run == 1]
    assert text(opening_lines(of, chosen[:1], "b", "")).startswith(
        "board b: python_heavy x 1 run (burst 2 s), about 2 s"
    )


def test_it_says_how_a_phase_asks_where_that_is_unusual(tmp_path: Path) -> None:
    (tmp_path / "espperf.toml").write_text("""
[profiles.shop]
paths = ["/cart"]
phases.new = {duration_s = 2, reuse = false}
phases.calm = {duration_s = 3, reuse = false, think_time_s = 1}
phases.visit = {duration_s = 4, kind = "page", path = "/", assets = ["/a"]}
""")
    of = context(tmp_path, perf_profiles="shop", perf_runs="1")
    shown = text(opening_lines(of, of.plan.phases(), "b", ""))
    assert "(new 2 s without reuse, calm 3 s without reuse with pauses, visit 4 s of pages)" in shown
