"""Firmware over the air: the routes that show, flash and switch the slots. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pytest_espperf.sim.device import Device
from pytest_espperf.sim.images import PARTITIONS, SlotName, other_slot, read_image, slot_of
from pytest_espperf.sim.messages import Request, Response, error_response, json_response
from pytest_espperf.sim.slots import SlotInUseError, Slots

OTA_PATH, FLASH_PATH, SWITCH_PATH = "/ota", "/ota/flash", "/ota/switch"


def _show(_request: Request, device: Device, _now_s: float) -> Response:
    return json_response(device.slots.describe())


def _flash(request: Request, device: Device, _now_s: float) -> Response:
    """Write the image of the body into ``?slot=`` (what does not run, by default); ``&switch=1`` boots it."""
    slots = device.slots
    try:
        slot = slot_of(request.query.get("slot", other_slot(slots.running)))
        image = read_image(request.body)
        slots.flash(slot, image)
    except SlotInUseError as error:
        return error_response(409, str(error))
    except ValueError as error:
        return error_response(400, str(error))
    facts = {"slot": slot, "partition": PARTITIONS[slot], "version": image.version}
    if request.query.get("switch", "0") in {"", "0"}:
        return json_response(facts)
    return _boot_into(slots, slot, facts)


def _switch(request: Request, device: Device, _now_s: float) -> Response:
    """Boot ``?slot=``, by default the one that does not run."""
    slots = device.slots
    try:
        slot = slot_of(request.query.get("slot", other_slot(slots.running)))
    except ValueError as error:
        return error_response(400, str(error))
    return _boot_into(slots, slot, {"slot": slot, "partition": PARTITIONS[slot]})


def _boot_into(slots: Slots, slot: SlotName, facts: dict[str, Any]) -> Response:
    slots.chosen = slot
    return json_response({**facts, "rebooting": True}, closes=True, reboots=True)


OTA_ROUTES: Mapping[str, tuple[str, Callable[[Request, Device, float], Response]]] = {
    OTA_PATH: ("GET", _show),
    FLASH_PATH: ("POST", _flash),
    SWITCH_PATH: ("POST", _switch),
}
"""The routes: their method, and who answers."""
