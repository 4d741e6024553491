"""From stores to tables in a real browser: two raters at once, the server killed in between."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from sgid.human_study.__main__ import main
from sgid.human_study.questions import UNCHANGED
from sgid.human_study.study import Study


@contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, and its address."""
    command = [sys.executable, "-m", "sgid.human_study", "serve", str(folder)]
    server = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server, server.stdout.readline().split()[-1]
    finally:
        server.kill()
        server.wait()


def begin(browser, base, name, **how):
    """A rater's page at the first question, in a browser of their own."""
    page = browser.new_context(**how).new_page()
    page.set_default_timeout(15_000)
    page.goto(base)
    page.fill("#name", name)
    page.press("#name", "Enter")
    page.wait_for_url("**/r/*")
    page.press("a.go", "Enter")
    page.wait_for_url("**/r/*/1")
    return page


def taking(page):
    """Wait until the page takes ratings."""
    until(page, "document.readyState === 'complete' && performance.now() > Math.max(opened, ready)")


def until(page, condition):
    """Wait as `wait_for_function` does, which the page's own rules do not let run."""
    for _ in range(750):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"{condition} never came, at {page.url}")


def press(page, key):
    """One key, when the page takes keys."""
    taking(page)
    page.keyboard.press(key)


def rate(page, key):
    """Answer by key and wait for what comes next."""
    before = page.url
    press(page, key)
    page.wait_for_url(lambda url: url != before)


@pytest.mark.slow
def test_two_raters_and_a_server_that_is_killed(stores, browser, tmp_path, capsys):
    place, options = stores
    folder = tmp_path / "study"
    with mock.patch.dict(os.environ, place.environment, clear=True):
        assert main(["build", *options, "--questions", "8", "--output", str(folder)]) == 0
    study = Study(folder)
    total = len(study.questions)
    assert total == 10
    with serving(folder) as (server, base):
        ada, bob = begin(browser, base, "Ada"), begin(browser, base, "Bob")
        for _ in range(3):
            rate(ada, "4")
            rate(bob, "2")
        server.send_signal(signal.SIGKILL)
        server.wait()
        press(ada, "5")  # into the void
        ada.get_by_text("this answer is not saved yet").wait_for()
        assert len(study.ratings()) == 6
    with serving(folder, int(re.findall(r":(\d+)/", base)[0])):
        ada.wait_for_url("**/5")  # tried again, saved, gone on
        assert len(study.ratings()) == 7
        # Bob goes on elsewhere, by his link alone.
        link = bob.url.rsplit("/", 1)[0]
        bob = browser.new_context().new_page()
        bob.goto(link)
        assert "3 of 10 questions are answered" in bob.inner_text("main")
        bob.press("a.go", "Enter")
        bob.wait_for_url("**/4")
        press(ada, "ArrowLeft")  # a correction
        ada.wait_for_url("**/4")
        assert ada.get_attribute('button[aria-pressed="true"]', "value") == "5"
        rate(ada, "1")
        for _ in range(5, total + 1):
            rate(ada, "4")
        rate(bob, "0")
        for _ in range(5, total + 1):
            rate(bob, "2")
        for page, name in ((ada, "Ada"), (bob, "Bob")):
            assert f"Thank you, {name}!" in page.inner_text("h1")
    ratings = study.ratings()
    assert len(ratings) == len({(o.rater, o.kind, o.method, o.key) for o in ratings}) == 2 * total
    given = {rater: [o.value for o in ratings if o.rater == rater] for rater in (1, 2)}
    assert given == {1: [4, 4, 4, 1, *[4] * 6], 2: [2, 2, 2, None, *[2] * 6]}
    assert all(one.seconds is not None and 0 < one.seconds < 60 for one in ratings)

    capsys.readouterr()
    assert main(["results", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "text2img_label" in said and "Krippendorff's alpha" in said
    table = (folder / "results" / "ratings.md").read_text()
    rows = [re.split(r" \| ", line.strip("| ")) for line in table.splitlines() if "|" in line][2:]
    assert sum(int(row[4]) for row in rows) == 2 * total - 1
    assert sum(int(row[5]) for row in rows) == 1
    for kind, method, mean, *_ in rows:
        mine = [
            o for o in ratings
            if o.method == method.replace(r"\_", "_").split(" ")[0]
            and {"consistency": "semantic", "diversity": "image"}[o.kind] == kind.split()[0]
        ]  # fmt: skip
        per = [
            [o.value for o in mine if o.key == key and o.value is not None]
            for key in dict.fromkeys(o.key for o in mine)
        ]
        means = [sum(one) / len(one) for one in per if one]
        assert float(mean.split(" ")[0]) == pytest.approx(sum(means) / len(means), abs=0.006)
        assert method.startswith(UNCHANGED) == (len(per) == 1)


def test_a_phone_shows_it_all_without_scrolling_sideways(study, browser):
    how = {"viewport": {"width": 360, "height": 640}, "is_mobile": True, "has_touch": True}
    with serving(study.path.parent) as (_, base):
        page = begin(browser, base, "Ada", **how)
        link = page.url.rsplit("/", 1)[0]
        for at in (base, link, f"{link}/1", f"{link}/26"):
            page.goto(at)
            assert page.evaluate("document.documentElement.scrollWidth") == 360, at
        for button in page.locator(".scale button").all():
            box = button.bounding_box()
            assert box["width"] >= 48 and box["height"] >= 48 and box["y"] + box["height"] <= 640
        page.locator("#help").tap()
        assert page.locator("dialog a").is_visible()
        assert not page.locator("dialog kbd").first.is_visible()
        page.locator("dialog button").tap()
        taking(page)
        page.locator(".scale button").nth(2).tap()
        page.wait_for_url("**/1")  # the last was answered, and the first is left
        assert [one.value for one in study.ratings()] == [3]


def test_keys_that_must_not_answer(study, browser):
    with serving(study.path.parent) as (_, base):
        page = begin(browser, base, "Ada")
        press(page, "?")
        assert page.locator("dialog").is_visible()
        page.keyboard.press("3")
        page.keyboard.press("?")
        assert not page.locator("dialog").is_visible()
        for key in ("6", "a", "Control+3", "ArrowRight"):
            page.keyboard.press(key)
        assert page.url.endswith("/1") and not study.ratings()
        # Time that the page is hidden does not count.
        page.evaluate(
            """() => { counted = 0; since = null;
            Object.defineProperty(document, 'visibilityState', { get: () => 'hidden' });
            document.dispatchEvent(new Event('visibilitychange')); counted = 0; }"""
        )
        page.wait_for_timeout(300)
        rate(page, "3")
        assert study.ratings()[0].seconds == 0
        # A second press of the same key comes too soon for the next question.
        page.wait_for_load_state()
        page.evaluate("ready = performance.now() + 1e6")
        page.keyboard.press("3")
        assert len(study.ratings()) == 1 and page.url.endswith("/2")


def test_it_works_without_javascript(study, browser):
    with serving(study.path.parent) as (_, base):
        page = browser.new_context(java_script_enabled=False).new_page()
        page.goto(base)
        page.fill("#name", "Ada")
        page.click("text=Begin")
        page.click("text=Begin")
        page.click('.scale button[value="4"]')
        page.wait_for_url("**/2")
        (rating,) = study.ratings()
        assert (rating.value, rating.seconds) == (4, None)


def test_a_double_click_does_not_answer_the_next_question_unseen(study, browser):
    with serving(study.path.parent) as (_, base):
        page = begin(browser, base, "Ada")
        for position, button in ((2, '.scale button[value="4"]'), (3, ".skip")):
            taking(page)
            box = page.locator(button).bounding_box()
            at = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            page.mouse.click(*at)
            page.wait_for_url(f"**/{position}", wait_until="commit")
            page.mouse.click(*at)
            page.wait_for_load_state()
            page.mouse.click(*at)  # the page is there, but only just
            page.wait_for_timeout(300)
            assert page.url.endswith(f"/{position}")
            assert [one.value for one in study.ratings()] == [4, None][: position - 1]


def test_images_that_are_not_there_are_not_rated(study, browser):
    with serving(study.path.parent) as (_, base):
        page = browser.new_context().new_page()
        page.set_default_timeout(15_000)
        page.route("**/image/*", lambda route: route.abort())
        page.goto(base)
        page.fill("#name", "Ada")
        page.press("#name", "Enter")
        page.press("a.go", "Enter")
        page.wait_for_url("**/1")
        until(page, "performance.now() > opened")
        for _ in range(2):
            page.click('.scale button[value="4"]')
            page.keyboard.press("4")
        page.get_by_text("The images are still loading").wait_for()
        assert not study.ratings()
        page.click(".skip")  # that one can always say
        page.wait_for_url("**/2")
        page.get_by_text("The images are still loading").wait_for()
        page.unroute("**/image/*")  # they come by themselves
        until(page, "performance.now() > ready")
        assert page.inner_text("#state") == ""
        rate(page, "4")
        assert [one.value for one in study.ratings()] == [None, 4]


def test_an_answer_that_cannot_be_saved_is_not_sent_for_ever(study, browser):
    with serving(study.path.parent) as (_, base):
        page = begin(browser, base, "Ada")
        sent = []
        page.on("request", lambda request: sent.append(request) if request.method == "POST" else 0)
        page.evaluate("form.action = '../nobody/1'")
        press(page, "3")
        page.get_by_text("not saved (404). Load this page again.").wait_for()
        page.wait_for_timeout(1800)
        assert len(sent) == 1 and page.get_attribute("form", "aria-busy") is None


def test_back_at_the_start_one_can_begin_again(study, browser):
    with serving(study.path.parent) as (_, base):
        page = begin(browser, base, "Ada")
        link = page.url.rpartition("/")[0]
        page.go_back()
        page.go_back()
        assert page.input_value("[name=code]") == link.rpartition("/")[2]
        page.fill("#name", "Ada")
        page.press("#name", "Enter")
        page.wait_for_url(link)
        assert len(study.raters()) == 1
