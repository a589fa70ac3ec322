"""What puts a firmware on a board: commands, slots; and what asks it which one runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from support.slot_board import slot_board

from pytest_espperf.device.http import HttpAnswer
from pytest_espperf.errors import DeviceError
from pytest_espperf.model.workload import Target
from pytest_espperf.session.firmwares import CommandFirmware, RunningCheck, SlotFirmware

TARGET = Target(scheme="http", address="192.0.2.1", port=8080, host_header="board")


def test_a_command_gets_the_address_and_the_slot(tmp_path: Path) -> None:
    script, log = tmp_path / "flash.py", tmp_path / "log"
    script.write_text(f"import json, sys; open({str(log)!r}, 'w').write(json.dumps(sys.argv[1:]))")
    firmware = CommandFirmware(
        "old", f'"{sys.executable}" "{script}" {{ip}} {{port}} {{slot}}', timeout_s=30, slot="a"
    )
    firmware.prepare()
    firmware.put(TARGET, 100.0)
    assert json.loads(log.read_text()) == ["192.0.2.1", "8080", "a"]
    assert (firmware.facts.label, firmware.facts.how, firmware.facts.slot) == ("old", "slot", "a")


def test_a_failing_command_names_the_firmware_and_not_itself() -> None:
    firmware = CommandFirmware("new", f'"{sys.executable}" -c "exit(3)" --password s3cret', timeout_s=30)
    with pytest.raises(DeviceError, match=r"for the new firmware ended with exit code 3") as caught:
        firmware.put(TARGET, 100.0)
    assert "s3cret" not in str(caught.value)


def test_a_command_takes_no_longer_than_is_left() -> None:
    firmware = CommandFirmware("new", f'"{sys.executable}" -c "import time; time.sleep(60)"', timeout_s=30)
    with pytest.raises(DeviceError, match=r"was not done after 0\.2 s"):
        firmware.put(TARGET, 0.2)


def test_a_slot_is_switched_over_http() -> None:
    with slot_board() as board:
        target = Target(scheme="http", address="127.0.0.1", port=board.port, host_header="board")
        SlotFirmware("new", "b", "/switch?slot={slot}").put(target, 10.0)
        assert board.await_boot() == "b"
        with pytest.raises(DeviceError, match=r"POST /switch\?slot=c, for the old .* 400: no such slot"):
            SlotFirmware("old", "c", "/switch?slot={slot}").put(target, 10.0)
        assert board.booted == ["b"]


def test_a_board_that_reboots_before_it_has_answered_has_switched() -> None:
    def gone(*_: object, **__: object) -> HttpAnswer:
        raise DeviceError("RemoteProtocolError: Server disconnected without sending a response.")

    SlotFirmware("new", "b", "/switch?slot={slot}", post=gone).put(TARGET, 10.0)


@pytest.mark.parametrize("met", ["ConnectError: refused", "no answer within 10 s"])
def test_a_board_that_is_not_there_has_not(met: str) -> None:
    def away(*_: object, **__: object) -> HttpAnswer:
        raise DeviceError(met)

    with pytest.raises(DeviceError, match="for the new firmware"):
        SlotFirmware("new", "b", "/switch", post=away).put(TARGET, 10.0)


def test_the_name_of_a_slot_is_encoded() -> None:
    asked: list[str] = []

    def post(_: Target, method: str, path: str, *, timeout_s: float) -> HttpAnswer:
        asked.append(f"{method} {path}")
        return HttpAnswer(204, b"")

    SlotFirmware("new", "a&b /", "/ota?slot={slot}&now=1", post=post).put(TARGET, 10.0)
    assert asked == ["POST /ota?slot=a%26b%20%2F&now=1"]


def test_what_is_no_json_is_said_to_be_none() -> None:
    def ask(*_: object, **__: object) -> HttpAnswer:
        return HttpAnswer(status=200, body=b"version 1.0")

    with pytest.raises(DeviceError, match=r"answers no JSON with a field fw: 'version 1.0'"):
        RunningCheck("/ver:fw", ask=ask).check(TARGET, "old", 1.0)


def test_a_field_that_is_missing_is_refused_with_those_that_are_there() -> None:
    def ask(*_: object, **__: object) -> HttpAnswer:
        return HttpAnswer(status=200, body=b'{"running": "a", "slots": 2}')

    with pytest.raises(DeviceError, match=r"has no field runing; its fields: running, slots$"):
        RunningCheck("/ota:runing", ask=ask).check(TARGET, "old", 1.0)


def test_a_board_that_went_back_does_not_make_the_firmware_of_before_a_stranger() -> None:
    says = {"runs": "1.0"}

    def ask(*_: object, **__: object) -> HttpAnswer:
        return HttpAnswer(status=200, body=says["runs"].encode())

    check = RunningCheck("/ver", ask=ask)
    assert check.check(TARGET, "good", 1.0) == "1.0"
    with pytest.raises(DeviceError, match=r"'1\.0' with the bad firmware as with the good one"):
        check.check(TARGET, "bad", 1.0)
    assert check.check(TARGET, "good", 1.0) == "1.0"
    says["runs"] = "2.0"
    assert check.check(TARGET, "bad", 1.0) == "2.0"
    says["runs"] = "1.0"
    with pytest.raises(DeviceError, match=r"said '2\.0' with the bad firmware, and says '1\.0' now"):
        check.check(TARGET, "bad", 1.0)
    assert check.check(TARGET, "good", 1.0) == "1.0"
