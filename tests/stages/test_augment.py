"""The stage around the engine: what is drawn is stored whole, in order, and not lost."""

from dataclasses import replace
from functools import partial
from time import sleep
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import ImageOps

from sgid.data.decode import decode
from sgid.methods.guidance import fixed
from sgid.methods.method import Method
from sgid.methods.requests import RequestPlan, Undescribed
from sgid.records import Generated
from sgid.stages.augment import Augmentation, GenerationSettings, generate_shards
from sgid.store.store import Store
from sgid.store.tables import schema, stored_images

REPEATS, SHARD = 2, 8


class Turned:
    """An engine that gives the originals turned, a shard's last request first."""

    def __init__(self, fail_at: int = -1, error: type[BaseException] = RuntimeError) -> None:
        self.fail_at, self.error = fail_at, error
        self.drawn = 0

    def generate(self, requests, hook=None):
        for request in reversed(requests):
            if self.drawn == self.fail_at:
                raise self.error
            self.drawn += 1
            turned = request.init_image.rotate(90 * (1 + request.repeat))
            yield Generated(request, turned, "float32")


@pytest.fixture
def plan(fashion) -> RequestPlan:
    return RequestPlan(
        images=fashion,
        described=Undescribed(fashion),
        similarities=np.full(len(fashion), np.nan),
        method=Method("turned", "a {label}", True, 0.5, partial(fixed, scale=3)),
        words={"label": fashion.class_names},
        expansion=REPEATS,
        seed=0,
        resolution=32,
        multiple=8,
    )


@pytest.fixture
def store(plan, tmp_path) -> Store:
    return Store(tmp_path, {"method": "turned"}, schema(), len(plan), SHARD)


def generate(store: Store, plan: RequestPlan, engine: Any) -> None:
    models: Any = SimpleNamespace(generator=engine)
    generate_shards(store, plan, models, format="png")
    store.finish()


def test_rows_are_in_the_order_of_the_requests(store, plan, fashion):
    generate(store, plan, Turned())
    assert store.complete
    for row, found in enumerate(store.read().to_pylist()):
        sample, repeat = fashion[row // REPEATS], row % REPEATS
        assert (found["key"], found["repeat"]) == (sample.key, repeat)
        expected = sample.image.rotate(90 * (1 + repeat))
        assert decode(found["image"]["bytes"]).tobytes() == expected.tobytes()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_shards_that_are_drawn_are_kept_whatever_stops_the_engine(store, plan, error):
    with pytest.raises(error):
        generate(store, plan, Turned(fail_at=2 * SHARD + 3, error=error))
    assert store.missing() == list(range(2, store.shards)) and not store.complete
    engine = Turned()
    generate(store, plan, engine)
    assert store.complete and engine.drawn == len(plan) - 2 * SHARD


def test_an_image_that_was_not_asked_for_is_not_stored(store, plan):
    class Repeating(Turned):
        def generate(self, requests, hook=None):
            *most, last = super().generate(requests)
            yield from [*most, most[0]]

    with pytest.raises(AssertionError, match="other images came than were asked for"):
        generate(store, plan, Repeating())
    assert store.missing() == list(range(store.shards))


def test_a_full_disk_stops_the_engine_soon(store, plan, monkeypatch):
    class Slow(Turned):
        def generate(self, requests, hook=None):
            for one in super().generate(requests):
                sleep(0.05 if self.drawn > SHARD else 0)
                yield one

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    engine = Slow()
    with pytest.raises(OSError, match="no space left"):
        generate(store, plan, engine)
    assert engine.drawn < 2 * SHARD


def test_an_image_that_cannot_be_encoded_is_told_with_its_traceback(store, plan, monkeypatch):
    monkeypatch.setattr("sgid.stages.augment.to_row", lambda *_, **__: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        generate(store, plan, Turned())
    assert store.missing() == list(range(store.shards))


def test_a_pixel_hook_changes_what_is_stored(store, plan):
    def mirrored(image, request, artifact):
        return ImageOps.mirror(image)

    generate(store, plan, Turned())
    hooked = replace(plan, method=replace(plan.method, on_pixels=mirrored))
    other = Store(store.parent, {"method": "mirrored"}, schema(), len(plan), SHARD)
    generate(other, hooked, Turned())
    for before, after in zip(store.read().to_pylist(), other.read().to_pylist(), strict=True):
        image = decode(before["image"]["bytes"])
        assert decode(after["image"]["bytes"]).tobytes() == ImageOps.mirror(image).tobytes()


def test_columns_of_targets(plan, tmp_path):
    soft = replace(plan.method, target=lambda *_: {1: 0.3, 2: 0.7}, negative_prompt="not a {label}")
    columns = schema(targets=True, negatives=True)
    store = Store(tmp_path, {"method": "soft"}, columns, len(plan), SHARD)
    generate(store, replace(plan, method=soft), Turned())
    images = stored_images(store, plan.images.class_names)
    for row, found in enumerate(store.read().to_pylist()):
        sample = plan.images[row // REPEATS]
        assert found["source_class"] == sample.class_name
        assert (found["label"], found["class_name"]) == (2, plan.images.class_names[2])
        assert found["negative_prompt"] == f"not a {plan.phrases[2]}"
        assert images.label_weights[row] == {1: 0.3, 2: 0.7}


class MeanColour:
    """A preparation that is killed after its first look at the images."""

    def __init__(self, die=False):
        self.die, self.begun = die, 0

    def __call__(self, images, phrases, models, folder, *, seed):
        self.begun += 1
        found = folder / "begun.txt"
        found.write_text(found.read_text() + "again" if found.is_file() else "once")
        if self.die:
            raise KeyboardInterrupt
        (folder / "colour.txt").write_text(f"{len(images)} images, seed {seed}")


def prepared(prepare, images, artifacts, **spec):
    method = Method(
        "coloured", "a {label}", True, 0.5, partial(fixed, scale=3),
        prepare=prepare, spec={"prepare": "mean_colour", **spec},
    )  # fmt: skip
    settings = GenerationSettings(artifacts, REPEATS, 4, 0, 32, 8, SHARD, "png", None, False, False)
    names = images.class_names
    dataset: Any = SimpleNamespace(
        train=images, phrases=names, class_names=names, words={"label": names}, nouns=None
    )
    models: Any = SimpleNamespace(identity=lambda name: name)
    return Augmentation(method, dataset, models, settings)


def test_an_artifact_is_prepared_once_from_the_training_images(fashion, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        prepared(MeanColour(die=True), fashion, tmp_path).plan()
    again, later = MeanColour(), MeanColour()
    one = prepared(again, fashion, tmp_path)
    artifact = one.plan().artifact
    assert artifact == one.artifact and one.generated.spec["artifact"] == artifact.name
    assert (artifact / "begun.txt").read_text() == "onceagain"  # it went on from there
    assert (artifact / "colour.txt").read_text() == f"{len(fashion)} images, seed 0"
    assert prepared(later, fashion, tmp_path).plan().artifact == artifact and later.begun == 0
    fewer = prepared(MeanColour(), fashion.select(range(12)), tmp_path)
    assert fewer.artifact != artifact
    plain = replace(one, method=replace(one.method, prepare=None, spec={}))
    assert plain.artifact is None and "artifact" not in plain.generated.spec


@pytest.mark.parametrize(
    ("prompt", "words", "message"),
    [
        (
            "a {label}, {description}",
            {"description": ("", "long", "")},
            r"prompt has {description}, which ",
        ),
        (
            "a {superclass}",
            {"superclass": ("a", "b", "")},
            r"prompt has {superclass}, which pullover lack",
        ),
    ],
)
def test_what_prompts_say_of_classes_is_there_and_in_the_spec(
    fashion, tmp_path, prompt, words, message
):
    names = fashion.class_names[:3]
    models: Any = SimpleNamespace(identity=lambda name: name)
    settings = GenerationSettings(tmp_path, 1, 4, 0, 32, 8, SHARD, "png", None, False, False)
    method = Method("told", prompt, False, 0.5, partial(fixed, scale=3))

    def augmentation(words):
        dataset: Any = SimpleNamespace(
            train=fashion, class_names=names, nouns=None, words={"label": names, **words}
        )
        return Augmentation(method, dataset, models, settings)

    with pytest.raises(ValueError, match=f"aug.told.{message}"):
        augmentation(words)
    ((field, given),) = words.items()
    whole = augmentation({field: tuple(text or "some" for text in given)})
    other = augmentation({field: tuple(text or "other" for text in given)})
    assert whole.generated.folder != other.generated.folder  # the words are in the images


def test_images_are_kept_at_a_size(plan, tmp_path):
    small = Store(tmp_path, {"method": "turned"}, schema(), len(plan), SHARD)
    shards: list[tuple[int, float]] = []
    models: Any = SimpleNamespace(generator=Turned())
    generate_shards(
        small, plan, models, format="png", size=16, on_shard=lambda *one: shards.append(one)
    )
    small.finish()
    assert {(row["width"], row["height"]) for row in small.read().to_pylist()} == {(16, 16)}
    assert sum(images for images, _ in shards) == len(plan) and all(s > 0 for _, s in shards)
