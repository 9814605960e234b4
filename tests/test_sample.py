"""`goku sample` from the command line, on checkpoints with random weights."""

import json
import os
import queue
import shutil
import subprocess
from dataclasses import replace

import av
import numpy as np
import pytest
import torch
from alive import Alive
from chat_server import chat_server, count
from drawable import make_checkpoint
from in_process import goku
from PIL import Image
from safetensors.numpy import load_file

from goku_cli.errors import UsageError
from goku_cli.manifest.store import Manifest
from goku_cli.media.sample_files import read_about, read_shown
from goku_cli.model.network.packing import pack
from goku_cli.model.network.presets import model_config
from goku_cli.model.network.transformer import Goku
from goku_cli.model.vae.codec import codec_fingerprint
from goku_cli.model.vae.linear_codec import LinearCodec
from goku_cli.model.weights.checkpoint import finish
from goku_cli.publish import sha256
from goku_cli.sample.conditions import cropped_share
from goku_cli.sample.generate import THRESHOLDS, Generator
from goku_cli.sample.prompts import Wish, read_prompts, requests
from goku_cli.sample.ranks import _Silent, _Teller
from goku_cli.sample.request import Request
from goku_cli.sample.residence import Residence, activation_bytes, choose
from goku_cli.sample.settings import SampleSettings

QUICK = ("--steps", "2", "-m", "s.duckdb", "--json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawing")
    make_checkpoint(folder / "plain")
    make_checkpoint(folder / "i2v", image_condition=True)
    make_checkpoint(folder / "both", image_condition=True, last_frame=True)
    make_checkpoint(folder / "digits", classes=("one", "two"))
    Image.fromarray(np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (100, 1, 3))).save(folder / "wide.png")
    return folder


def rows(folder, name):
    with Manifest(folder / "s.duckdb", read_only=True) as manifest:
        return manifest.query("SELECT * FROM samples WHERE name = ? ORDER BY seed", [name.partition("#")[2]])


def draw(folder, checkpoint, *words):
    done = goku(folder, "sample", checkpoint, *QUICK, *words)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    return summary, rows(folder, summary["reference"])


@pytest.mark.parametrize(
    ("form", "suffix"), [("mp4", ".mp4"), ("gif", ".gif"), ("frames", ""), ("tensor", ".safetensors")]
)
def test_every_format_holds_the_frames_and_says_how_they_were_made(folder, form, suffix):
    _, (row,) = draw(folder, "plain", "-p", "a red circle", "--format", form, "--motion", "3")
    path = folder / row["path"]
    assert path.suffix == suffix
    assert read_shown(path).shape == (9, row["height"], row["width"], 3)
    if form == "mp4":
        with av.open(str(path)) as container:
            about = json.loads(container.metadata["comment"])
            assert (container.streams.video[0].codec.name, container.streams.video[0].pix_fmt) == ("h264", "yuv420p")
    else:
        about = read_about(path)
    assert (about["prompt"], about["text"]) == ("a red circle", "a red circle. motion score: 3.")
    assert about["settings"]["steps"] == 2
    assert about["weights"] == sha256(folder / "plain" / "ema.safetensors")


def test_the_same_seed_gives_the_same_bytes_and_what_is_there_is_not_drawn_again(folder):
    words = ("-p", "a cat", "-p", "a dog", "--count", "2", "--frames", "1", "--format", "tensor")
    first, before = draw(folder, "plain", *words)
    assert (first["drawn"], draw(folder, "plain", *words)[0]["drawn"]) == (4, 0)
    (folder / before[2]["path"]).unlink()
    again, after = draw(folder, "plain", *words)
    assert again["drawn"] == 1
    assert [row["latent_sha256"] for row in before] == [row["latent_sha256"] for row in after]
    assert len({row["latent_sha256"] for row in after}) == 4


@pytest.mark.parametrize("words", [(), ("--sequence", "2")], ids=["by data", "by sequence"])
def test_two_ranks_draw_what_one_does(folder, words):
    common = ("-p", "a cat", "-p", "a dog", "--count", "2", "--format", "tensor", "--solver", "heun")
    _, (one, *_) = draw(folder, "i2v", *common)
    wanted = {row["seed"]: load_file(folder / row["path"])["latent"] for row in draw(folder, "i2v", *common)[1]}
    with Manifest(folder / "s.duckdb") as manifest:
        manifest.execute("DELETE FROM samples WHERE name = ?", [one["name"]])
    summary, found = draw(folder, "i2v", *common, "--ranks", "2", *words)
    assert summary["drawn"] == 4
    for row in found:
        assert np.abs(load_file(folder / row["path"])["latent"] - wanted[row["seed"]]).max() < 1e-3


def test_of_ranks_that_share_a_pack_one_counts_its_steps():
    told = queue.Queue()
    for kind in (_Teller, _Silent):
        kind(told, os.getppid()).advance(3)
    assert [told.get_nowait() for _ in range(2)] == [("steps", 3), ("steps", 0)]


def test_a_first_frame_is_cropped_and_matters(folder):
    words = ("-p", "a cat", "--format", "tensor")
    done = goku(folder, "sample", "i2v", *QUICK, *words, "--image", "wide.png")
    assert "of wide.png was cropped to fit 48x80" in done.stderr
    with_image = rows(folder, json.loads(done.stdout)["reference"])
    assert draw(folder, "i2v", *words)[0]["drawn"] == 1
    both = rows(folder, json.loads(done.stdout)["reference"])
    assert len(with_image) == 1 and len({row["latent_sha256"] for row in both}) == 2


@pytest.mark.parametrize(("size", "lost"), [((48, 80), 1 / 6), ((80, 48), 0.7), ((50, 100), 0.0), ((100, 201), 0.0)])
def test_how_much_of_a_picture_is_cropped(folder, size, lost):
    """Of 100x200: at 48x80 all 100 rows and 500 / 3 columns are shown, at 80x48 all rows and 60 columns."""
    assert cropped_share(folder / "wide.png", *size) == pytest.approx(lost)


def test_a_last_frame_matters_too(folder):
    words = ("-p", "a cat", "--image", "wide.png", "--format", "tensor")
    draw(folder, "both", *words)
    _, found = draw(folder, "both", *words, "--last-image", "wide.png")
    assert len({row["latent_sha256"] for row in found}) == 2


def test_a_class_is_asked_for_by_its_name(folder):
    _, found = draw(folder, "digits", "-p", "one", "-p", "two", "--frames", "1")
    assert [row["prompt"] for row in found] == ["one", "two"]
    done = goku(folder, "sample", "digits", *QUICK, "-p", "twoo")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert 'no class "twoo" (did you mean "two"?)' in done.stderr


def test_prompts_come_from_a_pipe_line_by_line(folder):
    lines = 'a red circle\n\n{"prompt": "a blue square", "frames": 1, "seed": 7}\n'
    words = ("sample", str(folder / "plain"), *QUICK, "--solver", "midpoint", "--prompts", "-")
    done = subprocess.run(["goku", *words], cwd=folder, capture_output=True, text=True, input=lines)
    found = rows(folder, json.loads(done.stdout)["reference"])
    assert [(row["prompt"], row["seed"], row["frames"]) for row in found] == [
        ("a red circle", 0, 9),
        ("a blue square", 7, 1),
    ]


def test_a_server_rewrites_prompts_once(folder):
    with chat_server(folder) as url:
        words = ("-p", "a coat", "--frames", "1", "--rewrite", f"openai:{url}", "--rewrite-model", "good")
        _, (row,) = draw(folder, "plain", *words)
        asked = count(url)
        assert draw(folder, "plain", *words)[0]["drawn"] == 0
        assert count(url) == asked
    assert row["prompt"] == "a coat" and row["text"].startswith("A man in a red coat")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["plain", "-p", "x", "--frames", "6"], "--frames must be 4k+1, not 6; give 5 or 9"),
        (["plain", "-p", "x", "--size", "50x80"], "divisible by 16"),
        (["plain", "-p", "x", "--image", "wide.png"], "draws from text alone"),
        (["plain", "-p", "x", "--solver", "ddim"], "cannot sample a flow checkpoint"),
        (["plain", "-p", "x", "--guidance-interval", "0.9"], "two numbers"),
        (["plain", "-p", "x", "--format", "mp5"], 'did you mean "mp4"'),
        (["plain", "-p", "x" * 400], "the text encoder reads 256"),
        (["plain", "-p", "x", "--image-guidance", "2"], "takes a first frame"),
        (["plain", "-p", "x", "--ranks", "3", "--sequence", "2"], "does not divide"),
        (["plain", "-p", "x", "--ranks", "3", "--sequence", "3"], "take one of"),
        (["i2v", "-p", "x", "--image", "absent.png"], "cannot be read"),
        (["i2v", "-p", "x", "--image", "wide.png", "--frames", "1"], "--frames 1 draws images"),
        (["i2v", "-p", "x", "--image", "wide.png", "--last-image", "wide.png"], "takes no last frame"),
        (["both", "-p", "x", "--last-image", "wide.png"], "--last-image needs --image"),
        (["plain", "-p", "x", "--rewrite", "http://x"], "--rewrite takes openai:URL"),
        (["plain/vae", "-p", "x"], "no checkpoint at plain/vae"),
        (["plain", "--prompts", "wide.png"], "cannot read prompts"),
        (["plain", "--list", "x", "-p", "x"], "name that with --bench"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(folder, words, says):
    done = goku(folder, "sample", *words, "--steps", "2", "-m", "s.duckdb")
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert says in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_solver_that_does_not_suit_is_told_before_a_text_is_read(folder):
    """A large text encoder takes minutes."""
    generator = Generator.load(folder / "plain")
    generator.conditions = None
    with pytest.raises(UsageError, match="solver ddim cannot sample a flow checkpoint"):
        next(generator.generate([], SampleSettings(solver="ddim")))


@pytest.mark.parametrize(("noticed", "says"), [(True, "is not the VAE"), (False, "have 4 channels, those of")])
@pytest.mark.parametrize("ranks", ["1", "2"])
def test_a_vae_of_other_channels_is_told_before_any_weights_are_read(
    folder, tmp_path, monkeypatch, ranks, noticed, says
):
    other = shutil.copytree(folder / "plain", tmp_path / "other")
    LinearCodec.fit([torch.rand(3, 9, 48, 80) * 2 - 1], 4).save(other / "vae")
    config = json.loads((other / "config.json").read_text())
    if not noticed:
        config["data"]["codec_sha256"] = codec_fingerprint(other / "vae")
    (other / "config.json").write_text(json.dumps(config))
    (other / "COMPLETE.json").unlink()
    finish(other, tmp_path / "sealed")
    (tmp_path / "sealed" / "ema.safetensors").write_bytes(b"")
    monkeypatch.setattr("goku_cli.sample.work.draw_on_ranks", None)
    done = goku(folder, "sample", str(tmp_path / "sealed"), *QUICK, "-p", "x", "--ranks", ranks)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("x" * 8_001, ":2 has 8,001 characters"),
        ('{"promt": "a"}', 'unknown key "promt" (did you mean "prompt"?)'),
        ('{"prompt": ""}', 'has no "prompt"'),
        ('{"prompt"', "is not JSON"),
    ],
)
def test_a_line_that_is_no_prompt_is_named(tmp_path, line, says):
    (tmp_path / "list.txt").write_text("x" * 8_000)
    assert len(read_prompts(tmp_path / "list.txt")) == 1
    (tmp_path / "list.txt").write_text(f"a cat\n{line}\n")
    with pytest.raises(UsageError) as error:
        read_prompts(tmp_path / "list.txt")
    assert says in str(error.value)


def test_a_benchmarks_own_counts_frames_and_words_reach_the_requests():
    row = {"prompt": "a", "frames": 1, "count": 4, "metadata": {"tag": "t"}, "rewritten": "a long a"}
    found = requests([row], lambda prompt, seed, frames, size, **more: Request(prompt, seed, frames, **more),
                     Wish(seed=5, motion=2.0, bench="geneval"))  # fmt: skip
    assert [request.seed for request in found] == [5, 6, 7, 8]
    assert {(request.read, request.frames) for request in found} == {("a long a", 1)}
    assert json.loads(found[3].metadata) == {"bench": "geneval", "index": 0, "take": 3, "metadata": {"tag": "t"}}


@pytest.mark.parametrize("mode", ["none", "parts", "blocks"])
def test_what_waits_elsewhere_changes_nothing(folder, mode):
    """On a CPU nothing moves; what is tested is that every part gets its turn, and the hooks go with it."""
    usual, other = (Generator.load(folder / "plain") for _ in range(2))
    other._residence = Residence(torch.device("cpu"), mode)
    request, settings = usual.request("a cat", 0), SampleSettings(steps=2)
    (one,), (two,) = (list(generator.generate([request], settings)) for generator in (usual, other))
    assert torch.equal(one.latent, two.latent)
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in other.model.blocks)


def test_the_step_cache_is_as_bold_as_its_bound_allows(folder):
    generator, how = Generator.load(folder / "plain"), SampleSettings(steps=6)
    few = [generator.request("a cat", seed) for seed in range(6)]

    def latents(bound):
        return [clip.latent for clip in generator.generate(few, replace(how, cache=bound))]

    found = [generator.calibrate(few, replace(how, cache=bound)) for bound in (1e9, 0.1, 0.01, 1e-9)]
    assert found[0] == THRESHOLDS[0] and found == sorted(found, reverse=True) and 0 <= found[-1] < found[0]
    assert list(THRESHOLDS) == sorted(THRESHOLDS, reverse=True)
    drawn = zip(latents(0.0), latents(1e-9), strict=True)
    assert all(torch.equal(exact, careful) for exact, careful in drawn)


def test_what_a_pass_needs_beside_the_weights_is_not_more_than_is_foretold():
    measured, foretold = [], []
    for ffn_dim in (576, 1152):
        config = model_config("tiny", latent_channels=4, text_dim=96, ffn_dim=ffn_dim)
        model, given, t = Goku(config), pack([torch.randn(4, 2, 64, 32)], [torch.randn(30, 96)]), torch.rand(1)
        with torch.no_grad(), Alive([*model.parameters(), given.tokens, given.positions, given.text, t]) as alive:
            model(given, t)
        measured.append(alive.most)
        foretold.append(activation_bytes(config, len(given.tokens)))
        assert measured[-1] < foretold[-1] < 2 * measured[-1]
    assert measured[1] - measured[0] == pytest.approx(foretold[1] - foretold[0], rel=0.01)


@pytest.mark.parametrize(("free", "mode"), [(100, "none"), (65, "parts"), (30, "blocks")])
def test_what_does_not_fit_waits_in_the_hosts_memory(free, mode):
    sizes = {"text": 25, "transformer": 50, "vae": 5, "blocks": 2, "working": 10}
    assert choose("auto", **sizes, free=free) == mode
    with pytest.raises(UsageError, match="even with --offload blocks"):
        choose("auto", **sizes, free=20)
