"""The two slots for firmware: what they hold, which runs, and what the next boot tries. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_espperf.sim.images import PARTITIONS, SLOTS, FirmwareImage, SlotName, other_slot


class SlotInUseError(ValueError):
    """What runs cannot be overwritten."""


class Slots:
    """Two slots, of which one runs.

    Attributes:
        images: what each holds.
        rollback: whether the other one boots where one does not.
        running: what runs; the last one that was tried where the device is dead.
        chosen: what the next boot tries first.
        tried: what the last boot tried, in order; the last one runs.
        dead: whether nothing boots.
    """

    def __init__(self, images: Mapping[SlotName, FirmwareImage], *, rollback: bool) -> None:
        self.images = {slot: images.get(slot, FirmwareImage()) for slot in SLOTS}
        self.rollback = rollback
        self.running: SlotName = "a"
        self.chosen: SlotName = "a"
        self.tried: tuple[SlotName, ...] = ("a",)
        self._unbootable: set[SlotName] = set()
        self.dead = False

    @property
    def image(self) -> FirmwareImage:
        """What runs."""
        return self.images[self.running]

    def replace(self, images: Mapping[SlotName, FirmwareImage]) -> None:
        """Put other images into both slots, whatever runs, as no board can."""
        self.images = {slot: images.get(slot, FirmwareImage()) for slot in SLOTS}
        self._unbootable.clear()

    def flash(self, slot: SlotName, image: FirmwareImage) -> None:
        """Write an image into a slot.

        Raises:
            SlotInUseError: it is the one that runs.
        """
        if slot == self.running and not self.dead:
            raise SlotInUseError(
                f"slot {slot} ({PARTITIONS[slot]}) is running: flash slot {other_slot(slot)}, or switch first"
            )
        self.images[slot] = image
        self._unbootable.discard(slot)

    def boot_s(self) -> float:
        """Seconds of the device that the next boot takes, with all that it tries."""
        return sum(self.images[slot].boot_s for slot in self._tries())

    def boot(self) -> None:
        """Boot what was chosen; where that does not boot, the other one or nothing."""
        self.tried = self._tries()
        self._unbootable.update(slot for slot in self.tried if not self.images[slot].boots)
        self.running = self.chosen = self.tried[-1]
        self.dead = not self.image.boots

    def _tries(self) -> tuple[SlotName, ...]:
        other = other_slot(self.chosen)
        falls_back = self.rollback and not self.images[self.chosen].boots and self.images[other].boots
        return (self.chosen, other) if falls_back else (self.chosen,)

    def describe(self) -> dict[str, Any]:
        """Make the JSON of ``/ota``."""
        return {
            "running": self.running,
            "boot": self.chosen,
            "version": self.image.version,
            "slots": {
                slot: {
                    "partition": PARTITIONS[slot],
                    "version": image.version,
                    "state": "invalid" if slot in self._unbootable else "valid",
                }
                for slot, image in self.images.items()
            },
        }
