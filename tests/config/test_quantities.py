"""Durations and sizes carry their unit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.quantities import LARGEST, format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("1s", 1.0), ("5m", 300.0), ("12h", 43200.0), ("30d", 2592000.0), ("0s", 0.0), ("1.5s", 1.5),
     ("0.1s", 0.1), ("100ms", 0.1), ("7ms", 0.007), (" 1 s ", 1.0)],
)  # fmt: skip
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "1", "1 us", "-1s", "1s2", "1m30s", "1e3s", "inf", "1S", "1M", "٣s", "9" * 400 + "s", "99999999d",
             1, 1.5, True, None, [], {}],
)  # fmt: skip
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"duration|no unit|hundred years"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0B", 0), ("64KiB", 65536), ("8MiB", 8388608), ("1GiB", 1 << 30), ("1.5KiB", 1536), ("1TiB", 1 << 40),
     (131072, 131072)],
)  # fmt: skip
def test_a_size_is_bytes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "1", "1KB", "1kib", "-1KiB", "0.3KiB", "9999999TiB", -1, 1.5, True, None, 10**30])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"size|no unit|whole number|has no"):
        parse_size(text)


@pytest.mark.parametrize(
    ("wrong", "right"), [("1sec", "1s"), ("5 min", "5m"), ("1hour", "1h"), ("2days", "2d"), ("1S", "1s"), ("3H", "3h")]
)
def test_a_misspelled_duration_is_put_right(wrong: str, right: str) -> None:
    with pytest.raises(ValueError, match=rf"did you mean {right}\?"):
        parse_duration(wrong)


@given(milliseconds=st.integers(0, 10**12))
def test_a_duration_is_read_as_it_was_written(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@given(size=st.integers(0, LARGEST))
def test_a_size_is_read_as_it_was_written(size: int) -> None:
    assert parse_size(format_size(size)) == size
