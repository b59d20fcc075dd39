"""What is a file that cannot be decoded? Its first bytes say it, and with that the way out."""

_CONVERT = "convert it to PNG or JPEG"
_UNREAD = (
    (0, b"8BPS", "Photoshop (PSD)"),
    (0, b"\x00\x00\x01\x00", "an icon (ICO)"),
    (0, b"\x00\x00\x02\x00", "a cursor (CUR)"),
    (0, b"icns", "an icon (ICNS)"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"DDS ", "DirectDraw (DDS)"),
    (0, b"qoif", "QOI"),
    (0, b"SIMPLE  =", "FITS"),
    (128, b"DICM", "DICOM"),
    (0, b"%PDF", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"<svg", "SVG"),
)
"""Place, first bytes, and name, each by its format's own description."""
_READ = (
    (0, b"\x89PNG", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WebP"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"BM", "BMP"),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
)
_BRANDS = {
    b"hei": "HEIC",
    b"hev": "HEIC",
    b"mif": "HEIC",
    b"msf": "HEIC",
    b"avi": "AVIF",
    b"crx": "Canon raw (CR3)",
}
"""Of the ISO base media format (ISO/IEC 14496-12), three letters; what has none of them is a film."""


def why_unread(content: bytes) -> str:
    """The reason why no decoder takes the content, to be read after the name of the file."""
    for place, first, name in _UNREAD:
        if content[place:].startswith(first):
            return f"it is {name}, which is not read: {_CONVERT}"
    if content[4:8] == b"ftyp":
        name = _BRANDS.get(content[8:11], "a film or photo in a film's format")
        return f"it is {name}, which is not read: {_CONVERT}"
    for place, first, name in _READ:
        if content[place:].startswith(first):
            return f"it begins as {name}, and is damaged or of a rare kind: copy it again, or {_CONVERT}"
    return "it is no image, whatever its name says"
