"""Reviews on disk: the last verdict counts, and no kill or damage takes another one along."""

import json
import logging

import pytest

from sgid.store.reviews import (
    REVIEWS,
    Review,
    append_reviews,
    now,
    read_all,
    read_reviews,
    rejected,
)


def review(key, repeat, verdict):
    return Review(key, repeat, verdict, "Ada", now())


def test_the_last_verdict_of_an_image_counts_and_null_takes_it_back(tmp_path):
    assert read_reviews(tmp_path) == {}
    append_reviews(tmp_path, [review("ä/1", 0, "accept"), review("ä/1", 1, "reject")])
    append_reviews(tmp_path, [review("ä/1", 0, "reject")])
    append_reviews(tmp_path, [review("b", 0, "reject"), review("b", 0, None)])
    verdicts = read_reviews(tmp_path)
    assert verdicts == {("ä/1", 0): "reject", ("ä/1", 1): "reject"}
    assert rejected(verdicts) == [("ä/1", 0), ("ä/1", 1)]
    lines = (tmp_path / REVIEWS).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 5
    assert json.loads(lines[0]).keys() == {"key", "repeat", "verdict", "who", "when"}
    assert [one.verdict for one in read_all(tmp_path)] == [
        *("accept", "reject", "reject", "reject", None),
    ]


@pytest.mark.parametrize("cut", range(1, 30, 7))
def test_a_line_that_was_cut_off_is_said_and_costs_no_other(tmp_path, caplog, cut):
    append_reviews(tmp_path, [review("a", 0, "reject"), review("a", 1, "reject")])
    path = tmp_path / REVIEWS
    path.write_bytes(path.read_bytes()[:-cut])
    with caplog.at_level(logging.WARNING):
        kept = read_reviews(tmp_path)
    torn = cut > 1  # without its last byte alone, a line is whole
    assert kept == {("a", 0): "reject"} | ({} if torn else {("a", 1): "reject"})
    assert ("1 line is damaged" in caplog.text) == torn
    append_reviews(tmp_path, [review("a", 2, "accept")])
    assert read_reviews(tmp_path) == {**kept, ("a", 2): "accept"}


@pytest.mark.parametrize(
    "line",
    [
        '{"key": "a", "repeat": 0, "verdict": "perhaps"}',
        '{"key": "a", "verdict": "reject"}',
        '["a", 0, "reject"]',
        "\xff\x00",
    ],
)
def test_lines_of_something_else_are_passed_over(tmp_path, caplog, line):
    (tmp_path / REVIEWS).write_text(f"{line}\n", encoding="latin-1")
    append_reviews(tmp_path, [review("a", 0, "accept")])
    assert read_reviews(tmp_path) == {("a", 0): "accept"}
    assert "1 line is damaged" in caplog.text
