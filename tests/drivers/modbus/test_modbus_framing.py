"""Bytes in, the answer that was asked for out, or nothing: whatever a line or a network makes of the frames."""

import contextlib
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.drivers.modbus.framing import Framing, Mbap, Rtu, WrongFrame, crc
from gateway.drivers.modbus.pdu import IdentifyRequest, ReadRequest, Request, identification, page_of

UNIT = 17
REGISTERS = ReadRequest("holding", 0x6B, 3)
ANSWER = bytes.fromhex("03 06 02 2B 00 00 00 64")
"""The example of the Modbus Application Protocol V1.1b3, section 6.3."""


def mbap(transaction: int, pdu: bytes, unit: int = UNIT) -> bytes:
    return struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu


def rtu(pdu: bytes, unit: int = UNIT) -> bytes:
    frame = bytes((unit,)) + pdu
    return frame + crc(frame)


def good(request: ReadRequest, fill: int) -> bytes:
    return bytes((request.function, request.size)) + bytes((fill,)) * request.size


def outcome(framing: Framing, *chunks: bytes) -> bytes | None:
    """Feed chunks until there is an answer, or one is wrong."""
    for chunk in chunks:
        if (pdu := framing.feed(chunk)) is not None:
            return pdu
    return None


def test_requests_are_framed_as_the_standards_show() -> None:
    framing = Mbap(first=0x1500)
    assert framing.ask(UNIT, REGISTERS) == bytes.fromhex("1501 0000 0006 11 03 006B 0003")
    assert Rtu().ask(2, ReadRequest("holding", 0, 1)) == bytes.fromhex("02 03 00 00 00 01 84 39")


def test_p10_there_are_requests_for_function_codes_1_to_4_and_43_with_14_and_no_others() -> None:
    tables = [ReadRequest(table, 0, 1).pdu[0] for table in ("coil", "discrete", "holding", "input")]
    assert tables == [1, 2, 3, 4]
    assert IdentifyRequest(1).pdu == bytes.fromhex("2B 0E 01 00")
    made = {kind.__name__ for kind in all_kinds(Request)}
    assert made == {"ReadRequest", "IdentifyRequest"}


def all_kinds(kind: type[Request]) -> Iterator[type[Request]]:
    for each in kind.__subclasses__():
        yield each
        yield from all_kinds(each)


@pytest.mark.parametrize(
    ("table", "start", "count"),
    [("holding", 0, 0), ("holding", 0, 126), ("holding", -1, 1), ("holding", 65535, 2), ("coil", 0, 2001)],
)
def test_what_no_request_can_hold_is_refused_before_it_is_sent(table: str, start: int, count: int) -> None:
    with pytest.raises(ValueError, match="no request reads"):
        ReadRequest(table, start, count)  # type: ignore[arg-type]


def test_transaction_ids_begin_at_random_count_up_and_are_never_zero() -> None:
    assert len({Mbap().ask(1, REGISTERS)[:2] for _ in range(50)}) > 10
    framing = Mbap(first=0xFFFE)
    assert [framing.ask(1, REGISTERS)[:2].hex() for _ in range(3)] == ["ffff", "0001", "0002"]


def test_p5_late_answers_are_told_apart_across_the_wrap_of_transaction_ids() -> None:
    framing = Mbap(first=0xFFFE)
    for _ in range(3):
        framing.ask(UNIT, REGISTERS)
        framing.give_up()
    framing.ask(UNIT, REGISTERS)
    packet = mbap(0xFFFF, good(REGISTERS, 1)) + mbap(2, good(REGISTERS, 2)) + mbap(3, ANSWER)
    assert framing.feed(packet) == ANSWER
    assert [late.transaction for late in framing.late] == [0xFFFF, 2]
    with pytest.raises(WrongFrame, match="transaction 4 instead of 3"):
        framing.feed(mbap(4, ANSWER))


def test_p5_what_was_sent_on_a_connection_of_before_is_not_late_but_wrong() -> None:
    framing = Mbap(first=100)
    framing.ask(UNIT, REGISTERS)
    with pytest.raises(WrongFrame, match="transaction 100 instead of 101"):
        framing.feed(mbap(100, ANSWER))


def test_a_second_copy_of_an_answer_is_late() -> None:
    framing = Mbap(first=100)
    framing.ask(UNIT, REGISTERS)
    assert framing.feed(mbap(101, ANSWER) * 2) == ANSWER
    assert framing.feed(mbap(101, ANSWER)) is None
    assert [late.pdu for late in framing.late] == [ANSWER, ANSWER]


def test_a_datagram_holds_whole_frames_only() -> None:
    framing = Mbap(datagrams=True, first=100)
    framing.ask(UNIT, REGISTERS)
    with pytest.raises(WrongFrame, match="a part of a frame"):
        framing.feed(mbap(101, ANSWER)[:-1])


REQUESTS = st.builds(
    ReadRequest,
    st.sampled_from(["coil", "discrete", "holding", "input"]),
    st.integers(0, 65000),
    st.integers(1, 125),
)


@given(REQUESTS, st.data())
def test_p5_an_answer_in_any_pieces_with_late_ones_around_it_is_the_one_that_was_asked_for(
    request: ReadRequest, data: st.DataObject
) -> None:
    framing = Mbap(first=data.draw(st.integers(1, 0xFFFF)))
    late = data.draw(st.integers(0, 3))
    asked = [struct.unpack(">H", framing.ask(UNIT, request)[:2])[0] for _ in range(late + 1)]
    packet = b"".join(mbap(number, good(request, 0xEE)) for number in asked[:-1]) + mbap(asked[-1], good(request, 0x55))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(packet)), max_size=6)))
    chunks = [packet[start:end] for start, end in zip([0, *cuts], [*cuts, len(packet)], strict=True)]
    assert outcome(framing, *chunks) == good(request, 0x55)
    assert not framing.begun


@given(REQUESTS, st.data())
def test_p5_an_answer_on_a_serial_line_in_any_pieces_with_or_without_echo_is_the_one_that_was_asked_for(
    request: ReadRequest, data: st.DataObject
) -> None:
    framing = Rtu()
    sent = framing.ask(UNIT, request)
    packet = (sent if data.draw(st.booleans()) else b"") + rtu(good(request, 0x55))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(packet)), max_size=6)))
    chunks = [packet[start:end] for start, end in zip([0, *cuts], [*cuts, len(packet)], strict=True)]
    assert outcome(framing, *chunks) == good(request, 0x55)


@given(REQUESTS, st.data())
def test_p5_a_damaged_frame_is_never_a_value_on_a_serial_line(request: ReadRequest, data: st.DataObject) -> None:
    """One to three bits flipped, bytes cut off, doubled, or put before: CRC and length find all of it."""
    framing = Rtu()
    framing.ask(UNIT, request)
    frame = bytearray(rtu(good(request, 0x55)))
    kind = data.draw(st.sampled_from(["flip", "cut", "before"]))
    if kind == "flip":
        places = data.draw(st.lists(st.integers(0, len(frame) * 8 - 1), min_size=1, max_size=3, unique=True))
        for place in places:
            frame[place // 8] ^= 1 << place % 8
    elif kind == "cut":
        at = data.draw(st.integers(0, len(frame) - 1))
        del frame[at]
    else:
        frame[0:0] = data.draw(st.binary(min_size=1, max_size=4).filter(lambda noise: noise[0] != UNIT))
    try:
        assert framing.feed(bytes(frame)) is None
    except WrongFrame:
        assert framing.feed(rtu(good(request, 0x66))) is None, "nothing is looked for behind a wrong frame"


@given(REQUESTS, st.binary(max_size=600), st.booleans())
def test_p5_garbage_is_never_a_value_and_never_raises_anything_else(
    request: ReadRequest, garbage: bytes, serial: bool
) -> None:
    framing: Framing = Rtu() if serial else Mbap()
    framing.ask(UNIT, request)
    with contextlib.suppress(WrongFrame):
        assert framing.feed(garbage) is None


@given(REQUESTS, st.data())
def test_p5_a_frame_whose_head_is_not_that_of_the_answer_is_never_a_value(
    request: ReadRequest, data: st.DataObject
) -> None:
    """Any other bytes in transaction, protocol, length, unit, function or byte count; cut off, or with more behind."""
    framing = Mbap(first=data.draw(st.integers(1, 0xFFFF)))
    transaction = struct.unpack(">H", framing.ask(UNIT, request)[:2])[0]
    frame = mbap(transaction, good(request, 0x55))
    at = data.draw(st.integers(0, 8))
    changed = frame[:at] + bytes((data.draw(st.integers(0, 255).filter(lambda byte: byte != frame[at])),))
    packet = (changed + frame[at + 1 :])[: data.draw(st.integers(1, len(frame)))]
    packet += data.draw(st.sampled_from([b"", b"\0", mbap(0, b"\x03\x00")]))
    with contextlib.suppress(WrongFrame):
        assert framing.feed(packet) is None


SERIAL_WRONG = {
    "another unit": (rtu(ANSWER, unit=9), "unit 9 instead of 17"),
    "another function": (rtu(b"\x04" + ANSWER[1:]), "function 4 instead of 3"),
    "a register too few": (rtu(b"\x03\x04\x02\x2b\x00\x00"), "4 bytes instead of 6"),
    "a register too many": (rtu(b"\x03\x08" + bytes(8)), "8 bytes instead of 6"),
    "a wrong checksum": (rtu(ANSWER)[:-1] + b"\x00", "wrong checksum"),
    "noise before it": (b"\x00" + rtu(ANSWER), "unit 0 instead of 17"),
    "two frames": (rtu(ANSWER) * 2, "twice"),
    "an exception to another function": (rtu(b"\x84\x02"), "function 132 instead of 3"),
}


@pytest.mark.parametrize(("frame", "how"), SERIAL_WRONG.values(), ids=SERIAL_WRONG.keys())
def test_p5_a_wrong_frame_on_a_serial_line_says_how_it_is_wrong(frame: bytes, how: str) -> None:
    framing = Rtu()
    framing.ask(UNIT, REGISTERS)
    with pytest.raises(WrongFrame, match=how):
        framing.feed(frame)
    assert framing.feed(rtu(ANSWER)) is None
    framing.ask(UNIT, REGISTERS)
    assert framing.feed(rtu(ANSWER)) == ANSWER, "the next request is not harmed"


def test_the_noise_of_a_line_that_is_let_go_does_not_cost_the_answer() -> None:
    framing = Rtu()
    framing.ask(UNIT, REGISTERS)
    assert framing.feed(rtu(ANSWER) + b"\x00\xff") == ANSWER


def test_an_exception_is_an_answer_on_both_framings() -> None:
    for framing, frame in ((Rtu(), rtu(b"\x83\x02")), (Mbap(first=1), mbap(2, b"\x83\x02"))):
        framing.ask(UNIT, REGISTERS)
        assert framing.feed(frame) == b"\x83\x02"


def test_p5_an_echo_is_no_answer_even_where_the_answer_would_look_like_it() -> None:
    """24 coils from 0x03AB on: their answer may be, byte for byte, the request."""
    request = ReadRequest("coil", 0x03AB, 24)
    framing = Rtu()
    echo = framing.ask(UNIT, request)
    answer = rtu(b"\x01\x03" + echo[3:6])
    assert answer == echo
    assert framing.feed(echo) is None
    assert framing.feed(answer) == answer[1:-2], "behind the echo it is the answer"


def test_once_an_answer_came_without_echo_nothing_is_taken_off_any_more() -> None:
    framing = Rtu()
    framing.ask(UNIT, REGISTERS)
    assert framing.feed(rtu(ANSWER)) == ANSWER
    request = ReadRequest("coil", 0x03AB, 24)
    same = framing.ask(UNIT, request)
    assert framing.feed(same) == same[1:-2]


def test_an_identification_is_walked_object_by_object_on_a_serial_line() -> None:
    framing = Rtu()
    framing.ask(UNIT, IdentifyRequest(1))
    pdu = bytes.fromhex("2B 0E 01 01 00 00 02") + b"\x00\x03ABC" + b"\x01\x02X1"
    for byte in rtu(pdu)[:-1]:
        assert framing.feed(bytes((byte,))) is None
    assert framing.feed(rtu(pdu)[-1:]) == pdu
    assert page_of(pdu).objects == {0: "ABC", 1: "X1"}


def identified(*answers: bytes) -> tuple[list[bytes], "dict[int, str] | int"]:
    """Play a unit's answers; give what was asked, and what came of it."""
    asking = identification()
    asked = [next(asking).pdu]

    def play() -> None:
        for answer in answers:
            request = asking.send(answer)
            asked.append(request.pdu)

    with pytest.raises(StopIteration) as end:
        play()
    return asked, end.value.value


def test_an_identification_goes_on_where_more_follows_and_up_to_the_level_that_the_unit_has() -> None:
    asked, found = identified(
        bytes.fromhex("2B 0E 01 82 FF 02 02") + b"\x00\x04ACME\x01\x01P",
        bytes.fromhex("2B 0E 01 82 00 00 01") + b"\x02\x031.0",
        bytes.fromhex("2B 0E 02 82 00 00 01") + b"\x03\x02\xc3\xb6",
    )
    assert [pdu.hex() for pdu in asked] == ["2b0e0100", "2b0e0102", "2b0e0200"]
    assert found == {0: "ACME", 1: "P", 2: "1.0", 3: "ö"}


def test_a_unit_that_refuses_to_identify_itself_gives_the_exception() -> None:
    assert identified(b"\xab\x01")[1] == 1
    first = bytes.fromhex("2B 0E 01 02 00 00 01") + b"\x00\x01A"
    assert identified(first, b"\xab\x03")[1] == {0: "A"}, "what it said before stays"


def test_a_unit_that_always_says_that_more_follows_comes_to_an_end() -> None:
    answer = bytes.fromhex("2B 0E 01 01 FF 00 01") + b"\x00\x01A"
    assert identified(answer)[1] == {0: "A"}


@given(st.binary(min_size=7, max_size=253))
def test_whatever_an_identification_holds_is_wrong_or_decoded(body: bytes) -> None:
    pdu = b"\x2b\x0e" + body
    if not IdentifyRequest(1).fault(pdu):
        assert all(isinstance(text, str) for text in page_of(pdu).objects.values())
