"""`dataset.captions`: in the described store and its spec, where it is used and nowhere else."""

from __future__ import annotations

import pytest

from sgid.config.compose import compose
from sgid.stages.run import Run, prepare
from sgid.store.tables import StoredDescriptions
from tests.data.writers import write_folder

OPTIONS = ("dataset=folder", "models=tiny", "backbone=small_resnet", "expansion=1", "steps=4")


@pytest.fixture
def prepared(tmp_path):
    """Prepare a run of images that have captions of their own."""
    images = write_folder(tmp_path / "images", {"bag": 5, "coat": 5}, size=32)
    for path in sorted(images.glob("*/*.png")):
        path.with_suffix(".txt").write_text(f"{path.parent.name} number {path.stem}")

    def prepared(*options: str) -> Run:
        config = compose([*OPTIONS, f"dataset.root={images}", *options])
        config.paths.artifacts = str(tmp_path / "artifacts")
        config.paths.results = str(tmp_path / "results")
        return prepare(config, {}, [])

    prepared.images = images
    return prepared


def test_own_captions_take_the_captioners_place_or_join_its(prepared):
    plain = prepared().augmentations[0]
    assert "own_captions" not in plain.described.spec and "captioner" in plain.described.spec
    first = plain.dataset.train.keys[0]
    text = (prepared.images / first).with_suffix(".txt")
    text.unlink()
    with pytest.raises(ValueError, match=f"1 of .* training images have no caption, as {first}"):
        prepared("dataset.captions=own")

    run = prepared("dataset.captions=join")
    (joined,) = run.augmentations
    assert joined.described.spec["own_captions"]["use"] == "join"
    joined.plan()
    for described in StoredDescriptions(joined.described, caption="best", seed=0):
        own = run.dataset.captions.get(described.key, ())
        assert described.candidates[: len(own)] == own and len(described.candidates) > len(own)
        assert bool(own) == (described.key != first)
        assert described.similarity == max(described.scores)

    text.write_text("the first of them")
    run = prepared("dataset.captions=own")
    (own,) = run.augmentations
    assert "models.captioner" not in run.ready.weights and "captioner" not in own.described.spec
    own.plan()
    found = list(StoredDescriptions(own.described, caption="best", seed=0))
    assert {one.key: one.candidates for one in found} == {
        key: run.dataset.captions[key] for key in run.dataset.train.keys
    }
    # Another word is another store; captions that are not used change none.
    before = own.described.folder
    text.write_text("the very first")
    assert prepared("dataset.captions=own").augmentations[0].described.folder != before
    assert prepared().augmentations[0].described.folder == plain.described.folder
    assert (
        prepared("dataset.captions=own", "aug=[img2img_label]").augmentations[0].described is None
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("dataset=folder", "dataset.captions=mine"), "must be one of null, own, join"),
        (("dataset=fashion", "dataset.captions=own"), "fashion has no captions"),
    ],
)
def test_what_cannot_be_is_told(options, said):
    with pytest.raises(ValueError, match=said):
        prepare(compose(options), {}, [])
