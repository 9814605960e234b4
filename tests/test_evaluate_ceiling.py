"""The ceiling beside scores: real clips of the same prompts, through the codec that samples were drawn through."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from goku_cli.encode.settings import EncodeSettings
from goku_cli.evaluate.sample_scores import Wanted
from goku_cli.evaluate.shapes.ceiling import eval_ceiling, real_clip
from goku_cli.manifest.store import Manifest
from goku_cli.media.sample_files import as_drawn, enlarged, read_shown, write_shown
from goku_cli.model.vae.codec import codec_fingerprint
from goku_cli.model.vae.linear_codec import LinearCodec, to_unit
from goku_cli.model.weights.checkpoint import finish
from goku_cli.shapes.caption import parse_caption
from goku_cli.shapes.prompts import benchmark_prompts
from goku_cli.shapes.render import render
from goku_cli.shapes.scene import RADII, draw_scene
from goku_cli.stage import Quiet

PROMPTS = benchmark_prompts()
CONTROLS = ("codec", "chance", "mismatched")


@pytest.fixture(scope="module")
def codec():
    """As many channels as `goku encode-latents` fits, on clips of the world."""
    scenes = [draw_scene(np.random.default_rng(i), task, seconds=1, aspect=5 / 3) for i in range(4) for task in RADII]
    clips = (to_unit(render(scene, height=48, width=80, fps=8, frames=9)) for scene in scenes)
    return LinearCodec.fit(clips, EncodeSettings.channels)


def checkpoint_of(folder: Path, codec: LinearCodec) -> Path:
    """What of a checkpoint the ceiling reads: its config, and its codec."""
    temporary = folder.with_name(f".{folder.name}")
    (temporary / "vae").mkdir(parents=True)
    codec.save(temporary / "vae")
    data = {"codec": "vae", "codec_sha256": codec_fingerprint(temporary / "vae")}
    about = {"kind": "flow", "data": data, "model": {"latent_channels": codec.channels}}
    (temporary / "config.json").write_text(json.dumps(about))
    finish(temporary, folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(codec, tmp_path_factory):
    return checkpoint_of(tmp_path_factory.mktemp("runs") / "step-1", codec)


def draw(manifest, checkpoint, prompts=PROMPTS, seconds=1.0):
    """A set of grey samples, in colors for every third prompt, of 48x80."""
    rows = []
    for i, row in enumerate(prompts):
        frames = row["frames"] if row["frames"] == 1 else 4 * round(2 * seconds) + 1
        shown = np.full((frames, 48, 80, 3), 128, np.uint8)
        if i % 3 == 0 and seconds == 1:
            shown = real_clip(row["metadata"], height=48, width=80, fps=8, frames=frames)
        path = write_shown(manifest.path.parent, f"{i:02d}", shown, 8, form="tensor")
        rows.append({
            "id": f"{i:02}", "name": "set", "prompt": row["prompt"], "metadata": json.dumps({"seen": row["seen"]}),
            "seed": i, "path": path.name, "frames": frames, "width": 80, "height": 48, "fps": 8.0,
            "checkpoint": str(checkpoint), "text": row["prompt"], "settings": '{"tile": 0}',
        })  # fmt: skip
    manifest.insert("samples", rows)


def real():
    return real_clip(parse_caption("a red circle moving left slowly"), height=48, width=80, fps=8, frames=9)


def ceiling(manifest):
    rows = manifest.query("SELECT * FROM samples ORDER BY id")
    wanted = [Wanted(row, asked=parse_caption(row["prompt"])) for row in rows]
    found = eval_ceiling(manifest, wanted, {row["id"]: {} for row in rows}, Quiet())
    return {figure.metric: figure for figure in found.figures}, found.notes


def test_a_codec_that_keeps_more_has_a_higher_ceiling(codec, checkpoint, tmp_path):
    found = {}
    few = {name: x[:4].clone() if name.endswith("components") else x for name, x in codec.tensors.items()}
    coarse = checkpoint_of(tmp_path / "coarse", LinearCodec(few))
    for folder in (checkpoint, coarse):
        with Manifest(tmp_path / f"{folder.name}.duckdb", create=True) as manifest:
            draw(manifest, folder, PROMPTS[::3])
            found[folder], notes = ceiling(manifest)
            assert not notes
    assert real().tobytes() == real().tobytes()  # one prompt, always the same scene
    fine, rough = found[checkpoint], found[coarse]
    assert fine["shapes.strict"].tag == "codec" and fine["shapes.strict"].n == 28
    assert fine["shapes.shape"].value > 0.95 > 0.8 > rough["shapes.shape"].value
    assert fine["shapes.strict"].value > 0.9 > rough["shapes.strict"].value
    assert (
        fine["shapes.motion"].n == sum(row["tag"] == "motion" for row in PROMPTS[::3])
        and fine["shapes.strict"].low <= fine["shapes.strict"].value
    )


def test_what_has_no_ceiling_is_told_and_the_rest_has_one(checkpoint, tmp_path):
    with Manifest(tmp_path / "m.duckdb", create=True) as manifest:
        draw(manifest, checkpoint, PROMPTS[20:46], seconds=3)
        manifest.execute("UPDATE samples SET settings = NULL")  # as of a set that goku did not draw
        figures, (note,) = ceiling(manifest)
        assert note.startswith("shapes: the ceiling (codec) leaves out 6 prompts") and "no motion scene of 3 s" in note
        assert figures["shapes.motion"].n == 18 and figures["shapes.count"].n == 2
        manifest.execute("UPDATE samples SET frames = 7")
        assert "takes 4k+1 frames, not 7" in ceiling(manifest)[1][0]
        manifest.execute("UPDATE samples SET checkpoint = 'nowhere'")
        figures, (note,) = ceiling(manifest)
        assert (
            not figures
            and note == "shapes: no ceiling (codec): the checkpoint nowhere is gone; put it back and run again"
        )


def test_every_table_of_samples_shows_the_three_controls(checkpoint, tmp_path):
    path, page, report = tmp_path / "m.duckdb", tmp_path / "scores.html", tmp_path / "report.html"
    with Manifest(path, create=True) as manifest:
        draw(manifest, checkpoint)

    def goku(*words):
        return subprocess.run(["goku", *map(str, words)], capture_output=True, text=True, check=True)

    words = ("eval", path, "--bench", "shapes", "--metric", "black_share", "-j", "1")
    done = goku(*words, "--html", page)
    (header,) = [line for line in done.stderr.splitlines() if "unseen" in line]
    columns = [name.strip() for name in header.split("┃")]
    assert columns[:6] == ["metric", "all", "95 %", "n", "seen", "unseen"] and columns[-3:] == [*CONTROLS]
    told = json.loads(goku(*words, "--json").stdout)["shapes"]
    assert {f"shapes.strict/{name}" for name in ("all", "seen", "unseen", *CONTROLS)} <= told.keys()
    assert told["shapes.strict/chance"] < told["shapes.strict/all"] < told["shapes.strict/codec"]
    goku("show", path, "--html", report)
    for file in (page, report):
        text = file.read_text()
        places = [text.index(f'<th class="n">{name}</th>') for name in ("all", "seen", "unseen", *CONTROLS)]
        assert places == sorted(places)
    with Manifest(path) as manifest:
        runs = manifest.query("SELECT DISTINCT run FROM sample_scores WHERE metric LIKE 'shapes.codec.%'")
        assert len(runs) == 1  # what was measured is kept
        kept = manifest.query("SELECT low, high, n FROM results WHERE metric = 'shapes.strict' AND tag = 'codec'")
        assert kept[0]["n"] == 82 and 0.5 < kept[0]["low"] <= kept[0]["high"] <= 1


def test_small_samples_are_undone_to_their_own_pixels(tmp_path):
    frames = real()
    noise = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), np.uint8)
    for i, small in enumerate((frames, frames[:1], noise)):
        found = as_drawn(read_shown(write_shown(tmp_path, str(i), enlarged(small), 8)))
        assert found.shape == small.shape
        assert np.abs(found.astype(int) - small).mean() < 12
    large = real_clip(parse_caption("a red circle"), height=256, width=256, fps=8, frames=1)
    assert as_drawn(large) is large  # as large as an enlarged one of 64x64
