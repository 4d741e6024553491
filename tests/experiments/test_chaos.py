"""The short version of `make chaos`: damage, and each other fault once (`make slow-tests`)."""

from __future__ import annotations

import signal

import pytest

from experiments.chaos import disks, stops
from experiments.chaos.ground import OPTIONS, Ground, write_images
from experiments.chaos.page import BEGIN, END, write_table
from experiments.chaos.stops import Undisturbed
from experiments.chaos.story import Story


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Undisturbed:
    top = tmp_path_factory.mktemp("chaos")
    images = write_images(top / "images")
    less = ("expansion=2", "steps=2", "backbone.steps=6", "trainer.validations=3")
    return stops.undisturbed(Ground(top, (*OPTIONS, *less, f"dataset.root={images}")))


def held(story: Story | None) -> None:
    if story is None:
        pytest.skip("this user may not mount file systems")
    assert story.failures == []


@pytest.mark.slow
def test_kills_in_every_stage(whole):
    held(stops.killed(whole, 3 * stops.IN, in_a_row=len(stops.IN)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "stages"), [(signal.SIGINT, stops.IN[::2]), (signal.SIGTERM, stops.IN[1::2])]
)
def test_stops_in_every_stage(whole, number, stages):
    held(stops.asked(whole, number, stages, in_a_row=len(stages)))


@pytest.mark.slow
def test_three_processes_at_once(whole):
    held(stops.together(whole, times=2))


@pytest.mark.slow
def test_a_full_disk(whole):
    held(disks.full(whole, times=1))


@pytest.mark.slow
def test_a_quota(whole):
    held(disks.quota(whole, times=1))


@pytest.mark.slow
def test_a_read_only_disk(whole):
    held(disks.read_only(whole))


@pytest.mark.slow
def test_damaged_shards(whole):
    held(disks.damaged(whole, times=3))


def test_the_page_shows_what_held_and_what_failed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    stories = [Story("a kill", 3, "fine"), Story("a flood", 2, "fine", ["wet | all over"])]
    for _ in range(2):
        write_table(page, stories, "made today")
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| a kill | 3 | fine |" in text and "**1 checks failed**" in text
    assert text.count("made today") == 1
    page.write_text("no marks")
    with pytest.raises(ValueError, match="no place for the table"):
        write_table(page, stories, "made today")
