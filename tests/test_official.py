"""Official benchmarks: layouts of real samples, evaluators in real processes, their results, the paper's tables."""

import json
import os
import shutil
import sys
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_evaluators import fake_checkouts, fake_vbench
from PIL import Image
from typer.testing import CliRunner

from goku_cli.benches.prompts import bench_prompts
from goku_cli.cli.app import app
from goku_cli.errors import GokuError, UsageError
from goku_cli.evaluate.benchmarks.aggregate import DIMENSIONS, vbench_scores
from goku_cli.evaluate.benchmarks.coverage import Coverage, Take, covered
from goku_cli.evaluate.benchmarks.layouts import LAYOUTS, write_layout, write_npz
from goku_cli.evaluate.benchmarks.official_results import read_guided, read_results
from goku_cli.evaluate.benchmarks.plot import write_bars
from goku_cli.evaluate.benchmarks.published import beside
from goku_cli.evaluate.benchmarks.totals import keep
from goku_cli.manifest.store import Manifest
from goku_cli.media.sample_files import write_shown

VBENCH = [
    {"prompt_en": "a person is juggling - balls, fast", "dimension": ["human_action", "color"]},
    {"prompt_en": "a cat", "dimension": [d for d in DIMENSIONS if d not in ("human_action", "temporal_flickering")]},
    {"prompt_en": "A cat", "dimension": ["temporal_flickering"]},
    {"prompt_en": "a cat", "dimension": ["color"]},
]
TASKS = ["single_object", "two_object", "counting", "colors", "position", "color_attr"]
GENEVAL = [{"tag": task, "include": [{"class": "cat", "count": 1}], "prompt": f"a photo of {task}"} for task in TASKS]


@pytest.fixture
def lists(tmp_path):
    """The user's own short copies of the official lists."""
    folder = tmp_path / "lists"
    (folder / "dpg").mkdir(parents=True)
    (folder / "full.json").write_text(json.dumps(VBENCH))
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in GENEVAL))
    (folder / "dpg" / "whoops1.txt").write_text("A cat.")
    for category in ("color", "shape", "texture"):
        (folder / f"{category}_val.txt").write_text(f"a {category} cat\na {category} dog")
    return {"vbench": folder / "full.json", "geneval": folder / "metadata.jsonl", "dpg": folder / "dpg",
            "t2i-compbench": folder}  # fmt: skip


def drawn(folder, bench, file, *, takes=99):
    """Draw a benchmark's samples, plain grays that were read from other words; return the manifest's path."""
    prompts = bench_prompts(bench, file)
    rows = []
    for index, row in enumerate(prompts):
        for take in range(min(row["count"], takes)):
            frames = np.full((1 if row["frames"] else 5, 16, 16, 3), 40 * (take % 5), np.uint8)
            name = f"{index:03d}-{take:02d}"
            path = folder / "files" / f"{name}{'.png' if row['frames'] else '.mp4'}"
            if not row["frames"] and rows:
                shutil.copyfile(folder / rows[0]["path"], path)
            else:
                write_shown(folder / "files", name, frames, 8.0)
            asked = {"bench": bench, "index": index, "take": take, "metadata": row["metadata"]}
            rows.append({
                "id": name, "name": "set", "prompt": row["prompt"], "text": "in other words", "seed": len(rows),
                "metadata": json.dumps(asked), "path": f"files/{path.name}", "frames": len(frames), "width": 16,
                "height": 16, "fps": 8.0, "checkpoint": "runs/x/step-1", "sha256": name,
            })  # fmt: skip
    with Manifest(folder / "m.duckdb", create=True) as manifest:
        manifest.begin_run("sample", {})
        manifest.insert("samples", rows)
    return folder / "m.duckdb"


def goku_bench(command, path, bench, file, *words):
    return CliRunner().invoke(app, ["bench", command, bench, f"{path}#set", "--list", str(file), *map(str, words)])


def results(path):
    with Manifest(path) as manifest:
        rows = manifest.query("SELECT * FROM results")
    return {f"{row['metric']}/{row['tag']}": row for row in rows}


def test_vbench_gets_its_clips_by_the_list_s_own_words(tmp_path, lists):
    path = drawn(tmp_path, "vbench", lists["vbench"])
    done = goku_bench("export", path, "vbench", lists["vbench"], "--to", tmp_path / "out")
    assert done.exit_code == 0 and done.stdout == f"{path}#set\n"
    names = {f"{row['prompt_en']}-{i}.mp4" for row in VBENCH for i in range(25 if row["prompt_en"] == "A cat" else 5)}
    assert set(os.listdir(tmp_path / "out")) == names
    assert (tmp_path / "out" / "a cat-0.mp4").samefile(tmp_path / "files" / "001-00.mp4")
    again = goku_bench("export", path, "vbench", lists["vbench"], "--to", tmp_path / "out")
    assert isinstance(again.exception, UsageError) and "exists; remove it" in str(again.exception)


def test_three_prompts_that_lack_samples_are_named_and_the_others_counted():
    bare = Coverage("geneval", "set", [], 20, dict.fromkeys(("a", "b", "c"), 4), "goku sample")
    with pytest.raises(GokuError, match='20 samples of geneval: 4 of "a", 4 of "b", 4 of "c"; draw them'):
        bare.check()
    with pytest.raises(GokuError, match='lacks 20 of .* 4 of "a", 4 of "b", 4 of "c" and 2 more prompts; draw them'):
        replace(bare, missing=dict.fromkeys("abcde", 4)).check()


def test_missing_samples_are_listed_with_the_command_that_draws_them(tmp_path, lists):
    path = drawn(tmp_path, "vbench", lists["vbench"], takes=5)
    (tmp_path / "files" / "000-03.mp4").unlink()
    words = (path, "vbench", lists["vbench"], "--to", tmp_path / "out")
    said = str(goku_bench("export", *words).exception)
    assert 'set lacks 21 of 40 samples of vbench: 1 of "a person is juggling' in said and '20 of "A cat"' in said
    assert (
        f"goku sample runs/x/step-1 --bench vbench --list {lists['vbench']} -m {path}" in said and "--partial" in said
    )
    assert not (tmp_path / "out").exists()
    assert goku_bench("export", *words, "--partial").exit_code == 0
    assert len(os.listdir(tmp_path / "out")) == 14
    with Manifest(path) as manifest:
        with pytest.raises(
            UsageError, match="no samples of geneval; draw them with: goku sample CHECKPOINT --bench geneval -m"
        ):
            covered(manifest, "set", "geneval", bench_prompts("geneval"))
        with pytest.raises(UsageError, match="row 1 of the list of vbench is not"):
            covered(manifest, "set", "vbench", bench_prompts("vbench"))


def test_layouts_of_the_benchmarks_of_images(tmp_path, lists):
    for bench in ("geneval", "dpg", "t2i-compbench"):
        home = tmp_path / bench
        home.mkdir()
        assert (
            goku_bench("export", drawn(home, bench, lists[bench]), bench, lists[bench], "--to", home / "out").exit_code
            == 0
        )
    geneval = tmp_path / "geneval" / "out"
    assert json.loads((geneval / "00005" / "metadata.jsonl").read_text()) == GENEVAL[5]
    assert sorted(os.listdir(geneval / "00005" / "samples")) == ["0000.png", "0001.png", "0002.png", "0003.png"]
    grid = np.asarray(Image.open(tmp_path / "dpg" / "out" / "whoops1.png"))
    quarters = [grid[y : y + 16, x : x + 16] for y in (0, 16) for x in (0, 16)]
    assert grid.shape == (32, 32, 3) and [int(q.min()) for q in quarters] == [0, 40, 80, 120]
    compbench = tmp_path / "t2i-compbench" / "out"
    assert sorted(os.listdir(compbench)) == ["color", "shape", "texture"]
    assert (compbench / "shape" / "samples" / "a shape dog_000019.png").exists()
    with Manifest(tmp_path / "dpg" / "m.duckdb") as manifest:
        count = manifest.value("SELECT count(*) FROM samples")
    out = tmp_path / "images.npz"
    done = goku_bench("export", tmp_path / "dpg" / "m.duckdb", "guided-diffusion", lists["dpg"], "--to", out)
    images = np.load(out)["arr_0"]
    assert done.exit_code == 0 and images.shape == (count, 16, 16, 3) and images.dtype == np.uint8
    assert sorted(os.listdir(tmp_path / "dpg")) == ["files", "m.duckdb", "out"]


def take(file, prompt="a cat", number=0):
    return Take(0, number, prompt, {"id": "0", "category": "color", "number": 0}, file, "")


def test_what_an_evaluator_would_misread_is_refused(tmp_path):
    for name, size in (("a", (8, 8)), ("b", (8, 4)), ("c", (8, 4))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    square, wide, other = (tmp_path / f"{name}.png" for name in "abc")
    clip = tmp_path / "a.mp4"
    clip.write_bytes(b"")
    refusals = [
        ("vbench", [take(square)], "VBench reads clips"),
        ("vbench", [take(clip, "a/b")], "cannot be the name"),
        ("vbench", [take(clip, "a" * 300)], "too long"),
        ("geneval", [take(clip)], "reads images"),
        ("dpg", [take(wide), take(other)], "reads square images, these have 4x8"),
        ("dpg", [take(square), take(wide)], "images of one size are needed; there are 8x8"),
    ]
    for bench, takes, said in refusals:
        with pytest.raises(GokuError, match=said):
            write_layout(bench, takes, tmp_path / "out")
    with pytest.raises(GokuError, match="there are none"):
        write_npz([], tmp_path / "x.npz")
    (tmp_path / "a cat-0.mp4").write_bytes(b"")  # what a disk that knows no case would answer to "A cat-0.mp4"
    with pytest.raises(GokuError, match="differ by case alone"):
        LAYOUTS["vbench"]([take(clip)], tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["a cat-0.mp4", "a.mp4", "a.png", "b.png", "c.png"]


@pytest.mark.skipif(not Path("/dev/shm").exists(), reason="needs a second disk")
def test_samples_are_copied_where_they_cannot_be_linked(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"clip")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        write_layout("vbench", [take(tmp_path / "a.mp4")], Path(folder) / "out")
        assert (Path(folder) / "out" / "a cat-0.mp4").read_bytes() == b"clip"


@pytest.fixture
def vbench(tmp_path, lists, monkeypatch):
    """A set of clips, and the words that run a stand-in of VBench on it."""
    fake_vbench(tmp_path / "venv", VBENCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "venv"))
    path = drawn(tmp_path, "vbench", lists["vbench"])
    return path, (
        "vbench",
        lists["vbench"],
        "--python",
        sys.executable,
        "--tool",
        tmp_path / "venv" / "tool",
    )


def test_vbench_is_run_part_by_part_and_gives_its_total(vbench):
    path, words = vbench
    done = goku_bench("run", path, *words)
    assert done.exit_code == 0, done.stderr
    rows = results(path)
    for name, value in vbench_scores(dict.fromkeys(DIMENSIONS, 0.5)).items():
        assert rows[f"vbench.{name}/all"]["value"] == pytest.approx(value)
    color, flickering = rows["vbench.color/all"], rows["vbench.temporal_flickering/all"]
    assert (color["n"], color["found"], color["expected"], color["implementation"]) == (15, 15, 15, "vbench 0.1.5")
    assert (flickering["n"], flickering["expected"]) == (1, 5)  # of a prompt's clips the filter found one still
    assert rows["vbench.total/all"]["license"] == "Apache-2.0, CC-BY-NC-4.0"
    assert rows["vbench.semantic/all"]["license"] == "Apache-2.0"
    calls = path.with_suffix(".official") / "set" / "vbench" / "results" / "calls"
    assert sorted(calls.read_text().split()) == sorted(DIMENSIONS)
    assert "color was already there" in goku_bench("run", path, *words).stderr
    assert len(calls.read_text().split()) == 16
    with Manifest(path) as manifest:
        manifest.execute("UPDATE samples SET sha256 = 'another' WHERE id = '000-00'")
    assert "samples of set have changed" in goku_bench("run", path, *words, "--dims", "color").stderr
    assert calls.read_text().split()[16:] == ["color"] and list(results(path)) == ["vbench.color/all"]


def test_a_part_that_fails_hangs_or_leaves_nothing_is_told_and_the_others_are_kept(vbench, monkeypatch):
    path, words = vbench
    monkeypatch.setenv("FAKE", "scene:fail color:hang object_class:nothing")
    chosen = ("--dims", "scene,color,object_class,aesthetic_quality", "--timeout", "1")
    done = goku_bench("run", path, *words, *chosen)
    assert "3 of 4 parts of vbench failed (object_class, color, scene)" in str(done.exception)
    said = done.stderr
    assert "scene ended with exit code 1: out of memory; its log: " in said
    assert "color took longer than 1 s and was ended" in said and "object_class ended well and left no" in said
    assert "no quality, semantic, total of vbench: subject_consistency, " in said
    assert list(results(path)) == ["vbench.aesthetic_quality/all"]
    home = path.with_suffix(".official") / "set" / "vbench"
    with pytest.raises(ProcessLookupError):
        os.kill(int((home / "results" / "pid").read_text()), 0)
    assert "out of memory" in (home / "logs" / "scene.log").read_text()
    monkeypatch.setenv("FAKE", "")
    assert goku_bench("run", path, *words, *chosen[:2], "--timeout", "60").exit_code == 0
    assert len(results(path)) == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--dims", "colour"), 'unknown dimension "colour" (did you mean "color"?)'),
        (("--python", "/opt/none/bin/python"), "no interpreter /opt/none/bin/python"),
        (("--python", "true"), "has no vbench; install it there"),
        (("--tool", "/nowhere", "--dims", "temporal_flickering"), "there is no static_filter.py in /nowhere"),
    ],
)
def test_what_would_fail_is_found_before_anything_runs(vbench, words, said):
    path, known = vbench
    done = goku_bench("run", path, *known, *words)
    assert isinstance(done.exception, GokuError) and said in str(done.exception)


def test_benchmarks_of_images_are_run_from_their_checkouts(tmp_path, lists):
    tools = fake_checkouts(tmp_path / "tools")
    expected = {
        "geneval": {"geneval.overall/all": 0.75, "geneval.correct/colors": 0.75, "geneval.prompts/all": 1.0},
        "dpg": {"dpg.score/all": 75.0},
        "t2i-compbench": {f"t2i-compbench.{c}/all": 0.25 for c in ("color", "shape", "texture")},
    }
    for bench, figures in expected.items():
        home = tmp_path / bench
        home.mkdir()
        path = drawn(home, bench, lists[bench])
        words = (bench, lists[bench], "--python", sys.executable)
        assert "git clone https://github.com/" in str(goku_bench("run", path, *words).exception)
        done = goku_bench("run", path, *words, "--tool", tools[bench])
        assert done.exit_code == 0, (done.stderr, done.exception)
        rows = results(path)
        assert {name: rows[name]["value"] for name in figures} == figures
        assert all(row["found"] == row["expected"] > 0 for row in rows.values())


@pytest.mark.parametrize(("images", "whole"), [(20, True), (19, False)])
def test_compbench_wants_ten_images_of_each_prompt_of_a_category(tmp_path, images, whole):
    file = tmp_path / "color" / "annotation_blip" / "vqa_result.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps([{"question_id": i, "answer": "0.7"} for i in range(images)]))
    prompts = [{"tag": tag} for tag in ("color", "shape", "color")]
    (scored,) = read_results("t2i-compbench", [file], prompts, "T2I-CompBench")
    assert (scored.expected, scored.found, scored.whole) == (20, images, whole)


def test_checkouts_that_lack_what_they_download_are_refused(tmp_path, lists):
    tools = fake_checkouts(tmp_path / "tools")
    (tools["geneval"] / "mask2former.pth").unlink()
    (tools["dpg"] / "dpg_bench" / "dpg_bench.csv").unlink()
    for bench, said in (("geneval", "no detector in"), ("dpg", "no questions in")):
        (home := tmp_path / bench).mkdir()
        words = (bench, lists[bench], "--python", sys.executable, "--tool", tools[bench])
        assert said in str(goku_bench("run", drawn(home, bench, lists[bench]), *words).exception)


def test_geneval_is_summed_up_as_by_its_authors(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        {"tag": row["tag"], "correct": bool(rng.random() < 0.4), "metadata": json.dumps(row["metadata"])}
        for row in bench_prompts("geneval") for _ in range(4)
    ]  # fmt: skip
    file = tmp_path / "results.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Manifest(tmp_path / "m.duckdb", create=True) as manifest:
        found, note = keep(
            manifest, "set", "geneval", read_results("geneval", [file], bench_prompts("geneval"), "geneval")
        )
    ours = {f"{s.figure.metric}/{s.figure.tag}": s.figure.value for s in found}
    # summary_scores.py of djghosh13/geneval, line by line
    df = pd.read_json(file, orient="records", lines=True)
    assert ours["geneval.correct/all"] == pytest.approx(df["correct"].mean())
    assert ours["geneval.prompts/all"] == pytest.approx(df.groupby("metadata")["correct"].any().mean())
    task_scores = [task_df["correct"].mean() for _, task_df in df.groupby("tag", sort=False)]
    assert ours["geneval.overall/all"] == pytest.approx(np.mean(task_scores)) and note == ""


def test_results_of_other_machines_are_kept_part_by_part_and_no_total_is_made_of_some(tmp_path, lists):
    path = drawn(tmp_path, "vbench", lists["vbench"], takes=1)
    clips = [{"video_path": f"a cat-{i}.mp4", "video_results": 0.5} for i in range(10)]
    first, second = tmp_path / "a_eval_results.json", tmp_path / "b_eval_results.json"
    first.write_text(json.dumps({d: [0.5, clips[:5]] for d in DIMENSIONS if d != "color"}))
    second.write_text(json.dumps({"color": [0.25, clips]}))
    done = goku_bench("import", path, "vbench", lists["vbench"], "--from", first)
    assert "no semantic, total of vbench: color not scored" in done.stderr
    assert results(path)["vbench.quality/all"]["value"] == vbench_scores(dict.fromkeys(DIMENSIONS, 0.5))["quality"]
    done = goku_bench("import", path, "vbench", lists["vbench"], "--from", second)
    assert "no semantic, total of vbench: vbench.color saw 10 of 15 samples" in done.stderr
    assert len(results(path)) == 17 and "vbench.total/all" not in results(path)


@pytest.mark.parametrize(
    ("bench", "text"),
    [
        ("vbench", '{"colour": [0.5, []]}'), ("vbench", '{"color": 0.5}'), ("vbench", '{"color": [NaN, []]}'),
        ("vbench", "[]"), ("geneval", '{"tag": "colors"}'), ("geneval", ""), ("dpg", "Model: x\n"),
        ("t2i-compbench", '[{"question_id": 0, "answer": "0.7"}]'), ("dpg", None), ("geneval", "\xff" * 9999),
    ],
)  # fmt: skip
def test_what_is_no_result_is_refused(tmp_path, bench, text):
    file = tmp_path / "x_eval_results.json"
    if text is not None:
        file.write_bytes(text.encode("latin-1"))
    with pytest.raises(GokuError, match=r"is not what the tool of|is no number") as error:
        read_results(bench, [file], bench_prompts(bench), bench)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400 + len(str(file))


def test_a_run_stands_beside_the_paper(tmp_path, lists):
    path = drawn(tmp_path, "dpg", lists["dpg"])
    beside_paper = ["bench", "published", f"{path}#set"]
    assert "no figure that the paper has" in str(CliRunner().invoke(app, beside_paper).exception)
    scores, log = tmp_path / "dpg.txt", tmp_path / "evaluator.log"
    scores.write_text("whoops1.png, 1.0, 1.0, 1.0, 1.0, 1.0\nDPG-Bench score: 100.0\n")
    log.write_text("warming up\nInception Score: 200.5\nFID: 2.5\nsFID: 4.5\nPrecision: 0.8\nRecall: 0.5\n")
    assert goku_bench("import", path, "guided-diffusion", lists["dpg"], "--from", log).exit_code == 0
    assert goku_bench("import", path, "dpg", lists["dpg"], "--from", scores).exit_code == 0
    done = CliRunner().invoke(app, beside_paper)
    assert "4 samples; images of 16x16; 4 prompts read in other words" in done.stderr
    assert "83.65" in done.stderr and "83.5 DALL-E 3 (rewritten)" in done.stderr
    for key in ("images", "imagenet"):
        assert "Goku" in "".join(ET.parse(tmp_path / f"m.set.{key}.svg").getroot().itertext())
    with pytest.raises(GokuError, match="is not what evaluator.py"):
        read_guided(scores, 4)
    with pytest.raises(GokuError, match="cannot read"):
        read_guided(tmp_path / "gone", 4)


def test_less_is_better_where_it_is_and_names_are_text(tmp_path):
    log = tmp_path / "log"
    log.write_text("FID: 2.5\nInception Score: 200.5\n")
    name = "a $set$ <b> of \\mine_1"
    (table,) = beside([scored.figure for scored in read_guided(log, 50_000)], name)
    assert table.metrics == ["guided-diffusion.fid", "guided-diffusion.inception_score"]
    columns, lines = table.lines()
    assert columns[1] == name and lines[0][1] == 2.5 and lines[0][-1] == ""
    write_bars(table, tmp_path / "bars.svg")
    shown = "".join(ET.parse(tmp_path / "bars.svg").getroot().itertext())
    assert name in shown and "(less is better)" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("bench", "export", "shapes", "--to", "x"), 'no official evaluator for "shapes"'),
        (("eval", "--bench", "vbench"), "is scored by its own evaluator"),
        (("bench", "run", "guided-diffusion"), "is not run from here"),
    ],
)
def test_benchmarks_and_options_that_do_not_go_together_are_refused(tmp_path, lists, words, said):
    done = CliRunner().invoke(app, list(words), input=f"{drawn(tmp_path, 'dpg', lists['dpg'])}\n")
    assert isinstance(done.exception, UsageError) and said in str(done.exception)


def test_the_old_spelling_of_eval_works_and_names_the_new_one(tmp_path, lists):
    path = drawn(tmp_path, "vbench", lists["vbench"])
    words = [
        "eval",
        f"{path}#set",
        "--bench",
        "vbench",
        "--list",
        str(lists["vbench"]),
        "--export",
        str(tmp_path / "out"),
    ]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and "goku bench export|run|import|published" in done.stderr
