"""Saving sessions that run beside each other into one history."""

from __future__ import annotations

from datetime import datetime, timezone, tzinfo
from pathlib import Path
from typing import Any

import pytest
from support.slot_board import SlotBoard, slot_board

from pytest_espperf.config.lookup import resolve
from pytest_espperf.model.artifact import Verdict
from pytest_espperf.session import record
from pytest_espperf.session.judging import Judgement
from pytest_espperf.session.round_meter import RoundMeter


class Clock(datetime):
    """The time of day, as a test sets it."""

    hour_now, minute_now = 10, 0

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Clock:
        return cls(2026, 1, 1, cls.hour_now, cls.minute_now, 0, tzinfo=tz or timezone.utc)


def save(meter: RoundMeter) -> None:
    assert meter.save(Judgement(meter.artifact(), Verdict(kind="inconclusive"), fails=False)).saved


def test_only_a_clock_that_was_set_back_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "datetime", Clock)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    lines: list[str] = []

    def begin(board: SlotBoard, hour: int, minute: int) -> RoundMeter:
        monkeypatch.setattr(Clock, "hour_now", hour)
        monkeypatch.setattr(Clock, "minute_now", minute)
        options: dict[str, Any] = {"device_ip": [board.address]}
        return RoundMeter(resolve(options, {}, {}), tmp_path, kind="ab", say=lines.append)

    with slot_board() as one, slot_board() as other:
        with begin(one, 10, 0) as first, begin(other, 10, 1) as second:
            save(second)
            save(first)
        assert not [line for line in lines if "set back" in line]
        with begin(one, 9, 30) as third:
            save(third)
        (said,) = (line for line in lines if "set back" in line)
        assert "WARNING: the clock was set back: perf_20260101T100100Z" in said
