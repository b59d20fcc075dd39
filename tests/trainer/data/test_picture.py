"""Proves that every usual kind of image file becomes the pixels that a person would see, or an error that says why."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainer.data.picture import ALPHA, DEEP, FRAMES, ROTATED, Frame, Opened, Unreadable, opened

RAMP = np.linspace(0, 255, 16 * 16).reshape(16, 16)


def saved(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def colours() -> Image.Image:
    """Smooth, so that lossy formats keep it."""
    y, x = np.mgrid[:16, :16]
    return Image.fromarray(np.stack([16 * x, 16 * y, 8 * (x + y)], 2).astype(np.uint8))


def array(picture: Opened) -> np.ndarray:
    return np.asarray(picture.image).astype(int)


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("png", {}, 0), ("tiff", {}, 0), ("bmp", {}, 0), ("ppm", {}, 0), ("tga", {}, 0),
        ("webp", {"lossless": True}, 0), ("jpeg2000", {}, 0), ("jpeg", {"quality": 95}, 12),
        ("avif", {"quality": 95}, 12),
    ],
)  # fmt: skip
def test_formats_are_read(kind: str, options: dict[str, Any], tolerance: int) -> None:
    """Lossy ones by what they lose of a smooth picture at quality 95."""
    picture = opened(saved(colours(), kind, **options))
    assert picture.image.mode == "RGB"
    assert abs(array(picture) - np.asarray(colours()).astype(int)).max() <= tolerance


@pytest.mark.parametrize("turn", range(1, 9))
def test_photos_stand_upright_whatever_their_exif_says(turn: int) -> None:
    """All eight orientations of the standard: what is stored is the upright picture moved the other way."""
    upright = colours().crop((0, 0, 16, 8))
    stored = {
        1: [], 2: ["FLIP_LEFT_RIGHT"], 3: ["ROTATE_180"], 4: ["FLIP_TOP_BOTTOM"], 5: ["TRANSPOSE"],
        6: ["ROTATE_90"], 7: ["TRANSVERSE"], 8: ["ROTATE_270"],
    }[turn]  # fmt: skip
    image = upright
    for move in stored:
        image = image.transpose(Image.Transpose[move])
    exif = Image.Exif()
    exif[0x0112] = turn
    picture = opened(saved(image, exif=exif))
    assert np.array_equal(array(picture), np.asarray(upright))
    assert (ROTATED in picture.notes) == (turn > 1)


def test_damaged_exif_turns_nothing() -> None:
    content = saved(colours(), "jpeg", exif=b"Exif\0\0" + b"\xff" * 40)
    assert opened(content).image.size == (16, 16)


def transparent(mode: str) -> Image.Image:
    """A black square on nothing; under the nothing lies noise."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    noise[..., 3] = 0
    noise[4:12, 4:12] = (0, 0, 0, 255)
    layered = Image.fromarray(noise, "RGBA")
    if mode == "P":
        image = Image.new("P", (16, 16), 7)
        image.putpalette([0, 0, 0, *[9, 200, 30] * 8])
        image.paste(0, (4, 4, 12, 12))
        image.info["transparency"] = 7
        return image
    if mode == "L":
        image = Image.new("L", (16, 16), 90)
        image.paste(0, (4, 4, 12, 12))
        image.info["transparency"] = 90
        return image
    return layered.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
@pytest.mark.parametrize(("background", "behind"), [("white", 255), ("black", 0)])
def test_transparency_lies_on_the_stated_background(
    mode: str, background: Any, behind: int
) -> None:
    image = transparent(mode)
    options = {"transparency": image.info["transparency"]} if mode in "PL" else {}
    picture = opened(saved(image, **options), background)
    pixels = array(picture)
    assert ALPHA in picture.notes
    assert (pixels[:4] == behind).all()
    assert (pixels[6:10, 6:10] == 0).all()


def test_half_transparency_is_a_mean() -> None:
    picture = opened(saved(Image.new("RGBA", (2, 2), (200, 100, 0, 128))))
    want = [255 + (c - 255) * 128 / 255 for c in (200, 100, 0)]
    assert abs(array(picture)[0, 0] - want).max() <= 1


def test_an_opaque_alpha_changes_nothing() -> None:
    image = colours().convert("RGBA")
    picture = opened(saved(image))
    assert np.array_equal(array(picture), np.asarray(colours()))
    assert picture.notes == ()


@pytest.mark.parametrize("kind", ["png", "tiff", "ppm"])
def test_sixteen_bits_are_scaled_not_cut(kind: str) -> None:
    """Half a level of rounding."""
    deep = Image.fromarray(np.rint(RAMP * 257).astype(np.uint16))
    picture = opened(saved(deep, kind))
    assert picture.image.mode == "L"
    assert DEEP in picture.notes
    assert abs(array(picture) - RAMP).max() <= 0.51


def test_sixteen_bit_colours_are_scaled_too() -> None:
    """Pillow cannot write them: the file is made by hand from the format's own description."""
    import struct
    import zlib

    values = np.stack([np.rint(RAMP * 257).astype(">u2")] * 3, 2)
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
    picture = opened(png + chunk(b"IEND", b""))
    assert abs(array(picture) - RAMP[..., None]).max() <= 1


def test_numbers_without_a_range_are_refused() -> None:
    floats = Image.fromarray(RAMP.astype(np.float32))
    with pytest.raises(Unreadable, match=r"values run from 0 to 255.*convert it to 8 or 16 bits"):
        opened(saved(floats, "tiff"))
    large = Image.fromarray((RAMP * 1e5).astype(np.int32))
    with pytest.raises(Unreadable, match="no format defines"):
        opened(saved(large, "tiff"))


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "L", "YCbCr"])
def test_other_modes_look_as_they_look(mode: str) -> None:
    """A palette of 216 colours is a coarse one, and inks are rounded."""
    image = colours().convert(mode)
    kind = "tiff" if mode in ("CMYK", "YCbCr") else "png"
    picture = opened(saved(image, kind))
    assert picture.image.mode == ("L" if mode in "1L" else "RGB")
    want = np.asarray(image.convert(picture.image.mode)).astype(int)
    assert abs(array(picture) - want).max() <= 2
    assert picture.mode == mode


def test_the_first_frame_of_an_animation_is_the_picture() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    for kind in ("gif", "webp", "png", "tiff"):
        lossless = {"lossless": True} if kind == "webp" else {}
        content = saved(frames[0], kind, save_all=True, append_images=frames[1:], **lossless)
        picture = opened(content)
        assert picture.notes == (FRAMES,), kind
        assert array(picture)[0, 0].tolist() == [255, 0, 0], kind


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"hello, this is no picture", "no image"),
        (saved(colours())[:60], "damaged"),
        (saved(colours(), "jpeg")[:-80], "damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "no image"),
    ],
    ids=["empty", "text", "png", "jpeg", "a program"],
)
def test_what_cannot_be_seen_says_why(content: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        opened(content)


@pytest.mark.parametrize("resize", ["bicubic", "bilinear", "lanczos", "box", "box_halving"])
@pytest.mark.parametrize("frame", [(8, 8), (8, 6), (5, 24)])
@pytest.mark.parametrize("size", [(40, 30), (7, 9), (31, 8)])
def test_every_method_keeps_a_plain_picture_plain(
    resize: Any, frame: tuple[int, int], size: tuple[int, int]
) -> None:
    """Weights of a resampling sum to one, and no border comes in."""
    image = Image.new("RGB", size, (10, 200, 77))
    pixels = Frame(*frame, resize=resize).pixels(image)
    assert pixels.shape == (3, *frame)
    assert (pixels == np.array([10, 200, 77])[:, None, None]).all()


def test_the_centre_is_kept_at_any_shape() -> None:
    """A picture of three vertical bands: the middle one fills a square crop."""
    bands = np.zeros((20, 60, 3), np.uint8)
    bands[:, 20:40] = 255
    assert Frame(20, 20).pixels(Image.fromarray(bands)).min() == 255
    wide = Frame(10, 30).pixels(Image.fromarray(bands))
    assert wide[:, :, :8].max() < 40
    assert wide[:, :, 12:18].min() > 215


def test_a_very_long_picture_takes_no_more_memory_than_its_middle() -> None:
    """Covering 256 x 256, a line of 60,000 pixels resized whole would be 11.8 GB."""
    line = np.zeros((1, 60_000), np.uint8)
    line[:, 29_990:30_010] = 200
    pixels = Frame(256, 256, grayscale=True).pixels(Image.fromarray(line))
    assert pixels.min() == 200


def test_means_of_two_by_two_come_first_only_for_twice_the_size() -> None:
    """A checkerboard of single pixels is grey after one halving, exactly."""
    board = Image.fromarray(((np.indices((16, 16)).sum(0) % 2) * 255).astype(np.uint8))
    halved = Frame(8, 8, grayscale=True, resize="box_halving").pixels(board)
    assert set(np.unique(halved)) <= {127, 128}
    kept = Frame(16, 16, grayscale=True, resize="box_halving").pixels(board)
    assert np.array_equal(kept[0], np.asarray(board))
