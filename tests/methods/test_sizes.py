import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sgid.methods.requests import fit, target_size

SIDES = st.integers(1, 6000)
GRIDS = st.sampled_from([(32, 8), (512, 64), (512, 8), (768, 64)])


@given(SIDES, SIDES, GRIDS)
def test_target_sizes(width, height, grid):
    resolution, multiple = grid
    w, h = target_size(width, height, resolution=resolution, multiple=multiple)
    assert w % multiple == h % multiple == 0 and min(w, h) >= multiple
    # Each side is off its ideal by at most half a multiple, which bounds aspect and area.
    aspect = min(max(width / height, 0.5), 2)
    assert abs(w - resolution * aspect**0.5) <= multiple / 2 + 1e-6
    assert abs(h - resolution / aspect**0.5) <= multiple / 2 + 1e-6


@given(st.integers(1, 4000), GRIDS)
def test_squares_stay_squares(side, grid):
    resolution, multiple = grid
    size = target_size(side, side, resolution=resolution, multiple=multiple)
    assert size == (resolution, resolution)


@given(SIDES, SIDES, st.integers(1, 20))
def test_only_the_aspect_ratio_counts(width, height, factor):
    size = target_size(width, height, resolution=512, multiple=64)
    assert target_size(width * factor, height * factor, resolution=512, multiple=64) == size


@pytest.mark.parametrize(
    ("size", "expected"),
    [((640, 480), (576, 448)), ((480, 640), (448, 576)), ((3000, 100), (704, 384))],
)
def test_known_sizes(size, expected):
    assert target_size(*size, resolution=512, multiple=64) == expected


def test_fit_leaves_a_fitting_image_alone():
    image = Image.new("RGB", (32, 32), "red")
    assert fit(image, resolution=32, multiple=8) is image


def test_fit_crops_the_centre_and_does_not_stretch():
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, 100:200] = 255  # the middle third, a square
    fitted = fit(Image.fromarray(pixels), resolution=64, multiple=8)
    assert fitted.size == (88, 48)  # 300 x 100 is clipped to 2 : 1, then rounded
    row = np.asarray(fitted)[24, :, 0].astype(int)
    assert abs((row > 127).sum() - 48) <= 1
    np.testing.assert_allclose(row, row[::-1], atol=2)
