"""Methods as parts: what is in a spec, and random choices that nothing else changes."""

from collections import Counter
from dataclasses import make_dataclass
from typing import Any

import pytest

from sgid.config.schema import in_slot
from sgid.config.targets import identity, short_name, with_short_names
from sgid.methods import method
from sgid.methods.method import Draw
from sgid.records import Use
from sgid.stages.run import methods
from tests.methods.test_requests import make_plan
from tests.test_every_choice import AUGS, composed


@pytest.fixture(scope="module")
def aug() -> dict[str, Any]:
    """All augmentations of `conf/aug/`, by name."""
    return composed(f"aug=[{','.join(AUGS)}]").aug


def specs(aug) -> dict[str, Any]:
    return {one.name: dict(one.spec) for one in methods(aug)}


def test_the_spec_of_sgid_holds_short_names_and_the_numbers(aug):
    guidance = {"linear": {"min": 3.0, "max": 7.5, "quantiles": [0.05, 0.95]}}
    assert specs(aug)["sgid"] == {
        "prompt": "a photo of a {label}, {caption}",
        "from_image": True,
        "strength": 0.5,
        "guidance": guidance,
    }
    assert specs(aug)["fixed_guidance"]["guidance"] == {"averaged": {"of": guidance}}
    assert specs(aug)["random_caption"]["caption"] == "random"
    assert specs(aug)["genie"]["target"] == "another_class"


def test_no_spec_holds_an_import_path_of_ours(aug):
    everything = [identity(aug), with_short_names(aug), specs(aug)]
    assert "sgid." not in str(everything) and "torchvision.transforms.v2" in str(everything)


def moved(settings: Any) -> Any:
    """The same settings, as if every module of ours lay elsewhere."""
    if isinstance(settings, dict):
        return {
            key: f"sgid.elsewhere.{value.rpartition('.')[2]}"
            if key == "_target_" and value.startswith("sgid.")
            else moved(value)
            for key, value in settings.items()
        }
    return [moved(value) for value in settings] if isinstance(settings, list) else settings


@pytest.mark.parametrize("names", [identity, with_short_names])
def test_a_module_that_moves_changes_no_spec(aug, names):
    for options in ([], ["backbone=small_vit", "filter=band"], ["backbone=small_clip"]):
        config = composed(*options)
        for settings in (aug, vars(config.backbone), config.filter, vars(config.models.generator)):
            assert moved(settings) != settings or settings == {}
            assert names(moved(settings)) == names(settings)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("sgid.generation.stable_diffusion.StableDiffusionEngine", "stable_diffusion"),
        ("sgid.generation.diffusers_pipeline.PipelineEngine", "pipeline"),
        ("sgid.models.blip.BlipCaptioner", "blip"),
        ("sgid.models.clip.OpenClipScorer", "open_clip"),
        ("sgid.training.backbones.timm_model", "timm"),
        ("sgid.methods.guidance.linear", "linear"),
        ("torch.optim.AdamW", "torch.optim.AdamW"),
    ],
)
def test_short_names(target, name):
    assert short_name(target) == name


def test_a_part_that_is_added_later_changes_no_old_spec(aug, monkeypatch):
    before = specs(aug)
    later = make_dataclass("Later", [("novelty", Any, None)], bases=(method.Method,), frozen=True)
    monkeypatch.setattr(method, "Method", later)
    assert specs(aug) == before
    for unused in (None, "", {}):
        assert specs({"sgid": {**aug["sgid"], "novelty": unused}})["sgid"] == before["sgid"]
    used = specs({"sgid": {**aug["sgid"], "novelty": 3}})["sgid"]
    assert used == {**before["sgid"], "novelty": 3}


def test_how_training_takes_images_is_in_no_spec_of_theirs(aug):
    (made,) = (one for one in methods(aug) if one.name == "da_fusion_plain")
    assert made.use == Use("replace", 0.5) and "use" not in made.spec


def test_every_method_of_conf_is_made(aug):
    assert [one.name for one in methods(aug)] == list(in_slot(aug, "offline"))


def test_each_image_draws_one_of_several_strengths(fashion):
    strengths = [0.25, 0.5, 0.75, 1.0]
    plan = make_plan(fashion, prompt="a {label}", strength=strengths, expansion=40)
    requests = plan.requests(range(len(plan)))
    drawn = Counter(request.strength for request in requests)
    assert set(drawn) == set(strengths) and min(drawn.values()) > len(requests) / 5
    alone = [plan.requests([row])[0].strength for row in (0, 7, 501)]
    assert alone == [requests[row].strength for row in (0, 7, 501)]
    fixed = make_plan(fashion, prompt="a {label}", strength=0.5, expansion=40)
    seeds = [request.seed for request in fixed.requests(range(len(plan)))]
    assert [request.seed for request in requests] == seeds


def test_choices_for_other_purposes_are_other_choices():
    draws = [Draw(0, f"{i}.png", i % 3) for i in range(500)]
    assert sum(one.choice("a", range(4)) == one.choice("b", range(4)) for one in draws) < 200
    assert all(0 <= one.uniform("a") < 1 for one in draws)
    assert abs(sum(one.uniform("a") for one in draws) / 500 - 0.5) < 0.06


def test_negative_prompts_are_filled_in_like_prompts(fashion):
    plan = make_plan(fashion, negative_prompt="blurry {label}", target=lambda *_: {1: 0.3, 2: 0.7})
    request = plan.requests([0])[0]
    assert request.negative_prompt == f"blurry {plan.phrases[2]}"
    assert request.label == 2 and request.label_weights == {1: 0.3, 2: 0.7}


def test_label_weights_sum_to_one(fashion):
    plan = make_plan(fashion, target=lambda *_: {1: 0.3, 2: 0.6})
    with pytest.raises(ValueError, match="aug=sgid: label weights .* do not sum to 1"):
        plan.requests([0])
