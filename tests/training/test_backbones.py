from functools import partial

import pytest
import timm
import torch
from safetensors.torch import save_file

from sgid.training.backbones import normalisation, own_size, small_resnet, timm_model
from sgid.training.clip_backbone import open_clip_model
from tests.conftest import MODELS


def final_map(model, size):
    with torch.no_grad():
        return tuple(model.eval().forward_features(torch.zeros(1, 3, size, size)).shape[-2:])


def same(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def make(name, *, classes=5, image_size=224, weights=None, seed=0, **options):
    names = [f"class {i}" for i in range(classes)]
    settings = {"class_names": names, "image_size": image_size, "weights": weights, "seed": seed}
    return timm_model(name=name, **settings, **options)


def small(**options):
    settings = {"class_names": "abcdefg", "image_size": 32, "weights": None, "seed": 0}
    return small_resnet(**settings | options)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet26d", "seresnet50", "resnet26t"])
def test_resnets_keep_the_resolution_of_small_images(name):
    model = make(name, image_size=32)
    assert final_map(model, 32) == (4, 4)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


def test_a_new_stem_is_drawn_as_timm_draws_convolutions():
    weight = make("resnet50", image_size=32).conv1.weight
    assert weight.shape == (64, 3, 3, 3)
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)  # He et al., 2015


def test_a_deep_stem_keeps_its_weights():
    small, large = make("resnet26d", image_size=32), make("resnet26d")
    assert same(small, large) and small.conv1[0].stride == (1, 1) != large.conv1[0].stride


@pytest.mark.parametrize(("name", "told"), [("test_convnext", True), ("test_vit", False),
                                            ("resnet18", False)])  # fmt: skip
def test_networks_that_leave_nothing_of_small_images_say_so(name, told, caplog):
    make(name, image_size=32)
    assert ("backbone.image_size=224 enlarges them" in caplog.text) is told


def test_resnets_are_timms_own_on_large_images():
    model = make("resnet18")
    assert isinstance(model.maxpool, torch.nn.MaxPool2d) and model.conv1.kernel_size == (7, 7)
    assert final_map(model, 224) == (7, 7)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext", "test_resnet", "test_vit"])
def test_any_timm_model(name):
    assert make(name, image_size=160)(torch.zeros(2, 3, 160, 160)).shape == (2, 5)


def test_transformers_are_made_for_the_image_size():
    assert make("test_vit", image_size=96)(torch.zeros(1, 3, 96, 96)).shape == (1, 5)


def test_small_resnet():
    assert final_map(small(), 32) == (2, 2)
    assert final_map(small(image_size=224), 224) == (7, 7)
    assert small()(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("build", [small, lambda seed: make("test_vit", image_size=160, seed=seed)])
def test_the_seed_alone_decides_the_weights(build):
    torch.manual_seed(1)
    one = build(seed=5)
    torch.manual_seed(2)
    assert same(one, build(seed=5)) and not same(one, build(seed=6))


@pytest.mark.parametrize("build", [small, lambda: make("test_vit"), lambda: make("test_resnet")])
def test_no_seed_leaks(build):
    torch.manual_seed(9)
    before = torch.random.get_rng_state()
    build()
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.fixture(scope="module", params=["vit_tiny_patch16_224.augreg_in21k", "test_resnet"])
def snapshot(request, tmp_path_factory):
    """A folder with random weights of a model with three classes."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    model = timm.create_model(request.param, num_classes=3)
    for weight in model.state_dict().values():  # none of them as it is when made
        weight.copy_(weight + torch.rand_like(weight.float()).to(weight.dtype))
    save_file(model.state_dict(), folder / "model.safetensors")
    return request.param, folder, model.state_dict()


@pytest.mark.parametrize("classes", [3, 7, 1000, 21843])
def test_weights_of_another_head_are_really_loaded(snapshot, classes):
    name, folder, stored = snapshot
    model = make(name, classes=classes, weights=folder).eval()
    head = {id(value) for value in model.get_classifier().state_dict(keep_vars=True).values()}
    body = {k: v for k, v in model.state_dict(keep_vars=True).items() if id(v) not in head}
    assert len(body) == len(stored) - 2
    assert all(torch.equal(value, stored[key]) for key, value in body.items())
    assert model(torch.zeros(1, 3, 224, 224)).shape == (1, classes)
    assert same(model, make(name, classes=classes, weights=folder))  # the head is seeded


def test_pretrained_resnets_keep_their_stem(snapshot):
    name, folder, _ = snapshot
    if "resnet" in name:
        model = make(name, image_size=32, weights=folder)
        assert isinstance(model.maxpool, torch.nn.MaxPool2d)


def test_another_models_weights_are_not_passed_over_in_silence(snapshot):
    name, folder, _ = snapshot
    other = "resnet18" if "vit" in name else "test_vit"
    with pytest.raises(ValueError, match="it is another model's; change backbone.weights"):
        make(other, weights=folder)


def test_unknown_models():
    with pytest.raises(ValueError, match="name=resnet_50: not in timm, did you mean .*resnet50"):
        make("resnet_50")
    with pytest.raises(ValueError, match=r"timm knows no weights a9_in1k of resnet50; .*a1_in1k"):
        make("resnet50.a9_in1k")


def test_options_are_the_models_own():
    model = make("test_vit", image_size=32, patch_size=4, embed_dim=32, depth=2, num_heads=2)
    assert len(model.blocks) == 2 and model.pos_embed.shape == (1, 65, 32)


@pytest.mark.parametrize(
    ("name", "scratch", "pretrained"),
    [
        ("vit_base_patch16_224.augreg_in21k", 224, 224),
        ("vit_base_patch16_384.augreg_in21k_ft_in1k", 384, 384),
        ("resnet50", None, 224),
        ("test_resnet", None, 160),
    ],
)
def test_own_size(name, scratch, pretrained, tmp_path):
    model = partial(timm_model, name=name)
    assert (own_size(model, None), own_size(model, tmp_path)) == (scratch, pretrained)
    assert own_size(partial(small_resnet), None) is None


def test_own_size_of_a_clip(tmp_path):
    assert own_size(partial(open_clip_model, name=None), MODELS / "clip") == 32
    assert own_size(partial(open_clip_model, name="ViT-L-14-336"), None) == 336


def test_small_resnet_takes_no_weights(tmp_path):
    with pytest.raises(ValueError, match="unset backbone.weights"):
        small(weights=tmp_path)


def test_normalisation_is_what_the_model_expects():
    assert normalisation(make("vit_tiny_patch16_224.augreg_in21k")) == ((0.5,) * 3, (0.5,) * 3)
    assert normalisation(small())[0] == (0.485, 0.456, 0.406)
