"""The report: its numbers, that it stands alone, and that nothing breaks out of it."""

import re
from html.parser import HTMLParser

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from sgid.evaluation.statistics import paired_bootstrap
from sgid.reporting.arms import find_baseline
from sgid.reporting.format import call_text, run_command, signed
from sgid.reporting.report import lead_over, report, run_settings, write_report


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
    return make_run(["sgid"], skill=0.75), make_run(["flip_crop"], skill=0.6)


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
    assert "python run.py -m noise_rate=0.5 'aug=[flip_crop],[sgid]' seed=0,1,2,3,4" in page.words


def test_report_stands_alone_and_is_escaped(pair):
    page = Page(write_report(pair[0].folder, pair[1]).read_text(encoding="utf-8"))
    assert not {"script", "link", "b"} & set(page.tags[page.tags.index("body") :]) - {"b"}
    assert "script" not in page.tags
    assert page.addresses and all(address.startswith("data:image/") for address in page.addresses)
    assert "<script>alert(1)</script>" in page.words
    assert "<b>with</b>" in page.words


def test_what_the_filter_dropped_is_marked_and_counted(make_run):
    run = make_run(["sgid"], filtered=True)
    text = write_report(run.folder, None).read_text(encoding="utf-8")
    page = Page(text)
    assert text.count('class="dropped" title="dropped by the filter"') == 6
    assert text.count(', dropped by the filter">') == 6
    assert "470 of 500 (94 %), label" in page.words
    rows = text.split("Per class")[1].split("<tbody>")[1].split("</tbody>")[0].split("</tr>")
    assert [re.findall("<td>(.*)</td>", row)[-1] for row in rows[:4]] == ["0", "5", "10", "15"]
    assert dict(run_settings(run))["filter"] == "label" and "struck corner" in page.words

    plain = write_report(make_run(["sgid"]).folder, None).read_text(encoding="utf-8")
    assert "by the filter" not in plain and "struck corner" not in plain


def test_facts_say_what_was_used_and_nothing_else(make_run):
    facts = dict(run_settings(make_run(["sgid", "randaugment"])))
    assert facts["prompt of sgid"] == "a photo of a {label}, {caption}"
    assert facts["noise rate of sgid"] == "0.5 (img2img strength)"
    assert facts["caption of sgid"] == "best of the candidates"
    assert facts["guidance of sgid"] == "linear(min=3, max=7.5)"
    assert facts["train images"] == "40 drawn from 4,500, the source's own train split"
    assert facts["train images per class"] == "10"
    assert "shots per class" in facts and "filter" not in facts
    assert not {"share of each class trained on", "long tail, first class to last"} & set(facts)

    used = {"shots": None, "imbalance": 100.0, "fraction": 0.1, "train_per_class": [5, 500]}
    facts = dict(run_settings(make_run(["text2img_label"], protocol=used)))
    assert facts["train images per class"] == "5–500"
    assert facts["long tail, first class to last"] == "100"
    assert facts["share of each class trained on"] == "0.1"
    assert "shots per class" not in facts and "caption of text2img_label" not in facts
    assert "noise rate of text2img_label" not in facts


def test_pictures_lie_in_its_folder(pair):
    folder = write_report(pair[0].folder, pair[1]).parent
    names = ["class_accuracy", "class_cosine", "curves", "examples", "histograms"]
    assert sorted(path.stem for path in folder.glob("*.png")) == names
    assert not [path for path in folder.iterdir() if path.name.endswith(".tmp")]


def test_a_baseline_of_other_images_is_named_and_not_compared(make_run, capsys):
    ours = make_run(["sgid"], same_images="a" * 16)
    other = make_run(["flip_crop"], same_images="b" * 16)
    report(ours.folder, ours.folder.parent, Console(soft_wrap=True))
    words = Page((ours.folder / "report.html").read_text(encoding="utf-8")).words
    for text in (words, capsys.readouterr().out):
        assert f"run {other.fingerprint} with aug=flip_crop is not compared" in text
        assert "fingerprint bbbbbbbb, here aaaaaaaa" in text and "better than" not in text
    make_run(["flip_crop"], same_images="a" * 16, skill=0.1)
    report(ours.folder, ours.folder.parent, Console(soft_wrap=True))
    words = Page((ours.folder / "report.html").read_text(encoding="utf-8")).words
    assert "better than the baseline" in words
    assert "Both runs have the same images (fingerprint aaaaaaaa)" in words


def test_remarks_on_the_images_are_there(make_run):
    remark = "left out: 2 files <b>.heic</b>"
    run = make_run(protocol={"remarks": [remark]})
    assert remark in Page(write_report(run.folder, None).read_text(encoding="utf-8")).words


def test_the_key_of_every_training_image_is_there(pair):
    words = Page(write_report(pair[0].folder, None).read_text(encoding="utf-8")).words
    assert all(f"train/{index:05d}" in words for index in range(6))
    assert "seed=0 noise_rate=0.5 stage=data dataset.show=KEY" in words


@pytest.mark.parametrize(
    ("ours", "theirs", "there", "absent"),
    [
        (  # without a baseline it says how to get one
            {},
            None,
            ["python run.py seed=0 noise_rate=0.5 aug=flip_crop"],
            ["against aug=flip_crop"],
        ),
        ({"aug": ["flip_crop"]}, None, ["This run is the baseline"], ["Generated images"]),
        ({"aug": ["flip_crop"], "flip": 0.0}, None, ["(flip=0)"], ["This run is the baseline"]),
        ({"skill": 0.601}, {"skill": 0.6}, ["no lead"], ["better than"]),
        ({"images": 400}, {"images": 200}, ["no test was made"], ["no lead", "better than"]),
    ],
)
def test_the_verdict(make_run, ours, theirs, there, absent):
    run = make_run(**ours)
    baseline = None if theirs is None else make_run(["flip_crop"], **theirs)
    words = Page(write_report(run.folder, baseline).read_text(encoding="utf-8")).words
    assert [text for text in there if text not in words] == []
    assert [text for text in absent if text in words] == []


def test_large_images_are_shown_small_and_many_classes_fold(make_run):
    classes = [f"class {index}" for index in range(120)]
    run = make_run(["sgid"], classes=classes, images=1200, side=512)
    text = write_report(run.folder, None).read_text(encoding="utf-8")
    assert "data:image/jpeg" in text and "Table of all 120 classes" in text
    assert len(text) < 4e6
    assert len(re.findall("<td>class ", text)) == 120


def test_commands_and_config_nodes_as_text(make_run):
    result = make_run(["sgid", "randaugment"], seed=2)
    line = "python run.py 'aug=[sgid,randaugment]' seed=2 noise_rate=0.5"
    assert run_command(result) == line
    linear = {"_target_": "a.linear", "_partial_": True, "min": 3.0, "quantiles": [0, 1]}
    node = {"_target_": "a.averaged", "of": linear}
    assert call_text(node) == "averaged(of=linear(min=3, quantiles=[0,1]))"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--config-dir", "my", "aug=sketch"], "--config-dir my"),
        (["aug=sketch", "--config-dir=my own"], "'--config-dir=my own'"),
        (["-cd", "my", "-m"], "-cd my"),
        (["hydra.searchpath=[file://my]"], "'hydra.searchpath=[file://my]'"),
    ],
)
def test_a_command_has_the_config_folders_of_its_run(make_run, monkeypatch, typed, said):
    result = make_run(["sgid"], seed=2)
    monkeypatch.setattr("sys.argv", ["run.py", *typed])
    assert run_command(result).startswith(f"python run.py {said} 'aug=")
    monkeypatch.setattr("sys.argv", ["run.py"])
    assert run_command(result).startswith("python run.py 'aug=")
