import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sgid.data.decode import MAX_PIXELS, Scale, decode, image_extensions, read_raw, scale_of
from tests.data.images import chunk, png
from tests.data.layouts import KINDS
from tests.data.writers import encoded, picture


def pixel(data: bytes, x: int = 0, y: int = 0) -> tuple[int, ...]:
    image = decode(data)
    assert image.mode == "RGB"
    value = image.getpixel((x, y))
    assert isinstance(value, tuple)
    return value


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM"])
def test_lossless_forms_keep_every_pixel(form):
    image = Image.new("RGB", (5, 3), (10, 200, 30))
    options = {"lossless": True} if form == "WEBP" else {}
    assert decode(encoded(image, form, **options)).tobytes() == image.tobytes()


def test_one_pixel_and_one_bit():
    assert pixel(encoded(Image.new("1", (1, 1), 1))) == (255, 255, 255)
    assert pixel(encoded(Image.new("L", (1, 1), 7))) == (7, 7, 7)


def test_palette_keeps_its_colours():
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 250, 100, 50])
    assert pixel(encoded(image)) == (250, 100, 50)


def test_transparency_is_laid_on_white():
    half_red = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    half_red.putpixel((1, 0), (255, 0, 0, 255))
    assert pixel(encoded(half_red), 0) == (255, 255, 255)
    assert pixel(encoded(half_red), 1) == (255, 0, 0)
    assert pixel(encoded(Image.new("LA", (2, 2), (0, 0)))) == (255, 255, 255)
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 250, 100, 50])
    assert pixel(encoded(palette, transparency=1)) == (255, 255, 255)
    assert pixel(encoded(Image.new("RGB", (1, 1), (9, 9, 9)), transparency=(9, 9, 9))) == (255,) * 3


def test_cmyk():
    data = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)
    red, green, blue = pixel(data)
    assert red > 240 and green < 15 and blue < 15


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(form):
    ramp = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    grey = np.asarray(decode(encoded(Image.fromarray(ramp), form)))[0, :, 0]
    assert grey.tolist() == [0, 1, 128, 255]


def test_a_nearly_black_16_bit_image_stays_black():
    assert pixel(encoded(Image.fromarray(np.ones((2, 2), dtype=np.uint16)))) == (0, 0, 0)


@pytest.mark.filterwarnings("error")
def test_16_bit_pgm_and_32_bit_and_float():
    assert pixel(b"P5 1 1 65535\n\x80\x80") == (128, 128, 128)
    beyond = np.array([[-5, 100_000, 200_005]], dtype=np.int32)
    grey = np.asarray(decode(encoded(Image.fromarray(beyond), "TIFF")))[0, :, 0]
    assert grey.tolist() == [0, 128, 255] or grey.tolist() == [0, 127, 255]
    constant = np.full((2, 2), 100_000, dtype=np.int32)
    assert pixel(encoded(Image.fromarray(constant), "TIFF")) == (0, 0, 0)
    share = np.array([[0.0, 0.5, 1.0]], dtype=np.float32)
    assert np.asarray(decode(encoded(Image.fromarray(share), "TIFF")))[0, 1, 0] == 128
    with pytest.raises(ValueError, match="not finite"):
        decode(encoded(Image.fromarray(np.array([[np.nan, 1]], dtype=np.float32)), "TIFF"))


@pytest.mark.parametrize(
    ("low", "high", "scale"),
    [
        (0, 1, (0, 1)),
        (0, 200, (0, 255)),
        (3, 1000, (0, 1023)),
        (0, 4095, (0, 4095)),
        (0, 4096, (0, 16383)),
        (0, 65535, (0, 65535)),
        (-1000, 3000, (-1000, 3000)),
        (0, 1e6, (0, 1e6)),
    ],
)
def test_the_scale_of_a_set_is_that_of_the_least_bits_that_hold_it(low, high, scale):
    assert scale_of(low, high) == scale


def test_16_bit_grey_of_which_zero_is_white():
    values = np.full((9, 9), 60_000, np.uint16)
    for photometric, grey in ((0, 255 - 233), (1, 233)):
        data = encoded(Image.fromarray(values), "TIFF", tiffinfo={262: photometric})
        assert pixel(data) == (grey,) * 3


@pytest.mark.parametrize(("colours", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_16_bit_colours_of_a_png_keep_their_lower_bits(colours, channels):
    """Of which Pillow reads the upper 8: 12-bit colours would be nearly black."""
    values = np.full((9, 9, channels), 3000, ">u2")
    if channels in (2, 4):
        values[..., -1] = 65535
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 16, colours, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    data = b"\x89PNG\r\n\x1a\n" + header + body
    assert read_raw(data).span == (3000, 3000)
    assert decode(data, Scale((0, 4095))).getpixel((4, 4)) == (187, 187, 187)


def test_a_fourth_band_is_transparency_only_where_it_is_said_to_be():
    assert pixel(KINDS["4bands"]()) == (10, 20, 30)
    assert read_raw(KINDS["4bands"]()).notes == ["band", "flat"]


def test_white_on_a_transparent_ground_is_seen():
    image = Image.new("RGBA", (16, 16), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (4, 4, 12, 12))
    assert pixel(encoded(image), 8, 8) == (255, 255, 255)
    assert pixel(encoded(image), 0, 0) == (0, 0, 0)


def test_colours_of_another_profile_become_srgb():
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    image = Image.new("RGB", (9, 9), (200, 100, 50))
    assert pixel(encoded(image, icc_profile=srgb.tobytes())) == (200, 100, 50)
    # The same primaries by another name, in another order: red is green.
    lab = srgb.tobytes()
    swapped = lab.replace(b"rXYZ", b"tXYZ").replace(b"gXYZ", b"rXYZ").replace(b"tXYZ", b"gXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    swapped = swapped.replace(b"sRGB", b"mine")
    red, green, _ = pixel(encoded(image, icc_profile=swapped))
    assert green > 150 > red
    assert pixel(encoded(image, icc_profile=b"nonsense")) == (200, 100, 50)


def test_comments_of_a_png_are_not_read_and_the_pixels_are():
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**21)))
    profile = chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(2**21)))
    plain = decode(png(24, 24))
    for more in ([text], [profile], [text, profile], [chunk(b"tEXt", b"a\0b")] * 3):
        data = png(24, 24, *more)
        assert decode(data).tobytes() == plain.tobytes()
        after = data.replace(more[0], b"").replace(chunk(b"IEND", b""), b"")
        assert decode(after + more[0] + chunk(b"IEND", b"")).tobytes() == plain.tobytes()


def test_heic():
    pytest.importorskip("pillow_heif")
    image = Image.new("RGB", (64, 64), (200, 100, 50))
    image_extensions()  # registers the plug-in
    red, green, blue = pixel(encoded(image, "HEIF", quality=100))
    assert abs(red - 200) + abs(green - 100) + abs(blue - 50) < 12
    assert {".heic", ".heif"} <= image_extensions()


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (8, 4), "black")
    image.paste("white", (0, 0, 4, 4))  # the left half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    upright = decode(encoded(image, "JPEG", exif=exif, quality=100))
    assert upright.size == (4, 8)
    assert upright.getpixel((2, 1)) == (255, 255, 255)
    assert upright.getpixel((2, 6)) == (0, 0, 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_costs_neither_the_picture_nor_its_orientation():
    orientation = struct.pack("<HHII", 0x0112, 3, 1, 6)
    resolution_as_a_byte = struct.pack("<HHII", 0x011A, 1, 1, 72)
    entries = struct.pack("<H", 2) + orientation + resolution_as_a_byte + bytes(4)
    exif = b"Exif\x00\x00II*\x00\x08\x00\x00\x00" + entries
    assert decode(encoded(Image.new("RGB", (8, 4)), "JPEG", exif=exif)).size == (4, 8)
    nonsense = b"Exif\x00\x00II*\x00\xff\xff\xff\xff"
    assert decode(encoded(picture(0, 0), "JPEG", exif=nonsense)).size == (16, 16)


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for form in ("GIF", "PNG", "WEBP"):
        options = {"lossless": True} if form == "WEBP" else {}
        data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
        assert pixel(data) == (255, 0, 0), form


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_truncated_files_are_refused(form):
    data = encoded(picture(0, 0, 64), form)
    for share in (0.3, 0.6, 0.9):
        with pytest.raises(ValueError, match="not a readable image"):
            decode(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"<html>404</html>", "no known image format, but a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid x", "a Git LFS pointer"),
        (bytes(128) + b"DICM", "a DICOM file"),
        (b"\0\0\0\x18ftypheix\0\0", "HEIC|HEIF|readable"),
        (b"\xff\xd8\xff\xc3\0\x0b\x0c\0\x10\0\x10\x01\x01\x11\0", "a lossless JPEG"),
        (b"\xff\xd8\xff\xc1\0\x0b\x0c\0\x10\0\x10\x01\x01\x11\0", "a JPEG of 12 bits"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no known image format"),
        (b"\xff\xd8\xff\xe0", "not a readable image"),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(data, reason):
    with pytest.raises(ValueError, match=reason):
        decode(data)


def test_reasons_are_the_same_every_time():
    def reason() -> str:
        with pytest.raises(ValueError) as caught:
            decode(b"no image")
        return str(caught.value)

    assert reason() == reason() and "0x" not in reason()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 30_000])
def test_decompression_bombs_are_refused(side):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    assert side * side > MAX_PIXELS
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    bomb = io.BytesIO(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
    with pytest.raises(ValueError, match="pixels"):
        decode(bomb.getvalue())


def test_extensions():
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif"} <= image_extensions()
    assert not {".eps", ".pdf", ".mpg", ".txt"} & image_extensions()


def test_fits_is_not_decoded():
    """Pillow decompresses it in pure Python: a file of a megabyte would hold a run up for long."""
    cards = ["SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 2", "NAXIS2  = 2", "END"]
    data = "".join(card.ljust(80) for card in cards).ljust(2880).encode() + bytes(2880)
    assert Image.open(io.BytesIO(data)).format == "FITS"
    with pytest.raises(ValueError, match="no known image format"):
        decode(data)
    assert ".fits" not in image_extensions()
