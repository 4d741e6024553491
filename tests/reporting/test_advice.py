"""The page of `experiment=advise`: what it says of each kind of evidence."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from sgid.evaluation.statistics import Estimate, mean_interval, paired_difference
from sgid.reporting.advice import Advice, Answer, Arm, curve, write

PLAIN = [60.0, 61.0, 60.5, 61.5]


def advice(gains: list[float], tested: list[float]) -> Advice:
    """One candidate of each kind and one that fell out; gains on validation and test, by seed."""
    lead, gain = (
        paired_difference([a + b for a, b in zip(PLAIN, some, strict=False)], PLAIN[: len(some)])
        for some in (gains, tested)
    )
    top1 = mean_interval(PLAIN)
    arms = (
        Arm("aug=[sgid] <b>", True, top1, top1, "best with generated images", "run sgid"),
        Arm("aug=[randaugment]", False, top1, top1, "best without", "run randaugment"),
        Arm("aug=[augmix]", False, None, None, "failed: out of memory", "run augmix"),
    )
    return Advice(
        dataset="garden",
        backbone="vit",
        arms=arms,
        baseline=1,
        contender=0,
        advised=arms[0 if lead.n > 1 and lead.value >= 1 else 1],
        lead=lead,
        gain=gain,
        answers=(
            Answer(0.1, "a", "b", Estimate(1.0, math.nan, math.nan, 1)),
            Answer(0.5, "a", "b", lead),
        ),
        images="60 training images",
        hours=1,
        spent=0.5,
        limits=("models=tiny knows clothing",),
        screening=(("aug=[sgid]", 0.8, 0.05, 0.04),),
    )


SURE, MUCH = [3.0, 3.2, 2.9, 3.1], [8.0, 0.0, 10.0, -2.0]
LITTLE, WORSE = [3.0, -3.0, 2.0, 0.0], [-1.0, -2.0, -1.0, -2.5]


@pytest.mark.parametrize(
    ("gains", "tested", "headline", "sure", "test"),
    [
        (SURE, SURE, "Use aug=[sgid]", "leads aug=[randaugment] by +3.05", "by +3.05 ±"),
        (SURE, LITTLE, "Use aug=[sgid]", "leads", "the gain may be smaller than it seemed"),
        (SURE, WORSE, "Use aug=[sgid]", "leads", "believe the test set"),
        (
            LITTLE,
            LITTLE,
            "Leave it: aug=[randaugment] alone",
            "not more than chance can do",
            "+0.5",
        ),
        (LITTLE, SURE, "Leave it: aug=[randaugment] alone", "would tell more", "believe the"),
        (MUCH, MUCH, "Perhaps aug=[sgid]", "not more than chance can do", "+4.00 ±"),
        (WORSE, WORSE, "Leave it", "no candidate with generated images was better", "−1.62"),
        ([4.8], [-14.3], "Not known yet: aug=[randaugment]", "One seed says nothing", "−14.3"),
    ],
)
def test_the_answer_and_how_sure_it_is(gains, tested, headline, sure, test):
    told = advice(gains, tested)
    assert told.headline.startswith(headline)
    assert sure in told.sureness and test in told.tested
    assert told.generate == (told.advised.name == "aug=[sgid] <b>")


def test_a_page_of_one_file_a_chart_and_standard_json(tmp_path):
    page = write(advice(LITTLE, SURE), tmp_path).read_text()
    assert "&lt;b&gt;" in page and "<b>" not in page, "names are text"
    assert "<strong>models=tiny knows clothing</strong>" in page
    for text in ("failed: out of memory", "run randaugment", "run sgid", "80 %", "data:image/png"):
        assert text in page
    assert (tmp_path / "advice.png").read_bytes()[1:4] == b"PNG"

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    read = json.loads((tmp_path / "advice.json").read_text(), parse_constant=refuse)
    assert read["answers"][0]["lead"]["low"] is None and read["advised"] == "aug=[randaugment]"


def test_the_curve_is_in_hours_only_where_that_is_readable():
    short, long = advice(SURE, SURE), replace(advice(SURE, SURE), spent=5.0)
    labels = [curve(one).axes[0].get_xlabel() for one in (short, long)]
    assert labels == ["minutes spent", "hours spent"]
