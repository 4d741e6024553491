"""The size at which an image is re-drawn."""

from __future__ import annotations

from PIL import Image, ImageOps


def target_size(
    width: int, height: int, *, resolution: int, multiple: int, max_aspect: float = 2.0
) -> tuple[int, int]:
    """(width, height) near `resolution`² pixels in area and near the image's own aspect ratio.

    Both sides are multiples of `multiple`, as the VAE and UNet need. Aspect ratios beyond
    `max_aspect` are clipped: the models have not seen longer images.
    """
    aspect = min(max(width / height, 1 / max_aspect), max_aspect)
    ideal = (resolution * aspect**0.5, resolution / aspect**0.5)
    fitted = [max(multiple, round(side / multiple) * multiple) for side in ideal]
    return fitted[0], fitted[1]


def fit(image: Image.Image, *, resolution: int, multiple: int) -> Image.Image:
    """Resize to `target_size`, cropping the centre by what the rounding of the sides asks for."""
    size = target_size(*image.size, resolution=resolution, multiple=multiple)
    if image.size == size:
        return image
    return ImageOps.fit(image, size, method=Image.Resampling.LANCZOS)
