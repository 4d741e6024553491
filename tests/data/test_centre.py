import numpy as np
import pytest
from PIL import Image

from sgid.data.decode import centre
from tests.data.writers import picture


def test_ordinary_images_stay_as_they_are():
    for size in ((16, 16), (80, 10), (10, 80), (1, 1)):
        image = picture(0, 0, 80).resize(size)
        assert centre(image) is image


@pytest.mark.parametrize("turned", [False, True])
def test_of_a_long_one_the_centre_is_left(turned):
    pixels = np.zeros((3, 20_000, 3), np.uint8)
    pixels[:, :, 0] = np.arange(20_000) // 100
    pixels[:, 9_988:10_012, 1] = 255
    long = Image.fromarray(pixels.transpose(1, 0, 2) if turned else pixels)
    kept = np.asarray(centre(long))
    assert kept.shape == ((24, 3, 3) if turned else (3, 24, 3))
    assert (kept[..., 1] == 255).all()


def test_a_line_is_resized_for_a_classifier_in_little_memory():
    """Of what is made on the way, the largest was 1.7 million × 256 pixels."""
    from sgid.training.transforms import as_is

    transform = as_is(224)
    image, sizes = Image.new("RGB", (20_000, 3), "red"), []
    for step in transform.transforms:
        image = step(image)
        sizes.append(image.size)
    assert sizes[-1] == (224, 224)
    assert all(width * height < 2**20 for width, height in sizes)
