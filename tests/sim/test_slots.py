"""Two slots for firmware, without a device around them."""

from __future__ import annotations

import pytest

from pytest_espperf.sim.images import FirmwareImage
from pytest_espperf.sim.slots import SlotInUseError, Slots

OLD, NEW = FirmwareImage("1.0"), FirmwareImage("1.1", boot_s=3.0)
DEAD = FirmwareImage("1.2", boot_s=0.5, boots=False)


def test_what_was_chosen_boots_and_stays_chosen() -> None:
    slots = Slots({"a": OLD, "b": NEW}, rollback=False)
    assert (slots.running, slots.image, slots.boot_s()) == ("a", OLD, 2.0)
    slots.chosen = "b"
    assert (slots.running, slots.boot_s()) == ("a", 3.0)
    slots.boot()
    assert (slots.running, slots.image, slots.dead) == ("b", NEW, False)
    slots.boot()
    assert slots.running == "b"


def test_what_runs_is_not_overwritten() -> None:
    slots = Slots({}, rollback=False)
    with pytest.raises(SlotInUseError, match=r"slot a \(ota_0\) is running: flash slot b"):
        slots.flash("a", NEW)
    slots.flash("b", NEW)
    assert slots.describe()["slots"]["b"] == {"partition": "ota_1", "version": "1.1", "state": "valid"}


def test_what_does_not_boot_leaves_the_device_dead_until_another_slot_is_chosen() -> None:
    slots = Slots({"a": OLD, "b": DEAD}, rollback=False)
    slots.chosen = "b"
    slots.boot()
    assert (slots.dead, slots.running, slots.tried) == (True, "b", ("b",))
    slots.flash("b", NEW)  # as a serial tool can: nothing runs
    slots.boot()
    assert (slots.dead, slots.image) == (False, NEW)


def test_with_rollback_the_other_slot_boots_and_is_chosen_from_then_on() -> None:
    slots = Slots({"a": OLD, "b": DEAD}, rollback=True)
    slots.chosen = "b"
    assert slots.boot_s() == 0.5 + 2.0
    slots.boot()
    assert (slots.dead, slots.running, slots.chosen, slots.tried) == (False, "a", "a", ("b", "a"))
    assert slots.describe()["slots"]["b"]["state"] == "invalid"
    slots.flash("b", NEW)
    assert slots.describe()["slots"]["b"]["state"] == "valid"


def test_where_neither_boots_rollback_does_not_help() -> None:
    slots = Slots({"a": DEAD, "b": DEAD}, rollback=True)
    slots.boot()
    assert slots.dead
