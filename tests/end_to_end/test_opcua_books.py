"""The measure of the OPC UA fault tests itself: which counts it takes for lost, and which for told."""

from typing import Any

import pytest

from tests.end_to_end.books import Book
from tests.end_to_end.opcua_line import lost


def book(*samples: dict[str, Any]) -> Book:
    made = Book("robot-1", "e")
    made.enter({"seq": seq, **sample} for seq, sample in enumerate(samples, 1))
    return made


def count(value: int, **fields: Any) -> dict[str, Any]:
    return {"values": {"counter": value}, **fields}


GAP = {"gap": {"reason": "source-overflow"}}
BAD = {"quality": {"*": "bad:connection-lost"}}
REFUSED = {"quality": {"counter": "bad:BadNotReadable"}}
OTHER = {"quality": {"axis1_speed": "bad:BadSensorFailure"}}


@pytest.mark.parametrize(
    ("samples", "missing"),
    [
        ((count(1), count(2), count(3)), []),
        ((count(1), count(4)), [2, 3]),
        ((count(1), OTHER, count(4)), [2, 3]),
        ((count(1), GAP, count(4)), []),
        ((count(1), BAD, count(4)), []),
        ((count(1), REFUSED, count(4)), []),
        ((count(1), GAP, count(2), count(4)), [3]),
        ((count(1), count(4), count(2, origin="history"), count(3, origin="history")), []),
        ((count(1), count(4), count(2, origin="history")), [3]),
        ((count(1), BAD, count(4), count(4), count(5)), []),
    ],
)
def test_a_count_is_lost_unless_it_came_or_a_gap_or_a_bad_quality_tells_of_it(
    samples: tuple[dict[str, Any], ...], missing: list[int]
) -> None:
    assert lost(book(*samples)) == missing


def test_where_nothing_may_be_missing_a_gap_explains_nothing() -> None:
    assert lost(book(count(1), GAP, count(3)), explained=False) == [2]
