"""Film that was interlaced and lost its flags is known by its frames, and made whole wherever it is read."""

import io
from pathlib import Path

import numpy as np
import pytest
from bad_media import ffmpeg
from films import film, shot
from PIL import Image

from goku_cli.balance.look import four_frames
from goku_cli.caption.clip import Clip
from goku_cli.encode.clip import clip_windows
from goku_cli.encode.settings import EncodeSettings
from goku_cli.evaluate.sets.reference_clips import filmed_frames, of_manifest
from goku_cli.filter.sampled import sample
from goku_cli.ingest.ingest import PROBE_VERSION, ingest
from goku_cli.ingest.rules import load_rules
from goku_cli.ingest.walk import find_media
from goku_cli.manifest.store import Manifest
from goku_cli.media.ffmpeg import write_video
from goku_cli.media.frames import read_frames
from goku_cli.media.probing.probe import probe
from goku_cli.split.settings import SplitSettings, WriteSettings
from goku_cli.split.split import PENDING, Job, split, split_source
from goku_cli.split.write import write_clips
from goku_cli.stage import Quiet

X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", 16, "-pix_fmt", "yuv420p", "-threads", 1)
FLAGGED = ("-flags", "+ildct+ilme", "-x264opts", "tff=1")
WOVEN = {"tff": ("interlace=scan=tff:lowpass=off", X264), "bff": ("interlace=scan=bff:lowpass=linear", X264)}
"""Order of the fields -> how 50 pictures a second become 25 frames."""


def moving(path, frames=100, speed=6.0, height=480):
    """A pan of 50 pictures a second."""
    write_video(path, shot(1, frames, height, 720, speed), fps=50, crf=12)
    return path


def woven(source, path, order="tff"):
    """The same as frames of two fields, which nothing in the file says."""
    weave, encode = WOVEN[order]
    ffmpeg("-i", source, "-vf", f"{weave},setfield=prog", *encode, path)
    return path


def comb(frame):
    """How much a line differs from those around it."""
    gray = frame.astype(float).mean(2)
    return float(np.abs(gray[1:-1] - (gray[:-2] + gray[2:]) / 2).mean())


def known(path):
    """What its row says of its fields."""
    facts = probe(path)
    return facts.interlaced, facts.fields


@pytest.mark.parametrize("order", ["tff", "bff"])
def test_fields_without_a_flag_are_seen_and_their_order_too(tmp_path, order):
    fast = moving(tmp_path / "fast.mp4")
    path = woven(fast, tmp_path / "woven.mp4", order)
    assert known(path) == (True, order) and known(fast) == (False, None)
    ffmpeg("-i", fast, "-vf", "fps=25", *X264, tmp_path / "plain.mp4")
    assert known(tmp_path / "plain.mp4") == (False, None)
    whole = max(comb(frame) for _, frame in read_frames(tmp_path / "plain.mp4"))
    raw = [frame for _, frame in read_frames(path)]
    assert min(map(comb, raw)) > 2 * whole
    made = list(read_frames(path, fields=order))
    assert [time for time, _ in made] == [time for time, _ in read_frames(path)]
    assert max(comb(frame) for _, frame in made[1:-1]) < 1.2 * whole
    wrong = "bff" if order == "tff" else "tff"
    wrongly = [frame for _, frame in read_frames(path, fields=wrong)]
    assert np.mean([comb(frame) for frame in wrongly]) > np.mean([comb(frame) for _, frame in made])


LINES = "geq=lum='128+100*sin((Y-N)*PI*{})':cb=128:cr=128"
PROGRESSIVE = {
    "fine lines that move a line a frame": f"nullsrc=size=720x480:rate=25:duration=2,{LINES.format(0.93)}",
    "lines of one pixel": "nullsrc=size=720x480:rate=25:duration=2,geq=lum='if(mod(Y+N,2),220,30)':cb=128:cr=128",
    "text": "testsrc2=size=720x576:rate=25:duration=2",
    "noise": "color=gray:size=720x480:rate=30000/1001:duration=2,noise=alls=60:allf=t",
    "still": "smptebars=size=720x480:rate=25:duration=2",
    "drawn": "mandelbrot=size=720x576:rate=25,trim=duration=2",
}


@pytest.mark.parametrize("what", PROGRESSIVE)
def test_what_is_progressive_stays_so(tmp_path, what):
    ffmpeg("-f", "lavfi", "-i", PROGRESSIVE[what], *X264, tmp_path / "a.mp4")
    assert known(tmp_path / "a.mp4") == (False, None)


def test_telecine_is_interlaced_too(tmp_path):
    film(tmp_path / "film.mp4", [(1, 72)], height=480, width=720, speed=8.0)
    ffmpeg("-i", tmp_path / "film.mp4", "-vf", "telecine=pattern=23,setfield=prog", *X264, tmp_path / "pulled.mp4")
    assert known(tmp_path / "pulled.mp4") == (True, "tff") and known(tmp_path / "film.mp4") == (False, None)


@pytest.mark.parametrize(("share", "interlaced"), [(0.5, True), (0.0, False)])
def test_a_film_that_is_interlaced_in_part_is_made_whole(tmp_path, share, interlaced):
    fast = moving(tmp_path / "fast.mp4", 200)
    from_here = round(100 * (1 - share))
    weave = "interlace=scan=tff:lowpass=off"
    parts = f"[0]split[a][b];[a]fps=25,trim=end_frame={from_here}[p];[b]{weave},trim=start_frame={from_here},"
    ffmpeg(
        "-i", fast, "-filter_complex", f"{parts}setpts=N/25/TB[i];[p][i]concat,setfield=prog", "-r", 25, *X264,
        "-g", 25, tmp_path / "mixed.mp4",
    )  # fmt: skip
    assert known(tmp_path / "mixed.mp4") == (interlaced, "tff" if interlaced else None)


def test_flags_are_believed_wherever_they_begin(tmp_path):
    fast = moving(tmp_path / "fast.mp4")
    weave = "interlace=scan=tff:lowpass=off"
    ffmpeg("-i", fast, "-vf", weave, *X264, *FLAGGED, tmp_path / "flagged.ts")
    ffmpeg("-i", fast, "-vf", "fps=25,setfield=prog", *X264, tmp_path / "plain.ts")
    both = "|".join(f"{tmp_path}/{name}.ts" for name in ("plain", "flagged"))
    ffmpeg("-i", f"concat:{both}", "-c", "copy", tmp_path / "late.ts")
    assert known(tmp_path / "flagged.ts") == known(tmp_path / "late.ts") == (True, None)


def test_a_manifest_of_an_older_goku_learns_it_when_its_files_are_ingested_again(tmp_path):
    (tmp_path / "raw").mkdir()
    woven(moving(tmp_path / "fast.mp4"), tmp_path / "raw" / "a.mp4")
    with Manifest(tmp_path / "m.duckdb", create=True) as opened:
        files = find_media([str(tmp_path / "raw")])
        ingest(opened, files, load_rules("none"), workers=1)
        opened.execute("UPDATE sources SET fields = NULL, interlaced = false")
        opened.execute("UPDATE receipts SET params = replace(params, ?, 'probe@3')", [PROBE_VERSION])
        split(opened, SplitSettings(), workers=1)
        (combed,) = opened.query("FROM clips")
        opened.insert("scores", [{"clip": combed["id"], "metric": "m", "value": 1.0}])
        assert ingest(opened, files, load_rules("none"), workers=1).done == 1
        assert opened.query("SELECT interlaced, fields FROM sources") == [{"interlaced": True, "fields": "tff"}]
        assert split(opened, SplitSettings(), workers=1).done == 1
        (whole,) = opened.query("FROM clips")
        assert whole["id"] != combed["id"] and not opened.query("FROM scores") and opened.verify() == []
        assert split(opened, SplitSettings(), workers=1).skipped == 1


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """A manifest with one film of fields, split, its clips written, and all of them selected."""
    folder = tmp_path_factory.mktemp("fields")
    (folder / "raw").mkdir()
    woven(moving(folder / "fast.mp4"), folder / "raw" / "a.mp4")
    with Manifest(folder / "m.duckdb", create=True) as opened:
        ingest(opened, find_media([str(folder / "raw")]), load_rules("none"), workers=1)
        split(opened, SplitSettings(min_similarity=-1.0), workers=1)
        write_clips(opened, folder / "cut", WriteSettings(crf=12), workers=1)
        opened.insert(
            "selections", [{"name": "all", "clip": row["id"], "weight": 1.0} for row in opened.query("FROM clips")]
        )
    return folder / "m.duckdb"


def looks(path):
    """Room -> frames that it sees of the clip."""
    with Manifest(path) as opened:
        (clip,) = opened.query("FROM clip_files")
        source, span = Path(clip["source_path"]), (clip["start_us"], clip["end_us"])
        (source_row,) = opened.query(PENDING)
        (piece,) = split_source(Job(source_row, SplitSettings(min_similarity=-1.0), 1)).insert["clips"]
        settings = EncodeSettings(size="480x720", frames=9, fps=25)
        keys = Clip(clip, most_key_frames=2).key_frames
        return {
            "split": [np.asarray(Image.open(io.BytesIO(piece["thumbnail"])))],
            "scores": sample(source, *span, clip["fields"]).frames,
            "captions": [np.asarray(Image.open(io.BytesIO(key.jpeg))) for key in keys],
            "tags": four_frames(clip).tensors["frames"],
            "latents": next(clip_windows(clip, settings, 4, 1))[1],
            "evaluation": next(filmed_frames(of_manifest(opened, "all"), 9, 25.0, Quiet())),
            "written": [frame for _, frame in read_frames(Path(clip["path"]))],
        }


def test_every_room_sees_whole_pictures(manifest):
    seen = looks(manifest)
    with Manifest(manifest) as opened:
        opened.execute("UPDATE sources SET fields = NULL")
    combed = looks(manifest)
    for room in seen.keys() - {"written"}:  # in small pictures two lines are one, so combs are blur
        pairs = list(zip(seen[room], combed[room], strict=True))[1:-1] or [(seen[room][0], combed[room][0])]
        assert np.mean([np.abs(one.astype(float) - other).mean() for one, other in pairs]) > 0.5, room
    whole = np.mean([comb(frame) for frame in seen["latents"][1:-1]])
    assert whole < 0.7 * np.mean([comb(frame) for frame in combed["latents"][1:-1]])
    assert np.mean([comb(frame) for frame in seen["written"][1:-1]]) < 1.3 * whole
