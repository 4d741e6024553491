from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from sgid.augmentation.sizes import LARGE, SMALL, training_size
from sgid.augmentation.transforms import batch_transform, evaluation_transform, training_transform
from sgid.data.images import ImageSet
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


MIXUP, CUTMIX = partial(v2.MixUp, alpha=1.0), partial(v2.CutMix, alpha=1.0)


def batch():
    images = torch.stack([torch.full((3, 16, 16), float(i)) for i in range(4)])
    return images, torch.arange(4)


def test_no_batch_augmentation():
    assert batch_transform([], 10) is None


def test_mixup_mixes_labels_as_it_mixes_images():
    torch.manual_seed(0)
    images, labels = batch_transform([MIXUP], 4)(*batch())
    assert labels.shape == (4, 4)
    torch.testing.assert_close(labels.sum(1), torch.ones(4))
    # Image i is full of i: what it is full of now is what its labels say.
    torch.testing.assert_close(images[:, 0, 0, 0], labels @ torch.arange(4.0))


def test_cutmix_mixes_labels_by_area():
    torch.manual_seed(1)
    images, labels = batch_transform([CUTMIX], 4)(*batch())
    torch.testing.assert_close(labels.sum(1), torch.ones(4))
    torch.testing.assert_close(images.mean((1, 2, 3)), labels @ torch.arange(4.0))
    assert len(images[1].unique()) == 2


def test_one_of_several_for_each_batch():
    torch.manual_seed(0)
    transform = batch_transform([MIXUP, CUTMIX], 4)
    whole = [bool((transform(*batch())[0].frac() == 0).all()) for _ in range(40)]
    assert 8 < sum(whole) < 32  # CutMix leaves whole numbers, Mixup does not


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
