from functools import partial
from inspect import signature

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from sgid.data.image_set import ImageSet
from sgid.training.transforms import (
    LARGE,
    SMALL,
    as_is,
    evaluation_transform,
    flip_crop,
    training_size,
    training_transform,
)
from tests.data.writers import encoded, picture


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)[None, :]
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


@pytest.mark.parametrize("make", [training_transform, evaluation_transform])
@pytest.mark.parametrize("size", [32, SMALL, 224])
@pytest.mark.parametrize("image", [(32, 32), (500, 300), (120, 640)])
def test_shapes_and_types(make, size, image):
    tensor = make(size)(gradient(*image))
    assert tensor.shape == (3, size, size) and tensor.dtype == torch.uint8


def test_a_small_image_is_seen_as_it_is_when_it_is_scored():
    image = picture(0, 0, 32)
    assert torch.equal(evaluation_transform(32)(image), v2.PILToTensor()(image))


def test_the_centre_of_a_large_image_is_scored():
    red, green, _ = evaluation_transform(224)(gradient(512, 256)).float()
    assert red.mean() == pytest.approx(127.5, abs=1) and green.mean() == pytest.approx(127.5, abs=1)
    # The shorter side is resized to 256, so 224 px are 7/8 of it and 7/16 of the longer.
    assert (green.max() - green.min()).item() == pytest.approx(255 * 7 / 8, abs=4)
    assert (red.max() - red.min()).item() == pytest.approx(255 * 7 / 16, abs=4)


def test_small_images_are_shifted_and_flipped():
    torch.manual_seed(0)
    image = picture(0, 0, 32)
    whole = v2.PILToTensor()(image)
    transform = training_transform(32)
    seen = {tuple(transform(image)[0].flatten().tolist()) for _ in range(300)}
    shifts = {
        tuple(moved[0, y : y + 32, x : x + 32].flatten().tolist())
        for moved in (v2.functional.pad(whole, 4), v2.functional.pad(whole.flip(2), 4))
        for y in range(9)
        for x in range(9)
    }
    assert seen <= shifts and len(seen) > 100


def test_large_images_are_cropped_to_a_quarter_or_more():
    torch.manual_seed(0)
    transform = training_transform(224)
    image = gradient(400, 400)
    shares = []
    for _ in range(60):
        red, green, _ = transform(image).float()
        shares.append(float((red.max() - red.min()) * (green.max() - green.min()) / 255**2))
    assert 0.22 < min(shares) < 0.5 and 0.8 < max(shares) <= 1


def before(size: int):
    """What training had when flips and crops were not a choice: the drawn numbers must not move."""
    if size <= SMALL:
        crop = [v2.Resize((size, size)), v2.RandomCrop(size, padding=size // 8)]
    else:
        crop = [v2.RandomResizedCrop(size, scale=(0.25, 1.0), antialias=True)]
    return v2.Compose([*crop, v2.RandomHorizontalFlip(), v2.RandAugment(2, 9), v2.PILToTensor()])


@pytest.mark.parametrize("size", [28, 32, 96, 128])
def test_flip_and_crop_draw_as_they_always_have(make, size):
    slot, base = make("flip_crop")
    assert slot == "base"
    made = []
    randaugment = [v2.RandAugment(2, 9)]
    for transform in (
        before(size),
        training_transform(size, randaugment),
        training_transform(size, randaugment, base=flip_crop),
        training_transform(size, randaugment, base=base),
    ):
        torch.manual_seed(5)
        made.append(torch.stack([transform(gradient(140, 100)) for _ in range(12)]))
    assert all(torch.equal(made[0], one) for one in made[1:])


def test_the_numbers_of_flip_crop_are_those_of_its_file(make):
    _, base = make("flip_crop")
    defaults = {name: one.default for name, one in signature(flip_crop).parameters.items()}
    assert {**base.keywords, "area": tuple(base.keywords["area"])} == {
        name: value for name, value in defaults.items() if name != "size"
    }


def test_flip_crop_can_be_told_otherwise(make):
    image = picture(0, 0, 32)
    _, still = make("flip_crop", flip=0, padding=0)
    assert flip_crop(32, flip=0, padding=0)(image).tobytes() == image.tobytes()
    assert torch.equal(training_transform(32, base=still)(image), v2.PILToTensor()(image))
    flipped = training_transform(32, base=partial(flip_crop, flip=1, padding=0))(image)
    assert torch.equal(flipped, v2.PILToTensor()(image).flip(2))
    torch.manual_seed(0)
    whole = training_transform(224, base=make("flip_crop", area="[0.97,1.0]", flip=0)[1])
    red, green, _ = whole(gradient(400, 400)).float()
    assert (red.max() - red.min()) * (green.max() - green.min()) / 255**2 > 0.93


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"area": (0, 1)}, "area=.*: must be two numbers above 0, ascending, at most 1"),
        ({"area": (0.5, 0.4)}, "area=.*ascending"),
        ({"area": (0.5, 1.5)}, "area=.*at most 1"),
        ({"padding": -0.1}, "padding=-0.1: must be from 0 to 1"),
        ({"flip": 2}, "flip=2: must be from 0 to 1"),
    ],
)
def test_what_flip_crop_cannot_do_is_told(options, message):
    with pytest.raises(ValueError, match=message):
        flip_crop(32, **options)


@pytest.mark.parametrize("size", [32, 224])
def test_none_trains_on_what_is_scored(make, size):
    slot, base = make("none")
    assert slot == "base"
    for image in (gradient(300, 260), picture(1, 0, 32)):
        expected = evaluation_transform(size)(image)
        for _ in range(3):
            assert torch.equal(training_transform(size, base=base)(image), expected)
        assert torch.equal(v2.PILToTensor()(as_is(size)(image)), expected)


def test_online_augmentations_run_in_order_after_the_flip():
    def paint(colour):
        return lambda image: Image.new("RGB", image.size, colour)

    tensor = training_transform(32, [paint("red"), paint("lime")])(picture(0, 0, 32))
    assert tensor[:, 0, 0].tolist() == [0, 255, 0]
    augmented = training_transform(32, [v2.RandAugment(2, 9), v2.TrivialAugmentWide()])
    assert augmented(picture(0, 0, 32)).shape == (3, 32, 32)


def test_the_same_seed_gives_the_same_image():
    transform = training_transform(32, [v2.RandAugment(2, 9)])
    images = []
    for _ in range(2):
        torch.manual_seed(3)
        images.append(torch.stack([transform(picture(0, i, 32)) for i in range(5)]))
    assert torch.equal(*images)


def images_of(sizes):
    data = [encoded(Image.new("RGB", size)) for size in sizes]
    rows = tuple(range(len(sizes)))
    return ImageSet(tuple(map(str, rows)), (0,) * len(rows), rows, ("a",), rows, data.__getitem__)


@pytest.mark.parametrize(
    ("sizes", "side"),
    [
        ([(32, 32)] * 3, 32),
        ([(28, 40), (28, 28), (500, 400)], 32),  # 28 is 3.5 times 8
        ([(3, 3)], 8),
        ([(96, 200)], 96),
        ([(97, 97)], LARGE),
        ([(500, 400), (300, 300), (32, 32)], LARGE),
    ],
)
def test_the_side_to_train_at(sizes, side):
    assert training_size(images_of(sizes)) == side


@pytest.mark.parametrize("padding", [0, 4])
def test_many_small_images_at_once_are_shifted_and_flipped_as_one_by_one(padding):
    images = [np.asarray(picture(i, 90, 32)) for i in range(40)]
    transform = training_transform(32, base=partial(flip_crop, padding=padding / 32))
    torch.manual_seed(3)
    batch = transform.batch(images)
    torch.manual_seed(3)
    shifts = torch.randint(2 * padding + 1, (2, 40)).tolist()
    flips = (torch.rand(40) < 0.5).tolist()
    assert batch.shape == (40, 3, 32, 32) and batch.dtype == torch.uint8
    assert len(set(zip(*shifts, strict=True))) > 20 or not padding
    assert 8 < sum(flips) < 32
    for i, image in enumerate(images):
        top, left = shifts[0][i], shifts[1][i]
        around = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        expected = around[top : top + 32, left : left + 32]
        expected = expected[:, ::-1] if flips[i] else expected
        assert np.array_equal(batch[i].permute(1, 2, 0).numpy(), expected)


def test_images_of_other_sizes_are_resized_one_by_one():
    images = [np.asarray(picture(i, 90, side)) for i, side in enumerate((32, 40))]
    for transform in (training_transform(32), evaluation_transform(32)):
        assert transform.batch(images).shape == (2, 3, 32, 32)
    whole = evaluation_transform(32)
    assert torch.equal(whole.batch(images)[1], whole(Image.fromarray(images[1])))
    assert torch.equal(whole.batch(images[:1])[0], whole(Image.fromarray(images[0])))
