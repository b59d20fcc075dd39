"""Proves that every usual kind of image file becomes the pixels that a person would see, or an error that says why."""

import hashlib
import io
import struct
import zlib
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from trainer.data.picture import (
    ALPHA,
    CUT,
    DEEP,
    FRAMES,
    PROFILE,
    ROTATED,
    Frame,
    Opened,
    Unreadable,
    opened,
)

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


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
@pytest.mark.parametrize(("background", "behind"), [("white", 255), ("black", 0)])
def test_transparency_is_kept_as_a_channel(mode: str, background: Any, behind: int) -> None:
    """Of the size that is asked for, and of another: what nobody sees has the background's colour."""
    image = transparent(mode)
    options = {"transparency": image.info["transparency"]} if mode in "PL" else {}
    for grayscale, side in product((False, True), (image.width, image.width // 2)):
        frame = Frame(side, side, grayscale, background=background, alpha=True)
        kept = frame.opened(saved(image, **options))
        pixels = frame.pixels(kept.image)
        assert pixels.shape == frame.shape == (2 if grayscale else 4, side, side)
        clear = pixels[-1] == 0
        assert clear[0].all()
        assert (pixels[:-1, clear] == behind).all()
        assert (pixels[:-1, side // 2, side // 2] == 0).all()
        assert pixels[-1, side // 2, side // 2] == 255
        assert ALPHA in kept.notes


def test_what_is_opaque_has_an_alpha_of_255() -> None:
    frame = Frame(*colours().size[::-1], alpha=True)
    pixels = frame.pixels(frame.opened(saved(colours())).image)
    assert np.array_equal(pixels[:3].transpose(1, 2, 0), np.asarray(colours()))
    assert (pixels[3] == 255).all()


def test_resized_colours_count_by_their_opacity() -> None:
    """Red that is seen beside blue that is not: half as opaque, and red, not purple."""
    pixels = np.zeros((2, 4, 4), np.uint8)
    pixels[:, ::2], pixels[:, 1::2] = (255, 0, 0, 255), (0, 0, 255, 0)
    found = Frame(1, 2, resize="box", alpha=True).pixels(Image.fromarray(pixels))
    assert found[:, 0, 0].tolist() == [255, 0, 0, 128]


P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
"""Display P3's red, green and blue as XYZ under D50, as its ICC profile has them; here with a gamma of 2.2."""
SRGB = ((0.43607, 0.22250, 0.01393), (0.38506, 0.71688, 0.09710), (0.14308, 0.06062, 0.71417))
"""sRGB's (IEC 61966-2-1, adapted by Bradford)."""


def profile(primaries: Sequence[Sequence[float]] | None) -> bytes:
    """An ICC profile (ICC.1:2001) of these primaries, or of grey, with a gamma of 2.2."""

    def fixed(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(65536 * value) for value in values))

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(2.2 * 256)) + bytes(2)
    tags = {b"wtpt": b"XYZ " + bytes(4) + fixed(0.9642, 1.0, 0.8249)}
    for colour, place in zip("rgb", primaries or (), strict=primaries is not None):
        tags[f"{colour}XYZ".encode()] = b"XYZ " + bytes(4) + fixed(*place)
        tags[f"{colour}TRC".encode()] = curve
    if primaries is None:
        tags[b"kTRC"] = curve
    start, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content
    space = b"RGB " if primaries else b"GRAY"
    head = struct.pack(">I4xI4s4s4s12x4s28x3i", start + len(body), 0x02400000, b"mntr", space, b"XYZ ", b"acsp",
                       *(round(65536 * v) for v in (0.9642, 1.0, 0.8249)))  # fmt: skip
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def test_a_profiles_colours_are_what_it_means() -> None:
    """Muted colours of Display P3, by its matrix, back by sRGB's, and through sRGB's curve; to two levels."""
    generator = np.random.default_rng(0)
    stored = generator.integers(90, 170, (8, 8, 3), dtype=np.uint8)
    linear = (stored / 255.0) ** 2.2 @ np.array(P3) @ np.linalg.inv(np.array(SRGB))
    curve = np.where(
        linear > 0.0031308, 1.055 * linear.clip(0) ** (1 / 2.4) - 0.055, 12.92 * linear
    )
    picture = opened(saved(Image.fromarray(stored), icc_profile=profile(P3)))
    assert picture.notes == (PROFILE,)
    assert np.abs(array(picture) - 255.0 * curve).max() <= 2.0
    assert np.abs(array(picture).astype(int) - stored).max() > 5
    flat = opened(saved(Image.fromarray(stored), icc_profile=profile(P3)), profiles=False)
    assert np.array_equal(array(flat), stored)


def test_a_profile_leaves_transparency_and_its_file_another_name() -> None:
    layered = Image.new("RGBA", (4, 4), (200, 40, 40, 99))
    content = saved(layered, icc_profile=profile(P3))
    kept = opened(content, alpha=True)
    assert set(kept.notes) == {PROFILE, ALPHA}
    assert kept.image.getpixel((0, 0))[3] == 99
    assert kept.image.getpixel((0, 0))[0] > 205
    assert kept.name(content) != opened(content, profiles=False).name(content)
    grey = opened(saved(Image.new("LA", (4, 4), (10, 99)), icc_profile=profile(None)), alpha=True)
    assert grey.notes[0] == PROFILE
    assert len(set(grey.image.getpixel((0, 0))[:3])) == 1


@pytest.mark.parametrize(
    "given",
    [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), profile(None), b"none"],
    ids=["sRGB", "of other channels", "damaged"],
)
def test_profiles_that_say_nothing_new_change_nothing(given: bytes) -> None:
    content = saved(colours(), icc_profile=given)
    picture = opened(content)
    assert np.array_equal(array(picture), np.asarray(colours()))
    assert picture.notes == ()
    assert picture.name(content) == hashlib.sha256(content).hexdigest(), "as it was always called"


def test_bands_are_fitted_one_by_one() -> None:
    bands = np.random.default_rng(0).integers(0, 256, (9, 12, 5), dtype=np.uint8)
    found = Frame(4, 6, bands=5).pixels(bands)
    grey = Frame(4, 6, grayscale=True)
    each = [grey.pixels(Image.fromarray(np.ascontiguousarray(bands[..., i]))) for i in range(5)]
    assert np.array_equal(found, np.concatenate(each))
    assert Frame(4, 6, bands=5).shape == (5, 4, 6)


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


def sixteen_bits(values: np.ndarray, **chunks: bytes) -> bytes:
    """A PNG of uint16 [16, 16] or [16, 16, 3] with more chunks.

    Pillow cannot write them: made by hand from the format's own description.
    """
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", 16, 16, 16, 2 * (values.ndim == 3), 0, 0, 0)
    more = b"".join(chunk(name.encode(), body) for name, body in chunks.items())
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more
    return png + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_sixteen_bit_colours_are_scaled_too() -> None:
    picture = opened(sixteen_bits(np.stack([np.rint(RAMP * 257)] * 3, 2)))
    assert abs(array(picture) - RAMP[..., None]).max() <= 1


@pytest.mark.parametrize(("background", "behind"), [("white", 255), ("black", 0)])
def test_a_grey_of_sixteen_bits_may_be_transparent(background: Any, behind: int) -> None:
    """One value of 65536, and not those that are near it; only such a file has another name than before."""
    values = np.full((16, 16), 30_000)
    values[:4], values[4:8] = 30_001, 29_999
    content = sixteen_bits(values, tRNS=struct.pack(">H", 30_000))
    picture = opened(content, background)
    assert set(picture.notes) == {ALPHA, DEEP}
    assert (array(picture)[8:] == behind).all()
    assert (array(picture)[:8] == round(30_000 / 257)).all()
    assert picture.name(content) != hashlib.sha256(content).hexdigest()
    kept = Frame(16, 16, True, background=background, alpha=True)
    alpha = kept.pixels(kept.opened(content).image)[1]
    assert (alpha == np.where(values == 30_000, 0, 255)).all()
    none = sixteen_bits(values, tRNS=struct.pack(">H", 7))
    assert opened(none).notes == (DEEP,)
    assert opened(none).name(none) == hashlib.sha256(none).hexdigest()


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


def test_a_png_that_lacks_its_end_is_told_and_one_that_lacks_a_pixel_is_damaged() -> None:
    """Up to its end, checksums among them, nothing of the picture is missing; noise cannot be packed."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    content = saved(Image.fromarray(noise))
    for cut in (4, 12, 20):
        picture = opened(content[:-cut])
        assert picture.notes == (CUT,)
        assert np.array_equal(array(picture), noise)
    assert opened(content).notes == opened(content + b"more").notes == ()
    for cut in (60, 200):
        with pytest.raises(Unreadable, match="damaged"):
            opened(content[:-cut])


def float_tiff() -> bytes:
    """Colours in 32-bit float, by TIFF 6.0: Pillow neither reads nor writes them."""
    tags = {
        256: (4, 2),
        257: (4, 2),
        259: (3, 1),
        262: (3, 2),
        273: (4, 0),
        277: (3, 3),
        278: (4, 2),
        279: (4, 48),
    }
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    tags[273] = (4, start + 12)
    entries = [struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in tags.items()]
    entries += [struct.pack("<HHII", 258, 3, 3, start), struct.pack("<HHII", 339, 3, 3, start + 6)]
    table = struct.pack("<H", len(entries)) + b"".join(sorted(entries, key=lambda e: e[:2][::-1]))
    values = struct.pack("<6H", 32, 32, 32, 3, 3, 3) + np.linspace(0, 1, 12, dtype="<f4").tobytes()
    return b"II*\0" + struct.pack("<I", 8) + table + bytes(4) + values


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"hello, this is no picture", "no image"),
        (saved(colours())[:60], "damaged"),
        (saved(colours(), "jpeg")[:-80], "damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "it is PostScript, which is not read"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1" + bytes(99), "^it is HEIC, which is not read: convert it to PNG or JPEG"),
        (b"\0\0\0\x18ftypmsf1\0\0\0\0" + bytes(99), "it is HEIC"),
        (b"\0\0\0\x18ftypisom\0\0\0\0" + bytes(99), "it is a film"),
        (b"\xff\x0a" + bytes(99), "it is JPEG XL, .*: convert it"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99), "it is JPEG XL"),
        (b"8BPS\0\1" + bytes(99), r"it is Photoshop \(PSD\), .*: convert it"),
        (saved(colours(), "ico"), r"it is an icon \(ICO\), .*: convert it"),
        (saved(colours(), "pdf"), "it is PDF"),
        (saved(colours())[:12], "it begins as PNG, and is damaged or .*: copy it again, or convert"),
        (float_tiff(), "it begins as TIFF, and is .* of a rare kind: .* or convert it to PNG"),
    ],
    ids=[
        "empty", "text", "png", "jpeg", "a program", "HEIC", "HEIC in series", "film", "JXL", "JXL in boxes", "PSD",
        "ICO", "PDF", "PNG's beginning", "colours in float",
    ],
)  # fmt: skip
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
