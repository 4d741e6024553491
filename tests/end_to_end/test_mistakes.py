"""Mistakes end with exit code 1 and one message that says what is right; nothing is left behind."""

from __future__ import annotations

import pytest
import torch


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nois_rate=0.3", "nois_rate is not an option, did you mean noise_rate?"),
        ("guidance.maxx=3", "guidance.maxx is not an option, did you mean guidance.max?"),
        ("dataset.shotz=3", "did you mean dataset.shots?"),
        ("models.generator.batchsize=3", "did you mean models.generator.batch_size?"),
        ("aug.sgid.strenght=0.3", "did you mean aug.sgid.strength?"),
        ("logger.projct=mine", "did you mean logger.project?"),
        ("backbone.optimizer.lrr=1", "did you mean backbone.optimizer.lr?"),
        ("dataset.source.id=vit", "is an option of dataset=hub only"),
        ("dataset=carz", "did you mean cars?; one of aircraft, caltech101, cars, "),
        ("aug=sgidd", "did you mean sgid?; one of alia, alia_edit, augmix"),
        ("aug=[sgid,randaugmnt]", "did you mean randaugment?"),
        ("guidance=", "there is no such guidance; one of fixed, inverse, linear"),
        ("expansion=abc", "expansion=abc\nValue 'abc' of type 'str' could not be converted to Int"),
        (
            "stage=foo",
            "stage=foo\nInvalid value 'foo', expected one of [fetch, data, concepts, screen",
        ),
        ("noise_rate", "missing EQUAL"),
        ("aug.sgid.prompt=a {label}", """needs quotes: 'aug.sgid.prompt="a {label}"'"""),
        # Values are tested one by one with sgid.stages.validation: here, that it is called.
        ("noise_rate=1.5", "noise_rate=1.5: must be above 0, at most 1"),
        ("models.generator.scheduler=Nonsense", "must be a scheduler of diffusers"),
        ("dataset.shots=1000", "dataset.shots=1000 needs 1,000 images of each class"),
        ("models.scorer.weights.path=/nowhere", "models.scorer.weights.path=/nowhere lacks the fo"),
        ("models.scorer.weights.layout=foo", "models.scorer.weights.layout=foo: unknown; one of"),
    ],
)
def test_one_message_and_no_trace(place, given, said):
    outcome = place.run(given)
    assert outcome.code == 1 and said in outcome.err, outcome.text
    assert outcome.out == ""
    for noise in ("Traceback", "full_key", "object_type", "Error executing", "search path", "+"):
        assert noise not in outcome.err
    assert len(outcome.err.strip().splitlines()) <= 3
    assert not place.files()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there(place):
    outcome = place.run("trainer.device=cuda")
    assert outcome.code == 1 and "no CUDA device here; use trainer.device=cpu" in outcome.err
    assert not place.files()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ("backbone=resnet50", "backbone.epochs=null", "backbone.model.name=foo"),
            "name=foo: not in",
        ),
        (("backbone.optimizer.lr=-1",), "backbone: Invalid learning rate: -1"),
        (("backbone.optimizer.lr=abc",), "backbone: "),
        (
            ("aug=mixup", "aug.mixup.transform._target_=torchvision.Mixup"),
            "aug.mixup.transform._target_=torchvision.Mixup: not called",
        ),
    ],
)
def test_a_classifier_that_cannot_be_made_is_told_before_images_are(place, own, given, said):
    outcome = place.run(*own, *given)
    assert outcome.code == 1 and said in outcome.err, outcome.text
    assert "Traceback" not in outcome.text
    assert not list(place.artifacts.glob("generated/*"))


def test_what_arose_and_where_is_kept_for_a_developer(place):
    place.run("noise_rate=2")
    assert "Traceback" in (place.top / "hydra" / "error.txt").read_text()
