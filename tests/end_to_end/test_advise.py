"""`experiment=advise` as a user gives it, on a folder of images."""

from __future__ import annotations

import json
import re

import pytest

from tests.end_to_end.command import Place

LINES = '["aug=[flip_crop]","aug=[sgid,randaugment] noise_rate=0.5"]'
SEARCH = ("-m", "experiment=advise", "advise.seeds=2", "advise.screened=4")


def journal(place: Place) -> list[dict]:
    (file,) = place.results.glob("advise/*/journal.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def advised(own, tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("advise"))
    command = (*SEARCH, *own, f"advise.candidates={LINES}", "advise.hours=0.5")
    return place, command, place.run(*command, pictures=True).good()


def test_it_ends_with_an_answer_a_command_and_a_page(advised, images):
    place, _, outcome = advised
    (folder,) = place.results.glob("advise/*")
    advice = json.loads((folder / "advice.json").read_text())
    names = {arm["name"]: arm for arm in advice["arms"]}
    assert list(names) and set(names) == {
        "aug=[flip_crop]",
        "aug=[sgid,randaugment] noise_rate=0.5",
    }
    headline = "Use " if advice["sure"] else "Perhaps " if advice["generate"] else "Leave it: "
    if advice["lead"]["n"] < 2 and advice["lead"]["value"] > 0:
        headline = "Not known yet: "
    assert f"{headline}{advice['advised']}" in outcome.out
    command = names[advice["advised"]]["command"]
    assert "experiment" not in command and "advise" not in command
    assert f"dataset.root={images}" in command and "seed" not in command
    assert command in outcome.out
    page = (folder / "advice.html").read_text()
    assert advice["advised"] in page and "data:image/png" in page and "None" not in page
    assert (folder / "advice.png").read_bytes().startswith(b"\x89PNG")
    assert all(len(arm["test"]) for arm in advice["arms"])
    assert 0 < advice["spent"] < 0.5 and advice["answers"][-1]["hours"] <= advice["spent"]


def test_each_trial_ran_once_and_only_the_last_two_saw_the_test(advised):
    place, _, outcome = advised
    trials = [(*one["candidate"], one["seed"]) for one in journal(place) if "top1" in one]
    assert len(trials) == len(set(trials)) == 4
    assert sum("rated" in one for one in journal(place)) == 1
    assert outcome.out.count("test top-1") == 4
    assert outcome.out.index("test top-1") > outcome.out.rindex("advise: aug="), "after the search"
    splits = {
        (json.loads(path.read_text())["seed"], json.loads(path.read_text())["config"]["dataset"]
         ["validation_seed"]) for path in place.results.glob("*/result.json")
    }  # fmt: skip
    assert splits == {(0, 0), (1, 1)}


def test_killed_and_started_again_it_goes_on_where_it_was(advised):
    place, command, _ = advised
    before = place.files()
    (file,) = place.results.glob("advise/*/journal.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])  # killed while it wrote
    outcome = place.run(*command).good()
    assert len(journal(place)) == len(lines)
    assert outcome.out.count("advise: aug=") == 1, "the one whose line was lost"
    assert outcome.out.count("done before") == 1, "and its run was trained"
    assert "test top-1" not in outcome.out, "the test set is not scored again"
    after = place.files()
    changed = {name for name in after if after[name] != before.get(name)}
    assert {name.rpartition("/")[2] for name in changed} <= {
        *("journal.jsonl", "advice.html", "advice.json", "advice.png", ".lock")
    }


MISTAKES = {
    "advise.seeds=1": "advise.seeds=1: must be at least 2",
    "advise.least_score=2": "advise.least_score=2.0: must be at least 0, at most 1",
    "seed=0,1": "experiment=advise has candidates in place of a sweep",
    "aug=sgid": "aug=sgid: experiment=advise sets aug itself; leave it out",
    "noise_rate=0.4": "noise_rate=0.4: advise.candidates has it as well",
    "advise.candidates=[]": "advise.candidates is empty",
    'advise.candidates=["aug=[flip_crop]"]': "none is with generated images",
    'advise.candidates=["aug=[sgid]"]': "none is without generated images",
    'advise.candidates=["noise_rate=0.3"]': "'noise_rate=0.3' names no aug=",
    'advise.candidates=["aug=[randaugmnt]","aug=[sgid]"]': "did you mean randaugment",
    'advise.candidates=["aug=[sgid] noise_rat=0.3"]': "noise_rat",
    'advise.candidates=["aug=[sgid] noise_rate=3"]': "noise_rate=3.0: must be above 0, at most 1",
    'advise.candidates=["aug=[sgid"]': "cannot be read",
}


@pytest.mark.parametrize("option", MISTAKES)
def test_a_mistake_is_told_before_any_work(option, own, place):
    lines = [] if option.startswith("advise.candidates") else [f"advise.candidates={LINES}"]
    outcome = place.run(*SEARCH, *own, *lines, option)
    assert outcome.code == 1
    assert MISTAKES[option] in outcome.err, outcome.text
    assert "Traceback" not in outcome.text
    assert not list(place.results.glob("*/checkpoints")) and not list(place.artifacts.glob("g*"))


def test_hours_that_are_too_few_are_told_with_the_figure_that_would_do(advised):
    place, command, _ = advised
    before = place.files()
    outcome = place.run(*command, "advise.hours=0.0001", "backbone.steps=40")
    assert outcome.code == 1
    assert (
        "advise.hours=0.0001 is too little: one candidate of each kind with 2 seeds" in outcome.err
    )
    (figure,) = re.findall(r"advise.hours=(0\.0[1-9]) would do", outcome.err)
    assert float(figure) > 0.0001
    assert not [name for name in place.files() if name not in before and "lock" not in name]


def test_an_experiment_of_ones_own_may_hold_candidates_alone(own, place):
    for name, more in (("mine", ""), ("other", "noise_rate: 0.2\n")):
        text = f"# @package _global_\ndefaults: [advise]\n{more}advise:\n  candidates: {LINES}\n"
        (place.top / "my/experiment").mkdir(parents=True, exist_ok=True)
        (place.top / f"my/experiment/{name}.yaml").write_text(text)
    flags = ("-m", f"--config-dir={place.top / 'my'}", "advise.hours=0.00001", *own)
    outcome = place.run(*flags, "experiment=other")
    assert "experiment=other sets noise_rate: for a search" in outcome.err, outcome.text
    outcome = place.run(*flags, "experiment=mine", "advise.screened=0")
    assert "2 candidates, 1 of them with generated images; nothing was measured" in outcome.out
    assert "is too little" in outcome.err or "time is up" in outcome.err, outcome.text
