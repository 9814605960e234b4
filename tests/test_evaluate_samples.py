"""goku eval on sets of samples: what is counted, withheld and kept, and what two sets say of each other."""

import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
from encoded import make_encoded
from PIL import Image

from goku_cli.errors import GokuError, UsageError
from goku_cli.evaluate.compare import compare, pair_up
from goku_cli.evaluate.reconstruction import eval_vae
from goku_cli.evaluate.run import eval_samples, samples_named
from goku_cli.evaluate.sample_scores import STAGE
from goku_cli.evaluate.sets.distribution import eval_distances
from goku_cli.evaluate.sets.reference_clips import of_manifest
from goku_cli.evaluate.shapes.truth import read_truth
from goku_cli.manifest.store import Manifest
from goku_cli.report.page import write_scores
from goku_cli.report.scores import gather_scores
from goku_cli.shapes.prompts import benchmark_prompts
from goku_cli.stage import Quiet

PROMPTS = benchmark_prompts()


def draw(manifest, name="set", prompts=PROMPTS, shade=128):
    """A set of samples of one color each, as goku sample would note them."""
    rows = []
    for seed, row in enumerate(prompts):
        path = manifest.path.parent / f"{name}-{seed}.png"
        Image.fromarray(np.full((48, 80, 3), shade + seed % 5, np.uint8)).save(path)
        wanted = json.dumps({"metadata": row["metadata"], "seen": row["seen"]})
        rows.append({
            "id": f"{name}{seed:02}", "name": name, "prompt": row["prompt"], "metadata": wanted, "seed": seed,
            "path": path.name, "frames": row["frames"], "width": 80, "height": 48, "fps": 8.0, "checkpoint": "nowhere",
            "text": row["prompt"],
        })  # fmt: skip
    manifest.insert("samples", rows)


@pytest.fixture
def manifest(tmp_path):
    with Manifest(tmp_path / "m.duckdb", create=True) as opened:
        opened.begin_run("eval", {})
        yield opened


def evaluate(manifest, name="set", **options):
    manifest.run += 1
    name, rows = samples_named(manifest, name)
    suites = eval_samples(manifest, name, rows, progress=Quiet(), **options)
    return {suite.name: suite for suite in suites}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_total_is_over_the_tasks_that_were_drawn(manifest):
    counting = [row for row in PROMPTS if row["tag"] == "counting"]
    draw(manifest, prompts=counting)
    found = evaluate(manifest, bench_shapes=True)["shapes"]
    (total,) = (figure for figure in found.figures if (figure.metric, figure.tag) == ("shapes.strict", "all"))
    assert (total.n, found.expected) == (6, 6)
    assert "shapes: 6 prompts of the tasks counting; the others were not asked for" in found.notes
    manifest.execute("DELETE FROM samples WHERE seed = 0")
    found = evaluate(manifest, bench_shapes=True)["shapes"]
    assert not any(figure.tag == "all" for figure in found.figures) and found.expected == 6


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # one picture where nine frames were asked for
def test_a_total_needs_every_prompt_and_bad_files_are_failures(manifest):
    draw(manifest)
    root = manifest.path.parent
    kept = (root / "set-1.png").read_bytes()
    (root / "set-0.png").rename(root / "away.png")
    (root / "set-1.png").write_bytes(kept[:100])
    found = evaluate(manifest, bench_shapes=True)
    assert found["video"].coverage == "80 scored of 81 found of 82 expected"
    tags = {figure.tag for figure in found["shapes"].figures if figure.metric == "shapes.strict"}
    assert {"all", "seen"}.isdisjoint(tags) and {"unseen", "motion"} <= tags
    note, other = found["shapes"].notes
    assert (
        note.startswith("shapes: 2 prompts") and f'"{PROMPTS[0]["prompt"]}"' in note and "goku sample nowhere" in note
    )
    assert other.startswith("shapes: no ceiling (codec): the checkpoint nowhere is gone")
    failures = {row["item"]: row["cause"] for row in manifest.query("SELECT * FROM failures WHERE stage = ?", [STAGE])}
    assert failures.keys() == {"set00", "set01"} and failures["set00"] == "vanished"

    (root / "away.png").rename(root / "set-0.png")
    (root / "set-1.png").write_bytes(kept)
    found = evaluate(manifest, bench_shapes=True)
    assert found["shapes"].notes == [other]
    strict = {figure.tag: figure for figure in found["shapes"].figures if figure.metric == "shapes.strict"}
    assert (strict["all"].n, strict["all"].value, strict["all"].high) == (82, 0.0, 0.0)
    assert not manifest.query("SELECT * FROM failures")
    runs = manifest.query("SELECT DISTINCT sample, run FROM sample_scores ORDER BY run, sample")
    assert [row["sample"] for row in runs[-2:]] == ["set00", "set01"] and len(runs) == 82  # only those were read again


def test_a_sample_that_was_drawn_again_is_measured_again(manifest):
    draw(manifest, prompts=PROMPTS[:2])
    before = {f.metric: f.value for f in evaluate(manifest, metrics=["sharpness"])["video"].figures}
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 80, 3), np.uint8)).save(
        manifest.path.parent / "set-0.png"
    )
    manifest.run += 1
    manifest.execute("UPDATE samples SET run = ? WHERE id = 'set00'", [manifest.run])
    after = {f.metric: f.value for f in evaluate(manifest, metrics=["sharpness"])["video"].figures}
    assert before["video.sharpness"] == 0 and after["video.sharpness"] > 100
    manifest.execute("UPDATE samples SET sha256 = 'another'")
    with pytest.raises(GokuError, match=r"not one of 2 samples could be scored.*is not what was drawn"):
        evaluate(manifest, metrics=["black_share"])


def test_pairs_are_compared_and_the_others_counted(manifest):
    draw(manifest, "a", PROMPTS[:4])
    draw(manifest, "b", PROMPTS[1:4], shade=0)
    manifest.execute("UPDATE samples SET seed = seed + 1 WHERE name = 'b'")
    evaluate(manifest, "a")
    with pytest.raises(UsageError, match="has no scores yet"):
        compare(manifest, "a", manifest, "b")
    evaluate(manifest, "b")
    found = compare(manifest, "a", manifest, "b")
    assert (found.pairs, found.only_a, found.only_b) == (3, 1, 0)
    black = next(one for one in found.differences if one.metric == "video.black_share")
    assert (black.a, black.b, black.difference, black.low, black.high, black.n) == (0, 1, -1, -1, -1, 3)
    with pytest.raises(GokuError, match="no sample has a counterpart"):
        pair_up([], {}, [], {})


def test_the_page_shows_both_ends_and_escapes_what_it_shows(manifest, tmp_path):
    draw(manifest, prompts=PROMPTS[:3])
    manifest.execute("UPDATE samples SET prompt = '<script>alert(1)</script>'")
    evaluate(manifest)
    write_scores(gather_scores(manifest, "set", ["video: 3 <of> 3"], ["video.sharpness"]), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page and "&lt;script&gt;" in page and "3 &lt;of&gt; 3" in page
    assert page.count('src="data:image/webp') == 4 and "default-src 'none'" in page


def test_distances_and_vae_say_what_they_need(manifest):
    draw(manifest, prompts=[row for row in PROMPTS if row["frames"] == 1][:2])
    with pytest.raises(UsageError, match="these samples are images"):
        eval_distances(manifest, samples_named(manifest, "set")[1], [], Quiet())
    with pytest.raises(UsageError, match="goku encode-latents"):
        eval_vae(manifest, Quiet())


def test_decoded_latents_are_near_their_frames_and_a_lost_source_is_a_failure(tmp_path):
    with Manifest(make_encoded(tmp_path / "data", videos=2, images=2)) as manifest:
        encoder, suite = eval_vae(manifest, Quiet())
        value = {(f.metric, f.tag): f for f in suite.figures}
        assert value["vae.psnr", "all"].value > 25 and value["vae.ssim", "videos"].value > 0.7
        assert encoder == manifest.value("SELECT DISTINCT encoder FROM latents")
        footage = of_manifest(manifest, None)
        assert sorted(one.image for one in footage) == [False, False, True, True]
        assert all(one.path.exists() for one in footage)
        with pytest.raises(UsageError, match='no selection "nowhere"'):
            of_manifest(manifest, "nowhere")
        for row in manifest.query("SELECT DISTINCT source_path FROM clip_files JOIN latents ON clip = id"):
            Path(row["source_path"]).unlink()
        manifest.run = 1
        with pytest.raises(GokuError, match=f"{suite.scored} of {suite.scored} items failed"):
            eval_vae(manifest, Quiet())
        assert manifest.value("SELECT count(*) FROM failures WHERE stage = ?", [STAGE]) == suite.scored


def test_truth_of_members_of_a_tar_is_read_beside_them(manifest, tmp_path):
    (tmp_path / "film.json").write_text('{"shots": [], "cuts": []}')
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "film.json", "in/film.json")
    (tmp_path / "film.json").unlink()
    (tmp_path / "torn.json").write_text("{")
    items = {"kept.mp4": f"{tmp_path}/a.tar!in/film.mp4", "torn.mp4": f"{tmp_path}/torn.mp4", "x.mp4": "gone.tar!x.mp4"}
    manifest.insert("source_paths", [
        {"source": name, "path": str(tmp_path / name), "item": item} for name, item in items.items()
    ])  # fmt: skip
    assert read_truth(manifest) == {str(tmp_path / "kept.mp4"): {"shots": [], "cuts": []}}


def test_the_command_fails_under_a_floor_after_it_kept_what_it_measured(tmp_path):
    with Manifest(tmp_path / "m.duckdb", create=True) as manifest:
        draw(manifest, prompts=PROMPTS[:2])

    def run(*words):
        return subprocess.run(
            ["goku", "eval", str(tmp_path / "m.duckdb"), "-j", "1", *words], capture_output=True, text=True
        )

    done = run("--metric", "black_share", "--fail-under", "video.black_share=0.5", "--html", str(tmp_path / "p.html"))
    assert (done.returncode, done.stdout) == (1, f"{tmp_path}/m.duckdb#set\n")
    assert "--fail-under: video.black_share/all is 0, below 0.5" in done.stderr
    assert (tmp_path / "p.html").exists()
    done = run(
        "--metric", "black_share", "--compare", f"{tmp_path}/m.duckdb#set", "--fail-under", "video.black_share=0"
    )
    assert done.returncode == 0, done.stderr
    assert "compared: 2 pairs, 0 samples without a counterpart here, 0 there" in done.stderr
    done = run("--fail-under", "nonsense")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
