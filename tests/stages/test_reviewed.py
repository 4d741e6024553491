"""`filter=reviewed`: rejected images are not trained on, and make another run, by content."""

from __future__ import annotations

import pytest

from sgid.config.compose import compose
from sgid.review.queue import open_queue
from sgid.stages.run import Run, on_workers, prepare
from sgid.store.reviews import Review, append_reviews
from tests.data.writers import write_folder

OPTIONS = ("dataset=folder", "models=tiny", "backbone=small_resnet", "expansion=2", "steps=4")
OPTIONS += ("aug=[img2img_label,text2img_label]",)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Prepare a run with further options; the images of its two methods are there."""
    top = tmp_path_factory.mktemp("reviewed")
    images = write_folder(top / "images", {"bag": 6, "coat": 6}, size=32)

    def prepared(*options: str) -> Run:
        config = compose([*OPTIONS, f"dataset.root={images}", *options])
        config.paths.artifacts, config.paths.results = str(top / "artifacts"), str(top / "results")
        return prepare(config, {}, [])

    for one in prepared("stage=augment").augmentations:
        one.make()
    return prepared


def give(run: Run, repeat: int, verdict: str | None, *, method: int = 0) -> None:
    keys = run.dataset.train.keys
    store = run.augmentations[method].generated
    append_reviews(store.folder, [Review(keys[1], repeat, verdict, "Ada", "")])


def test_rejected_images_are_dropped_counted_and_in_the_fingerprint_by_content(prepared):
    plain = prepared()
    for _ in range(2):  # of neither method, then of one alone
        with pytest.raises(ValueError, match="nobody has reviewed the images of aug="):
            prepared("filter=reviewed")
        for stage in ("concepts", "augment", "review"):  # which the message names, or come before
            assert prepared("filter=reviewed", f"stage={stage}").store_evaluations[0].kept().all()
        give(plain, 0, "accept")
    give(plain, 1, "accept", method=1)
    none = prepared("filter=reviewed")
    assert none.store_evaluations[0].kept().all() and none.folder != plain.folder

    give(plain, 0, "reject")
    run = prepared("filter=reviewed")
    first, second = run.store_evaluations
    assert first.kept().nonzero()[0].tolist() == [0, 1, *range(3, first.store.rows)]
    assert second.kept().all()
    dropped = first.summary()["filter"]
    assert (dropped["name"], dropped["dropped"]) == ("reviewed", 1)
    assert dropped["dropped_per_class"] == {"bag": 1, "coat": 0}
    assert run.folder not in (none.folder, plain.folder)
    assert prepared("filter=reviewed").folder == run.folder

    give(plain, 0, None)  # a run that has begun goes on as it began
    assert not first.kept()[2] and prepared("filter=reviewed").folder == none.folder
    assert prepared().folder == plain.folder
    assert on_workers(run)().filter is None  # who draws needs no reviews


@pytest.mark.parametrize(
    ("place", "options", "said"),
    [
        ("nowhere", (), "is not a folder"),
        ("", (), "no complete store"),
        (None, ("seed=1", "dataset.shots=2"), "Add the options of the run that made it"),
    ],
)
def test_a_store_that_cannot_be_reviewed_is_told(prepared, tmp_path, place, options, said):
    folder = prepared().augmentations[0].generated.folder if place is None else tmp_path / place
    run = prepared("stage=review", f"store={folder}", *options)
    assert run.ready.weights.keys() == {"models.scorer"}
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        open_queue(folder, run.dataset, run.models, run.evaluator, artifacts=run.artifacts)


def test_store_belongs_to_its_stages():
    with pytest.raises(ValueError, match="used by stage=review and stage=export"):
        prepare(compose(["store=x"]), {}, [])
