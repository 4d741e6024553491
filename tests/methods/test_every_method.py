"""Every method of the literature, end to end on small real models: whole, repeatable, alone."""

import io
import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from sgid import open_store
from sgid.config.compose import compose
from sgid.data.decode import decode
from sgid.methods import selection
from sgid.models.loader import Loaded
from sgid.reproducibility import fingerprint, versions
from sgid.review.queue import open_queue
from sgid.stages.augment import drawn
from sgid.stages.export import export
from sgid.stages.preflight import check_models
from sgid.stages.run import prepare
from sgid.store.tables import schema
from tests.conftest import MODELS
from tests.data.writers import write_folder
from tests.generation.small_conditions import (
    write_controlnet,
    write_editor,
    write_image_encoder,
    write_ip_adapter,
)
from tests.generation.small_pipelines import edit_unet, write_sd

NAMES = (
    "real_guidance", "disef", "discl", "alia", "diagen", "genie_ada", "gif", "distdiff",
    "feedback_guided", "noise_cutmix", "diff_ii", "dalda", "saspa", "alia_edit",
)  # fmt: skip
AS_FOLDERS: dict[str, Any] = {
    "format": "imagefolder", "originals": False, "size": "generator", "licence": None,
}  # fmt: skip
QUICK = {
    "diff_ii": ["aug.diff_ii.prepare.steps=10"],
    "disef": ["aug.disef.select.attempts=2"],
    "real_guidance": ["aug.real_guidance.strength.strengths.2=0.6", "steps=8"],
    "discl": ["aug.discl.strength=[0.4,0.8]", "aug.discl.select.attempts=2"],
    "genie_ada": ["aug.genie_ada.strength=[0.4,0.8]"],
    "feedback_guided": ["aug.feedback_guided.on_latents.every=2"],
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    return write_folder(folder, {"bag": 6, "coat": 6}, size=32)


@pytest.fixture(scope="module")
def further(tmp_path_factory):
    """Method -> options that give the models that it needs and that are not bundled."""
    top = tmp_path_factory.mktemp("further")
    write_image_encoder(top / "image_encoder")
    adapter = write_ip_adapter(top / "adapter.safetensors", MODELS / "sd")
    prompts = f"models.generator.ip_adapter={adapter}"
    edges = f"models.generator.controlnet={write_controlnet(top / 'controlnet', MODELS / 'sd')}"
    return {
        "dalda": [prompts],
        "saspa": [prompts, edges],
        "alia_edit": [f"models.generator.weights.path={write_editor(top / 'editor')}"],
    }


@cache
def models() -> Loaded:
    return Loaded()


def run_of(name: str, images, artifacts, *more: str) -> Any:
    options = [
        f"aug={name}", "dataset=folder", f"dataset.root={images}", "models=tiny", "steps=5",
        "backbone=small_resnet", "expansion=1", "dataset.shots=2", f"paths.artifacts={artifacts}",
        f"paths.results={artifacts}", *QUICK.get(name, []), *more,
    ]  # fmt: skip
    return prepare(compose(options), {}, [], loaded=models())


@pytest.mark.parametrize("name", NAMES)
def test_a_method_end_to_end(name, images, tmp_path, further):
    run = run_of(name, images, tmp_path, *further.get(name, ()))
    (one,) = run.augmentations
    one.make()
    store, plan = one.generated, one.plan()
    rows = store.read().to_pylist()
    assert store.complete and len(rows) == len(plan) > 0
    for number, row in enumerate(rows):
        assert row["key"] == run.dataset.train.keys[plan.place(number)[0]]
        if "label_weights" in row:
            assert sum(one["weight"] for one in row["label_weights"]) == pytest.approx(1)
    # Alone, an image is what it is among the others; its row says how it was drawn.
    for number in [len(rows) - 1]:
        (alone,) = drawn(plan.requests([number]), plan, run.models)
        stored = np.asarray(decode(rows[number]["image"]["bytes"]), np.int16)
        assert np.abs(np.asarray(alone.image, np.int16) - stored).max() <= 2
        assert alone.request.seed == rows[number]["seed"]
        assert alone.request.strength == rows[number]["strength"]
        if second := alone.request.later or alone.request.blend:
            assert rows[number]["second_prompt"] == second.prompt != ""
    evaluation = run.store_evaluations[0]
    if one.method.select is not None and evaluation.store.columns:
        accepted = np.array([row["accepted"] for row in rows])
        if accepted.any():
            told = evaluation._dropped()
            assert told["kept"] == accepted.sum() and "selection of" in told["name"]
            assert len(open_store(store.folder)) == accepted.sum()
        else:
            with pytest.raises(ValueError, match=f"aug={name} accepts none of its"):
                evaluation.kept()
        # Nor is what it refused exported, or shown to people.
        refused = (~accepted).sum()
        said, to = Console(file=io.StringIO(), width=500), tmp_path / "out"
        if accepted.any():
            export(store, run.dataset, to, said, **AS_FOLDERS)
            told = f"{refused} that the method's own selection refused"
            assert (told in said.file.getvalue()) == bool(refused)
            assert len(list(to.rglob("*.png"))) == accepted.sum()
            queue = open_queue(
                store.folder, run.dataset, run.models, run.evaluator, artifacts=tmp_path
            )
            assert sum(one.images for one in queue.progress().values()) == accepted.sum()
            groups = [group for pages in queue.pages.values() for page in pages for group in page]
            assert sum(len(group.rows) for group in groups) == accepted.sum()
        else:
            with pytest.raises(ValueError, match=f"none is left; {refused} that the method's own"):
                export(store, run.dataset, to, said, **AS_FOLDERS)


@pytest.mark.parametrize("name", ["gif", "distdiff", "feedback_guided", "noise_cutmix"])
def test_its_part_changes_the_images(name, images, tmp_path):
    """Without its hook, or its second class, a method draws other images."""
    run = run_of(name, images, tmp_path)
    plan = run.augmentations[0].plan()
    bare = replace(plan.method, on_latents=None, changes=None)
    plain = replace(plan, method=bare)
    some = [*range(len(plan))] if name == "noise_cutmix" else [0, len(plan) - 1]
    images_of = [
        {one.request.described.key: one.image.tobytes() for one in drawn(p.requests(some), p, m)}
        for p, m in ((plan, run.models), (plain, run.models))
    ]
    changed = [images_of[0][key] != images_of[1][key] for key in images_of[0]]
    # The second class may be the first one, or the rectangle all.
    assert any(changed) if name == "noise_cutmix" else all(changed)


def test_pairs_need_two_images_of_a_class(images, tmp_path):
    with pytest.raises(ValueError, match="aug=diff_ii needs 2 training images of each class, and "
                       "bag, coat have fewer: raise dataset.shots"):  # fmt: skip
        run_of("diff_ii", images, tmp_path, "dataset.shots=1")


def test_a_class_without_prompts_is_told_before_any_work(images, tmp_path):
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "bag.txt").write_text("a bag on a chair\n")
    pool = f"{{_target_: sgid.methods.prompts.from_files, path: {tmp_path / 'prompts'}}}"
    with pytest.raises(ValueError, match="aug.diagen.prompt has no prompts for coat: its file"):
        run_of("diagen", images, tmp_path, "~aug.diagen.prompt", f"+aug.diagen.prompt={pool}")
    (tmp_path / "prompts" / "coat.txt").write_text("a coat on a {chair}\n")
    with pytest.raises(ValueError, match="aug.diagen.prompt: .*unknown field chair"):
        run_of("diagen", images, tmp_path, "~aug.diagen.prompt", f"+aug.diagen.prompt={pool}")
    (tmp_path / "prompts" / "coat.txt").write_text("a coat on a hook\n")
    run = run_of("diagen", images, tmp_path, "~aug.diagen.prompt", f"+aug.diagen.prompt={pool}")
    spec = dict(run.augmentations[0].generated.spec)
    (tmp_path / "prompts" / "coat.txt").write_text("a coat on the floor\n")
    run = run_of("diagen", images, tmp_path, "~aug.diagen.prompt", f"+aug.diagen.prompt={pool}")
    assert run.augmentations[0].generated.spec != spec  # the texts count, not the path


def test_the_most_confusable_class_as_a_negative_prompt(images, tmp_path):
    run = run_of("real_guidance", images, tmp_path,
                 "+aug.real_guidance.negative_prompt='a photo of a {confusable}'")  # fmt: skip
    (one,) = run.augmentations
    for request in one.plan().requests(range(4)):
        other = {"bag": "coat", "coat": "bag"}[request.class_name]
        assert request.negative_prompt == f"a photo of a {other}"
    assert "scorer" in one.generated.spec


def test_nothing_of_a_selection_is_drawn_twice_alike(images, tmp_path):
    """A method that accepts nothing is counted in full, and told when it is to be trained on."""
    run = run_of("disef", images, tmp_path, "aug.disef.select.attempts=2")
    plan = run.augmentations[0].plan()

    def nothing(generated, plan, models):
        return np.zeros(len(generated), bool), np.linspace(0, 1, len(generated))

    requests = plan.requests(range(4))
    found = list(
        selection.redraw(
            requests, run.models.generator.generate, plan, run.models,
            accept=[nothing], attempts=2,
        )
    )  # fmt: skip
    assert len(found) == 4 and all(one.attempts == 2 and not one.accepted for one in found)


def test_saspa_has_edges_of_the_original_and_another_of_its_class_as_subject(
    images, tmp_path, further
):
    run = run_of("saspa", images, tmp_path, *further["saspa"], "dataset.shots=3", "expansion=2")
    (one,) = run.augmentations
    one.make()
    classes = dict(zip(run.dataset.train.keys, run.dataset.train.labels, strict=True))
    for row in one.generated.read().to_pylist():
        assert row["edges"] == {"key": row["key"], "scale": 0.75}
        subject = row["image_prompt"]["key"]
        assert subject != row["key"] and classes[subject] == row["label"]
        assert row["image_prompt"]["scale"] == 0.6


def test_daldas_rows_have_a_scale_of_their_own(images, tmp_path, further):
    run = run_of("dalda", images, tmp_path, *further["dalda"])
    (one,) = run.augmentations
    one.make()
    found = one.generated.read(["key", "image_prompt"]).to_pylist()
    assert all(row["image_prompt"]["key"] == row["key"] for row in found)
    assert len({row["image_prompt"]["scale"] for row in found}) == len(found)


def test_further_models_count_for_the_methods_that_use_them_alone(images, tmp_path, further):
    plain = run_of("real_guidance", images, tmp_path)
    given = run_of("real_guidance", images, tmp_path, *further["saspa"])
    store = given.augmentations[0].generated
    assert store.spec == plain.augmentations[0].generated.spec
    assert store.schema == schema()
    saspa, dalda = (
        run_of(name, images, tmp_path, *further["saspa"]).augmentations[0].generated.spec
        for name in ("saspa", "dalda")
    )
    assert saspa["ip_adapter"] == dalda["ip_adapter"] and "controlnet" in saspa
    assert "controlnet" not in dalda and saspa["engine"] == store.spec["engine"]


@pytest.mark.parametrize(
    ("name", "options", "kind", "said"),
    [
        ("dalda", (), FileNotFoundError, "aug=dalda draws with image prompts, which takes a "
         "further model. models=tiny has none: .*models.generator.ip_adapter=FILE.*h94/IP-Adapter"),
        ("saspa", ("dalda",), FileNotFoundError, "aug=saspa draws along edges.*controlnet=FOLDER"),
        ("dalda", ("models.generator.ip_adapter=no.safetensors",), FileNotFoundError, "no such"),
        ("alia_edit", (), ValueError, "aug=alia_edit edits images by an instruction, and "
         "models=tiny is no InstructPix2Pix; take models=instruct_pix2pix"),
        ("real_guidance", ("alia_edit",), ValueError, "edits images by an instruction, and "
         "aug=real_guidance gives none: take aug=alia_edit"),
    ],
)  # fmt: skip
def test_a_missing_model_is_told_before_any_work(
    name, options, kind, said, images, tmp_path, further
):
    given = [word for one in options for word in further.get(one, [one])]
    with pytest.raises(kind, match=re.compile(said, re.DOTALL)):
        run_of(name, images, tmp_path, *given)
    assert not list(tmp_path.iterdir())


def test_models_of_another_generator_are_told_before_any_work(images, tmp_path, further):
    other = write_sd(tmp_path / "other")
    edit_unet(other, cross_attention_dim=80)
    options = [*further["saspa"], f"models.generator.weights.path={other}"]
    run = run_of("saspa", images, tmp_path / "artifacts", *options)
    with pytest.raises(ValueError, match="models.generator.ip_adapter=.*made for another model"):
        check_models(run.config, replace(run.ready, weights=generator_alone(run)))
    run.config.models.generator.ip_adapter = None
    with pytest.raises(ValueError, match="models.generator.controlnet=.*made for another model"):
        check_models(run.config, replace(run.ready, weights=generator_alone(run)))


def generator_alone(run: Any) -> dict[str, Any]:
    """Its weights, as if they were found sound: the text encoder is not of this UNet."""
    (name,) = [one for one in run.ready.weights if one == "models.generator"]
    weights = run.ready.weights[name]
    sound = fingerprint({**weights.identity, "libraries": versions()})
    remembered = Path(run.config.paths.artifacts) / "checked_weights.json"
    remembered.parent.mkdir(parents=True, exist_ok=True)
    remembered.write_text(json.dumps([sound]))
    return {name: weights}


def test_what_does_more_than_denoise_has_a_rate_of_its_own(images, tmp_path):
    """Else hours of one method would be estimated by another's."""
    names = ("sgid", "img2img_label", "genie_ada", "gif", "disef")
    rates = {name: run_of(name, images, tmp_path).augmentations[0].rate.name for name in names}
    assert rates["sgid"] == rates["img2img_label"]
    assert len(set(rates.values())) == len(names) - 1
