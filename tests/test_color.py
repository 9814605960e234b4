"""One conversion to RGB: whatever a file's tags are, everything that looks at it sees the colors that were meant."""

import base64
import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from bad_media import ffmpeg
from PIL import Image, ImageCms, PngImagePlugin

from goku_cli.caption.clip import Clip
from goku_cli.errors import Cause, Fault
from goku_cli.ingest.ingest import ingest
from goku_cli.ingest.rules import load_rules
from goku_cli.ingest.walk import find_media
from goku_cli.manifest.store import Manifest
from goku_cli.media.color.color import TO_BT709, coding_of, to_rgb
from goku_cli.media.decode import open_decoding
from goku_cli.media.fast_resize import shrink
from goku_cli.media.ffmpeg import Cut, cut_video
from goku_cli.media.frames import read_frames
from goku_cli.media.orientation import Orientation, orientation_of
from goku_cli.media.probing.probe import open_image, probe
from goku_cli.media.window import read_windows
from goku_cli.report.gather import gather
from goku_cli.report.pictures import player
from goku_cli.split.settings import SplitSettings, WriteSettings
from goku_cli.split.split import split
from goku_cli.split.write import write_clips

BARS = ((192, 48, 48), (48, 80, 192), (128, 128, 128), (32, 160, 64))
WIDTH = 256
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "2", "-pix_fmt", "yuv420p")
X265 = (
    "-c:v",
    "libx265",
    "-preset",
    "ultrafast",
    "-crf",
    "4",
    "-pix_fmt",
    "yuv420p10le",
    "-x265-params",
    "log-level=0",
)
FULL = ("-color_range", "pc")
UNTAGGED = ("-bsf:v", "h264_metadata=matrix_coefficients=2:colour_primaries=2:transfer_characteristics=2")
TO = "scale=out_color_matrix={}:out_range={},setparams=colorspace={}:color_primaries=bt709:color_trc=bt709:range={}"
FROM_RGB = "format=gbrp,setparams=colorspace=gbr:color_primaries=bt709:color_trc=bt709:range=pc,"
LINEAR = "zscale=transfer=linear:npl=203,format=gbrpf32le,"
HDR = LINEAR + "zscale=primaries=bt2020:transfer={}:matrix=bt2020nc:range=limited:npl=203"
P3 = "zscale=transfer=linear,format=gbrpf32le,zscale=primaries=smpte432:transfer=bt709:matrix=bt709:range=limited"
SD = "scale=out_color_matrix=smpte170m,setparams=colorspace=smpte170m:color_primaries={}:color_trc=smpte170m:range=tv"
FILMS = {
    "hd_untagged.mp4": (720, TO.format("bt709", "tv", "bt709", "tv"), [*X264, *UNTAGGED], "bt709 assumed"),
    "hd_tagged.mp4": (720, TO.format("bt709", "tv", "bt709", "tv"), X264, "bt709"),
    "sd_untagged.mp4": (192, TO.format("smpte170m", "tv", "smpte170m", "tv"), [*X264, *UNTAGGED], "bt601 assumed"),
    "sd_709.mp4": (192, TO.format("bt709", "tv", "bt709", "tv"), X264, "bt709"),
    "hd_601.mp4": (720, TO.format("smpte170m", "tv", "smpte170m", "tv"), X264, "bt601"),
    "hd_full.mp4": (720, TO.format("bt709", "pc", "bt709", "pc"), [*X264[:-1], "yuvj420p", *FULL], "bt709 full"),
    "hd_444.mp4": (720, TO.format("bt709", "tv", "bt709", "tv"), [*X264[:-1], "yuv444p"], "bt709"),
    "2020_matrix.mp4": (192, TO.format("bt2020", "tv", "bt2020nc", "tv"), X265, "bt2020"),
    "rgb.mp4": (720, "null", ["-c:v", "libx264rgb", "-preset", "ultrafast", "-crf", "2"], "rgb full"),
    "gbrp.mkv": (720, "null", ["-c:v", "ffv1", "-pix_fmt", "gbrp"], "rgb full"),
    "palette.gif": (720, "split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none", [], "rgb full alpha on 128"),
    "pq.mp4": (192, FROM_RGB + HDR.format("smpte2084"), X265, "bt2020 pq primaries bt2020"),
    "p3.mp4": (192, FROM_RGB + P3, X265, "bt709 primaries p3"),
    "ntsc.mp4": (192, SD.format("smpte170m"), X264, "bt601 primaries smpte170m"),
    "pal.mp4": (192, SD.format("bt470bg"), X264, "bt601 primaries bt470bg"),
}  # fmt: skip
NEAR = {"palette.gif": 4}
PRIMARIES = {"ntsc.mp4": "smpte170m", "pal.mp4": "bt470bg"}
"""Of films whose numbers are those of the bars, and whose colors are not."""


D65 = (0.3127, 0.3290)
CHROMATICITIES = {
    "bt709": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)), "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), "bt470bg": ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    "smpte170m": ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
}  # fmt: skip
"""Of red, green and blue (ITU-T H.273, table 2)."""


def to_xyz(primaries):
    """What turns linear RGB of these primaries into CIE XYZ (SMPTE RP 177)."""
    colors = np.array([(x / y, 1, (1 - x - y) / y) for x, y in (*CHROMATICITIES[primaries], D65)]).T
    return colors[:, :3] * np.linalg.solve(colors[:, :3], colors[:, 3])


def meant(colors, primaries):
    """What numbers of these primaries are in BT.709."""
    light = (np.array(colors) / 255) ** 2.4 @ (np.linalg.inv(to_xyz("bt709")) @ to_xyz(primaries)).T
    return np.rint(255 * light.clip(0, 1) ** (1 / 2.4)).astype(int)


def bars(path, high, how, encode, frames=8):
    """A film of four bars of known colors."""
    quarter = WIDTH // 4
    drawn = ",".join(
        f"drawbox=x={i * quarter}:w={quarter}:h={high}:c=0x{r:02x}{g:02x}{b:02x}:t=fill"
        for i, (r, g, b) in enumerate(BARS)
    )
    source = f"color=black:size={WIDTH}x{high}:rate=8:duration=1,format=gbrp,{drawn}"
    ffmpeg("-f", "lavfi", "-i", source, "-frames:v", frames, "-vf", how, *encode, path)
    return path


def seen(frame):
    """The four colors in a frame of any size."""
    high, wide, _ = frame.shape
    return np.array([frame[high // 2, wide * (2 * i + 1) // 8] for i in range(4)], int)


@pytest.mark.parametrize("name", FILMS)
def test_latents_key_frames_small_frames_and_written_clips_show_the_colors_that_were_meant(tmp_path, name):
    high, how, encode, said = FILMS[name]
    path = bars(tmp_path / name, high, how, encode)
    near = NEAR.get(name, 3)
    assert probe(path).color == said
    wanted = meant(BARS, PRIMARIES.get(name, "bt709"))
    looks = {"frame": seen(next(read_frames(path))[1]), "key frame": seen(next(read_frames(path, short_side=96))[1])}
    ((_, window),) = read_windows(
        path, start_us=0, end_us=1_000_000, fps=8, frames=5, windows=1, bucket=(96, 128), enlarge=True
    )
    if high == 192:  # else the crop leaves bars out
        looks["latents"] = seen(window[0])
    with open_decoding(path) as decoding:
        looks["small"] = seen(shrink(next(decoding.frames()).frame, 1.0, 96))
    cut_video(path, [Cut(0, 1_000_000, 8, tmp_path / "cut.mp4")], crf=2)
    looks["written"] = seen(next(read_frames(tmp_path / "cut.mp4"))[1])
    assert np.abs(looks["frame"] - wanted).max() <= near, looks
    for look, colors in looks.items():
        assert np.abs(colors - looks["frame"]).max() <= 2, (look, looks)


def opened(uri):
    """The picture in a data URI."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))


@pytest.mark.parametrize("name", ["hd_full.mp4", "pq.mp4", "pal.mp4"])
def test_a_report_shows_the_colors_of_key_frames(tmp_path, name):
    high, how, encode, _ = FILMS[name]
    (tmp_path / "raw").mkdir()
    bars(tmp_path / "raw" / name, high, how, encode)
    with Manifest(tmp_path / "m.duckdb", create=True) as manifest:
        ingest(manifest, find_media([str(tmp_path / "raw")]), load_rules("none"), workers=1)
        split(manifest, SplitSettings(), workers=1)
        write_clips(manifest, tmp_path / "cut", WriteSettings(crf=2), workers=1)
        (clip,) = manifest.query("FROM clip_files")
        manifest.insert("selections", [{"name": "all", "clip": clip["id"], "weight": 1.0}])
        (listed,) = gather(manifest, "all").kept
    (key,) = Clip(clip, most_key_frames=1).key_frames
    wanted = seen(np.asarray(Image.open(io.BytesIO(key.jpeg))))
    assert np.abs(seen(opened(listed["picture"])) - wanted).max() <= 2
    for played in (player(Path(clip["path"]), 8), player(Path(clip["source_path"]), 8)):  # WebP rounds, as H.264 does
        assert np.abs(seen(opened(played.source)) - wanted).max() <= 4
        assert np.abs(seen(opened(played.still)) - wanted).max() <= 4


@pytest.mark.parametrize(
    ("codec", "pixels", "suffix"),
    [("qtrle", "argb", "mov"), ("prores_ks", "yuva444p10le", "mov"), ("png", "rgba", "mov"),
     ("libvpx-vp9", "yuva420p", "webm"), ("libvpx", "yuva420p", "webm"), ("apng", "rgba", "apng")],
)  # fmt: skip
def test_what_is_transparent_lies_on_gray(tmp_path, codec, pixels, suffix):
    path = tmp_path / f"a.{suffix}"
    clear = "color=red@0.0:size=64x64:rate=8,format=rgba"
    plain = ["-auto-alt-ref", 0] if codec == "libvpx" else []  # it refuses to hide frames behind transparent ones
    ffmpeg("-f", "lavfi", "-i", clear, "-frames:v", 4, "-c:v", codec, *plain, "-pix_fmt", pixels, path)
    frames = [frame for _, frame in read_frames(path)]
    assert len(frames) == 4 and max(np.abs(frame.astype(int) - 128).max() for frame in frames) <= 2
    assert probe(path).color.endswith("alpha on 128 assumed" if "yuva" in pixels else "alpha on 128")
    cut_video(path, [Cut(0, 500_000, 4, tmp_path / "cut.mp4")])
    assert np.abs(next(read_frames(tmp_path / "cut.mp4"))[1].astype(int) - 128).max() <= 3


def test_gray_of_hybrid_log_gamma_is_gray(tmp_path):
    path = bars(tmp_path / "hlg.mp4", 192, FROM_RGB + HDR.format("arib-std-b67"), X265)
    assert probe(path).color == "bt2020 hlg primaries bt2020" and probe(path).hdr == "hlg"
    assert np.abs(seen(next(read_frames(path))[1])[2] - 128).max() <= 3


@pytest.mark.parametrize("primaries", TO_BT709)
def test_primaries_become_those_of_bt709_by_their_chromaticities(primaries):
    wanted = np.linalg.inv(to_xyz("bt709")) @ to_xyz(primaries)
    assert np.abs(np.array(TO_BT709[primaries]) - wanted).max() < 1e-4


def hybrid_log_gamma(colors, peak=1000.0):
    """Signal in hybrid log-gamma of colors of BT.709 whose white is 203 cd/m2 (ITU-R BT.2100-2, table 5)."""
    display = (np.array(colors) / 255) ** 2.4 * 203  # cd/m2, by ITU-R BT.1886
    display = display @ (np.linalg.inv(to_xyz("bt2020")) @ to_xyz("bt709")).T / peak
    luminance = display @ to_xyz("bt2020")[1]
    scene = display * luminance[..., None] ** ((1 - 1.2) / 1.2)  # the inverse of a system gamma of 1.2
    a, b, c = 0.17883277, 1 - 4 * 0.17883277, 0.5 - 0.17883277 * np.log(4 * 0.17883277)
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


HUES = np.array([*BARS, (200, 170, 40), (30, 60, 30), (190, 20, 150), (12, 12, 12), (40, 190, 190)])


def test_hybrid_log_gamma_has_the_colors_that_the_standard_says(tmp_path):
    signal = np.rint(hybrid_log_gamma(HUES) * 65535).astype(np.uint16)
    wide = np.repeat(np.repeat(signal[None], 64, 0), 32, 1)
    (tmp_path / "hlg.raw").write_bytes(wide.tobytes())
    ffmpeg(
        "-f", "rawvideo", "-pix_fmt", "rgb48le", "-s", f"{wide.shape[1]}x64", "-i", tmp_path / "hlg.raw", "-vf",
        "scale=out_color_matrix=bt2020:out_range=tv:flags=accurate_rnd+full_chroma_int,format=yuv444p10le,"
        "setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc=arib-std-b67:range=tv",
        *X265[:-4], "-x265-params", "lossless=1:log-level=0", tmp_path / "hlg.mp4",
    )  # fmt: skip
    assert probe(tmp_path / "hlg.mp4").color == "bt2020 hlg primaries bt2020"
    shown = next(read_frames(tmp_path / "hlg.mp4"))[1].astype(int)
    assert np.abs(shown[32, 16::32] - HUES).max() <= 2


def test_highlights_of_hybrid_log_gamma_keep_their_hue():
    bright = np.array([(255, 128, 128), (255, 64, 128)])
    exposed = hybrid_log_gamma(bright * 4 ** (1 / 2.4))  # two stops above white
    frame = av.VideoFrame.from_ndarray(np.rint(exposed * 65535).astype(np.uint16)[None].repeat(4, 0), format="rgb48le")
    frame.color_trc, frame.color_primaries = 18, 9
    light = (to_rgb(frame)[0] / 255) ** 2.4
    wanted = (bright / 255) ** 2.4
    assert np.abs(light / light[:, :1] - wanted / wanted[:, :1]).max() < 0.02 and light.max() > 0.9


def test_light_is_what_the_standards_say():
    frame = av.VideoFrame.from_ndarray(np.full((4, 4, 3), 65535 * 0.58069, np.uint16), format="rgb48le")
    frame.color_trc = 16
    white = to_rgb(frame)  # 203 cd/m2, by BT.2408 58 % of PQ
    assert 235 <= white.min() == white.max() <= 250
    assert str(coding_of(frame)) == "rgb full pq"


MATRICES = {
    "0": Orientation(), "90": Orientation(True, False, True), "180": Orientation(False, True, True),
    "270": Orientation(True, True, False),
}  # fmt: skip


@pytest.mark.parametrize("degrees", MATRICES)
@pytest.mark.parametrize("mirror", [False, True])
def test_the_whole_display_matrix_is_followed(tmp_path, degrees, mirror):
    plain = bars(tmp_path / "plain.mp4", 128, "null", X264)
    flip = ["-display_hflip"] if mirror else []
    ffmpeg("-display_rotation", degrees, *flip, "-i", plain, "-c", "copy", tmp_path / "turned.mp4")
    shown = ffmpeg_frame(tmp_path / "turned.mp4")
    ours = next(read_frames(tmp_path / "turned.mp4"))[1]
    assert ours.shape == shown.shape and np.abs(ours.astype(int) - shown).mean() < 1.5
    facts = probe(tmp_path / "turned.mp4")
    assert (facts.height, facts.width) == shown.shape[:2] and facts.mirrored == mirror
    cut_video(tmp_path / "turned.mp4", [Cut(0, 1_000_000, 8, tmp_path / "cut.mp4")])
    written = next(read_frames(tmp_path / "cut.mp4"))[1]
    assert np.abs(written.astype(int) - shown).mean() < 3


def ffmpeg_frame(path):
    """The first frame as ffmpeg itself shows it."""
    ffmpeg("-i", path, "-frames:v", 1, path.with_suffix(".png"))
    return np.asarray(Image.open(path.with_suffix(".png")).convert("RGB")).astype(int)


def test_orientations_have_names():
    for degrees, turn in MATRICES.items():
        assert (turn.rotation, turn.reflects) == (int(degrees), False)
    assert Orientation(mirrored=True).reflects and not Orientation(mirrored=True).rotation
    assert orientation_of(av.VideoFrame(16, 16, "rgb24")) == Orientation()
    image = np.arange(6).reshape(2, 3)
    assert np.array_equal(MATRICES["90"].applied(image), np.rot90(image, 1))
    assert np.array_equal(MATRICES["270"].applied(image), np.rot90(image, -1))


def test_pictures_follow_their_profile_and_the_type_of_their_samples(tmp_path):
    plain = Image.new("RGB", (64, 48), (40, 180, 60))
    lab = ImageCms.profileToProfile(
        plain, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    lab.save(tmp_path / "lab.tif")
    assert np.abs(open_image(tmp_path / "lab.tif").astype(int) - (40, 180, 60)).max() <= 2
    Image.fromarray(np.full((48, 64), 0.5, np.float32)).save(tmp_path / "float.tif")
    assert open_image(tmp_path / "float.tif")[0, 0].tolist() == [128, 128, 128]
    Image.fromarray(np.full((48, 64), 32896, np.uint16)).save(tmp_path / "deep.png")
    assert open_image(tmp_path / "deep.png")[0, 0].tolist() == [128, 128, 128]
    for name, numbers in (("int", np.full((48, 64), 30_000, np.int32)), ("nan", np.full((48, 64), 3.0, np.float32))):
        Image.fromarray(numbers).save(tmp_path / f"{name}.tif")
        with pytest.raises(Fault) as caught:
            probe(tmp_path / f"{name}.tif")
        assert caught.value.cause == Cause.NO_DECODER
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain.save(tmp_path / "srgb.png", icc_profile=profile)
    assert open_image(tmp_path / "srgb.png")[0, 0].tolist() == [40, 180, 60]
    plain.save(tmp_path / "broken.png", icc_profile=b"no profile")
    assert probe(tmp_path / "broken.png").color == "rgb profile not followed, it is damaged"
    Image.new("LA", (64, 48), (200, 0)).save(tmp_path / "clear.png")
    assert open_image(tmp_path / "clear.png")[0, 0].tolist() == [128, 128, 128]


@pytest.mark.parametrize("suffix", ["png", "avif"])
@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_stills_of_high_dynamic_range_show_the_colors_that_were_meant(tmp_path, suffix, transfer):
    coded = HDR.format(transfer)
    encode = ["-c:v", "libaom-av1", "-still-picture", 1, "-crf", 5, "-cpu-used", 8, "-pix_fmt", "yuv420p10le"]
    if suffix == "png":
        coded, encode = coded.replace("bt2020nc:range=limited", "gbr:range=full"), ["-pix_fmt", "rgb48be"]
    path = bars(tmp_path / f"a.{suffix}", 192, FROM_RGB + coded, encode, frames=1)
    facts = probe(path)
    name = {"smpte2084": "pq", "arib-std-b67": "hlg"}[transfer]
    matrix = "rgb full" if suffix == "png" else "bt2020"
    assert (facts.kind, facts.hdr, facts.color) == ("image", name, f"{matrix} {name} primaries bt2020")
    film = bars(tmp_path / "film.mp4", 192, FROM_RGB + HDR.format(transfer), X265)
    assert np.abs(seen(open_image(path)) - seen(next(read_frames(film))[1])).max() <= 3


@pytest.mark.parametrize(("gamma", "said"), [(1.0, "rgb gamma 1"), (1 / 2.2, "rgb"), (0.0, "rgb")])
def test_the_gamma_of_a_png_is_followed(tmp_path, gamma, said):
    stored = np.rint(255 * (np.array([BARS], float) / 255) ** (2.2 * gamma or 1)).astype(np.uint8)
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", struct.pack(">I", round(gamma * 100_000)))
    Image.fromarray(stored).save(tmp_path / "a.png", pnginfo=chunks)
    assert probe(tmp_path / "a.png").color == said
    assert np.abs(open_image(tmp_path / "a.png").astype(int) - [BARS]).max() <= 4


def test_inks_become_light(tmp_path):
    Image.new("CMYK", (64, 48), (255, 0, 0, 0)).save(tmp_path / "cyan.jpg", quality=98)
    red, green, blue = open_image(tmp_path / "cyan.jpg")[24, 32].tolist()
    assert red < 10 and green > 245 and blue > 245


def test_the_brand_that_comes_first_is_not_the_only_one(tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (64, 48), (40, 180, 60)).save(file, "AVIF", quality=95)
    data = file.getvalue()
    for brand in (b"avif", b"mif1", b"miaf"):
        (tmp_path / "a.avif").write_bytes(data[:8] + brand + data[12:])
        assert probe(tmp_path / "a.avif").kind == "image"
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(Fault, match="pillow-heif"):
        probe(tmp_path / "a.heic")


EXIF = {
    1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud, 5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1), 7: lambda x: np.rot90(x, 2).swapaxes(0, 1), 8: lambda x: np.rot90(x, 1),
}  # fmt: skip
"""What is done to the stored picture (EXIF 2.3, tag 274)."""


@pytest.mark.parametrize("number", EXIF)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_all_eight_orientations_of_exif_are_followed(tmp_path, number, suffix):
    stored = np.random.default_rng(0).integers(0, 255, (40, 64, 3), dtype=np.uint8)
    image = Image.fromarray(stored)
    exif = image.getexif()
    exif[274] = number
    image.save(tmp_path / f"a.{suffix}", exif=exif)
    assert np.array_equal(open_image(tmp_path / f"a.{suffix}"), EXIF[number](stored))
