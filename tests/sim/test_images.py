"""Firmware images: what a build makes, and what is none."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_espperf.sim.images import FirmwareImage, image_of, parse_slot, read_image, slot_of


def test_an_image_is_read_from_the_file_of_a_build() -> None:
    built = {"version": "1.2", "slowdown": {"hello": 2, "all": 1.1}, "error_rate": {"all": 0.5}, "boot_s": 1}
    image = read_image(json.dumps(built).encode())
    assert image == FirmwareImage("1.2", {"/hello": 2, "all": 1.1}, {"all": 0.5}, boot_s=1)
    assert image_of(image.to_json()) == image


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"\x7fELF", "no JSON"),
        (b"[]", "is a JSON object, not"),
        (b"{}", "has no version"),
        (b'{"version": 1}', "version must be a text"),
        (b'{"version": "a,b"}', "without a comma"),
        (b'{"version": "a\\nb"}', "printable"),
        (b'{"version": "1", "slowdwon": {}}', "did you mean 'slowdown'"),
        (b'{"version": "1", "slowdown": 2}', "slowdown must be an object"),
        (b'{"version": "1", "slowdown": {"all": 0}}', "within 0.01"),
        (b'{"version": "1", "slowdown": {"nope": 2}}', "no profile or route"),
        (b'{"version": "1", "error_rate": {"all": 2}}', "within 0 and 1"),
        (b'{"version": "1", "boot_s": NaN}', "boot_s must be within"),
        (b'{"version": "1", "boot_s": true}', "boot_s must be a number"),
        (b'{"version": "1", "leak_bytes": 0.5}', "whole number"),
        (b'{"version": "1", "boots": "no"}', "true or false"),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(body: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        read_image(body)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@given(st.binary(max_size=60))
def test_any_bytes_are_an_image_or_a_value_error(body: bytes) -> None:
    with contextlib.suppress(ValueError):
        read_image(body)


@given(st.text(max_size=30))
def test_any_text_is_a_slot_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_slot(text)


def test_a_slot_is_read_from_assignments() -> None:
    text = "b: version=1.1, python_heavy=1.12,hello=2,error_rate:/hello=0.05,leak_bytes=8,boot_s=0.5,boots=no"
    image = FirmwareImage(
        "1.1", {"python_heavy": 1.12, "/hello": 2}, {"/hello": 0.05}, leak_bytes=8, boot_s=0.5, boots=False
    )
    assert parse_slot(text) == ("b", image)
    assert parse_slot(f"ota_1:{image.to_text()}") == ("b", image)
    assert parse_slot("a:") == ("a", FirmwareImage())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("b", "write SLOT:KEY=VALUE"),
        ("c:version=1", "no slot: use a or b"),
        ("b:vversion=1", "did you mean 'version'"),
        ("b:python_havy=1.1", "did you mean 'python_heavy'"),
        ("b:version=1,version=2", "version of slot b is given twice"),
        ("b:hello=1,/hello=2", "slowdown of /hello is given twice"),
        ("b:hello", "NAME=NUMBER"),
        ("b:boots=maybe", "yes or no"),
        ("b:boot_s=soon", "boot_s must be a number"),
        ("b:leak_bytes=1.5", "whole number"),
        ("b:error_rate:hello=2", "within 0 and 1"),
        ("b:error_rate:nope=0.1", "no profile or route"),
    ],
)
def test_bad_slots_are_refused_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        parse_slot(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "slot"), [("a", "a"), ("B", "b"), ("ota_0", "a"), (" OTA_1 ", "b")])
def test_slots_have_the_names_of_their_partitions_too(text: str, slot: Any) -> None:
    assert slot_of(text) == slot
