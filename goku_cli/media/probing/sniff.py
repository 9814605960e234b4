"""File type detection by the first bytes, whatever the name says.

Decoders guess too, but they guess playlists and scripts as well, and their message for a web page that was saved
as a video says nothing of a web page.
"""

import json
from pathlib import Path

from goku_cli.errors import Cause, Fault

HEAD = 4096
IMAGES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
}
BRANDS = {b"avif": "AVIF"} | dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1"), "HEIC")
"""Still images in the container of MP4, by the brands behind `ftyp`; the first that is there, whatever comes first."""
SEQUENCE = b"avis"
"""A film in the same container, although it may name a still beside itself."""
FOREIGN = {
    b"#EXTM3U": "a playlist",
    b"ffconcat": "a playlist",
    b"v=0\n": "a session description",
    b"v=0\r\n": "a session description",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a rar archive",
    b"%PDF": "a PDF",
    b"\x7fELF": "a program",
}
TRANSFER_AT = {b"cICP": 1, b"colrnclx": 3}
"""What a PNG and an AVIF begin the description of their colors with, and where behind it the transfer stands."""
HIGH_DYNAMIC_RANGE = frozenset([16, 18])
"""PQ and HLG (ITU-T H.273)."""
SOUNDS = {b"ID3": "MP3", b"fLaC": "FLAC"}


def image_format(path: Path) -> str | None:
    """Return the name of the image format whose magic number the file has, or None.

    Raises:
        Fault: NOT_MEDIA or NO_VIDEO, when it is something known that is neither an image nor a video.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "BMP"
    if head[4:8] == b"ftyp":
        return _branded(head)
    if sound := _beginning(head, SOUNDS) or ("WAV" if head[:4] == b"RIFF" and head[8:12] == b"WAVE" else None):
        raise Fault(Cause.NO_VIDEO, f"looks like {sound}")
    if other := _beginning(head, FOREIGN) or _text(head):
        raise Fault(Cause.NOT_MEDIA, f"looks like {other}")
    return _beginning(head, IMAGES)


def says_high_dynamic_range(path: Path) -> bool:
    """Say whether a still is of high dynamic range, by the description of its colors."""
    with path.open("rb") as file:
        head = file.read(16 * HEAD)
    places = [(head.find(mark), len(mark) + at) for mark, at in TRANSFER_AT.items()]
    return any(place >= 0 and set(head[place + at : place + at + 1]) & HIGH_DYNAMIC_RANGE for place, at in places)


def _branded(head: bytes) -> str | None:
    """Name the kind of image in a container of MP4, by its own brand and those that it is compatible with."""
    size = min(int.from_bytes(head[:4]), HEAD)
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size, 4))]
    if brands[0] == SEQUENCE:
        return None
    images = [name for brand, name in BRANDS.items() if brand in brands]
    return images[0] if images and brands[0] in (*BRANDS, b"miaf") else None


def _beginning(head: bytes, table: dict[bytes, str]) -> str | None:
    return next((name for magic, name in table.items() if head.startswith(magic)), None)


def _text(head: bytes) -> str | None:
    """Name the kind of text, or None for what is not text."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3 or len(head) < HEAD:  # more than a character that was cut in two
            return None
        text = head[: error.start].decode("utf-8-sig")
    if any(ord(character) < 32 and character not in "\t\n\r\f" for character in text):
        return None
    begins = text.lstrip()[:200].lower()
    if begins.startswith("<!doctype html") or "<html" in begins:
        return "HTML"
    if begins.startswith("<"):
        return "SVG" if "<svg" in begins else "XML"
    return "JSON" if _is_json(text) else "text"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return text.lstrip().startswith(('{"', '[{"'))
    except RecursionError:
        return True
    return True
