"""The auditor of the fault runs notices every kind of mix-up: a witness that sees nothing proves nothing."""

from typing import Any

from pydantic import TypeAdapter

from gateway.drivers import Device
from gateway.model import Sample
from tests.faults.counter_plc import BIT_TABLES, GROUPS, WORDS, Audit, CounterUnit, bit, tags_of, word

SECTION = TypeAdapter(Device).validate_python(
    {"name": "counter-1", "protocol": "modbus-tcp", "host": "127.0.0.1", "tags": tags_of()}
)


def value(unit: int, tag: Any, count: int, shifted: int = 0) -> Any:
    if tag.table in BIT_TABLES:
        return bool(bit(unit, tag.table, tag.register + shifted, count))
    words = [word(unit, tag.table, tag.register + shifted + at, count) for at in range(tag.registers)]
    return int.from_bytes(b"".join(each.to_bytes(2, "big") for each in words), "big")


def audited(count: int, values: dict[int, Any], *, floor: int = 10) -> Audit:
    """Audit a poll whose values are right at `count`, except for those given by column."""
    unit = CounterUnit(1)
    unit.count = 20
    audit = Audit(unit, SECTION.tags, floor=floor)
    columns = tuple(range(len(SECTION.tags)))
    right = [value(1, tag, count) for tag in SECTION.tags]
    shown = tuple(values.get(at, right[at]) for at in columns)
    audit.take([Sample.good(1, columns, shown)])
    return audit


def group_columns(number: int) -> list[int]:
    table, start = GROUPS[number]
    tags = enumerate(SECTION.tags)
    return [at for at, tag in tags if tag.table == table and start <= tag.register < start + WORDS]


def test_right_values_pass_whatever_their_count_since_the_last_poll() -> None:
    for count in (11, 20):
        audit = audited(count, {})
        assert (audit.wrong, audit.checked, audit.is_whole) == ([], len(SECTION.tags), True)


def test_a_single_wrong_value_is_noticed_wherever_it_stands() -> None:
    for column, tag in list(enumerate(SECTION.tags))[::11]:
        spoiled = not value(1, tag, 15) if tag.table in BIT_TABLES else value(1, tag, 15) ^ 1
        assert len(audited(15, {column: spoiled}).wrong) == 1


def test_an_answer_older_than_the_readings_before_is_noticed() -> None:
    assert len(audited(10, {}).wrong) == len(GROUPS)
    assert len(audited(21, {}).wrong) == len(GROUPS)


def test_the_answer_of_another_unit_another_group_or_another_moment_is_noticed() -> None:
    columns = group_columns(0)
    tags = [SECTION.tags[at] for at in columns]
    assert audited(15, {at: value(2, tag, 15) for at, tag in zip(columns, tags, strict=True)}).wrong
    assert audited(15, {at: value(1, tag, 15, WORDS) for at, tag in zip(columns, tags, strict=True)}).wrong
    assert audited(15, {at: value(1, tag, 15, 1) for at, tag in zip(columns, tags, strict=True)}).wrong
    half = list(zip(columns, tags, strict=True))[60:]
    assert audited(15, {at: value(1, tag, 16) for at, tag in half}).wrong


def test_bad_readings_are_counted_by_their_reason() -> None:
    unit = CounterUnit(1)
    audit = Audit(unit, SECTION.tags)
    audit.take([Sample.bad(1, "timeout", 7), Sample(1, (), (), 1, {"coil-0": "bad:device-busy"})])
    assert dict(audit.qualities) == {"bad:timeout": 7, "bad:device-busy": 1}
    assert (audit.readings, audit.is_whole) == (8, False)
