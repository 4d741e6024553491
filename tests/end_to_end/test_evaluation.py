"""Generated images measured: in a finished run again, and from any folder without a run."""

import json
import shutil

import pytest

from sgid.evaluation import metrics as measures
from tests.data.writers import write_folder


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
    assert after["generated"][0]["evaluator"] != before["generated"][0]["evaluator"]
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
    summaries = [
        json.loads(file.read_text()) for file in finished.results.glob("*/evaluation.json")
    ]
    by_path = {one["path"]: one["measures"] for one in summaries}
    summary = finished.result()["generated"][0]
    assert by_path[str(store)] == summary["measures"]
    assert by_path[str(images)]["cosine"] is None is by_path[str(flat)]["label_agreement"]
    assert by_path[str(images)]["label_agreement"] is not None
    # Whole sets, test images included: each of those is found.
    assert by_path[str(images)]["test_duplicates"] >= 1
    assert "Evaluated images" in done.out
    assert len(list(finished.results.glob("*/evaluation.html"))) == 3


def test_mistakes_are_refused(finished, own, images):
    failed = finished.run(*own, "evaluation.images=nowhere", "stage=evaluate")
    assert failed.code == 1 and "evaluation.images=nowhere is not a folder" in failed.err
    failed = finished.run(*own, f"evaluation.images={images}")
    assert "measured by stage=evaluate alone, not by stage=all" in failed.err
    folder = finished.results / finished.result()["fingerprint"]
    failed = finished.run(*own, "seed=1", f"evaluation.classifier={folder}")
    assert failed.code == 1 and "its aug=sgid generates" in failed.err
    store = next((finished.artifacts / "generated").iterdir())
    unfinished = finished.top / "unfinished"
    shutil.copytree(store, unfinished)
    (unfinished / "manifest.json").unlink()
    for given, said in (
        (folder, f"the result of a run: its images are in {store}"),
        (store.parent, f"holds stores: give one of them ({store.name})"),
        (unfinished, "a store that is not finished"),
    ):
        failed = finished.run(*own, "stage=evaluate", f"evaluation.images={given}")
        assert failed.code == 1 and said in failed.err


@pytest.fixture(scope="module")
def classified(tmp_path_factory, own):
    """A run whose images were labelled by the classifier of another, and that other's folder."""
    from tests.end_to_end.command import Place

    place = Place(tmp_path_factory.mktemp("classified"))
    place.run(*own, "aug=flip_crop").good()
    reference = place.results / place.result()["fingerprint"]
    place.run(*own, "aug=sgid", f"evaluation.classifier={reference}").good()
    return place, reference


def result_of_other(place, reference):
    (file,) = (one for one in place.results.glob("*/result.json") if one.parent != reference)
    return file.parent, json.loads(file.read_text())


def test_a_classifier_of_real_images_predicts_labels(classified, own):
    place, reference = classified
    folder, result = result_of_other(place, reference)
    summary = result["generated"][0]
    assert 0 <= summary["measures"]["classifier_agreement"] <= 100
    assert summary["originals"]["classifier_agreement"] is not None
    classifier = summary["classifier"]
    assert classifier["fingerprint"] == reference.name and classifier["same_originals"]
    # It chose its checkpoint by these very images.
    reached = json.loads((reference / "result.json").read_text())["metrics"]["validation/top1"]
    assert classifier["held_out_top1"] == pytest.approx(reached)
    page = (folder / "report.html").read_text()
    assert (
        f"It gives {reached:.1f} % of the held-out real images their label" in page
        and "the very originals" in page
    )
    # Its agreement stays where no classifier is asked for.
    assert "done before" in place.run(*own, "aug=sgid").good().out


def test_a_result_stays_as_it_is_where_its_images_are_gone(classified, own, monkeypatch, tmp_path):
    place, reference = classified
    folder, before = result_of_other(place, reference)
    monkeypatch.setattr(measures, "VERSION", measures.VERSION + 1)
    generated, aside = place.artifacts / "generated", tmp_path / "aside"
    generated.rename(aside)
    out = place.run(*own, "aug=sgid", "stage=evaluate").good().out
    aside.rename(generated)
    assert "what was measured of them stays" in out
    assert result_of_other(place, reference) == (folder, before)


def test_classifiers_that_cannot_label_are_refused(classified, own, tmp_path):
    place, reference = classified
    others = write_folder(tmp_path / "others", {"bag": 8, "boot": 8}, size=32)
    asked = (*own, "aug=sgid", "seed=1", f"evaluation.classifier={reference}")
    failed = place.run(*asked, f"dataset.root={others}")
    assert failed.code == 1 and "with 2 classes (bag, coat ...)" in failed.err
    result = json.loads((reference / "result.json").read_text())
    strange = shutil.copytree(reference, tmp_path / "strange")
    result["overrides"] = ["backbone=my_own"]
    (strange / "result.json").write_text(json.dumps(result))
    failed = place.run(*asked[:-1], f"evaluation.classifier={strange}")
    assert (
        failed.code == 1 and "If it was started with --config-dir, it cannot be used" in failed.err
    )
    (strange / "checkpoints" / "best.ckpt").unlink()
    failed = place.run(*asked[:-1], f"evaluation.classifier={strange}")
    assert failed.code == 1 and "best.ckpt is not there any more" in failed.err
