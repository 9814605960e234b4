"""The report: one page that needs nothing else, and that nothing it shows can break."""

import base64
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from films import film, jpeg
from PIL import Image, ImageSequence

from goku_cli.manifest.store import Manifest
from goku_cli.media.sample_files import enlarged, write_shown
from goku_cli.report.charts import histogram, plot
from goku_cli.report.funnel import funnel
from goku_cli.report.page import write_report
from goku_cli.report.pictures import player
from goku_cli.shapes.render import render
from goku_cli.shapes.scene import draw_scene

HOSTILE = '<script>alert(1)</script><img src="https://example.org/x.png">'


@pytest.fixture
def manifest(tmp_path):
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    log = [{"step": s, "loss": 1 / s} for s in range(1, 30)] + [{"step": 29, "held_out_loss": 0.1}]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, log)) + '\n{"step": 30, "lo')
    film(tmp_path / "sample.mp4", [(1, 9)])
    with Manifest(tmp_path / "m.duckdb", create=True) as opened:
        opened.begin_run("filter", {"tier": "480p", "scorers": {"motion": "dis"}})
        opened.end_run("ok", {}, 1.0)
        opened.insert(
            "sources", [{"id": "s", "kind": "video"}, {"id": "r", "kind": "video", "rejected": "duration 1 s < 4 s"}]
        )
        opened.insert("clips", [{"id": c, "source": "s", "thumbnail": jpeg()} for c in ("kept", "lost")])
        opened.insert("selections", [
            {"name": "480p", "clip": "kept", "weight": 1.0, "reason": None},
            {"name": "480p", "clip": "lost", "weight": 1.0, "reason": "motion 0.02 < 0.3"},
            {"name": "480p-balanced", "clip": "kept", "weight": 1.0, "reason": None},
        ])  # fmt: skip
        opened.insert(
            "scores", [{"clip": c, "metric": "motion", "value": v} for c, v in (("kept", 3.0), ("lost", 0.02))]
        )
        opened.insert("captions", [{"clip": "kept", "kind": "merged", "text": HOSTILE, "conflict": "given says red"}])
        opened.insert("tags", [{"clip": "kept", "primary": "human", "subcategory": "kid"}])
        opened.insert("samples", [{"id": "x", "name": "bench", "prompt": HOSTILE, "path": "sample.mp4", "seed": 1}])
        opened.insert(
            "results",
            [
                {
                    "name": "bench",
                    "suite": "shapes",
                    "metric": "strict",
                    "tag": "all",
                    "value": 0.5,
                    "n": 9,
                    "expected": 10,
                }
            ],
        )
        opened.begin_run("train", {})
        opened.end_run("ok", {"steps": 30}, 2.0, str(run))
        yield opened


def frames_of(uri):
    kind, data = uri.split(",", 1)
    assert kind == "data:image/webp;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    return image, np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)])


def moving(height, width, count, seed=0):
    scene = draw_scene(np.random.default_rng(seed), "motion", seconds=1.2, aspect=width / height)
    return render(scene, height=height, width=width, fps=24, frames=count)


def test_a_small_clip_plays_in_a_loop_at_its_own_pixels(tmp_path):
    small = moving(48, 80, 9)
    shown = player(write_shown(tmp_path, "a", enlarged(small), 8), 8)
    image, frames = frames_of(shown.source)
    assert (image.n_frames, image.info["loop"], image.info["duration"]) == (9, 0, 125)
    assert frames.shape == small.shape and np.abs(frames.astype(int) - small).mean() < 2
    assert (shown.width, shown.height, shown.sharp) == (160, 96, True)
    still = frames_of(shown.still)[1]
    assert np.array_equal(still, frames[4:5])
    exact = player(write_shown(tmp_path, "b", small, 8, form="tensor"), 8)
    assert np.array_equal(frames_of(exact.source)[1], small)  # nothing is lost


def test_a_large_clip_fits_the_page_and_takes_as_long(tmp_path):
    rough = np.random.default_rng(0).integers(0, 256, (97, 256, 448, 3), np.uint8)
    shown = player(write_shown(tmp_path, "a", rough, 24, form="tensor"), 24)
    image, frames = frames_of(shown.source)
    assert (image.n_frames, image.info["duration"]) == (49, 83)
    assert len(shown.source) < 1_000_000 and not shown.sharp and frames.shape[2] == 160
    assert (shown.width, shown.height) == (320, 184)


def test_an_image_stays_still_and_what_is_gone_is_left_out(tmp_path):
    shown = player(write_shown(tmp_path, "a", moving(48, 80, 1), 8), None)
    image, frames = frames_of(shown.source)
    assert not getattr(image, "is_animated", False) and frames.shape == (1, 48, 80, 3) and not shown.still
    assert player(tmp_path / "gone.mp4", 8) is None


def test_a_set_of_samples_has_a_page_of_its_own(manifest, tmp_path):
    manifest.insert("samples", [{"id": "y", "name": "other", "prompt": "b", "path": "sample.mp4", "checkpoint": "run"}])
    manifest.close()

    def show(*words):
        words = ["goku", "show", f"{manifest.path}#bench", *words]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    assert show("--html", str(tmp_path / "set.html")) == f"{tmp_path}/set.html\n"
    page = (tmp_path / "set.html").read_text()
    assert "<h1>bench</h1>" in page and page.count('src="data:image/webp') == 1 and "&lt;script&gt;" in page
    assert "sample.mp4" in show() and "strict" in show()
    told = json.loads(show("--json"))
    assert [row["path"] for row in told["samples"]] == ["sample.mp4"]
    assert told["results"]["shapes"][0]["all"] == 0.5


def test_the_funnel_counts(manifest):
    lines = [(step.label, step.count, step.kind) for step in funnel(manifest, "480p")]
    assert ("duration", 1, "lost") in lines and ("motion", 1, "lost") in lines
    assert ("kept by 480p", 1, "left") in lines and ("balanced", 1, "left") in lines


def test_the_page_is_self_contained_and_shows_everything(manifest, tmp_path):
    write_report(manifest, None, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    for heading in ("Funnel", "Training", "Samples", "Results", "Scores", "Classes", "Kept", "Dropped", "Runs"):
        assert f"<h2>{heading}</h2>" in page, heading
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert "<script" not in page and "&lt;script&gt;" in page
    assert not re.search(r'(src|srcset|href)="(?!data:)', page)
    assert page.count('src="data:image/webp') == 1 and "prefers-reduced-motion" in page
    assert "min 0.03" in page and "max 18" in page  # the tier's thresholds on the motion histogram


def test_an_empty_manifest_has_a_page_too(tmp_path):
    with Manifest(tmp_path / "e.duckdb", create=True) as empty:
        write_report(empty, None, tmp_path / "r.html")
    assert "<h2>Funnel</h2>" in (tmp_path / "r.html").read_text()


def test_a_browser_draws_it(manifest, tmp_path):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    write_report(manifest, None, tmp_path / "r.html")
    arguments = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=900,1200",
        f"--screenshot={tmp_path}/r.png",
    ]
    subprocess.run([chromium, *arguments, f"file://{tmp_path}/r.html"], check=True, capture_output=True, timeout=60)
    colors = Image.open(tmp_path / "r.png").convert("RGB").getcolors(1 << 20)
    assert len(colors) > 100


def test_histogram_keeps_every_value():
    chart = histogram("m", [0.0, 1.0, 1.0, 2.0], {"min": 1.0})
    assert sum(bar.count for bar in chart.bars) == 4 and chart.marks[0].label == "min 1"
    assert histogram("m", [3.0, 3.0], {}).bars[0].count == 2


def test_plot_ignores_what_is_not_finite():
    assert plot("p", {"loss": [(1, float("nan"))]}) is None
    assert plot("p", {"loss": [(1, 2.0), (2, float("inf")), (3, 1.0)]}).lines[0].last == 1.0
