"""The report: its numbers, that it stands alone, and that nothing breaks out of it."""

import re
from html.parser import HTMLParser

import pyarrow.parquet as pq
import pytest

from sgid.evaluation.statistics import paired_bootstrap
from sgid.reporting.arms import find_baseline
from sgid.reporting.report import lead_over, write_report
from sgid.reporting.wording import run_command, signed


class Page(HTMLParser):
    """Tags, addresses and words of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.words += " " + data


@pytest.fixture
def pair(make_run):
    return make_run(["sgid"], skill=0.75), make_run(["none"], skill=0.6)


def test_report_against_its_baseline(pair):
    ours, none = pair
    path = write_report(ours.folder, find_baseline(ours, [none, ours]))
    page = Page(path.read_text(encoding="utf-8"))
    assert f"{ours.metrics['test/top1']:.1f} %" in page.words
    correct, theirs = (
        [a == b for a, b in zip(table["label"], table["prediction"], strict=True)]
        for table in (pq.read_table(run.folder / "predictions.parquet").to_pydict() for run in pair)
    )
    lead = paired_bootstrap(correct, theirs)
    assert lead_over(ours, none) == lead
    assert signed(lead.value, 1) in page.words
    assert f"{signed(lead.low, 1)} to {signed(lead.high, 1)}" in page.words
    assert "better than the baseline" in page.words
    assert "python run.py -m noise_rate=0.5 'aug=[none],[sgid]' seed=0,1,2,3,4" in page.words


def test_report_stands_alone_and_is_escaped(pair):
    page = Page(write_report(pair[0].folder, pair[1]).read_text(encoding="utf-8"))
    assert not {"script", "link", "b"} & set(page.tags[page.tags.index("body") :]) - {"b"}
    assert "script" not in page.tags
    assert page.addresses and all(address.startswith("data:image/") for address in page.addresses)
    assert "<script>alert(1)</script>" in page.words
    assert "<b>with</b>" in page.words


def test_pictures_lie_beside_it(pair):
    folder = write_report(pair[0].folder, pair[1]).parent
    names = ["class_accuracy", "class_cosine", "curves", "examples", "histograms"]
    assert sorted(path.stem for path in folder.glob("*.png")) == names
    assert not [path for path in folder.iterdir() if path.name.endswith(".tmp")]


def test_without_a_baseline_it_says_how_to_get_one(pair):
    words = Page(write_report(pair[0].folder, None).read_text(encoding="utf-8")).words
    assert "python run.py seed=0 noise_rate=0.5 aug=none" in words
    assert "against aug=none" not in words


def test_the_baseline_itself(pair):
    words = Page(write_report(pair[1].folder, None).read_text(encoding="utf-8")).words
    assert "This run is the baseline" in words
    assert "Generated images" not in words


def test_no_lead_is_claimed_without_one(make_run):
    ours, none = make_run(["sgid"], skill=0.601), make_run(["none"], skill=0.6)
    words = Page(write_report(ours.folder, none).read_text(encoding="utf-8")).words
    assert "no lead" in words and "better than" not in words


def test_other_test_images_are_not_compared_one_by_one(make_run):
    ours, none = make_run(["sgid"], images=400), make_run(["none"], images=200)
    words = Page(write_report(ours.folder, none).read_text(encoding="utf-8")).words
    assert "no test was made" in words


def test_large_images_are_shown_small_and_many_classes_fold(make_run):
    classes = [f"class {index}" for index in range(120)]
    run = make_run(["sgid"], classes=classes, images=1200, side=512)
    text = write_report(run.folder, None).read_text(encoding="utf-8")
    assert "data:image/jpeg" in text and "Table of all 120 classes" in text
    assert len(text) < 4e6
    assert len(re.findall("<td>class ", text)) == 120


def test_the_command_is_safe_to_paste(make_run):
    result = make_run(["sgid", "randaugment"], seed=2)
    line = "python run.py 'aug=[sgid,randaugment]' seed=2 noise_rate=0.5"
    assert run_command(result) == line
