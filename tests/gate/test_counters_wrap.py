"""Counters and uptimes that wrap, at 2**16, 2**30, 2**31 and 2**32: no reboot, no absurd difference."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_espperf.device import TelemetryReading, reboot_signs
from pytest_espperf.device.reboot import UPTIME_WIDTHS
from pytest_espperf.model.figures import COUNTERS, WIDTHS, moved_counters, rise

widths = st.sampled_from(WIDTHS)


def at(began_s: float, took_s: float = 0.02, **figures: Any) -> TelemetryReading:
    """A reading whose figures are of any moment while it took."""
    return TelemetryReading(stats=figures, memory=figures, began_s=began_s, ended_s=began_s + took_s)


def told(started: float) -> TelemetryReading:
    return TelemetryReading(stats={"requests_started": started}, memory={})


class TestUptime:
    @given(
        width=st.sampled_from(UPTIME_WIDTHS),
        ticks=st.sampled_from([1000.0, 100.0, 1.0]),
        phase_s=st.floats(1.0, 700.0),
        share=st.floats(0.0, 1.0),
        clock=st.floats(-0.005, 0.005),
    )
    def test_a_wrap_is_no_reboot(
        self, width: float, ticks: float, phase_s: float, share: float, clock: float
    ) -> None:
        began = (width - share * phase_s * ticks) % width
        ended = (began + phase_s * ticks * (1 + clock)) % width
        before, after = at(50.0, uptime_ms=int(began)), at(50.0 + phase_s, uptime_ms=int(ended))
        assert reboot_signs(before, after) == []

    @given(phase_s=st.floats(1.0, 700.0), share=st.floats(0.0, 1.0))
    def test_a_signed_one_goes_on_below_zero(self, phase_s: float, share: float) -> None:
        began = 2**31 - 1 - int(share * phase_s * 1000)
        ended = (began + int(phase_s * 1000) + 2**31) % 2**32 - 2**31
        before, after = at(50.0, uptime_ms=began), at(50.0 + phase_s, uptime_ms=ended)
        assert reboot_signs(before, after) == []

    @pytest.mark.parametrize("bits", [16, 30, 31, 32])
    def test_a_reboot_shortly_before_the_wrap_is_one(self, bits: int) -> None:
        """It would have wrapped ten seconds later; after four it is near zero."""
        up = 2**bits - 10_000
        (sign,) = reboot_signs(at(50.0, uptime_ms=up), at(54.0, uptime_ms=900))
        assert sign == f"uptime_ms fell from {up} to 900"

    def test_reboots_are_found(self) -> None:
        """Of boards that were up for a second to fifty days nearly all: others look like a wrap by chance."""
        rng = random.Random(5)
        missed = 0
        for _ in range(20_000):
            up = int(1000 * 10 ** rng.uniform(0, 6.6))
            phase_s = rng.uniform(1.0, 60.0)
            now = int(1000 * rng.uniform(0.0, phase_s))
            if now < up:
                missed += not reboot_signs(at(50.0, uptime_ms=up), at(50.0 + phase_s, uptime_ms=now))
        assert missed < 20_000 / 300

    def test_without_the_time_that_passed_a_fall_is_a_sign(self) -> None:
        before = TelemetryReading(stats={"uptime_ms": 2**32 - 5})
        assert reboot_signs(before, TelemetryReading(stats={"uptime_ms": 7}))


class TestRequests:
    @given(
        width=widths, answered=st.integers(1, 200_000), others=st.integers(0, 50), left=st.integers(0, 10**6)
    )
    def test_a_counter_that_nobody_zeroes_wraps(
        self, width: int, answered: int, others: int, left: int
    ) -> None:
        was = max(0, width - 1 - left)
        now = (was + answered + others) % width
        assert reboot_signs(told(was), told(now), answered=answered) == []

    @given(answered=st.integers(2**16, 400_000), others=st.integers(0, 50))
    def test_one_of_16_bits_wraps_in_one_phase(self, answered: int, others: int) -> None:
        assert reboot_signs(told(0), told((answered + others) % 2**16), answered=answered) == []

    @pytest.mark.parametrize("was", [0, 60_000, 2**30 - 400, 2**32 - 400])
    def test_a_reboot_is_one(self, was: int) -> None:
        (sign,) = reboot_signs(told(was), told(300), answered=5000)
        assert "300 requests started" in sign

    def test_errors_and_warm_up_are_asked_for_as_well(self) -> None:
        before, after = told(2**16 - 400), told(850)
        assert reboot_signs(before, after, answered=900)
        assert reboot_signs(before, after, answered=900, asked=1200) == []


class TestCounters:
    @given(width=widths, rose=st.integers(0, 2**14 - 1), left=st.integers(0, 2**14 - 1))
    def test_a_wrap_counts_on(self, width: int, rose: int, left: int) -> None:
        was = width - 1 - left
        assert rise(was, (was + rose) % width) == rose

    @given(bits=st.sampled_from([16, 32]), rose=st.integers(0, 2**14 - 1), left=st.integers(0, 2**14 - 1))
    def test_a_signed_one_counts_on(self, bits: int, rose: int, left: int) -> None:
        half = 2 ** (bits - 1)
        was = half - 1 - left
        now = (was + rose + half) % 2**bits - half
        assert rise(was, now) == rose

    @given(st.integers(-(2**31), 2**32), st.integers(-(2**31), 2**32))
    def test_nothing_is_negative_or_enormous(self, was: int, now: int) -> None:
        rose = rise(was, now)
        assert 0 <= rose <= max(2**31, now - was)

    @pytest.mark.parametrize("name", COUNTERS)
    def test_every_watched_one_wraps(self, name: str) -> None:
        assert moved_counters({name: 2**32 - 2}, {name: 3}, COUNTERS) == {name: 5}
        assert moved_counters({name: 900}, {name: 3}, COUNTERS) == {name: 3}, "it was zeroed"
