"""Whether the clock is synchronised: yes, no, or honestly unknown."""

from pathlib import Path

from gateway.clock import Remembered, synchronised


def test_timesyncd_marks_its_first_success(tmp_path: Path) -> None:
    folder = tmp_path / "run/systemd/timesync"
    folder.mkdir(parents=True)
    assert synchronised(tmp_path) is False
    (folder / "synchronized").touch()
    assert synchronised(tmp_path) is True


def test_where_nobody_tells_the_answer_is_unknown(tmp_path: Path) -> None:
    assert synchronised(tmp_path) is None


def test_a_folder_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("not a folder")
    assert synchronised(tmp_path) is None


def test_this_machine_gives_one_of_the_three() -> None:
    assert synchronised() in {True, False, None}


def test_the_answer_is_asked_for_again_only_after_a_while(tmp_path: Path) -> None:
    folder = tmp_path / "run/systemd/timesync"
    folder.mkdir(parents=True)
    lasting, fresh = Remembered(tmp_path, keep_s=3600.0), Remembered(tmp_path, keep_s=0.0)
    assert (lasting(), fresh()) == (False, False)
    (folder / "synchronized").touch()
    assert (lasting(), fresh()) == (False, True)
