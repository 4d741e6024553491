"""Generated images measured: in a finished run again, and from any folder without a run."""

import json
import shutil

import pytest

from sgid.evaluation import measures


@pytest.fixture(scope="module")
def finished(tmp_path_factory, own):
    from tests.end_to_end.command import Place

    place = Place(tmp_path_factory.mktemp("evaluated"))
    place.run(*own, "aug=sgid").good()
    return place


def test_a_finished_run_is_measured_again_and_nothing_else(finished, own, monkeypatch):
    before, files = finished.result(), finished.files()
    assert "done before" in finished.run(*own, "aug=sgid").good().out
    monkeypatch.setattr(measures, "VERSION", measures.VERSION + 1)
    finished.run(*own, "aug=sgid").good()
    after = finished.result()
    assert after["generated"][0]["mark"] != before["generated"][0]["mark"]
    assert after["metrics"] == before["metrics"] and after["finished"] == before["finished"]
    changed = {name for name, stamp in finished.files().items() if files.get(name) != stamp}
    assert not [name for name in changed if "checkpoints" in name or "predictions" in name]
    assert "done before" in finished.run(*own, "aug=sgid").good().out


def test_images_are_measured_without_a_run(finished, own, images):
    store = next((finished.artifacts / "generated").iterdir())
    flat = finished.top / "flat"
    shutil.copytree(images / "bag", flat)
    paths = f"{store},{images},{flat}"
    done = finished.run(*own, "-m", "stage=evaluate", f"evaluation.images={paths}").good()
    told = [json.loads(file.read_text()) for file in finished.results.glob("*/evaluation.json")]
    by_path = {one["path"]: one["measures"] for one in told}
    summary = finished.result()["generated"][0]
    assert by_path[str(store)] == summary["measures"]
    assert by_path[str(images)]["cosine"] is None is by_path[str(flat)]["label_agreement"]
    assert by_path[str(images)]["label_agreement"] is not None
    # Whole sets, test images included: each of those is found.
    assert by_path[str(images)]["test_duplicates"] >= 1
    assert "Images that were measured" in done.out
    assert len(list(finished.results.glob("*/evaluation.html"))) == 3


def test_mistakes_are_told(finished, own, images):
    failed = finished.run(*own, "evaluation.images=nowhere", "stage=evaluate")
    assert failed.code == 1 and "evaluation.images=nowhere is not a folder" in failed.err
    failed = finished.run(*own, f"evaluation.images={images}")
    assert "measured by stage=evaluate alone, not by stage=all" in failed.err
    folder = finished.results / finished.result()["fingerprint"]
    failed = finished.run(*own, "seed=1", f"evaluation.classifier={folder}")
    assert failed.code == 1 and "its aug=sgid generates" in failed.err
