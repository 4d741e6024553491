"""Runs that cannot draw or learn are refused before any work, naming the option."""

import json
import shutil
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from sgid.config.compose import compose
from sgid.models.diffusers import check_scheduler
from sgid.stages.preflight import preflight, rehearse_classifier, warn
from tests.conftest import MODELS

IMAGES = SimpleNamespace(class_names=("a", "b", "c"))
READY = SimpleNamespace(weights={})


def rehearse(*options: str) -> None:
    rehearse_classifier(compose(options), READY, IMAGES)  # type: ignore[arg-type]


NET = ("backbone=timm", "backbone.weights=null", "backbone.model.name=test_efficientnet")


def test_a_backbone_learns_from_one_batch_of_the_runs_own_size():
    said = r"backbone: it cannot learn from 1 images of 16x16 px .* backbone.batch_size \(now 1\)"
    with pytest.raises(ValueError, match=said):  # a batch norm of 1x1 places
        rehearse(*NET, "backbone.batch_size=1", "backbone.image_size=16")


def test_a_sound_backbone_does():
    rehearse(*NET, "backbone.batch_size=2", "backbone.image_size=32")


def test_float16_on_a_cpu():
    options = ["trainer.device=cpu", "trainer.precision=16-mixed", "aug=flip_crop"]
    with pytest.raises(ValueError, match="trainer.precision=16-mixed: a CPU .* take 32-true"):
        preflight(compose(options))


def scheduler(folder: Path, name: str, steps: int = 20, strength: float = 0.5) -> None:
    check_scheduler(folder, scheduler=name, steps=steps, strengths=[strength])


@pytest.mark.parametrize(
    "name", ["own", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "LCMScheduler"]
)
def test_schedulers_that_can_take_the_place_of_the_models_own(name):
    scheduler(MODELS / "sd", name)


@pytest.mark.parametrize(
    "name",
    ["CMStochasticIterativeScheduler", "EDMEulerScheduler", "RePaintScheduler", "IPNDMScheduler",
     "FlowMatchEulerDiscreteScheduler"],
)  # fmt: skip
def test_schedulers_of_another_family(name):
    with pytest.raises(ValueError, match=rf"scheduler={name}: cannot take the place .* UniPC"):
        scheduler(MODELS / "sd", name)


@pytest.mark.parametrize(
    ("name", "steps", "strength", "said"),
    [
        ("DPMSolverMultistepScheduler", 1000, 0.005, "gives what is not finite; take fewer steps"),
        ("own", 2000, 0.001, "steps=2000: .* has 1000 steps at most"),
        ("PNDMScheduler", 1, 1.0, "steps=1 at noise_rate=1: .* fails"),
    ],
)
def test_steps_that_a_scheduler_cannot_take(name, steps, strength, said):
    with pytest.raises(ValueError, match=said):
        scheduler(MODELS / "sd", name, steps, strength)


def test_settings_that_another_scheduler_lacks(tmp_path):
    folder = shutil.copytree(MODELS / "sd", tmp_path / "sd")
    file = folder / "scheduler" / "scheduler_config.json"
    own = json.loads(file.read_text())
    own |= {"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver"}
    file.write_text(json.dumps(own))
    with pytest.raises(ValueError, match=r"algorithm_type|final_sigmas_type"):
        scheduler(folder, "own")


def warnings(*options: str) -> str:
    stream = StringIO()
    warn(compose(options), Console(file=stream, soft_wrap=True), overrides=options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["steps=4", "noise_rate=0.6"], "of steps=4, noise_rate=0.6 runs 2, as noise_rate=0.5"),
        (["steps=50", "noise_rate=0.58"], "noise_rate=0.58 runs 28, as noise_rate=0.56"),
        (["guidance=fixed", "guidance.scale=0.5"], "scale of 0.5 is no guidance, as 1 is"),
        (["models=sd15", "dataset=fashion"], "PyTorch sees no GPU"),
    ],
)
def test_what_does_not_mean_what_it_seems_to(options, said, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert said in warnings(*options)


@pytest.mark.parametrize("aug", ["gif", "distdiff", "feedback_guided"])
def test_gradients_in_float16(aug):
    given = (f"aug={aug}", "dataset=fashion", "trainer.device=cpu")
    said = f"{aug}: follows gradients through the generator"
    assert said in warnings(*given, "models.generator.dtype=float16")
    for dtype in ("auto", "bfloat16", "float32"):
        assert said not in warnings(*given, f"models.generator.dtype={dtype}")
    assert said not in warnings("aug=sgid", *given[1:], "models.generator.dtype=float16")


def test_what_means_what_it_says():
    assert warnings("dataset=fashion", "steps=20", "noise_rate=0.35", "trainer.device=cpu") == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("aug=real_mix", "noise_rate=0.9"),
            "noise_rate changes nothing about real_mix: aug.re",
        ),
        (
            ("aug=[sgid,real_mix]", "noise_rate=0.5"),
            "nothing about real_mix: aug.real_mix.str",
        ),
        (
            ("aug=real_mix", "mix.how=concatenate"),
            "mix.how changes nothing about real_mix: aug.",
        ),
        (("aug=sgid", "noise_rate=0.5", "mix.how=replace"), None),
        (("aug=text2img_label", "noise_rate=0.25"), None),
        (("aug=real_mix",), None),
    ],
)
def test_options_that_a_method_has_its_own_value_of(options, said):
    told = warnings(*options, "dataset=fashion", "steps=20", "trainer.device=cpu")
    assert (said in told) if said else ("changes nothing" not in told)


def test_schedulers_that_predict_no_images_are_named_with_the_method():
    folder = MODELS / "sd"
    given = {"steps": 4, "strengths": [1.0]}
    check_scheduler(folder, scheduler="EulerDiscreteScheduler", **given)
    check_scheduler(folder, scheduler="DDIMScheduler", predicts=["distdiff"], **given)
    with pytest.raises(ValueError, match=r"aug=distdiff looks at predicted images, which models"):
        check_scheduler(folder, scheduler="EulerDiscreteScheduler", predicts=["distdiff"], **given)
