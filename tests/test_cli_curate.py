"""The commands as they are typed: one pipe from files to a balanced selection, and every mistake in one line."""

import json
import os
import shutil
import signal
import subprocess
import time

import duckdb
import pytest
from films import film, picture, table

from goku_cli.manifest.store import Manifest

TIER = """
[video]
[video.scores]
motion = { min = 0.1 }
[image]
[duplicates]
hash_distance = 6
color_distance = 4.0
"""
PIPE = (
    "goku ingest raw -m m/a.duckdb --rules none -j 1 | goku split -j 1 | goku filter --tier mine.toml -j 1"
    " | goku caption -j 1 | goku balance"
)


def furnish(folder):
    """Raw files and a lenient tier."""
    (folder / "raw").mkdir()
    film(folder / "raw" / "a.mp4", [(1, 40), (2, 40)])
    picture(folder / "raw" / "p.png", 3)
    (folder / "raw" / "a.txt").write_text("a dog on a beach")
    (folder / "mine.toml").write_text(TIER)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return furnish(tmp_path)


@pytest.fixture(scope="module")
def piped(tmp_path_factory):
    """A folder in which the pipe ran once, and what it said."""
    folder = furnish(tmp_path_factory.mktemp("piped"))
    return folder, subprocess.run(["bash", "-o", "pipefail", "-c", PIPE], capture_output=True, text=True, cwd=folder)


@pytest.fixture
def curated(piped, monkeypatch):
    monkeypatch.chdir(piped[0])
    return piped[0]


def shell(line):
    return subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True)


def test_the_whole_pipe_and_again(piped, curated):
    first = piped[1]
    assert (first.returncode, first.stdout) == (0, "m/a.duckdb#mine-balanced\n"), first.stderr
    rows = table(curated / "m" / "a.duckdb", "SELECT text FROM captions WHERE kind = 'merged' ORDER BY 1")
    assert len(rows) == 3 and rows[1][0].startswith("a dog on a beach. motion score:")
    before = dump(curated)
    again = shell(PIPE)
    assert again.returncode == 0 and "0 done" in again.stderr and "(unchanged)" in again.stderr
    assert dump(curated) == before
    assert shell("goku show m/a.duckdb --verify").returncode == 0


def dump(here):
    names = ("sources", "source_paths", "clips", "scores", "captions", "tags", "selections", "receipts")
    return [table(here / "m" / "a.duckdb", f"SELECT * FROM {name} ORDER BY ALL") for name in names]


def test_every_command_prints_its_reference(here):
    for line, said in (
        ("goku ingest raw/a.mp4 raw/p.png -m a.duckdb --rules none -j 1", "a.duckdb"),
        ("goku split a.duckdb -j 1", "a.duckdb"),
        ("goku filter a.duckdb --tier mine.toml -j 1", "a.duckdb#mine"),
        ("goku caption a.duckdb -j 1", "a.duckdb#mine"),
        ("goku balance a.duckdb#mine", "a.duckdb#mine-balanced"),
    ):
        done = shell(line)
        assert (done.returncode, done.stdout) == (0, said + "\n"), done.stderr
    summary = json.loads(shell("goku split a.duckdb --json").stdout)
    assert summary["reference"] == "a.duckdb" and summary["clips"] == 3 and summary["skipped"] == 2


def test_a_copy_leaves_the_original(here):
    shell("goku ingest raw -m a.duckdb --rules none -j 1")
    assert shell("goku split a.duckdb -o b.duckdb -j 1").stdout == "b.duckdb\n"
    assert table(here / "a.duckdb", "SELECT count(*) FROM clips") == [(0,)]
    assert table(here / "b.duckdb", "SELECT count(*) FROM clips") == [(3,)]


def test_looking(curated, tmp_path):
    assert "kept by mine" in shell("goku show m/a.duckdb").stdout
    assert json.loads(shell("goku show m/a.duckdb --json").stdout)["tables"]["clips"] == 3
    (row,) = json.loads(shell("goku show m/a.duckdb --json --sql 'SELECT min(id) AS id FROM clips'").stdout)
    assert row["id"] in shell(f"goku show m/a.duckdb --clip {row['id'][:8]}").stdout
    assert (
        shell("goku show m/a.duckdb --html r.html").stdout == "r.html\n" and (curated / "r.html").stat().st_size > 5000
    )
    copy = shutil.copy("m/a.duckdb", tmp_path)
    with duckdb.connect(copy) as damaged:
        damaged.execute("INSERT INTO scores (clip, metric) VALUES ('gone', 'm')")
    broken = shell(f"goku show {copy} --verify")
    assert broken.returncode == 1 and "scores of no known clip" in broken.stdout


def test_a_broken_file_is_a_row_and_strict_is_an_exit_code(here):
    (here / "raw" / "b.mp4").write_bytes(b"not a video")
    assert shell("goku ingest raw -m a.duckdb --rules none -j 1").returncode == 0
    assert "looks like text" in shell("goku show a.duckdb --failures").stdout
    assert shell("goku ingest raw -m a.duckdb --rules none -j 1 --strict").returncode == 1


def test_a_killed_ingest_goes_on(here):
    for seed in range(40):
        picture(here / "raw" / f"q{seed}.png", seed, height=400, width=600)
    line = ["goku", "ingest", "raw", "-m", "a.duckdb", "--rules", "none", "-j", "1"]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as victim:
        while not (here / "a.duckdb").exists():
            time.sleep(0.02)
        time.sleep(0.3)
        os.kill(victim.pid, signal.SIGKILL)
    assert subprocess.run(line, capture_output=True).returncode == 0
    assert table(here / "a.duckdb", "SELECT count(*), count(DISTINCT path) FROM source_paths") == [(42, 42)]
    assert shell("goku show a.duckdb --verify").returncode == 0


MISTAKES = {
    "goku ingest gone -m a.duckdb": (2, "no file or folder at gone"),
    "goku ingest empty -m a.duckdb": (1, "no video"),
    "goku ingest texts -m a.duckdb": (1, "no video"),
    "goku ingest raw -m empty": (2, "empty is a folder, not a manifest"),
    "goku ingest raw -m text.duckdb": (2, "text.duckdb is not a manifest"),
    "goku ingest raw -m a.duckdb --rules papr": (2, 'no recipe "papr"'),
    "goku split gone.duckdb": (2, "goku ingest FOLDER -m gone.duckdb"),
    "goku split newer.duckdb": (2, "pip install -U goku-cli"),
    "goku split fresh.duckdb": (1, "goku ingest FOLDER"),
    "goku filter fresh.duckdb": (1, "goku split fresh.duckdb"),
    "goku caption fresh.duckdb": (2, "goku filter --tier 480p"),
    "goku balance fresh.duckdb": (2, "goku filter --tier 480p"),
    "goku filter fresh.duckdb --tier 480": (2, "480p"),
    "goku filter fresh.duckdb --tier bad.toml": (2, 'unknown key "vidoe" (did you mean "video"?)'),
    "goku split fresh.duckdb --detector adaptve": (2, "adaptive"),
    "goku show fresh.duckdb --clip abc": (2, "no clip abc"),
    "goku show fresh.duckdb --sql 'DROP TABLE clips'": (2, "read-only"),
    "goku synth cubes out": (2, "known: shapes"),
    "true | goku split": (1, "the command before this one failed"),
}


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    """A folder with everything that can be mistaken for a manifest, a recipe or a folder of media."""
    folder = furnish(tmp_path_factory.mktemp("wrong"))
    for name in ("empty", "texts"):
        (folder / name).mkdir()
    (folder / "texts" / "a.txt").write_text("no media")
    (folder / "text.duckdb").write_text("this is no database" * 500)
    (folder / "bad.toml").write_text(TIER.replace("[video]", "[vidoe]", 1))
    for name in ("fresh", "newer"):
        Manifest(folder / f"{name}.duckdb", create=True).close()
    with duckdb.connect(str(folder / "newer.duckdb")) as newer:
        newer.execute("INSERT INTO schema_version VALUES (99, now()::TIMESTAMP)")
    return folder


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line(wrong, line, monkeypatch):
    monkeypatch.chdir(wrong)
    code, said = MISTAKES[line]
    done = shell(line)
    assert done.returncode == code, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout == ""
