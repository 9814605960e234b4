"""The bad corpus: files that are cut, damaged, disguised, huge, oddly made or oddly named, built in some seconds."""

import io
import os
import shutil
import socket
import struct
import subprocess
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from goku_cli.media.ffmpeg import executable

PICTURE = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=24:duration=3"]
SOUND = ["-f", "lavfi", "-i", "sine=duration=3"]
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-bf", "0", "-threads", "1"]
SECRET = "canary-7f3a"
"""Stands in the subtitles of `sibling.mp4`, which playlists name: it may appear in no output."""
HDR = ["-vf", "setparams=color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc", "-pix_fmt", "yuv420p10le"]
ENCODED = {
    "good.mp4": [*X264, "-movflags", "+faststart"],
    "index_last.mp4": X264,
    "good.avi": ["-c:v", "mpeg4"],
    "good.flv": ["-c:v", "flv1"],
    "good.mkv": X264,
    "good.webm": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"],
    "good.ts": X264,
    "fragments.mp4": [*X264, "-g", "12", "-movflags", "frag_keyframe+empty_moov"],
    "av1.mp4": ["-c:v", "libsvtav1", "-preset", "12", "-frames:v", "12"],
    "ffv1.mkv": ["-c:v", "ffv1", "-frames:v", "12"],
    "hdr10.mp4": ["-c:v", "libx265", "-preset", "ultrafast", *HDR, "-frames:v", "12", "-x265-params", "log-level=none"],
    "animated.gif": ["-frames:v", "10"],
    "animated.png": ["-f", "apng", "-plays", "0", "-frames:v", "6"],
    "animated.webp": ["-c:v", "libwebp_anim", "-frames:v", "6", "-loop", "0"],
    "one_frame.mp4": [*X264, "-frames:v", "1"],
    "one_frame.gif": ["-frames:v", "1"],
    "odd_size.mp4": ["-vf", "scale=321:181,setsar=1", *X264, "-pix_fmt", "yuv444p"],
    "wide_pixels.mp4": ["-vf", "setsar=2", *X264],
    "thousand_fps.mp4": ["-vf", "setpts=N/1000/TB,fps=1000", *X264],
    "variable.mp4": ["-vf", "select='lt(n,24)+not(mod(n,6))'", "-fps_mode", "passthrough", *X264],
    "negative.mkv": [*X264, "-output_ts_offset", "-1.5", "-avoid_negative_ts", "disabled"],
    "late.mkv": [*X264, "-output_ts_offset", "100000"],
    "late.ts": [*X264, "-output_ts_offset", "20000"],
    "encrypted.mp4": [
        *X264,
        "-encryption_scheme",
        "cenc-aes-ctr",
        "-encryption_key",
        "ab" * 16,
        "-encryption_kid",
        "cd" * 16,
    ],
    "thirty_hours.mkv": ["-vf", "setpts=N*1500/TB", "-fps_mode", "passthrough", *X264],
}
"""File -> how ffmpeg makes it of three seconds of test picture."""


def build(folder: Path) -> None:
    """Write the whole corpus to an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _encoded(folder)
    _sounds(folder)
    _cut(folder)
    _disguised(folder)
    _pictures(folder)
    _names(folder)
    _sidecars(folder)
    _special(folder)


def ffmpeg(*arguments: object) -> None:
    """Run ffmpeg quietly."""
    command = [executable(), "-loglevel", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, timeout=120, capture_output=True)


def _encoded(folder: Path) -> None:
    outputs = [word for name, options in ENCODED.items() for word in (*options, folder / name)]
    ffmpeg(*PICTURE, *outputs)
    ffmpeg("-display_rotation", "90", "-i", folder / "good.mp4", "-c", "copy", folder / "rotated.mp4")
    small = ["-f", "lavfi", "-i", "testsrc2=size=160x90:rate=24:duration=1", *X264]
    ffmpeg(*small, "-output_ts_offset", "3", folder / "small.ts")
    (folder / "two_sizes.ts").write_bytes((folder / "good.ts").read_bytes() + (folder / "small.ts").read_bytes())
    (folder / "small.ts").unlink()
    flat = ["-f", "lavfi", "-i", "color=size=12000x12000:rate=1:duration=1"]
    ffmpeg(*flat, *X264, folder / "pixel_bomb.mp4")
    text = folder / "secret.srt"
    text.write_text(f"1\n00:00:00,000 --> 00:00:03,000\n{SECRET}\n")
    ffmpeg("-i", folder / "good.ts", "-i", text, "-c", "copy", "-c:s", "mov_text", folder / "sibling.mp4")
    text.unlink()


def _sounds(folder: Path) -> None:
    ffmpeg(*PICTURE, *SOUND, *X264, "-shortest", "-movflags", "+faststart", folder / "with_sound.mp4")
    ffmpeg(*PICTURE, *SOUND, *X264, "-t", "1", "-map", "0", folder / "a.mkv")
    ffmpeg("-i", folder / "a.mkv", *SOUND, "-map", "0:v", "-map", "1:a", "-c:v", "copy", folder / "longer_sound.mkv")
    (folder / "a.mkv").unlink()
    ffmpeg(*SOUND, folder / "only_sound.mp4")
    cover = folder / "cover.jpg"
    Image.new("RGB", (64, 64), (200, 30, 30)).save(cover)
    art = ["-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v", "attached_pic"]
    ffmpeg(*SOUND, "-i", cover, *art, "-f", "mp3", folder / "cover_art.mp4")
    ffmpeg(*SOUND, "-i", cover, *art, folder / "cover_art_inside.mp4")
    cover.unlink()


def _cut(folder: Path) -> None:
    for name in ("good.mp4", "good.avi", "good.flv", "good.mkv", "good.webm", "good.ts", "fragments.mp4"):
        data = (folder / name).read_bytes()
        (folder / f"cut_{name}").write_bytes(data[: int(len(data) * 0.6)])
    last = (folder / "index_last.mp4").read_bytes()
    (folder / "cut_index.mp4").write_bytes(last[: int(len(last) * 0.7)])
    (folder / "head_only.mp4").write_bytes(last[:4096])
    (folder / "header_only.mkv").write_bytes((folder / "good.mkv").read_bytes()[:600])
    whole = bytearray((folder / "good.mp4").read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 6000] = np.random.default_rng(0).bytes(6000)
    (folder / "damaged.mp4").write_bytes(whole)
    unknown = (folder / "good.mp4").read_bytes().replace(b"avc1", b"zzzz")
    (folder / "unknown_codec.mp4").write_bytes(unknown)
    (folder / "no_samples.mp4").write_bytes(last[:36] + struct.pack(">I4s", 16, b"moov") + bytes(8))


def _disguised(folder: Path) -> None:
    target = folder / "sibling.mp4"
    scripts = {
        "playlist.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{target}\n#EXT-X-ENDLIST\n",
        "concat.mp4": f"ffconcat version 1.0\nfile '{target}'\n",
        "dash.mp4": f'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash"><BaseURL>{target}</BaseURL></MPD>',
        "session.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
        "page.mp4": "<!DOCTYPE html>\n<html><body>404 Not Found</body></html>" * 20,
        "notes.mp4": "These are only some notes.\n" * 40,
        "answer.mp4": '{"error": "not found", "code": 404}',
        "drawing.png": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{target}"/></svg>',
        "address.mp4": f"data:video/mp4;base64,{target}",
        "paper.mp4": "%PDF-1.7\n%\n1 0 obj\n",
    }
    for name, text in scripts.items():
        (folder / name).write_text(text)
    with zipfile.ZipFile(folder / "archive.mp4", "w") as archive:
        archive.write(target, "inside.mp4")
    (folder / "empty.mp4").touch()
    with (folder / "sparse.mp4").open("wb") as file:
        file.truncate(2 << 40)
    (folder / "random.mp4").write_bytes(np.random.default_rng(1).bytes(20_000))
    (folder / "zeros.mp4").write_bytes(bytes(20_000))
    (folder / "subtitled.avi").write_bytes(_with_playlist((folder / "good.avi").read_bytes(), target))
    shutil.copy(folder / "good.mkv", folder / "video_inside.jpg")


def _with_playlist(avi: bytes, target: Path) -> bytes:
    """An AVI with a GAB2 chunk that smuggles a playlist in as subtitles (CVE-2017-9993)."""
    script = f"#EXTM3U\n#EXTINF:3,\n{target}\n#EXT-X-ENDLIST\n".encode()
    chunk = b"GAB2\0" + struct.pack("<HI", 2, 0) + struct.pack("<HI", 4, len(script)) + script
    chunk += b"\0" * (len(chunk) % 2)
    movi = avi.index(b"movi") + 4
    return avi[:movi] + b"01tx" + struct.pack("<I", len(chunk)) + chunk + avi[movi:]


def _pictures(folder: Path) -> None:
    rng = np.random.default_rng(2)
    noise = Image.fromarray(rng.integers(0, 255, (300, 400, 3), dtype=np.uint8))
    noise.save(folder / "good.jpg", quality=80)
    shutil.copy(folder / "good.jpg", folder / "image_inside.mp4")
    data = (folder / "good.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(data[: len(data) // 2])
    noise.convert("CMYK").save(folder / "cmyk.jpg")
    noise.convert("P").save(folder / "palette.png", transparency=0)
    noise.convert("L").save(folder / "gray.webp")
    noise.save(folder / "still.avif")
    noise.save(folder / "still.tif")
    Image.fromarray(rng.integers(0, 65535, (300, 400), dtype=np.uint16)).save(folder / "deep.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    noise.save(folder / "turned.jpg", exif=turned)
    (folder / "bomb.png").write_bytes(_huge_png(60_000, 60_000))
    for name in ("one_frame.gif", "animated.gif"):
        gif = (folder / name).read_bytes()
        (folder / f"lying_{name}").write_bytes(gif[:6] + struct.pack("<HH", 65535, 65535) + gif[10:])
    (folder / "photo.heic").write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(12) + rng.bytes(500))
    (folder / "photo.jxl").write_bytes(b"\xff\x0a" + rng.bytes(500))
    file = io.BytesIO()
    noise.save(file, format="PNG")
    wrong = bytearray(file.getvalue())
    wrong[len(wrong) // 2] ^= 0xFF
    (folder / "checksum.png").write_bytes(wrong)


def _huge_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packed = zlib.compressobj(9)
    body = b"".join(packed.compress(bytes(width // 8 + 1)) for _ in range(2000)) + packed.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


ODD_NAMES = [
    "-lead.mp4", "a:b.mp4", "http:x.mp4", "new\nline.mp4", "quote'\"$(touch x).mp4", "%03d.mp4", "film \U0001f3ac.mp4",
    "clip[bold red].mp4", "CASE.mp4", "case.mp4", "=cmd().mp4", "rtl\u202egpm.mp4",
]  # fmt: skip


def _names(folder: Path) -> None:
    named = folder / "names"
    named.mkdir()
    for number, name in enumerate(ODD_NAMES):
        picture = ["-f", "lavfi", "-i", f"testsrc2=size=64x64:rate=24:duration=0.{number + 10}"]
        ffmpeg(*picture, *X264, folder / "named.mp4")
        (folder / "named.mp4").rename(named / name)
    shutil.copy(named / "case.mp4", os.fsencode(named) + b"/\xff.mp4")
    shutil.copy(folder / "good.mp4", folder / "same_bytes.mp4")
    os.link(folder / "good.mp4", folder / "same_file.mp4")


def _sidecars(folder: Path) -> None:
    said = folder / "said"
    said.mkdir()
    texts = {
        "empty.txt": b"",
        "long.txt": b"word " * 250_000,
        "not_utf8.txt": b"a caf\xe9 in the rain",
        "controls.txt": "a\x00 red \x1b[31m\u202ebus\u202c".encode(),
        "deep.json": b"[" * 100_000,
        "no_json.json": b"{caption: none}",
        "numbers.json": b'{"captions": [{"start": "x", "end": 1e999, "text": "never"}]}',
    }
    for number, (name, text) in enumerate(texts.items()):
        (said / name).write_bytes(text)
        Image.new("RGB", (64, 64), (number, 9, 9)).save((said / name).with_suffix(".png"))
    Image.new("RGB", (64, 64), (99, 9, 9)).save(said / "folder.png")
    (said / "folder.txt").mkdir()


def _special(folder: Path) -> None:
    special = folder / "special"
    (special / "folder.mp4").mkdir(parents=True)
    os.mkfifo(special / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as opened:
        here = os.getcwd()
        os.chdir(special)  # the path of a socket may be at most 107 bytes long
        opened.bind("socket.mp4")
        os.chdir(here)
    (special / "one.mp4").symlink_to("two.mp4")
    (special / "two.mp4").symlink_to("one.mp4")
    (special / "gone.mp4").symlink_to("nowhere.mp4")
    (special / "around").symlink_to(".")
    (special / "outside.mp4").symlink_to("/etc/passwd")
