"""Names and values of the firmware's own figures, and how they are gathered."""

from __future__ import annotations

import decimal

import pytest

from pytest_espperf.model import own_figures as own
from pytest_espperf.model.artifact import OwnFigure
from pytest_espperf.model.registry import METRICS, find_metric


@pytest.mark.parametrize("name", ["boot_ms", "app.iram0.text", "9", "A-b", "x" * 64])
def test_names(name: str) -> None:
    assert own.check_name(name) == name


@pytest.mark.parametrize("name", ["", " ", "a b", "a:b", ".text", "-a", "x" * 65, "é", "a\n", *METRICS])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        own.check_name(name)


@pytest.mark.parametrize("value", [1, 1.5, -2, 0, decimal.Decimal("3.5"), "4"])
def test_values(value: float) -> None:
    assert own.check_value(value) == float(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, 1e16, None, "x", True, []])
def test_what_is_no_value(value: object) -> None:
    with pytest.raises(ValueError, match=r"number|beyond"):
        own.check_value(value)


def test_any_text_of_a_board_becomes_a_name_or_nothing() -> None:
    for text in ("a b", "\x1b[31m", "é", "..", "p95_ms", "x" * 300, "a\u202eb"):
        name = own.safe_name(text)
        assert not name or own.check_name(name) == name


@pytest.mark.parametrize(
    ("name", "unit", "better"),
    [
        ("boot", "ms", "lower"),
        ("copy", "MB/s", "higher"),
        ("tx", "Mbps", "higher"),
        ("WR_SPEED", "", "higher"),
    ],
)
def test_of_rates_more_is_better(name: str, unit: str, better: str) -> None:
    assert own.likely_better(name, unit) == better


def test_names_and_values_are_bounded() -> None:
    figures: dict[str, OwnFigure] = {}
    for number in range(own.MOST_FIGURES):
        own.add_value(figures, f"f{number}", 1.0, source="test")
    with pytest.raises(ValueError, match="at most 100"):
        own.add_value(figures, "more", 1.0, source="test")
    for _ in range(own.MOST_VALUES + 5):
        own.add_value(figures, "f1", 2.0, source="test")
    assert len(figures["f1"].values) == own.MOST_VALUES


@pytest.mark.parametrize("other", [{"unit": "s"}, {"better": "higher"}, {"source": "console"}])
def test_a_name_has_one_unit_direction_and_source(other: dict[str, str]) -> None:
    figures = {"a": OwnFigure(unit="ms", values=[1.0], source="test")}
    given = {"unit": "ms", "better": "lower", "source": "test"} | other
    with pytest.raises(ValueError, match="already"):
        own.add_value(figures, "a", 2.0, **given)  # type: ignore[arg-type] # words
    assert own.add_figures(figures, {"a": OwnFigure(values=[2.0], **given)}) != []  # type: ignore[arg-type] # words
    assert figures["a"].values == [1.0]


@pytest.mark.parametrize(
    ("value", "text"),
    [(480_213.0, "480,213 bytes"), (0.00345, "0.00345 bytes"), (12.5, "12.50 bytes"), (0.0, "0 bytes")],
)
def test_values_of_any_size_are_shown_with_the_decimals_that_they_need(value: float, text: str) -> None:
    metric = find_metric("size", "bytes", "lower")
    assert metric is not None
    assert metric.format(value) == text


def test_what_is_no_metric_is_none() -> None:
    assert find_metric("delayed_ack") is None
