"""How does any image file become the pixels of one example? Opened right, fitted to a size by a named method.

Upright by EXIF; transparency composed on a background, or kept; 16 bits scaled to 8; the first of several frames.
A file with a colour profile has the colours that this means, as sRGB.
"""

import contextlib
import hashlib
import io
import warnings
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from trainer.data.profile import in_srgb
from trainer.data.unread import why_unread

PICTURE_VERSION = "1"
"""Raised when some file gives other pixels than before: part of every fingerprint of pictures."""
NOTES_VERSION = "7"
"""Raised when something new is said of some files: what caches know of files is then read again."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA")  # fmt: skip
"""What is decoded, whatever the file is called; nothing that runs a program (EPS) is among them."""
EXTENSIONS = frozenset(
    {
        ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff",
        ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".jpx", ".tga",
    }
)  # fmt: skip
"""Names, in lower case, of files that are taken for pictures."""
Resize = Literal["bicubic", "bilinear", "lanczos", "box", "box_halving"]
Background = Literal["white", "black"]

ROTATED, ALPHA, DEEP, FRAMES, PROFILE = "rotated", "alpha", "16-bit", "frames", "profile"
"""What `opened` had to do."""
CUT = "cut"
"""A PNG without its end, of which all pixels are there: Pillow refuses one that lacks any."""
_LONGEST = 8
"""Images longer than so many times their frame are cropped before they are resized, too."""
_ORIENTATION = 0x0112
_PNG_END = b"IEND\xae\x42\x60\x82"

warnings.filterwarnings(
    "ignore", module=r"PIL\."
)  # what is odd in a file is told in one line of ours


class Unreadable(ValueError):  # noqa: N818
    """A picture that cannot be had; the text is the reason, to be read after the name of the file."""


@dataclass(frozen=True)
class Opened:
    """A picture as a person would see it."""

    image: Image.Image
    """8 bits and upright: L or RGB, opaque; RGBA where transparency is kept."""
    mode: str
    """Pillow's name for how it is stored."""
    notes: tuple[str, ...] = ()
    """Of ROTATED, ALPHA, DEEP, FRAMES, PROFILE, CUT."""
    peak: int = 0
    """Largest value of what is DEEP."""

    def name(self, content: bytes) -> str:
        """64 hex digits of the content it was opened from, and of what opening learned since: others keep theirs.

        That is to apply a profile, and to see which grey of 16 bits is transparent.
        """
        learned = b"/sRGB" if PROFILE in self.notes else b""
        if {DEEP, ALPHA} <= set(self.notes):
            learned += b"/clear"
        return hashlib.sha256(content + learned).hexdigest()


def opened(
    content: bytes, background: Background = "white", *, alpha: bool = False, profiles: bool = True
) -> Opened:
    """The picture in the content of an image file; without `profiles` in the colours that are stored.

    Raises Unreadable.
    """
    if not content:
        raise Unreadable("it is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            image.load()
            picture = seen(image, background, alpha=alpha, profiles=profiles)
            if image.format == "PNG" and _PNG_END not in content:
                return replace(picture, notes=(*picture.notes, CUT))
            return picture
    except Unreadable:
        raise
    except UnidentifiedImageError:
        raise Unreadable(why_unread(content)) from None
    except Image.DecompressionBombError:
        raise Unreadable(f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels") from None
    except Exception as error:  # Pillow's decoders raise anything on damaged files
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise Unreadable(f"it is damaged: {reason}") from None


def seen(
    image: Image.Image,
    background: Background = "white",
    *,
    alpha: bool = False,
    profiles: bool = True,
) -> Opened:
    """An image in Pillow's memory as a person would see it, or with its transparency (`alpha`), which all then have.

    Raises Unreadable for values without a known range.
    """
    mode, profile, notes, peak = image.mode, image.info.get("icc_profile"), [], 0
    if (
        image.format != "MPO" and getattr(image, "n_frames", 1) > 1
    ):  # MPO: a phone's photo, previews behind it
        image.seek(0)
        image.load()
        notes.append(FRAMES)
    with contextlib.suppress(Exception):  # damaged EXIF says nothing
        if image.getexif().get(_ORIENTATION, 1) in range(2, 9):
            image = ImageOps.exif_transpose(image)
            notes.append(ROTATED)
    if mode.startswith("I") or mode == "F":
        image, peak = _eight_bits(image)
        notes.append(DEEP)
    if profiles and profile and (turned := in_srgb(image, profile)) is not None:
        image = turned
        notes.append(PROFILE)
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        if int(np.asarray(layered.getchannel("A")).min()) < 255:
            notes.append(ALPHA)
        below = Image.new("RGBA", image.size, background)
        image = layered if alpha else Image.alpha_composite(below, layered).convert("RGB")
    elif alpha:
        image = image.convert("RGBA")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return Opened(image, mode, tuple(notes), peak)


def _eight_bits(image: Image.Image) -> tuple[Image.Image, int]:
    """Integers 0..65535 as 0..255, by one scale for all pictures, with alpha where one of them is transparent;
    and the largest.

    Raises Unreadable for any others.
    """
    values = np.asarray(image)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise Unreadable(
            f"its values run from {values.min():g} to {values.max():g}, which no format defines as dark and light: "
            "convert it to 8 or 16 bits"
        )
    scaled = Image.fromarray(np.rint(values / 257.0).astype(np.uint8))
    clear = image.info.get("transparency")  # a PNG's tRNS: the one grey that is
    if isinstance(clear, int) and (hidden := values == clear).any():
        scaled.putalpha(Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8)))
    return scaled, int(values.max())


@dataclass(frozen=True)
class Frame:
    """What every picture of a set is fitted to."""

    height: int
    width: int
    grayscale: bool = False
    resize: Resize = "bicubic"
    """Antialiased, of the picture that just covers the frame; the centre is then cropped.

    `box_halving` averages 2 x 2 pixels while the picture is twice as large, then bicubic: improved-diffusion's.
    """
    background: Background = "white"
    alpha: bool = False
    """Whether transparency is the last channel; what is wholly transparent then has the background's colour."""
    bands: int | None = None
    """Number of channels that are no colours."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """[C, H, W] of what `pixels` gives."""
        colours = 1 if self.grayscale else 3
        return (self.bands or colours + self.alpha, self.height, self.width)

    def identity(self) -> str:
        """All that decides which pixels a file gives."""
        kept = f"{'/alpha' * self.alpha}{'/bands' * (self.bands is not None)}"
        return f"{PICTURE_VERSION}/{self.shape}/{self.resize}/{self.background}{kept}"

    def opened(self, content: bytes) -> Opened:
        """The picture in the content of an image file, as it is to be fitted. Raises Unreadable."""
        return opened(content, self.background, alpha=self.alpha)

    def pixels(self, image: Image.Image | np.ndarray) -> np.ndarray:
        """uint8 [C, H, W] of an opened image, or, each channel on its own, of bands uint8 [h, w, C]."""
        if isinstance(image, np.ndarray):
            bands = (
                Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(image, 2, 0)
            )
            return np.stack([np.asarray(self._fit(self._shortened(band))) for band in bands])
        image = image.convert(("L" if self.grayscale else "RGB") + "A" * self.alpha)
        fitted = np.asarray(self._fit(self._shortened(image)))
        if (
            self.alpha
        ):  # Pillow weighs colours by their opacity, and leaves none where nothing is seen
            hidden = np.array(
                [*[255 * (self.background == "white")] * (fitted.shape[2] - 1), 0], np.uint8
            )
            fitted = np.where(fitted[..., -1:] == 0, hidden, fitted)
        return fitted[None] if fitted.ndim == 2 else np.ascontiguousarray(fitted.transpose(2, 0, 1))

    def _fit(self, image: Image.Image) -> Image.Image:
        method = self.resize
        if method == "box_halving":
            method = "bicubic"
            while image.width >= 2 * self.width and image.height >= 2 * self.height:
                half = (image.width // 2, image.height // 2)
                image = image.resize(half, Image.Resampling.BOX)
        scale = self._scale(image)
        covering = (
            max(self.width, round(image.width * scale)),
            max(self.height, round(image.height * scale)),
        )
        image = image.resize(covering, Image.Resampling[method.upper()])
        left, top = (covering[0] - self.width) // 2, (covering[1] - self.height) // 2
        return image.crop((left, top, left + self.width, top + self.height))

    def _scale(self, image: Image.Image) -> float:
        return max(self.width / image.width, self.height / image.height)

    def _shortened(self, image: Image.Image) -> Image.Image:
        """The middle of a very long picture: resized whole, one of 1 x 100,000 pixels would fill the memory."""
        scale = self._scale(image)
        most = [max(1, round(_LONGEST * side / scale)) for side in (self.width, self.height)]
        width, height = (min(side, limit) for side, limit in zip(image.size, most, strict=True))
        if (width, height) == image.size:
            return image
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))
