"""The pages, as a browser without JavaScript gets them."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest
from fastapi.testclient import TestClient

from sgid.human_study.app import make_app, time
from sgid.human_study.questions import UNCHANGED
from tests.human_study.conftest import METHODS


@pytest.fixture
def client(study) -> TestClient:
    return TestClient(make_app(study))


def begin(client, name="Ada") -> str:
    """The path of a new rater's page."""
    response = client.post("/", data={"name": name})
    assert response.status_code == 200 and response.history[0].status_code == 303
    return response.url.path


def test_from_the_name_to_the_thanks_by_forms_alone(client, study):
    path = begin(client)
    page = client.get(path)
    assert "Hello, Ada" in page.text and "26 questions" in page.text
    at = urljoin(path, re.search(r'class="go" href="([^"]+)"', page.text)[1])
    assert at == f"{path}/1"
    for position in range(1, 27):
        assert f"{position} of 26" in client.get(at).text
        answer = client.post(at, data={"value": str(1 + position % 5), "seconds": "2.5"})
        assert answer.status_code == 200 and len(study.ratings()) == position
        at = answer.url.path
    assert at == path and "Thank you, Ada" in answer.text
    assert {one.seconds for one in study.ratings()} == {2.5}


def test_nothing_that_is_sent_names_a_method(client, study):
    path = begin(client)
    seen = set()
    for answered in (False, True):  # other links are on a page that has an answer
        for position in range(1, 27) if answered else ():
            client.post(f"{path}/{position}", data={"value": "3"})
        todo = {path, "/", "/nothing", *(f"{path}/{position}" for position in range(1, 28))}
        while todo:
            at = todo.pop()
            seen.add(at)
            response = client.get(at)
            sent = str(response.headers).encode() + at.encode() + response.content
            for name in (*METHODS, UNCHANGED, "img2img", "diffusion", "key0"):
                assert name.encode() not in sent.lower(), f"{name} in {at}"
            if "html" in response.headers["content-type"]:
                links = re.findall(r'(?:href|src|action)="([^"#:]+)"', response.text)
                todo |= {urljoin(at, link) for link in links} - seen
    images = {at for at in seen if at.startswith("/image/")}
    assert len(images) == 2 * 26 and {"/style.css", "/rate.js", f"{path}/26"} <= seen


def test_an_answer_is_shown_again_and_can_be_corrected(client, study):
    path = begin(client)
    client.post(f"{path}/1", data={"value": "4"})
    page = client.get(f"{path}/1").text
    assert re.findall(r'value="(\w+)"[^>]*aria-pressed="true"', page) == ["4"]
    assert 'id="on" href="2"' in page and 'id="back"' not in page
    assert 'id="back" href="1"' in client.get(f"{path}/2").text
    client.post(f"{path}/1", data={"value": "skip"})
    page = client.get(f"{path}/1").text
    assert re.findall(r'value="(\w+)"[^>]*aria-pressed="true"', page) == ["skip"]
    assert [one.value for one in study.ratings()] == [None]


def test_after_the_last_question_come_those_left_out(client):
    path = begin(client)
    for position in (*range(1, 7), *range(8, 26)):
        client.post(f"{path}/{position}", data={"value": "3"})
    assert client.post(f"{path}/26", data={"value": "3"}).url.path == f"{path}/7"
    assert f'href="{path.rpartition("/")[2]}/7"' in client.get(path).text


def test_a_link_works_in_another_browser_and_after_a_restart(client, study):
    path = begin(client)
    client.post(f"{path}/1", data={"value": "3"})
    other = TestClient(make_app(type(study)(study.path.parent)))
    assert "1 of 26 questions are answered" in other.get(path).text


def test_names_and_labels_are_escaped(client):
    path = begin(client, '<script>alert("x")</script>')
    page = client.get(path).text
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    assert "a &lt;b&gt; &amp;" in client.get(f"{path}/1").text
    taken = client.post("/", data={"name": '<script>alert("x")</script>'})
    assert taken.status_code == 400 and "<script>alert" not in taken.text
    for name in ("", "x" * 61):
        response = client.post("/", data={"name": name})
        assert response.status_code == 400 and "1 to 60 letters" in response.text


@pytest.mark.parametrize("value", ["0", "6", "-1", "3.5", "", "null", "true"])
def test_other_values_are_refused(client, study, value):
    path = begin(client)
    assert client.post(f"{path}/1", data={"value": value}).status_code == 400
    assert client.post(f"{path}/1").status_code == 400
    assert not study.ratings()


@pytest.mark.parametrize(
    "path", ["/r/nobody", "/r/nobody/1", "/image/none", "/x", "/docs", "/openapi.json", "/a/b/c/d"]
)
def test_what_is_not_there_is_a_page_that_says_so(client, path):
    response = client.get(path)
    assert response.status_code == 404 and "There is nothing here" in response.text


def test_positions_that_are_not_there(client):
    path = begin(client)
    for position in (0, 27, 2**63, 10**30, -(2**70)):
        assert client.get(f"{path}/{position}").status_code == 404
        assert client.post(f"{path}/{position}", data={"value": "3"}).status_code == 404
    assert client.get(f"{path}/first").status_code == 400
    assert client.get(f"{path}/", follow_redirects=False).status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://evil"}, 403),  # without TLS the origin says where the form was
        ({"Origin": "null"}, 403),
        ({"Origin": "http://testserver"}, 200),
    ],
)
def test_a_form_on_another_site_can_do_nothing(client, study, headers, status):
    path = begin(client)
    for at, data in (("/", {"name": "Eve"}), (f"{path}/1", {"value": "1"})):
        assert client.post(at, data=data, headers=headers).status_code == status
    allowed = status == 200
    assert (len(study.raters()), len(study.ratings())) == (1 + allowed, int(allowed))


def test_headers_keep_links_secret_and_pages_fresh(client):
    page = client.get(begin(client))
    assert page.headers["referrer-policy"] == "same-origin"
    assert page.headers["cache-control"] == "no-store" and "set-cookie" not in page.headers
    assert "default-src 'none'" in page.headers["content-security-policy"]
    image = client.get("/image/1a")
    assert image.headers["content-type"] == "image/webp"
    assert "immutable" in image.headers["cache-control"]


def test_all_links_stay_below_where_the_pages_are(client):
    path = begin(client)
    for at in ("/", path, f"{path}/3"):
        text = client.get(at).text
        for link in re.findall(r'(?:href|src|action)="([^"#:]+)"', text):
            assert not link.startswith("/"), link
            assert urljoin(f"http://host/below{at}", link).startswith("http://host/below/"), link


def test_times_that_cannot_be_are_not_kept():
    assert time("12.5") == 12.5 and time("0") == 0
    for text in ("", "nan", "inf", "-1", "1e9", "soon"):
        assert time(text) is None


def test_begin_back_begin_is_one_rater(client, study):
    code = re.search(r'name="code" value="([^"]+)"', client.get("/").text)[1]
    first, again = (client.post("/", data={"name": "Ada", "code": code}) for _ in range(2))
    assert first.url == again.url and code in again.url.path
    other = client.post("/", data={"name": "Bob", "code": code})  # the same browser, someone else
    assert other.url != first.url and other.status_code == 200
    assert client.post("/", data={"name": "ada"}).status_code == 400
    assert [one.name for one in study.raters()] == ["Ada", "Bob"]
    for bad in ("x", "../../etc/passwd", "ü" * 16):
        assert client.post("/", data={"name": bad, "code": bad}).status_code == 200
    assert all(re.fullmatch(r"[\w-]{16}", one.code, re.ASCII) for one in study.raters())
