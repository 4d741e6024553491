"""Pictures made of images: all that should be is drawn, whole, undistorted, and named."""

import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from sgid.reporting.format import steering_text
from sgid.reporting.image_grids import augmentation_grid, class_grid, example_grid
from sgid.reporting.results import read_examples

RED, GREEN, BLUE = (230, 20, 10), (10, 220, 40), (20, 40, 240)


def drawn(figure: Figure) -> np.ndarray:
    """(H, W, 3) pixels of the figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white")
    return np.asarray(Image.open(buffer).convert("RGB"))


def box_of(pixels: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, width and height of what has exactly that colour."""
    rows, columns = np.nonzero((pixels == colour).all(-1))
    return (
        *(int(columns.min()), int(rows.min())),
        *(int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1),
    )


def flat(colour: tuple[int, int, int], size: tuple[int, int] = (32, 32)) -> Image.Image:
    return Image.new("RGB", size, colour)


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def assert_apart(figure: Figure) -> None:
    """No text on another, on an image, or cut off by an edge."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    for index, box in enumerate(texts):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, figure.axes[0].texts[index]
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, figure.axes[0].texts[index]
        others = texts[index + 1 :] + [
            one.get_window_extent(renderer) for one in figure.axes[0].images
        ]
        assert not any(box.overlaps(other) for other in others), figure.axes[0].texts[index]


def test_grid_shows_images_and_says_what_steered_them(make_run):
    examples = read_examples(make_run(side=8).folder)
    figure = example_grid(examples, repeats=3)
    assert len(figure.axes[0].images) == len(examples) * 4
    words = " ".join(text.get_text().replace("\n", " ") for text in figure.axes[0].texts)
    assert "similarity 0.600" in words and "guidance 3.00" in words and "a $5 collar" in words
    drawn(figure)


def test_what_a_method_does_not_have_is_not_said(make_run):
    example = read_examples(make_run(["text2img_label"], side=8).folder)[0]
    unsteered = replace(example, caption="", similarity=float("nan"), guidance_scale=None)
    assert steering_text(unsteered) == "text2img_label: strength 0.5"
    assert (
        words(example_grid([unsteered]))[2]
        == "T-shirt/top\ntext2img_label: strength 0.5\nkey train/00000"
    )


def test_what_the_filter_dropped_is_dimmed_and_struck(make_run):
    example = read_examples(make_run(side=8).folder)[0]
    buffer = io.BytesIO()
    flat(BLUE).save(buffer, "PNG")
    images = (buffer.getvalue(),) * 2
    example = replace(example, images=images, kept=(False, True))
    figure = example_grid([example])
    assert "dimmed, corner struck: dropped by the filter" in words(figure)
    pixels = drawn(figure)
    _, _, width, _ = box_of(pixels, BLUE)
    assert width < 200, "only one of the two is shown as it is"
    box_of(pixels, (213, 94, 0))
    dimmed = tuple(round(0.35 * level + 0.65 * 255) for level in BLUE)
    near = np.abs(pixels.astype(int) - dimmed).max(-1) <= 2
    assert near.sum() > 5000
    assert len(words(example_grid([replace(example, kept=(True, True))]))) == len(words(figure)) - 1


def test_augmentations_stand_beneath_their_originals():
    figure = augmentation_grid(
        [flat(RED), flat(GREEN)],
        {"mixup": [flat((9, 9, 9)), flat(BLUE, (64, 32))], "sgid": [flat((1, 1, 1))] * 2},
        ["shirt", "shoe"],
    )
    assert words(figure) == ["shirt", "shoe", "original", "mixup", "sgid"]
    assert len(figure.axes[0].images) == 6
    pixels = drawn(figure)
    red, green, blue = (box_of(pixels, colour) for colour in (RED, GREEN, BLUE))
    assert red[1] == green[1] and red[0] < green[0]
    assert abs(blue[0] - green[0]) <= 1 and blue[1] > green[1] + green[3]
    assert abs(blue[2] / blue[3] - 2) < 0.05, "twice as wide as high"
    assert abs(red[2] / red[3] - 1) < 0.03
    assert_apart(figure)


def test_small_images_keep_their_pixels():
    # 64 px on 111: matplotlib left to itself would smooth
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::8] = stripes[:, 1::8] = 255
    pixels = drawn(augmentation_grid([Image.fromarray(stripes)], {}, [""]))
    _, _, width, _ = box_of(pixels, (0, 0, 0))
    row = pixels[pixels.shape[0] // 2, -width:, 0]
    assert width > 90 and np.isin(row, (0, 255)).mean() > 0.95


def test_21_rows_of_8_with_long_names_are_legible():
    titles = [
        "Mercedes-Benz 300-Class Convertible 1993",
        "hard-leaved pocket orchid",
        "Soft_coated_wheaten_terrier_of_Ireland",
        "<b>T-shirt & $x_1$</b> {}%",
        *("bag", "ankle boot", "WWWWWWWWWWWWWWWWWW", "x"),
    ]
    name = "sgid + trivial_augment"
    rows = {f"{name[: 5 + index]}{index}": [flat(BLUE)] * 8 for index in range(21)}
    figure = augmentation_grid([flat(RED)] * 8, rows, titles)
    assert len(figure.axes[0].images) == 22 * 8
    shown = words(figure)
    first, last = shown[0].split("\n")
    assert first.startswith("Mercedes-") and last.startswith("…") and last.endswith(" 1993")
    assert shown[3].endswith("$</b> {}%") and shown[6].count("W") > 8 and shown[7] == "x"
    assert shown[8:] == ["original", *rows]
    assert not any(text.get_parse_math() for text in figure.axes[0].texts)
    assert_apart(figure)


def test_a_row_that_does_not_match_is_refused():
    with pytest.raises(ValueError, match="sgid: 1 for 2 originals"):
        augmentation_grid([flat(RED)] * 2, {"sgid": [flat(RED)]}, ["a", "b"])
    with pytest.raises(ValueError, match="titles: 1 for 2 originals"):
        augmentation_grid([flat(RED)] * 2, {}, ["a"])


@pytest.mark.parametrize("count", [1, 10, 24])
def test_classes_with_some_images_of_each(count: int):
    groups = {f"class {index} of a longish name": [flat(GREEN)] * 6 for index in range(count)}
    groups["class 0 of a longish name"] = [flat(RED), flat(BLUE, (40, 80))]
    figure = class_grid(groups, hidden=172)
    assert len(figure.axes[0].images) == 6 * (count - 1) + 2
    shown = words(figure)
    assert [text.replace("\n", " ") for text in shown] == [*groups, "and 172 more classes"]
    pixels = drawn(figure)
    red, blue = box_of(pixels, RED), box_of(pixels, BLUE)
    assert red[0] < blue[0] and abs(blue[3] / blue[2] - 2) < 0.07
    if count > 12:
        assert pixels.shape[1] > pixels.shape[0]
    assert_apart(figure)


def test_nothing_is_said_of_hidden_classes_where_there_are_none():
    assert words(class_grid({"shirt": [flat(RED)]})) == ["shirt"]
    assert words(class_grid({"shirt": [flat(RED)]}, hidden=1))[1] == "and 1 more class"
