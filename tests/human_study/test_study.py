"""The file: what is written is there, once, whoever writes at the same time."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from contextlib import closing

import pytest

from sgid.human_study import study as module
from sgid.human_study.study import FILE, Study, write_study
from tests.human_study.conftest import questions


def test_what_was_written_is_read_back(study):
    assert list(study.questions.values()) == questions()
    assert study.about()["methods"] == ["sgid", "text2img_label", "img2img_label"]
    assert study.picture("1a").data[:4] == b"RIFF" and study.picture("none") is None


def test_an_answer_can_be_corrected_skipped_and_counts_once(study):
    rater = study.add_rater("Ada")
    turn = study.turn(rater, 1)
    study.rate(rater, turn, 4, 1.5)
    study.rate(rater, turn, 2, 3.5)
    (rating,) = study.ratings()
    assert (rating.value, rating.seconds) == (2, 3.5)
    again = study.turn(rater, 1)
    assert (again.answered, again.value, again.seconds) == (True, 2, 3.5)
    with pytest.raises(sqlite3.IntegrityError):  # the file itself refuses values off the scale
        study.rate(rater, turn, 6, 1.0)
    study.rate(rater, turn, None, None)
    assert [one.value for one in study.ratings()] == [None]
    rater = study.rater(rater.code)
    assert (rater.answered, rater.waiting, rater.total) == (1, 2, 26)


def test_a_rater_goes_on_at_the_first_question_left(study):
    rater = study.add_rater("Ada")
    for position in (1, 2, 4):
        study.rate(rater, study.turn(rater, position), 3, 1.0)
    assert study.rater(rater.code).waiting == 3
    for position in range(1, rater.total + 1):
        study.rate(rater, study.turn(rater, position), 3, 1.0)
    assert study.rater(rater.code).waiting is None and study.turn(rater, 27) is None


def test_many_raters_at_once_lose_nothing(study):
    def rate(name):
        rater = study.add_rater(name)
        for position in range(1, rater.total + 1):
            study.rate(rater, study.turn(rater, position), 1 + position % 5, 0.1)

    threads = [threading.Thread(target=rate, args=(f"rater {i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ratings = study.ratings()
    assert len(ratings) == len({(o.rater, o.kind, o.method, o.key) for o in ratings}) == 4 * 26
    assert [one.answered for one in study.raters()] == [26] * 4


@pytest.mark.parametrize("name", ["", "  ", "x" * 61, "a\x00b", "\u200c\u200d"])
def test_names_that_cannot_be(study, name):
    with pytest.raises(ValueError, match="1 to 60"):
        study.add_rater(name)


def test_a_name_is_taken_once_whatever_its_case_and_may_have_joiners(study):
    names = ["Ada L.", "علی\u200cرضا", "ක්\u200dදරිස්"]
    assert [study.add_rater(name).name for name in names] == names
    with pytest.raises(ValueError, match="personal link"):
        study.add_rater(" ada   l. ")
    assert len(study.raters()) == 3


def test_a_study_is_one_file_that_can_be_moved(study, tmp_path):
    rater = study.add_rater("Ada")
    study.rate(rater, study.turn(rater, 1), 5, 1.0)
    assert [path.name for path in study.path.parent.iterdir()] == [FILE]
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(study.path, tmp_path / "elsewhere" / FILE)
    assert Study(tmp_path / "elsewhere").ratings() == study.ratings()


def test_other_files_are_no_study(tmp_path):
    with pytest.raises(FileNotFoundError, match="build 'aug="):
        Study(tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(ValueError, match="is not a study: file is not a database"):
        Study(tmp_path)
    (tmp_path / FILE).unlink()
    sqlite3.connect(tmp_path / FILE).execute("PRAGMA user_version = 7")
    with pytest.raises(ValueError, match="version 7, not of 1"):
        Study(tmp_path)


def test_a_study_made_in_between_is_not_replaced(study, tmp_path, monkeypatch):
    path = tmp_path / "new" / FILE

    def meanwhile(*_):
        shutil.copy(study.path, path)
        return write(*_)

    write = module._write
    monkeypatch.setattr(module, "_write", meanwhile)
    with pytest.raises(FileExistsError, match="may hold ratings"):
        write_study(path, {}, {}, [])
    assert path.read_bytes() == study.path.read_bytes()
    assert [one.name for one in path.parent.iterdir()] == [FILE]


def test_a_study_is_written_where_there_are_no_hard_links(study, tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError("no hard links here")

    monkeypatch.setattr(module.os, "link", refused)
    path = tmp_path / "new" / FILE
    write_study(path, {}, {}, [])
    assert [one.name for one in path.parent.iterdir()] == [FILE]
    for existing in (path, study.path):
        with pytest.raises(FileExistsError, match="may hold ratings"):
            write_study(existing, {}, {}, [])


def test_a_study_that_another_program_holds_is_refused(study, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    with closing(sqlite3.connect(study.path)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OSError, match="cannot be read: database is locked"):
            Study(study.path.parent)
