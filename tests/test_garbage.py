"""Garbage collection leaves out what is there at the start, and looks at all of it again at the end."""

import gc

import pytest

from gateway.garbage import settle, settled


def test_what_is_there_is_left_out_until_the_end() -> None:
    with settled():
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


def test_an_error_ends_it_too() -> None:
    with pytest.raises(ValueError, match="broken"), settled():
        raise ValueError("broken")
    assert gc.get_freeze_count() == 0


def test_what_comes_later_is_still_collected() -> None:
    with settled():
        ring: list[object] = []
        ring.append(ring)
        del ring
        assert gc.collect() >= 1


def test_more_is_left_out_only_while_something_is() -> None:
    settle()
    assert gc.get_freeze_count() == 0
    with settled():
        before = gc.get_freeze_count()
        more = [[] for _ in range(1000)]
        settle()
        assert gc.get_freeze_count() >= before + len(more)
