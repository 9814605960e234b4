"""No input stops a stage: every file of the bad corpus ends as the table says, through the real commands."""

import os
import shutil
import subprocess
import time

import pytest
from bad_media import ODD_NAMES, SECRET, build
from films import picture, table

from goku_cli.errors import Cause

FAILED = {
    Cause.EMPTY: ["empty.mp4"],
    Cause.NAME: ["names/\\xff.mp4"],
    Cause.NO_DECODER: ["encrypted.mp4", "photo.heic", "photo.jxl", "unknown_codec.mp4"],
    Cause.NO_VIDEO: ["cover_art.mp4", "cover_art_inside.mp4", "only_sound.mp4"],
    Cause.NOT_REGULAR: [f"special/{name}.mp4" for name in ("one", "outside", "pipe", "socket", "two")],
    Cause.NOT_MEDIA: [
        "address.mp4", "answer.mp4", "archive.mp4", "concat.mp4", "dash.mp4", "drawing.png", "notes.mp4", "page.mp4",
        "paper.mp4", "playlist.mp4", "session.mp4",
    ],
    Cause.TOO_LARGE: [
        "bomb.png", "lying_animated.gif", "lying_one_frame.gif", "pixel_bomb.mp4", "sparse.mp4", "thirty_hours.mkv",
    ],
    Cause.TRUNCATED: ["cut.jpg", "header_only.mkv"],
    Cause.UNREADABLE: [
        "checksum.png", "cut_index.mp4", "head_only.mp4", "no_samples.mp4", "random.mp4", "zeros.mp4",
    ],
    Cause.VANISHED: ["special/gone.mp4"],
}  # fmt: skip
PARTIAL = {
    Cause.TRUNCATED: ["cut_fragments.mp4", *(f"cut_good.{suffix}" for suffix in ("avi", "flv", "mkv", "mp4", "webm"))],
    Cause.SIDECAR: [f"said/{name}.png" for name in ("controls", "deep", "long", "no_json", "not_utf8", "numbers")],
}
FACTS = {
    "animated.gif": ("video", 320, 180, 10, 23.8),
    "animated.png": ("video", 320, 180, 6, 24),
    "animated.webp": ("video", 320, 180, 6, 24),
    "av1.mp4": ("video", 320, 180, 12, 24),
    "cmyk.jpg": ("image", 400, 300, 1, 0),
    "cut_good.mp4": ("video", 320, 180, 43, 24),
    "cut_good.ts": ("video", 320, 180, 44, 24),
    "damaged.mp4": ("video", 320, 180, 72, 24),
    "deep.png": ("image", 400, 300, 1, 0),
    "ffv1.mkv": ("video", 320, 180, 12, 24),
    "good.ts": ("video", 320, 180, 72, 24),
    "good.webm": ("video", 320, 180, 72, 24),
    "hdr10.mp4": ("video", 320, 180, 12, 24),
    "image_inside.mp4": ("image", 400, 300, 1, 0),
    "late.mkv": ("video", 320, 180, 72, 24),
    "late.ts": ("video", 320, 180, 72, 24),
    "longer_sound.mkv": ("video", 320, 180, 24, 24),
    "negative.mkv": ("video", 320, 180, 72, 24),
    "odd_size.mp4": ("video", 321, 181, 72, 24),
    "one_frame.gif": ("image", 320, 180, 1, 0),
    "one_frame.mp4": ("video", 320, 180, 1, 24),
    "rotated.mp4": ("video", 180, 320, 72, 24),
    "still.avif": ("image", 400, 300, 1, 0),
    "subtitled.avi": ("video", 320, 180, 72, 24),
    "thousand_fps.mp4": ("video", 320, 180, 42, 1000),
    "turned.jpg": ("image", 300, 400, 1, 0),
    "two_sizes.ts": ("video", 320, 180, 96, 24),
    "variable.mp4": ("video", 320, 180, 32, 11.46),
    "video_inside.jpg": ("video", 320, 180, 72, 24),
    "wide_pixels.mp4": ("video", 640, 180, 72, 24),
}
"""File -> kind, size as displayed, frames and rate; these also have `missing` 0, but for those in PARTIAL."""


def goku(*words, **options):
    return subprocess.run(["goku", *map(str, words)], capture_output=True, text=True, timeout=280, **options)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "bad"
    build(folder)
    return folder


@pytest.fixture(scope="module")
def ingested(corpus):
    manifest = corpus.parent / "bad.duckdb"
    started = time.monotonic()
    done = goku("ingest", corpus, "-m", manifest, "--rules", "none")
    return manifest, done, time.monotonic() - started


def named(corpus, rows):
    return {row[0].removeprefix(f"{corpus}/"): row[1:] for row in rows}


def test_the_command_ends_well_and_soon(ingested):
    _, done, seconds = ingested
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    assert seconds < 60


def test_every_file_ends_as_the_table_says(corpus, ingested):
    failures = named(corpus, table(ingested[0], "SELECT item, cause, partial FROM failures"))
    wanted = {name: (cause, False) for cause, names in FAILED.items() for name in names}
    wanted |= {name: (cause, True) for cause, names in PARTIAL.items() for name in names}
    assert failures == wanted
    files = [os.path.join(below, name) for below, _, names in os.walk(corpus) for name in names]
    media = [name for name in files if not name.endswith((".txt", ".json"))]
    places = table(ingested[0], "SELECT item FROM source_paths")
    assert len(places) + sum(len(names) for names in FAILED.values()) == len(media)


def test_odd_names_are_files_like_others(corpus, ingested):
    places = named(corpus, table(ingested[0], "SELECT item, source FROM source_paths"))
    assert {f"names/{name}" for name in ODD_NAMES} <= places.keys()
    assert len({places[name] for name in ("good.mp4", "same_bytes.mp4", "same_file.mp4")}) == 1
    assert not (corpus.parent / "x").exists()  # `$(touch x)` ran in no shell


def test_facts_are_right(corpus, ingested):
    sql = "SELECT item, kind, width, height, frames, fps FROM sources JOIN source_paths ON source = id"
    found = named(corpus, table(ingested[0], sql))
    assert {name: (*found[name][:4], pytest.approx(found[name][4], rel=0.01)) for name in FACTS} == FACTS


def test_times_missing_parts_and_kinds_of_picture_are_right(corpus, ingested):
    sql = "SELECT item, start_us, missing, hdr, bit_depth, variable_fps FROM sources JOIN source_paths ON source = id"
    found = named(corpus, table(ingested[0], sql))
    assert found["negative.mkv"][0] == -1_500_000
    assert found["late.mkv"][0] == 100_000_000_000
    assert {name for name in found if found[name][1]} == set(PARTIAL[Cause.TRUNCATED])
    assert found["cut_good.mp4"][1] == pytest.approx(29 / 72)
    assert {name for name in found if found[name][2]} == {"hdr10.mp4"} and found["hdr10.mp4"][3] == 10
    assert {name for name in found if found[name][4]} == {"variable.mp4"}


def test_nothing_of_the_canary_is_seen(ingested):
    manifest, done, _ = ingested
    assert SECRET not in done.stderr + done.stdout
    assert SECRET.encode() not in manifest.read_bytes()


def test_captions_of_good_sidecars_and_what_is_good_of_bad_ones(corpus, ingested):
    found = named(corpus, table(ingested[0], "SELECT item, text FROM sidecars"))
    assert found == {
        "said/controls.png": ("a red [31mbus",),
    }


def test_paper_rules_reject_what_is_cut(corpus, tmp_path):
    manifest = tmp_path / "a.duckdb"
    shutil.copy(corpus / "cut_good.mp4", tmp_path / "cut.mp4")
    (tmp_path / "mine.toml").write_text("[video]\nmax_missing = 0.0\n")
    assert goku("ingest", tmp_path / "cut.mp4", "-m", manifest, "--rules", tmp_path / "mine.toml").returncode == 0
    assert table(manifest, "SELECT rejected FROM sources") == [("missing 40.28 % > 0 %",)]


def test_what_may_not_be_read_says_so(tmp_path):
    shut = tmp_path / "shut"
    shut.mkdir()
    picture(tmp_path / "a.png", 1).chmod(0)
    picture(tmp_path / "b.png", 2)
    shut.chmod(0)
    capabilities = "-dac_override,-dac_read_search"
    unprivileged = ["setpriv", "--bounding-set", capabilities] if os.geteuid() == 0 else []
    if unprivileged and shutil.which("setpriv") is None:
        pytest.skip("root reads everything, and there is no setpriv")
    words = [*unprivileged, "goku", "ingest", str(tmp_path), "-m", str(tmp_path / "a.duckdb"), "--rules", "none"]
    done = subprocess.run(words, capture_output=True, text=True)
    shut.chmod(0o700)
    assert done.returncode == 0, done.stderr
    failures = named(tmp_path, table(tmp_path / "a.duckdb", "SELECT item, cause FROM failures"))
    assert failures == {"a.png": (Cause.PERMISSION,), "shut": (Cause.PERMISSION,)}


def test_split_takes_what_is_good(corpus, ingested):
    done = goku("split", ingested[0])
    assert (done.returncode, done.stderr.count("\n")) == (0, 2), done.stderr
    sql = "SELECT item, cause, partial FROM failures WHERE stage = 'split'"
    failures = {source: (cause, partial) for source, cause, partial in table(ingested[0], sql)}
    assert set(failures.values()) == {(Cause.DAMAGED, True)}
    places = named(corpus, table(ingested[0], "SELECT item, source FROM source_paths"))
    assert {places[name][0] for name in ("damaged.mp4", "cut_good.mp4")} <= failures.keys()
    assert table(ingested[0], "SELECT count(*) FROM receipts WHERE stage = 'split'") == table(
        ingested[0], "SELECT count(*) FROM sources"
    )
    assert SECRET.encode() not in ingested[0].read_bytes()
    sound = goku("show", ingested[0], "--verify")
    assert (sound.returncode, "sound" in sound.stdout + sound.stderr) == (0, True)


def test_failures_are_counted_by_cause_before_they_are_listed(ingested):
    shown = goku("show", ingested[0], "--failures")
    assert shown.returncode == 0
    counted, _, listed = shown.stdout.partition("failures")
    assert counted.startswith("causes") and "no decoder" in counted and "reason" in listed
