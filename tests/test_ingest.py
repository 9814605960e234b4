"""Ingest: what is found, what is one source, what a rule says, and what a sidecar may hold."""

import json
import os
import shutil

import pytest
from films import film, picture

from goku_cli.errors import GokuError, UsageError
from goku_cli.ingest.ingest import ingest, rejections
from goku_cli.ingest.rules import load_rules
from goku_cli.ingest.sidecar import Said, read_sidecar
from goku_cli.ingest.walk import find_media
from goku_cli.manifest.store import Manifest


@pytest.fixture
def manifest(tmp_path):
    with Manifest(tmp_path / "a.duckdb", create=True) as opened:
        yield opened


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    film(folder / "a.mp4", [(1, 24)])
    picture(folder / "p.png", 2)
    return folder


def run(manifest, *paths, rules="none"):
    return ingest(manifest, find_media(paths), load_rules(rules), workers=1)


def names(media):
    return [found.name.rpartition("/")[2] for found in media]


def test_walk_ends_in_loops_and_skips_what_is_not_meant(raw):
    (raw / "sub").mkdir()
    (raw / "sub" / "loop").symlink_to(raw)
    for name in (".hidden.mp4", "x.tmp-1234.mp4", "notes.txt", "sub/UPPER.PNG"):
        (raw / name).write_bytes(b"x")
    assert names(find_media([raw])) == ["a.mp4", "p.png", "UPPER.PNG"]


def test_folders_may_be_nested_deeper_than_calls(raw, monkeypatch):
    monkeypatch.chdir(raw)
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
    assert names(find_media([raw])) == ["a.mp4", "p.png"]
    assert names(find_media([f"{raw}/**/*.png"])) == ["p.png"]
    for _ in range(1200):  # pytest could not remove them
        os.chdir("..")
        os.rmdir("d")


def test_what_goku_wrote_itself_is_not_found(raw):
    (raw / "my.duckdb").touch()
    (raw / "my.files").mkdir()
    shutil.copy(raw / "a.mp4", raw / "my.files" / "b.mp4")
    assert names(find_media([raw])) == ["a.mp4", "p.png"]


def test_links_out_of_a_folder_are_followed_when_asked(manifest, raw, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.mp4").symlink_to(raw / "a.mp4")
    (tmp_path / "links" / "raw").symlink_to(raw)
    assert run(manifest, tmp_path / "links").failed == 2
    assert {row["cause"] for row in manifest.query("SELECT cause FROM failures")} == {"not a regular file"}
    assert names(find_media([tmp_path / "links"], follow_links=True)) == ["a.mp4", "a.mp4", "p.png"]


def test_a_folder_without_media_says_so(tmp_path):
    with pytest.raises(GokuError, match=r"no video .* in .*name another folder"):
        find_media([tmp_path])


def test_same_bytes_under_two_names_are_one_source(manifest, raw):
    shutil.copy(raw / "a.mp4", raw / "b.mp4")
    assert run(manifest, raw).done == 3
    assert manifest.value("SELECT count(*) FROM sources") == 2
    assert manifest.value("SELECT count(*) FROM source_paths") == 3
    assert run(manifest, raw).skipped == 3
    assert manifest.verify() == []


def test_a_changed_file_is_another_source(manifest, raw):
    run(manifest, raw)
    film(raw / "a.mp4", [(5, 24)])
    assert run(manifest, raw).done == 1
    assert manifest.value("SELECT count(*) FROM sources") == 2
    assert manifest.verify() == []


def test_a_moved_file_keeps_its_source(manifest, raw):
    run(manifest, raw)
    (raw / "a.mp4").rename(raw / "moved.mp4")
    run(manifest, raw)
    assert manifest.query("SELECT path FROM source_paths WHERE path LIKE '%.mp4'") == [{"path": str(raw / "moved.mp4")}]


def test_a_source_that_is_away_under_all_its_names_keeps_them(manifest, raw):
    shutil.copy(raw / "a.mp4", raw / "b.mp4")
    run(manifest, raw)
    for name in ("a.mp4", "b.mp4"):
        (raw / name).unlink()
    run(manifest, raw)
    assert manifest.value("SELECT count(*) FROM source_paths WHERE path LIKE '%.mp4'") == 2


def test_unreadable_files_are_failures(manifest, raw):
    (raw / "broken.mp4").write_bytes((raw / "a.mp4").read_bytes()[:500])
    bad = os.fsencode(raw) + b"/bad\xff.png"
    shutil.copy(raw / "p.png", bad)
    outcome = run(manifest, raw)
    assert (outcome.done, outcome.failed) == (2, 2)
    reasons = " ".join(row["reason"] for row in manifest.query("SELECT reason FROM failures"))
    assert "unreadable" in reasons and "not UTF-8" in reasons


def test_rules_reject_with_figure_and_threshold(manifest, raw):
    run(manifest, raw, rules="paper")
    rows = {row["kind"]: row["rejected"] for row in manifest.query("SELECT kind, rejected FROM sources")}
    assert rows == {"video": "duration 1 s < 4 s", "image": "short side 90 px < 256 px"}
    assert rejections(manifest) == [("duration", 1), ("short side", 1)]


def test_other_rules_measure_nothing_again(manifest, raw):
    run(manifest, raw, rules="paper")
    assert run(manifest, raw, rules="none").skipped == 2
    assert rejections(manifest) == []


def test_ntsc_passes_the_frame_rate_rule(manifest, raw):
    film(raw / "long.mp4", [(1, 100)])
    run(manifest, raw)
    rules = load_rules("paper")
    manifest.execute(
        "UPDATE sources SET fps = 24000 / 1001.0, width = 900, height = 500, bitrate = 1e6::BIGINT, "
        "duration_us = 4000000 WHERE kind = 'video'"
    )
    ingest(manifest, find_media([raw]), rules, workers=1)
    assert manifest.value("SELECT count(*) FROM sources WHERE kind = 'video' AND rejected IS NOT NULL") == 0


def test_unknown_rule_names_the_nearest(tmp_path):
    (tmp_path / "mine.toml").write_text("[video]\nmin_duraton = 4.0\n")
    with pytest.raises(UsageError, match=r'unknown key "min_duraton".*min_duration'):
        load_rules(str(tmp_path / "mine.toml"))
    with pytest.raises(UsageError, match=r'no recipe "papre".*did you mean "paper"'):
        load_rules("papre")


def read(path):
    said = Said()
    read_sidecar(said, str(path))
    return said


def test_sidecars(tmp_path):
    text, parts, whole, other = (tmp_path / name for name in ("a.txt", "b.json", "c.json", "d.json"))
    text.write_bytes(b"a red\x1b[31m circle\n\n" + b"y" * 9000)
    parts.write_text(json.dumps({"captions": [{"start": 0.5, "end": 2, "text": "a dog"}, {"text": "no time"}]}))
    whole.write_text(json.dumps({"caption": "a cat\u202e"}))
    other.write_text(json.dumps({"title": "something else", "url": "http://e.org", "license": "cc0"}))
    ((start, end, said),) = read(text).captions
    assert (start, end, len(said)) == (None, None, 4000) and said.startswith("a red[31m circle")
    assert read(parts).captions == [(500_000, 2_000_000, "a dog")]
    assert read(whole).captions == [(None, None, "a cat")]
    assert read(whole).wrong == ["what hides or turns text was left out of: a cat"]
    assert read(other) == Said(origin="http://e.org", license="cc0")
    other.write_text(json.dumps({"captions": [{"start": 0, "end": 1e300, "text": "for ever"}]}))
    assert "no text can be from 0.0 to 1e+300 s" in read(other).wrong[0]
    other.write_text("[" * 100_000)
    assert "d.json is not a caption file" in read(other).wrong[0]


def test_an_edited_sidecar_is_read_again(manifest, raw):
    (raw / "a.txt").write_text("first")
    run(manifest, raw)
    (raw / "a.txt").write_text("second one")
    assert run(manifest, raw).done == 1
    assert [row["text"] for row in manifest.query("SELECT text FROM sidecars")] == ["second one"]
