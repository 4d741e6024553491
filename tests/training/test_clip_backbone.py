"""Classifiers of a CLIP's image tower, held to open_clip's own zero-shot classification."""

import json
import shutil

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from torchvision.transforms.v2 import PILToTensor

from sgid.training.backbones import normalisation
from sgid.training.classifier import Classifier
from sgid.training.clip_backbone import ImageTower, open_clip_model
from tests.conftest import MODELS

CLIP = MODELS / "clip"
NAMES = ("t-shirt", "trousers", "ankle boot")


def make(**options):
    settings = {"name": None, "head": "random", "prompt": "a photo of a {label}", "seed": 0}
    settings |= {"class_names": NAMES, "image_size": 32, "weights": CLIP}
    return open_clip_model(**settings | options)


@pytest.fixture(scope="module")
def reference():
    """open_clip's whole model, preprocessing and tokenizer."""
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{CLIP}")
    return model.eval(), preprocess, open_clip.get_tokenizer(f"local-dir:{CLIP}")


@pytest.mark.parametrize("prompt", ["a photo of a {label}", "a white {label}"])
def test_a_zero_shot_head_is_clips_own_classifier(fashion, reference, prompt):
    model, preprocess, tokenize = reference
    pictures = [fashion[i].image for i in range(8)]
    tokens = tokenize([prompt.replace("{label}", name) for name in NAMES])
    # From files to logits: the classifier's own normalisation stands in for open_clip's.
    classifier = Classifier(
        make(head="zero_shot", prompt=prompt), optimizer=torch.optim.SGD, trained="all",
        layer_decay=None, steps=1, warmup=0, label_smoothing=0, batch_transform=None,
        num_classes=len(NAMES),
    ).eval()  # fmt: skip
    pixels = torch.stack([PILToTensor()(picture) for picture in pictures])
    with torch.no_grad():
        images = torch.stack([preprocess(picture) for picture in pictures])
        expected, _ = model.get_logits(images, tokens)
        torch.testing.assert_close(classifier(pixels), expected, atol=1e-4, rtol=1e-4)
    assert len(set(expected.argmax(1).tolist())) > 1


def test_a_random_head_is_drawn_on_clips_features(reference):
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    network = make().eval()
    with torch.no_grad():
        features = reference[0].encode_image(pixels)
        expected = F.linear(features, network.head.weight, network.head.bias)
        torch.testing.assert_close(network(pixels), expected)
    assert not torch.equal(network.head.weight, make(seed=1).head.weight)
    assert torch.equal(network.head.weight, make(seed=0).head.weight)


@pytest.mark.parametrize("head", ["random", "zero_shot"])
def test_the_text_tower_is_let_go_and_all_is_trained(head):
    network = make(head=head)
    count = sum(weight.numel() for weight in network.parameters())
    tower = make().visual
    assert count == sum(weight.numel() for weight in tower.parameters()) + 64 * 3 + 3
    assert all(module.training for module in network.modules())
    assert all(weight.requires_grad for weight in network.parameters())


def test_no_seed_leaks():
    torch.manual_seed(9)
    before = torch.random.get_rng_state()
    make(head="zero_shot")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_normalisation_is_that_of_the_clips_own_preprocessing(tmp_path):
    assert normalisation(make()) == ([0.5] * 3, [0.5] * 3)
    config = json.loads((CLIP / "open_clip_config.json").read_text())
    config["preprocess_cfg"] |= {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "open_clip_model.safetensors").symlink_to(CLIP / "open_clip_model.safetensors")
    assert normalisation(make(weights=tmp_path)) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    mean, _ = normalisation(make(name="ViT-S-32", image_size=64, weights=None))
    assert mean == open_clip.OPENAI_DATASET_MEAN


def test_other_image_sizes_resample_the_positions():
    assert make(image_size=64).visual.positional_embedding.shape == (257, 64)
    assert make(image_size=64)(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_towers_that_give_tokens_as_well():
    visual = make().visual
    visual.output_tokens = True  # as CoCa's
    network = ImageTower(visual, torch.nn.Linear(64, 3), normalised=False)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


def test_siglips_bias_is_part_of_its_zero_shot_head(tmp_path):
    folder = shutil.copytree(CLIP, tmp_path / "siglip")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["init_logit_bias"] = -10
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    state = load_file(CLIP / "open_clip_model.safetensors")
    save_file(state | {"logit_bias": torch.tensor(-7.5)}, folder / "open_clip_model.safetensors")
    assert make(head="zero_shot", weights=folder).head.bias.tolist() == [-7.5] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "linear"}, "head=linear: must be one of random, zero_shot"),
        ({"head": "zero_shot", "weights": None}, "head=zero_shot: needs backbone.weights"),
        ({"prompt": "a photo"}, "prompt=a photo: must hold {label}"),
        ({"name": "ViT-B-32"}, "name=ViT-B-32: only without weights"),
        ({"weights": None}, "name=None: without weights it must be one of open_clip's models"),
        ({"weights": None, "name": "ViT-B"}, "name=ViT-B: without weights it must be one of"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_weights_of_another_architecture(tmp_path):
    config = json.loads((CLIP / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["layers"] = 3
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "open_clip_model.safetensors").symlink_to(CLIP / "open_clip_model.safetensors")
    with pytest.raises(ValueError, match="open_clip cannot make .* or backbone.weights"):
        make(weights=tmp_path)


def test_what_a_tower_of_timm_keeps_from_decay_is_kept():
    visual = open_clip.timm_model.TimmModel(
        "vit_tiny_patch16_224", embed_dim=8, image_size=32, pool="avg", proj="linear"
    )
    visual.preprocess_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    tower = ImageTower(visual, torch.nn.Linear(8, 2), normalised=False)
    assert {"visual.trunk.pos_embed", "visual.trunk.cls_token"} <= tower.no_weight_decay()
