"""Cutout, Random Erasing and GridMask against their papers' definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, stats

from sgid.training.erasing import Cutout, GridMask, RandomErasing

FILL = (124, 116, 104)


def hidden(transform, size: tuple[int, int], draws: int) -> NDArray[np.bool_]:
    """(draws, H, W): where a white image was changed."""
    white = Image.new("RGB", size, "white")
    torch.manual_seed(0)
    return np.stack([(np.asarray(transform(white)) != 255).any(-1) for _ in range(draws)])


def box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is hidden, which must be all of a rectangle."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    assert mask[top:bottom, left:right].all() and mask.sum() == (bottom - top) * (right - left)
    return int(left), int(top), int(right), int(bottom)


def centres(low: NDArray, high: NDArray, side: int) -> NDArray:
    """Where the squares' centres are, of which the image's border may have cut off a side."""
    return np.where(low > 0, low, high - side) + side // 2


@pytest.mark.parametrize("size", [32, 224])
def test_cutout_hides_one_square_that_the_border_may_cut(make, size):
    _, transform = make("cutout")
    boxes = np.array([box(mask) for mask in hidden(transform, (size, size), 400)])
    side = size // 2
    whole = (boxes[:, :2] > 0).all(1) & (boxes[:, 2:] < size).all(1)
    assert 0.16 < whole.mean() < 0.34  # a quarter of the centres are that far from the border
    assert (boxes[whole, 2:] - boxes[whole, :2] == side).all()
    for axis in range(2):
        centre = centres(boxes[:, axis], boxes[:, axis + 2], side)
        assert centre.min() < size / 32 and centre.max() >= size * 31 / 32
        counts = np.histogram(centre, 16, (0, size))[0]
        assert stats.chisquare(counts).pvalue > 1e-3
        expected = np.clip(centre - side // 2, 0, size), np.clip(centre + side // 2, 0, size)
        assert (boxes[:, axis] == expected[0]).all() and (boxes[:, axis + 2] == expected[1]).all()


def test_cutout_leaves_the_rest_and_what_it_was_given(coloured):
    torch.manual_seed(0)
    image = coloured[0]
    before = image.tobytes()
    result = np.asarray(Cutout(side=0.25, fill=FILL)(image))
    changed = (result != np.asarray(image)).any(-1)
    assert image.tobytes() == before and 0 < changed.sum() <= 64
    assert (result[changed] == FILL).all()


def test_the_colour_is_close_to_zero_once_normalised(make):
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    for name in ("cutout", "gridmask"):
        _, transform = make(name)
        fill = np.array(transform.fill) / 255
        assert np.abs((fill - mean) / deviation).max() < 0.01


def algorithm_1(rng, side: int, area, aspect) -> tuple[float, float, float, float]:
    """Zhong et al., 2020: left, top, width and height of the rectangle, in reals."""
    while True:
        s, r = rng.uniform(*area) * side**2, rng.uniform(*aspect)
        height, width = (s * r) ** 0.5, (s / r) ** 0.5
        left, top = rng.uniform(0, side, 2)
        if left + width <= side and top + height <= side:
            return left, top, width, height


def test_random_erasing_draws_rectangles_as_in_the_paper(make):
    _, transform = make("random_erasing", probability=1)
    side, draws = 96, 1200
    boxes = np.array([box(mask) for mask in hidden(transform, (side, side), draws)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    rng = np.random.default_rng(0)
    theirs = np.array([algorithm_1(rng, side, (0.02, 0.4), (0.3, 3.3333)) for _ in range(draws)])
    dither = rng.uniform(-0.5, 0.5, (2, draws))  # ours are whole numbers
    ours = [boxes[:, 0] + dither[0] + 0.5, boxes[:, 1] + dither[1] + 0.5]
    ours += [width + dither[0], height + dither[1]]
    for mine, paper in zip(ours, theirs.T, strict=True):
        assert stats.ks_2samp(mine, paper).pvalue > 1e-3
    area, aspect = width * height / side**2, height / width
    assert 0.018 < area.min() < 0.03 and 0.35 < area.max() < 0.405
    assert 0.28 < aspect.min() < 0.4 and 2.8 < aspect.max() < 3.6
    assert stats.ks_2samp(area, theirs[:, 2] * theirs[:, 3] / side**2).pvalue > 1e-3


def test_random_erasing_changes_half_of_the_images_and_fills_with_noise(make, coloured):
    _, transform = make("random_erasing")
    masks = hidden(transform, (32, 32), 1000)
    assert 437 < masks.any((1, 2)).sum() < 563  # four standard deviations
    torch.manual_seed(1)
    values, image = [], coloured[0].resize((64, 64))
    before = image.tobytes()
    for _ in range(60):
        result, kept = np.asarray(transform(image)), np.asarray(image)
        changed = (result != kept).any(-1)
        if changed.any():
            values.append(result[changed].ravel())
    assert image.tobytes() == before and 20 < len(values) < 40
    counts = np.bincount(np.concatenate(values), minlength=256)
    assert counts.min() > 0 and abs(np.average(np.arange(256), weights=counts) - 127.5) < 2
    assert not np.array_equal(values[0][:9], values[1][:9])


def axis(profile: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Period, length and place of the first start of the runs in a periodic row of booleans."""
    edges = np.diff(profile.astype(int))
    starts, ends = np.flatnonzero(edges == 1) + 1, np.flatnonzero(edges == -1) + 1
    ends = ends[ends > starts[0]]
    (period,) = set(np.diff(starts))
    (length,) = set(ends - starts[: len(ends)])
    return int(period), int(length), int(starts[0])


def test_gridmask_hides_a_grid_of_squares(make):
    _, transform = make("gridmask", probability=1, period="[0.1,0.2]", keep=0.6)
    masks = hidden(transform, (200, 200), 400)
    periods, places = [], []
    for mask in masks:
        columns, rows = mask.any(0), mask.any(1)
        assert (mask == rows[:, None] & columns[None, :]).all()
        (period, side, x), (other, height, y) = axis(columns), axis(rows)
        assert period == other and side == height == round(0.4 * period)
        periods.append(period)
        places += [(x % period + 0.5) / period, (y % period + 0.5) / period]
    assert set(periods) == set(range(20, 41))
    assert stats.chisquare(np.bincount(periods)[20:]).pvalue > 1e-3
    assert stats.kstest(places, "uniform").pvalue > 1e-3
    assert abs(1 - masks.mean() - (1 - 0.4**2)) < 0.01


@pytest.mark.parametrize("size", [32, 224])
def test_gridmask_as_it_is_configured(make, size):
    _, transform = make("gridmask")
    masks = hidden(transform, (size, size), 400)
    changed = masks.any((1, 2))
    assert 0.7 < changed.mean() < 0.85  # some of the 80% have a hole beside the image
    assert abs(masks.mean() - 0.8 * 0.4**2) < 0.02


def test_gridmask_turns(make):
    _, transform = make("gridmask", probability=1, period="[0.1,0.1]", keep=0.5, rotation=40)
    angles = []
    for mask in hidden(transform, (300, 300), 60):
        assert abs(mask.mean() - 0.25) < 0.02
        labels, count = ndimage.label(mask)
        middles = np.array(ndimage.center_of_mass(mask, labels, range(1, count + 1)))
        areas = ndimage.sum(mask, labels, range(1, count + 1))
        distance = np.abs(middles - 150).max(1)
        start = middles[np.argmin(distance)]  # a square near the middle, and those around it
        assert abs(areas[np.argmin(distance)] - 15**2) < 25
        steps = middles - start
        near = steps[np.argsort(np.hypot(*steps.T))[1:5]]
        assert np.abs(np.hypot(*near.T) - 30).max() < 1
        angles.append(np.degrees(np.arctan2(near[:, 0], near[:, 1])) % 90)
    turned = np.array([np.median(angle) if np.ptp(angle) < 45 else 0.0 for angle in angles])
    turned = np.where(turned > 45, turned - 90, turned)
    assert stats.kstest(np.abs(turned), stats.uniform(0, 40).cdf).pvalue > 1e-3
    assert set(np.sign(turned[np.abs(turned) > 3])) == {1.0}


ERASING = {"probability": 0.5, "area": (0.1, 0.2), "aspect": (0.5, 2)}
GRID = {"probability": 0.5, "period": (0.5, 1), "keep": 0.5, "rotation": 0, "fill": FILL}


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Cutout, {"side": 1.5, "fill": FILL}, "side=1.5: must be above 0, at most 1"),
        (Cutout, {"side": 0, "fill": FILL}, "side=0: must be above 0, at most 1"),
        (
            Cutout,
            {"side": 0.5, "fill": (0, 0, 256)},
            "fill=.*: must be red, green and blue, from 0",
        ),
        (Cutout, {"side": 0.5, "fill": (0, 0)}, "fill=.*: must be red, green and blue"),
        (RandomErasing, {**ERASING, "probability": 2}, "probability=2: must be from 0 to 1"),
        (RandomErasing, {**ERASING, "area": (0.3, 0.2)}, "area=.*: must be two numbers above 0"),
        (
            RandomErasing,
            {**ERASING, "area": (0.6, 0.7)},
            "area=.*: must be at most 0.5 and at most 1",
        ),
        (RandomErasing, {**ERASING, "aspect": (2, 3)}, "aspect=.*: must be a range that 1 is in"),
        (GridMask, {**GRID, "probability": -1}, "probability=-1: must be from 0 to 1"),
        (GridMask, {**GRID, "period": (0, 1)}, "period=.*: must be two numbers above 0, ascending"),
        (GridMask, {**GRID, "period": (0.5, 1, 1)}, "period=.*: must be two numbers above 0"),
        (GridMask, {**GRID, "period": (0.5, 2)}, "period=.*: must be at most 1"),
        (GridMask, {**GRID, "keep": 1}, "keep=1: must be above 0, below 1"),
        (GridMask, {**GRID, "rotation": -1}, "rotation=-1: must be from 0 to 360"),
    ],
)
def test_what_cannot_be_is_told(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)
