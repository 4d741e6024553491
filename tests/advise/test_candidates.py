"""Candidates as lines, and what rules them out before any training."""

from __future__ import annotations

import pytest

from sgid.advise.candidates import Candidate, expand
from sgid.advise.screening import rule_out
from sgid.stages.screen import Screening


def test_commas_make_several_of_a_line_each_once():
    lines = ["aug=[sgid],[sgid,randaugment] noise_rate=0.3,0.7", "aug=[sgid] noise_rate=0.7"]
    assert [" ".join(one) for one in expand(lines)] == [
        "aug=[sgid] noise_rate=0.3",
        "aug=[sgid] noise_rate=0.7",
        "aug=[sgid,randaugment] noise_rate=0.3",
        "aug=[sgid,randaugment] noise_rate=0.7",
    ]


@pytest.mark.parametrize("line", ["aug=[sgid", "sgid", "aug=sgid noise_rate=range(3", "'aug=sgid"])
def test_a_line_that_cannot_be_read_is_named(line):
    with pytest.raises(ValueError, match="a line is options as the command line has them"):
        expand(["aug=sgid", line])


def rated(name: str, consistency: float, diversity: float, method: str = "sgid", real: float = 0.9):
    return Candidate((name,), True), [Screening(method, consistency, diversity, real, 50)]


def test_settings_are_ruled_out_within_a_method_alone():
    low, good = rated("low", 0.8, 0.02), rated("good", 0.8, 0.06)
    text, lost = rated("text", 0.9, 0.2, "text"), rated("lost", 0.4, 0.3, "far")
    ratings = dict([low, good, text, lost])
    out = rule_out(ratings, 0.5)
    assert set(out) == {low[0], lost[0]}
    assert out[low[0]] == "screened out: score 0.016, of this method's best 0.048"
    assert "40 % of its images keep their label, of real ones 90 %" in out[lost[0]]
    assert set(rule_out(ratings, 0.0)) == {lost[0]}


def test_one_is_left_where_all_lose_their_labels():
    """Else there would be nothing to compare, and no answer."""
    ratings = dict([rated("a", 0.2, 0.1), rated("b", 0.3, 0.1), rated("c", 0.1, 0.4, "text")])
    assert {one.name for one in rule_out(ratings, 0.0)} == {"a", "c"}


def test_nothing_is_ruled_out_where_clip_does_not_know_the_real_images():
    assert not rule_out(
        dict([rated("a", 0.2, 0.1, real=0.3), rated("b", 0.1, 0.01, real=0.3)]), 0.5
    )
