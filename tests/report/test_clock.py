from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from pytest_espperf.report.clock import moment_of, readable_time

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=timezone.utc)


def stamp(moment: datetime) -> str:
    return f"{moment.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}"


def test_a_time_is_that_of_this_computer_and_of_today_by_the_hour() -> None:
    for ago in (timedelta(0), timedelta(hours=30), timedelta(days=200)):
        moment = NOW - ago
        local = moment.astimezone()
        expected = f"today {local:%H:%M}" if not ago else f"{local:%Y-%m-%d %H:%M}"
        assert readable_time(stamp(moment), NOW) == expected


def test_in_utc_it_has_its_date_today_too() -> None:
    assert readable_time("20261128T115959Z", NOW, timezone.utc) == "2026-11-28 11:59"
    tokyo = timezone(timedelta(hours=9))
    assert readable_time("20261128T195959Z", NOW, tokyo) == "2026-11-29 04:59"


@pytest.mark.parametrize("text", ["", "yesterday", "20261128", "19691231T000000Z", "20261328T000000Z"])
def test_what_is_no_time_stays_as_it_is(text: str) -> None:
    assert moment_of(text) is None
    assert readable_time(text, NOW) == text


@pytest.mark.parametrize("text", ["99991231T235959Z", "19700101T000000Z"])
def test_the_ends_of_time_are_no_error(text: str) -> None:
    assert readable_time(text, NOW)
