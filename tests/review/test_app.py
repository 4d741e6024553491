"""The pages as a browser gets them, and what is refused."""

from __future__ import annotations

import io

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from sgid.review.app import HOST, encode, make_app
from sgid.store.reviews import read_all, read_reviews


@pytest.fixture
def client(queue) -> TestClient:
    return TestClient(make_app(queue, who="Ada"), base_url=f"http://{HOST}:8000")


def test_a_verdict_is_on_the_disk_with_who_and_when_before_it_is_answered(client, queue):
    said = client.post("/verdicts", json={"rows": [5], "verdict": "reject"})
    assert said.json() == {"saved": 1}
    (review,) = read_all(queue.store.folder)
    assert (review.key, review.repeat) == queue.names[5] and review.who == "Ada"
    assert review.when.startswith("20") and review.when.endswith("+00:00")
    client.post("/verdicts", json={"rows": [5], "verdict": None})
    assert read_reviews(queue.store.folder) == {}


def test_a_page_has_originals_images_scores_and_verdicts(client, queue):
    client.post("/verdicts", json={"rows": [0], "verdict": "reject"})
    label = int(queue.scores.labels[0])
    page = client.get(f"/class/{label}/0").text
    row = page[page.index('data-row="0"') :]
    assert 'data-verdict="reject"' in row[:60]
    assert f"{queue.scores.cosines[0]:.2f} · <b>{queue.seen_as(0)}?</b>" in row.replace(
        "&#39;", "'"
    )
    assert f"original/{queue.content}/0" in page and "<br>c</figcaption>" in page
    home = client.get("/").text
    assert "1 of 48 images" in home and "Go" in home


def test_images_are_those_of_the_store_and_stay_in_the_browser(client, queue):
    for path, wanted in (("image", queue.image(7)), ("original", queue.original(7))):
        answer = client.get(f"/{path}/{queue.content}/7")
        assert "immutable" in answer.headers["cache-control"]
        shown = Image.open(io.BytesIO(answer.content)).convert("RGB")
        assert shown.tobytes() == wanted.tobytes()
    large = Image.effect_noise((700, 500), 40).convert("RGB")
    assert Image.open(io.BytesIO(encode(large, 320))).size == (320, 229)
    assert Image.open(io.BytesIO(encode(large, None))).size == (700, 500)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        *(("/class/99/0", 404), ("/class/0/99", 404), ("/class/0/-1", 404), ("/passwd", 404)),
        *(("/image/0123456789abcdef/0", 404), ("/original/x/0", 404)),
    ],
)
def test_what_is_not_there(client, path, code):
    answer = client.get(path)
    assert (
        answer.status_code == code
        and "default-src 'none'" in answer.headers["content-security-policy"]
    )


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        ({"rows": [0], "verdict": "perhaps"}, {}, 422),
        ({"rows": [], "verdict": "accept"}, {}, 422),
        ({"rows": [48], "verdict": "accept"}, {}, 404),
        ({"rows": [-1], "verdict": "accept"}, {}, 404),
        ({"rows": [0], "verdict": "accept"}, {"sec-fetch-site": "cross-site"}, 403),
        ({"rows": [0], "verdict": "accept"}, {"origin": "http://evil.example"}, 403),
        ({"rows": [0], "verdict": "accept"}, {"host": "evil.example"}, 400),
    ],
)
def test_what_is_no_verdict_from_these_pages_is_refused(client, queue, body, headers, code):
    assert client.post("/verdicts", json=body, headers=headers).status_code == code
    assert read_all(queue.store.folder) == []
