"""Reviewing in a real browser: by keys, by touch, with the server killed in between."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from sgid.config.compose import compose
from sgid.review.app import make_app
from sgid.review.queue import open_queue
from sgid.runtime.web import listen
from sgid.stages.run import prepare
from sgid.store.reviews import REVIEWS, read_all, read_reviews
from tests.data.writers import write_folder
from tests.end_to_end.command import Place


@contextmanager
def serving(queue, port: int = 0) -> Iterator[str]:
    """The pages, served by a thread of this process, and their address."""
    listener = listen("127.0.0.1", port, options="", free="")
    config = uvicorn.Config(make_app(queue, who="Ada"), log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def open_page(browser, base, **how):
    page = browser.new_context(**how).new_page()
    page.set_default_timeout(15_000)
    page.goto(base)
    return page


def until(page, holds):
    for _ in range(750):
        if holds():
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"it never came, at {page.url}")


def chosen(page) -> int:
    return int(page.get_attribute(".tile.chosen", "data-row"))


def test_keys_accept_reject_undo_and_go_on(queue, browser):
    folder, name = queue.store.folder, queue.names
    with serving(queue) as base:
        page = open_page(browser, base)
        page.keyboard.press("Enter")
        page.wait_for_url("**/class/*/0")
        label = int(page.url.split("/")[-2])
        rows = [row for group in queue.pages[label][0] for row in group.rows]
        assert chosen(page) == rows[0]  # the worst
        page.keyboard.press("r")
        assert chosen(page) == rows[1]
        page.keyboard.press("a")
        page.keyboard.press("u")  # the second one again
        assert chosen(page) == rows[1]
        until(page, lambda: len(read_all(folder)) == 3)
        assert read_reviews(folder) == {name[rows[0]]: "reject"}
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("a")
        page.keyboard.press("u")  # the verdict that stood before
        until(page, lambda: len(read_all(folder)) == 5)
        assert read_reviews(folder) == {name[rows[0]]: "reject"}
        assert chosen(page) == rows[0]
        assert page.get_attribute(".tile.chosen", "data-verdict") == "reject"
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowLeft")
        assert chosen(page) == rows[1]
        page.keyboard.press("z")
        assert page.locator("#close").is_visible()
        page.keyboard.press("z")
        page.keyboard.press("A")  # the rest of the page, in one
        until(page, lambda: len(read_reviews(folder)) == len(rows))
        until(page, lambda: not page.locator(".unsaved").count())
        page.keyboard.press("u")
        until(page, lambda: len(read_reviews(folder)) == 1)
        page.keyboard.press("A")
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: f"/class/{label}/" not in url)
        page.go_back()  # what a browser kept of a page is not shown as it was
        page.wait_for_url(f"**/class/{label}/0")
        until(page, lambda: page.inner_text("#left") == "0 left")
        page.keyboard.press("Escape")
        page.wait_for_url(base)
        assert f"{len(rows)} of 48 images" in page.inner_text("h1")


def test_what_could_not_be_sent_is_sent_by_the_next_page(queue, browser):
    """The server is away, the page is left, the server comes back: no verdict is lost."""
    with serving(queue) as base:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{base}class/{int(queue.scores.labels[0])}/0")
        port = int(re.findall(r":(\d+)/", base)[0])
    row = chosen(page)
    page.keyboard.press("r")
    page.get_by_text("1 not saved yet").wait_for()
    assert read_all(queue.store.folder) == []
    page.close()
    with serving(queue, port) as base:
        page = context.new_page()
        page.goto(base)
        until(page, lambda: read_reviews(queue.store.folder) == {queue.names[row]: "reject"})
        until(page, lambda: "1 of 48" in page.inner_text("h1"))


def test_a_phone_shows_and_takes_it_all(queue, browser):
    how = {"viewport": {"width": 360, "height": 640}, "is_mobile": True, "has_touch": True}
    with serving(queue) as base:
        page = open_page(browser, base, **how)
        page.locator("#on").tap()
        page.wait_for_url("**/class/*/0")
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        for id in ("accept", "reject", "undo", "rest"):
            box = page.locator(f"#{id}").bounding_box()
            assert box["height"] >= 48 and box["width"] >= 48 and box["y"] + box["height"] <= 640
        page.locator(".tile").nth(1).tap()
        row = chosen(page)
        page.locator("#reject").tap()
        until(page, lambda: read_reviews(queue.store.folder) == {queue.names[row]: "reject"})
        assert "not saved" not in page.inner_text("#state")


@pytest.mark.slow
def test_a_stage_that_is_killed_loses_no_click(browser, tmp_path, killed_here):
    place = Place(tmp_path / "place")
    place.top.mkdir()
    images = write_folder(tmp_path / "images", {"bag": 6, "coat": 6}, size=32)
    options = ["dataset=folder", f"dataset.root={images}", "models=tiny", "expansion=2"]
    options += ["backbone=small_resnet", "steps=4", "aug=[img2img_label]"]
    place.run(*options, "stage=augment").good()
    (folder,) = (place.artifacts / "generated").iterdir()
    total = json.loads((folder / "manifest.json").read_text())["rows"]

    server = place.start(*options, "stage=review", f"store={folder}", "review.port=0")
    try:
        lines = iter(server.stdout.readline, "")
        base = next(line.split()[1] for line in lines if line.startswith("review: "))
        assert f"{total} without a verdict" in next(lines)
        page = open_page(browser, base)
        page.press("#on", "Enter")
        page.wait_for_url("**/class/*/0")
        for _ in range(3):
            page.keyboard.press("r")
        until(page, lambda: len(read_reviews(folder)) == 3)
    finally:
        server.send_signal(signal.SIGKILL)
        server.communicate()
    page.keyboard.press("r")  # into the void
    page.get_by_text("1 not saved yet").wait_for()
    with (folder / REVIEWS).open("a") as stream:
        stream.write('{"key": "torn')  # as the kill might have left it

    # Started again, here in this process, at the same address.
    config = compose([*options, "stage=review", f"store={folder}"])
    config.paths.artifacts = str(place.artifacts)
    run = prepare(config, {}, [])
    queue = open_queue(folder, run.dataset, run.models, run.evaluator, artifacts=run.artifacts)
    with serving(queue, int(re.findall(r":(\d+)/", base)[0])):
        until(page, lambda: len(read_reviews(folder)) == 4)  # tried again, saved
        until(page, lambda: page.inner_text("#state") == "")
    assert set(read_reviews(folder).values()) == {"reject"}
