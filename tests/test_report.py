"""The report: one page that needs nothing else, and that nothing it shows can break."""

import json
import re
import shutil
import subprocess

import pytest
from films import film, jpeg
from PIL import Image

from goku_cli.manifest.store import Manifest
from goku_cli.report.charts import histogram, plot
from goku_cli.report.funnel import funnel
from goku_cli.report.page import write_report

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
            "results", [{"name": "bench", "suite": "shapes", "metric": "strict", "value": 0.5, "n": 9, "expected": 10}]
        )
        opened.begin_run("train", {})
        opened.end_run("ok", {"steps": 30}, 2.0, str(run))
        yield opened


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
    assert not re.search(r'(src|href)="(?!data:)', page)
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
