"""Which message an echo answers, and whether it is right."""

from __future__ import annotations

import random

import pytest

from pytest_espperf.load.echoes import REORDERED, WRONG, InFlight, Messages, SentMessage
from pytest_espperf.model.workload import StreamSpec


def flight(spec: StreamSpec, count: int) -> tuple[InFlight, list[bytes]]:
    messages = Messages(spec)
    flying = InFlight(messages, binary=spec.binary)
    sent = [messages.make(number) for number in range(count)]
    for number, payload in enumerate(sent):
        flying.add(number, SentMessage(payload, number, number, 1000 + number))
    return flying, sent


@pytest.mark.parametrize("size", [1, 9, 10, 11, 64, 5000])
@pytest.mark.parametrize("binary", [False, True])
def test_a_message_has_its_size_and_a_number_where_it_has_room(size: int, binary: bool) -> None:
    messages = Messages(StreamSpec("/ws", size=size, binary=binary))
    made = [messages.make(number) for number in range(3)]
    assert {len(one) for one in made} == {size}
    assert messages.numbered == (size >= 10)
    assert len(set(made)) == (3 if messages.numbered else 1)
    assert made == [Messages(StreamSpec("/ws", size=size, binary=binary)).make(n) for n in range(3)]
    if not binary:
        assert all(one.decode().isprintable() for one in made)


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (StreamSpec("/ws", message="hello"), b"hello"),
        (StreamSpec("/ws", message='{"id": {n}, "v": 1}'), b'{"id": 1000000007, "v": 1}'),
        (StreamSpec("/ws", message="{n}"), b"1000000007"),
        (StreamSpec("/ws", message="\u00e4{n}"), "\u00e41000000007".encode()),
    ],
)
def test_a_message_of_the_project_is_sent_as_it_stands(spec: StreamSpec, wanted: bytes) -> None:
    messages = Messages(spec)
    assert messages.make(7) == wanted
    assert messages.number_of(wanted) == (7 if messages.numbered else None)


def test_a_message_is_padded_to_its_size() -> None:
    made = Messages(StreamSpec("/ws", message="go {n}!", size=40)).make(0)
    assert made.startswith(b"go 1000000000!")
    assert len(made) == 40


NUMBERED, LITERAL = StreamSpec("/ws", size=20), StreamSpec("/ws", message="hello")


@pytest.mark.parametrize("spec", [NUMBERED, LITERAL])
def test_echoes_in_order_are_right(spec: StreamSpec) -> None:
    flying, sent = flight(spec, 5)
    for number, payload in enumerate(sent):
        found = flying.echoed(payload, binary=False)
        assert found is not None
        assert (found[0].start_ns, found[1]) == (number, None)
    assert not flying
    assert flying.foreign == 0


def test_echoes_out_of_order_are_told_by_their_number() -> None:
    for seed in range(50):
        flying, sent = flight(NUMBERED, 8)
        order = random.Random(seed).sample(range(8), 8)
        highest = -1
        for number in order:
            found = flying.echoed(sent[number], binary=False)
            assert found is not None
            assert found[0].start_ns == number
            assert found[1] == (REORDERED if number < highest else None), f"seed {seed}: {order}"
            highest = max(highest, number)


def test_a_second_echo_answers_nothing() -> None:
    flying, sent = flight(NUMBERED, 2)
    assert flying.echoed(sent[0], binary=False) is not None
    assert flying.echoed(sent[0], binary=False) is None
    assert (len(flying), flying.foreign) == (1, 1)


@pytest.mark.parametrize("spec", [NUMBERED, LITERAL])
def test_a_spoilt_echo_is_wrong(spec: StreamSpec) -> None:
    flying, sent = flight(spec, 2)
    found = flying.echoed(b"?" + sent[0][1:], binary=False)
    assert found is not None
    assert (found[0].start_ns, found[1]) == (0, WRONG)


def test_a_cut_echo_is_wrong_if_its_number_is_left() -> None:
    flying, sent = flight(NUMBERED, 2)
    found = flying.echoed(sent[1][:-1], binary=False)
    assert found is not None
    assert (found[0].start_ns, found[1]) == (1, WRONG)


def test_an_echo_of_the_other_type_is_wrong() -> None:
    flying, sent = flight(NUMBERED, 1)
    found = flying.echoed(sent[0], binary=True)
    assert found is not None
    assert found[1] == WRONG


@pytest.mark.parametrize("spec", [NUMBERED, LITERAL])
def test_what_a_board_says_of_itself_answers_nothing(spec: StreamSpec) -> None:
    flying, _ = flight(spec, 1)
    for _turn in range(3):
        assert flying.echoed(b'{"temperature": 20}' * 5, binary=False) is None
    assert len(flying) == 1
    assert "3 other messages" in flying.what_came()
    assert len(flying.what_came()) < 200


def test_overdue_messages_are_taken_out_from_the_oldest_on() -> None:
    flying, _ = flight(NUMBERED, 3)
    assert flying.overdue(999) is None
    first = flying.overdue(1001)
    assert first is not None
    assert first.start_ns == 0
    assert len(flying.take_all()) == 2
    assert flying.overdue(5000) is None
