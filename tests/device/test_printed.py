"""Figures that a firmware prints on its console, in the forms that ESP-IDF's macros make."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_espperf.device.printed import PrintedFigure, read_figure


@pytest.mark.parametrize(
    ("line", "name", "value", "unit"),
    [
        ("[Performance][SPI_PER_TRANS_POLLING]: 15us", "SPI_PER_TRANS_POLLING", 15.0, "us"),
        ("[Performance][HTTPS_REQUEST_BIN_SIZE]: 412KB", "HTTPS_REQUEST_BIN_SIZE", 412.0, "KB"),
        ("[Performance][DMA_COPY]: 34.21 MB/s, dir: SRAM->SRAM, size: 4096 Bytes", "DMA_COPY", 34.21, "MB/s"),
        (
            "[Performance][FLASH_SPEED_BYTE_PER_SEC_RD]: 81234, flash_chip: generic",
            "FLASH_SPEED_BYTE_PER_SEC_RD",
            81234.0,
            "",
        ),
        ("I (1234) app: [Performance][tcp tx (udp)]:  -1.5e3", "tcp_tx_udp", -1500.0, ""),
        ("[Performance][x]: 1.", "x", 1.0, ""),
        ("[Performance][p95_ms]: 5 ms", "own_p95_ms", 5.0, "ms"),
        ("[Performance][x]: 5 averylongunitofnothing", "x", 5.0, ""),
    ],
)
def test_forms_that_are_printed(line: str, name: str, value: float, unit: str) -> None:
    assert read_figure(line) == PrintedFigure(name, value, unit)


@pytest.mark.parametrize(
    "line",
    [
        "[Performance][x]: nan",
        "[Performance][x]: inf",
        "[Performance][x]: 1e999",
        "[Performance][x]: 1.2.3",
        "[Performance][CORDIC_TIME]: Cordic time sine cosine is 12 us",
        "[Performance][]: 5",
        "[Performance][--]: 5",
        "[Performance]: 5",
        "Performance x: 5",
        "",
    ],
)
def test_lines_without_a_figure(line: str) -> None:
    assert read_figure(line) is None


def test_a_console_hands_them_out_once_and_keeps_a_bounded_number(tmp_path: Path) -> None:
    from pytest_espperf.device import console

    one = console.SerialConsole("socket://x", tmp_path / "log", None, 115200, lambda: 0.0)
    line = b"[Performance][x]: 5us\r\nnothing\r\n"
    one._take_in(line * 3)
    assert one.take_figures() == [PrintedFigure("x", 5.0, "us")] * 3
    assert one.take_figures() == []
    one._take_in(line * (console.MAX_FIGURES + 10))
    assert len(one.take_figures()) == console.MAX_FIGURES
    assert one._file is not None
    one._file.close()
