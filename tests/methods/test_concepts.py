"""Learned concepts: what is learned, from what, and that killing the process changes nothing."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sgid.methods import concepts
from sgid.methods.concepts import Concepts, Learner, learned, learned_rows, memory_needed
from sgid.models.lora import TOKENS
from sgid.runtime.terminal import quiet_generation
from tests.conftest import MODELS
from tests.generation.small_pipelines import write_sdxl

BOTH = {"vectors": 2, "rank": 2, "steps": 4, "batch_size": 2, "flip": True, "warmup": 2}


@pytest.fixture(autouse=True)
def quiet():
    quiet_generation()


def models(folder: Path = MODELS / "sd") -> Any:
    """What a preparation needs of a run's models."""
    return SimpleNamespace(
        weights={"models.generator": SimpleNamespace(folder=folder, file=None)},
        device=torch.device("cpu"),
        settings=SimpleNamespace(generator=SimpleNamespace(resolution=32)),
        lora=[],
    )


def some(fashion, first: int, second: int):
    """As many images of two classes."""
    labels = list(enumerate(fashion.labels))
    rows = [[row for row, label in labels if label == which] for which in (0, 1)]
    assert len(rows[0]) >= first and len(rows[1]) >= second
    chosen = fashion.select([*rows[0][:first], *rows[1][:second]])
    return replace(chosen, class_names=fashion.class_names[:2])


@pytest.fixture
def few(fashion):
    return some(fashion, 2, 2)


def learn(few, folder: Path, *, seed: int = 0, of: Path = MODELS / "sd", **options) -> Path:
    Concepts(**{**BOTH, **options})(few, few.class_names, models(of), folder, seed=seed)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """The content of all files of an artifact."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.mark.parametrize("each", ["class", "set"])
def test_an_artifact_is_the_same_whether_it_was_killed_or_not(few, tmp_path, monkeypatch, each):
    options = {"each": each, "text_encoder": each == "set", "schedule": "cosine"}
    whole = files(learn(few, tmp_path / "whole", **options))
    loras = {"class": ["lora/class-0.safetensors", "lora/class-1.safetensors"]}
    assert {name for name in whole if name.startswith("lora")} == set(
        loras.get(each, ["lora/set.safetensors"])
    )
    steps, step = [], torch.optim.AdamW.step

    def killed(self, *args, at, **more):
        if len(steps) == at:
            steps.append("killed")
            raise KeyboardInterrupt
        steps.append(step(self, *args, **more))

    monkeypatch.setattr(concepts, "CHECKPOINT", 0.0)  # after every step
    for at in (3, 6) if each == "class" else (1, 3):
        monkeypatch.setattr(torch.optim.AdamW, "step", partial_method(killed, at=at))
        with pytest.raises(KeyboardInterrupt):
            learn(few, tmp_path / "killed", **options)
    monkeypatch.setattr(torch.optim.AdamW, "step", partial_method(killed, at=-1))
    assert files(learn(few, tmp_path / "killed", **options)) == whole
    total = 8 if each == "class" else 4
    assert len(steps) - steps.count("killed") == total  # none was done twice


def partial_method(function, **options):
    return lambda self, *args, **more: function(self, *args, **options, **more)


def test_what_is_learned_follows_from_seed_and_images_alone(few, fashion, tmp_path):
    first = files(learn(few, tmp_path / "first"))
    torch.manual_seed(7)  # a process that has drawn other numbers
    assert files(learn(few, tmp_path / "second")) == first
    other = files(learn(few, tmp_path / "other", seed=1))
    assert other.keys() == first.keys() and other[TOKENS] != first[TOKENS]
    changed = files(learn(some(fashion, 3, 2), tmp_path / "more"))
    same = {name for name in first if changed[name] == first[name]}
    assert "lora/class-1.safetensors" in same  # the other class learns as before
    assert "lora/class-0.safetensors" not in same


def test_a_token_changes_its_own_rows_of_the_embedding_only(few):
    options = {**BOTH, "rank": 0, "token_lr": 0.1}
    words = ("coat", "ankle boot")
    learner = Learner(Concepts(**options), few, words, models(), seed=0)
    encoder = learner.pipe.text_encoder
    embedding = encoder.get_input_embeddings()
    before = embedding.weight.detach().clone()
    everything = {name: one.clone() for name, one in learner.pipe.unet.state_dict().items()}
    training = Concepts(**options).trainings(few)[1]
    with learner._concept(training) as parameters:
        assert [one.shape for one in parameters.values()] == [(2, 64)]
        begun = next(iter(parameters.values())).detach().clone()
        first, second = learner.pipe.tokenizer(words[1], add_special_tokens=False)["input_ids"]
        assert torch.equal(begun, before[[first, second]])  # the words of the class
        learner._loss(training, 0).backward()
        assert embedding.weight.grad is None
        (rows,) = parameters.values()
        assert rows.grad is not None and rows.grad.abs().min(dim=1).values.max() > 0
    assert encoder.get_input_embeddings() is embedding
    assert torch.equal(embedding.weight, before)
    after = learner.pipe.unet.state_dict()
    assert all(torch.equal(after[name], one) for name, one in everything.items())


def test_a_learned_embedding_is_the_embedding_with_more_rows():
    weight, rows = torch.randn(10, 4), torch.randn(3, 4)
    ids = torch.tensor([[0, 9, 10, 12], [11, 3, 3, 10]])
    expected = torch.cat([weight, rows])[ids]
    module = learned_rows(weight, rows, 10)
    assert torch.equal(module(ids), expected)
    module(ids).sum().backward()
    (parameter,) = module.parameters()
    assert parameter.grad[:, 0].tolist() == [2, 1, 1]


def test_the_loss_goes_down(few, tmp_path):
    """On the images learned from, against the same model that has learned nothing."""
    options = {"rank": 8, "vectors": 0, "each": "set", "templates": ["a {label}"]}
    options |= {"lora_lr": 3e-3, "steps": 30, "batch_size": 4}
    learner = Learner(Concepts(**options), few, few.class_names, models(), seed=0)
    (training,) = Concepts(**options).trainings(few)
    losses: list[float] = []
    real = learner._loss

    def noted(one, step):
        losses.append((loss := real(one, step)).item())
        return loss

    learner._loss = noted
    learner.learn(training, tmp_path, lambda _: None)
    learned_by_step = losses[:]
    untrained = []
    with torch.no_grad(), learner._concept(training):
        untrained = [float(real(training, step)) for step in range(20, 30)]
    assert sum(learned_by_step[20:]) < 0.97 * sum(untrained)


def test_timesteps_are_weighted_by_their_signal_to_noise(few):
    learner = Learner(Concepts(**BOTH, snr_gamma=5.0), few, few.class_names, models(), seed=0)
    alpha = learner.scheduler.alphas_cumprod
    snr = alpha / (1 - alpha)
    times = torch.tensor([0, 500, 999])
    expected = [min(float(snr[t]), 5.0) / float(snr[t]) for t in times]
    assert learner._min_snr(times, 5.0, velocity=False).tolist() == pytest.approx(expected)
    assert expected[0] < 1 == pytest.approx(expected[2])
    velocity = [min(float(snr[t]), 5.0) / (float(snr[t]) + 1) for t in times]
    assert learner._min_snr(times, 5.0, velocity=True).tolist() == pytest.approx(velocity)


def test_the_learning_rate_rises_and_falls(few):
    options = {**BOTH, "warmup": 4, "schedule": "cosine", "steps": 12}
    learner = Learner(Concepts(**options), few, few.class_names, models(), seed=0)
    shares = [learner._share(step, 12) for step in range(12)]
    assert shares[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert shares[8] == pytest.approx(0.5) and shares[11] == pytest.approx(0.038, abs=1e-3)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_xl_learns_in_both_text_encoders(few, tmp_path, checkpointing):
    folder = write_sdxl(tmp_path / "xl")
    made = learn(
        few, tmp_path / "made", of=folder, each="set", text_encoder=True, steps=2,
        gradient_checkpointing=checkpointing,
    )  # fmt: skip
    tokens = load_file(made / TOKENS)
    parts = ("text_encoder", "text_encoder_2")
    assert set(tokens) == {f"{part}/<class-{label}>" for part in parts for label in (0, 1)}
    assert all(one.shape == (2, 32) for one in tokens.values())
    layers = load_file(made / "lora" / "set.safetensors")
    assert {name.partition(".")[0] for name in layers} == {"unet", *parts}
    moved = {name.partition(".")[0] for name, one in layers.items() if "up" in name and one.any()}
    assert moved == {"unet", *parts}


def test_gradient_checkpointing_changes_memory_alone(few):
    gradients = []
    for saving in (False, True):
        concept = Concepts(**{**BOTH, "gradient_checkpointing": saving})
        learner = Learner(concept, few, few.class_names, models(), seed=0)
        with learner._concept(concept.trainings(few)[0]) as parameters:
            learner._loss(concept.trainings(few)[0], 0).backward()
            gradients.append({name: one.grad for name, one in parameters.items()})
    for name, one in gradients[0].items():
        assert torch.allclose(one, gradients[1][name], rtol=1e-3, atol=1e-7), name
    needed = partial(memory_needed, folder=MODELS / "sd", resolution=32, dtype=torch.float32)
    of_2, of_8 = (needed(Concepts(**{**BOTH, "batch_size": size})) for size in (2, 8))
    of_14 = needed(Concepts(**{**BOTH, "batch_size": 14}))
    assert of_14 - of_8 == pytest.approx(of_8 - of_2, rel=0.01)  # activations grow with the batch
    saving = needed(Concepts(**{**BOTH, "gradient_checkpointing": True, "batch_size": 8}))
    assert saving < of_8


def test_a_lora_of_each_image(few, tmp_path):
    options = {"each": "image", "vectors": 0, "steps": 1, "templates": ["a photo of a {label}"]}
    made = learn(few, tmp_path, **options)
    adapters = [learned(made, key, 0, scale=0.5) for key in few.keys]
    assert len({one.file for (one,) in adapters}) == len(few)
    assert all(one.file.is_file() and one.scale == 0.5 for (one,) in adapters)


def check(concept: Concepts, images, **options) -> str | None:
    given = models(options.pop("folder", MODELS / "sd"))
    return concept.check(images, images.class_names, given, option="aug.x.prepare")


def test_what_is_to_be_learned_is_told(few):
    told = check(Concepts(**BOTH), few)
    assert told is not None and "2 concepts, 8 steps in all, with about" in told


def test_classes_without_images_are_told_before_any_work(fashion):
    lacking = fashion.select(
        [row for row, label in enumerate(fashion.labels) if label not in (3, 5)]
    )
    three, five = fashion.class_names[3], fashion.class_names[5]
    with pytest.raises(ValueError, match=rf"{three}, {five} have none; raise dataset\.shots"):
        check(Concepts(**BOTH), lacking)


def test_too_little_memory_is_told_before_any_work(few, monkeypatch):
    needed = memory_needed(Concepts(**BOTH), MODELS / "sd", 32, torch.float32)
    monkeypatch.setattr(concepts, "free_memory", lambda _: needed - 1)
    with pytest.raises(ValueError, match="gradient_checkpointing=true or a smaller batch_size"):
        check(Concepts(**BOTH), few)
    monkeypatch.setattr(concepts, "free_memory", lambda _: needed)
    check(Concepts(**BOTH), few)


def test_another_kind_of_generator_is_told_before_any_work(few, tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ValueError, match="models.generator.weights is a FluxPipeline"):
        check(Concepts(**BOTH), few, folder=tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"each": "batch"}, "each=batch: must be one of class, set, image"),
        ({"vectors": 0}, r"\{token\} is for tokens to learn, and vectors=0"),
        ({"vectors": 0, "rank": 0}, "vectors=0, rank=0: one must be above 0"),
        ({"epochs": 3}, "steps=4, epochs=3: give one of them"),
        ({"templates": ["a {caption}"]}, r"may have the fields \{token\}"),
        ({"schedule": "step"}, "schedule=step: must be one of constant, cosine"),
        ({"batch_size": 0}, "batch_size=0: must be at least 1"),
        ({"each": "image"}, "each=image learns a LoRA alone"),
    ],
)
def test_values_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        Concepts(**{**BOTH, **options})


def test_a_loss_that_is_not_finite_is_told(few, tmp_path):
    with pytest.raises(ValueError, match="is not finite at step 1: take a lower token_lr"):
        learn(few, tmp_path, token_lr=1e30, lora_lr=1e30)
