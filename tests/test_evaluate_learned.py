"""Figures that rest on weights: their formulas against other definitions, and whole sets of real files."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import goku
from PIL import Image
from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3

from goku_cli.errors import GokuError, UsageError
from goku_cli.evaluate import protocols
from goku_cli.evaluate.run import samples_named
from goku_cli.evaluate.sample_scores import read_sample
from goku_cli.evaluate.sets import pretrained_metrics
from goku_cli.evaluate.sets.clip_score import eval_alignment
from goku_cli.evaluate.sets.fvd import eval_fvd
from goku_cli.evaluate.sets.image_metrics import eval_images, values
from goku_cli.evaluate.sets.inception_score import inception_score
from goku_cli.evaluate.sets.lpips_diversity import eval_diversity
from goku_cli.evaluate.sets.precision_recall import precision_recall
from goku_cli.evaluate.sets.reference_clips import fitted, of_folder, of_manifest
from goku_cli.manifest.store import Manifest
from goku_cli.media.ffmpeg import write_video
from goku_cli.publish import sha256
from goku_cli.stage import Quiet
from goku_cli.vision import i3d
from goku_cli.vision.clip import encoder
from goku_cli.vision.distances import Lpips
from goku_cli.vision.inception import Inception
from goku_cli.weights import I3D, INCEPTION, VGG16

SIZE = (24, 32)
RNG = np.random.default_rng(0)


def textures(count, frames=1, size=SIZE, seed=0):
    """Clips (T, H, W, 3) of soft noise, each of its own color."""
    rng = np.random.default_rng(seed)
    colors = rng.integers(40, 200, (count, 1, 1, 1, 3))
    return (colors + rng.integers(-30, 30, (count, frames, *size, 3))).astype(np.uint8)


def draw(manifest, clips, prompts=("a dog", "a cat"), name="set"):
    """Real files and rows of a set of samples, as goku sample would note them."""
    rows = []
    for seed, frames in enumerate(clips):
        suffix = "png" if len(frames) == 1 else "mp4"
        path = manifest.path.parent / f"{name}-{seed}.{suffix}"
        if len(frames) == 1:
            Image.fromarray(frames[0]).save(path)
        else:
            write_video(path, frames, fps=8.0)
        rows.append({
            "id": f"{name}{seed:03}", "name": name, "prompt": prompts[seed % len(prompts)], "seed": seed,
            "path": path.name, "frames": len(frames), "height": frames.shape[1], "width": frames.shape[2], "fps": 8.0,
            "checkpoint": "nowhere",
        })  # fmt: skip
    manifest.insert("samples", rows)
    return samples_named(manifest, name)[1]


@pytest.fixture
def manifest(tmp_path):
    with Manifest(tmp_path / "m.duckdb", create=True) as opened:
        opened.begin_run("eval", {})
        yield opened


class Small(torch.nn.Module):
    """A network that sees pictures or clips in a few numbers: means of quarters, and of colors."""

    dims = {"pool": 6, "spatial": 6, "logits": 6}
    implementation, license, sha256 = "small", "none", "0"

    def forward(self, x_N3HW):
        x = x_N3HW.double() / 255
        return torch.cat([x.mean((2, 3)), x.square().mean((2, 3))], 1)

    def __call__(self, pictures):
        if isinstance(pictures, torch.Tensor):
            return super().__call__(pictures)
        found = self.forward(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)).numpy()
        return dict.fromkeys(self.dims, found)


class SmallVideo:
    dims, frames, implementation, license, sha256 = 3, 16, "small", "none", "0"

    def __call__(self, clips):
        return np.stack([frames.mean((0, 1, 2)) for frames in clips]).astype(np.float32)


def test_inception_score_is_its_definition():
    logits = RNG.standard_normal((11, 4)) * 2
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wanted = []
    for part in (p[:5], p[5:10], p[10:]):
        mean = part.mean(0)
        divergences = [sum(x * np.log(x / mean[c]) for c, x in enumerate(row)) for row in part]
        wanted.append(np.exp(sum(divergences) / len(part)))
    assert inception_score(logits, 5) == pytest.approx(np.mean(wanted))
    assert inception_score(np.eye(7) * 1000) == pytest.approx(7)  # each sure of another class
    assert inception_score(np.ones((7, 5))) == pytest.approx(1)


def test_precision_and_recall_are_those_of_all_pairs():
    a, b = RNG.standard_normal((40, 3)), RNG.standard_normal((50, 3)) * 0.6 + 0.5

    def inside(points, balls):
        radii = [sorted(np.linalg.norm(x - y) for y in balls)[3] for x in balls]
        return np.mean([any(np.linalg.norm(p - x) <= r for x, r in zip(balls, radii, strict=True)) for p in points])

    found = precision_recall(a, b)
    assert found == pytest.approx((inside(a, b), inside(b, a)))
    assert 0.05 < found[0] < found[1] < 1
    assert precision_recall(a, a) == (1, 1) and precision_recall(a, a + 100) == (0, 0)


def test_fid_of_files_is_that_of_torchmetrics(manifest, tmp_path):
    ours, theirs = textures(20), textures(24, seed=1)
    rows = draw(manifest, ours)
    (tmp_path / "real" / "deep").mkdir(parents=True)
    for i, (frame,) in enumerate(theirs):
        Image.fromarray(frame).save(tmp_path / "real" / "deep" / f"{i}.png")
    (tmp_path / "real" / "torn.png").write_bytes(b"\x89PNG no more")
    (tmp_path / "real" / "notes.txt").write_text("no picture")
    names = ["fid", "sfid", "inception_score", "precision", "recall"]
    suite = eval_images(manifest, rows, of_folder(tmp_path / "real"), names, Small(), Quiet())
    other = FrechetInceptionDistance(feature=Small()).set_dtype(torch.float64)
    for frames, real in ((ours, False), (theirs, True)):
        other.update(torch.from_numpy(frames[:, 0]).permute(0, 3, 1, 2), real=real)
    value = {figure.metric: figure for figure in suite.figures}
    assert value["inception.fid"].value == pytest.approx(float(other.compute()), rel=1e-4)
    assert value["inception.fid"].value == value["inception.sfid"].value and value["inception.fid"].n == 20
    assert suite.notes == ["inception: against 24 real images, of 25, as 24x32"]

    itself = eval_images(manifest, rows, of_manifest(manifest, "set"), ["fid", "recall"], Small(), Quiet())
    assert [figure.value for figure in itself.figures] == pytest.approx([0, 1], abs=1e-9)


def test_recall_is_among_the_first_ten_thousand_real_images():
    real = np.zeros((10_500, 2), np.float32)
    real[10_000:] = 9.0
    ours = np.random.default_rng(0).standard_normal((8, 2)).astype(np.float32)
    assert values(["recall"], {"pool": ours}, {"pool": real}) == {"recall": 1.0}


def test_too_few_or_other_samples_are_refused_in_one_line(manifest):
    rows = draw(manifest, textures(5))
    real = of_manifest(manifest, "set")
    with pytest.raises(GokuError, match="fid needs at least 6 images on each side, not 5 and 5"):
        eval_images(manifest, rows, real, ["fid"], Small(), Quiet())
    with pytest.raises(GokuError, match="precision needs at least 4 images on each side, not 5 and 2"):
        eval_images(manifest, rows, real[:2], ["precision"], Small(), Quiet())
    (manifest.path.parent / "set-0.png").unlink()
    (manifest.path.parent / "set-1.png").unlink()
    with pytest.raises(GokuError, match="precision needs at least 4 images on each side, not 3 and 3"):
        eval_images(manifest, rows, real, ["precision"], Small(), Quiet())
    for path in manifest.path.parent.glob("set-*"):
        path.unlink()
    with pytest.raises(GokuError, match="inception_score needs at least 1 images on each side, not 0"):
        eval_images(manifest, rows, [], ["inception_score"], Small(), Quiet())
    with pytest.raises(UsageError, match="fvd looks at 16 frames, and 5 of 5 samples have fewer"):
        eval_fvd(manifest, rows, real, SmallVideo(), Quiet())
    with pytest.raises(UsageError, match="no images and no videos"):
        (manifest.path.parent / "empty").mkdir()
        of_folder(manifest.path.parent / "empty")


def test_the_network_is_that_of_torchmetrics_and_runs_no_program_from_its_file(image_weights, tmp_path, monkeypatch):
    pictures = textures(2, size=(40, 56))[:, 0]
    found = Inception()(list(pictures))
    theirs = NoTrainInceptionV3("inception", ["2048", "logits_unbiased"], str(INCEPTION.place), antialias=False)
    pool, logits = theirs.float().eval()._torch_fidelity_forward(torch.from_numpy(pictures).permute(0, 3, 1, 2))
    assert found["pool"] == pytest.approx(pool.numpy(), rel=1e-4, abs=1e-6)
    assert found["logits"] == pytest.approx(logits.numpy(), rel=1e-4, abs=1e-6)
    assert {kind: len(row[0]) for kind, row in found.items()} == Inception.dims
    assert np.ptp(found["spatial"], 0).max() > 0

    class Program:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    monkeypatch.setenv("GOKU_WEIGHTS", str(tmp_path))
    torch.save(Program(), INCEPTION.place)
    with pytest.raises(GokuError, match=r"holds no weights of Inception-v3; get them with: curl"):
        Inception()
    assert not (tmp_path / "ran").exists()


class Scripted(torch.nn.Module):
    def forward(self, x, rescale: bool = False, resize: bool = False, return_features: bool = False):
        assert rescale and resize and return_features
        return (x / 127.5 - 1).mean((2, 3, 4))


def test_i3d_is_only_the_known_file_and_fvd_reads_real_videos(manifest, tmp_path, monkeypatch):
    monkeypatch.setenv("GOKU_WEIGHTS", str(tmp_path))
    torch.jit.script(Scripted()).save(I3D.place)
    with pytest.raises(GokuError, match="is not StyleGAN-V's i3d_torchscript.pt, the only program"):
        i3d.VideoNet()
    monkeypatch.setattr(i3d, "SHA256", sha256(I3D.place))
    clips = textures(4, frames=17)
    net = i3d.VideoNet()
    assert net(list(clips[:, :16])) == pytest.approx(clips[:, :16].mean((1, 2, 3)) / 127.5 - 1, abs=1e-5)

    rows = draw(manifest, clips)
    folder = tmp_path / "real"
    folder.mkdir()
    for i, frames in enumerate([*textures(4, 17, (30, 30), seed=1), textures(1, 9)[0]]):
        write_video(folder / f"{i}.mp4", frames, fps=8.0)
    suite = eval_fvd(manifest, rows, of_folder(folder), SmallVideo(), Quiet())
    assert suite.figures[0].value > 0 and suite.figures[0].n == 4
    assert suite.notes == ["i3d: against 4 real clips, of 5, 16 frames at 8 fps"]  # one has nine
    with pytest.raises(GokuError, match="fvd needs at least 5 clips on each side, not 4 and 4"):
        five = SmallVideo()
        five.dims = 5
        eval_fvd(manifest, rows, of_folder(folder)[:4], five, Quiet())


def test_clip_score_is_the_cosine_with_its_prompt_and_is_kept(manifest, weights):
    clip, clips = encoder(), [*textures(2), *textures(2, frames=3)]
    words = [f"{word} " * count for word in ("a", "dog", "red") for count in (1, 5, 20, 60)]
    likely = (clip.images([frames[0] for frames in clips]) @ clip.texts(words).T).mean(0).argsort(descending=True)
    prompts = [words[i] for i in likely[:3]]  # random weights have most cosines below 0
    rows = draw(manifest, clips, prompts)
    (manifest.path.parent / rows[1]["path"]).unlink()
    for _ in range(2):
        suite = eval_alignment(manifest, "set", rows, Quiet())
    own, other = suite.figures
    assert (own.n, other.tag, len(own.weights), own.license) == (3, "mismatched", 64, "MIT")
    kept = {row["sample"]: row["value"] for row in manifest.query("SELECT * FROM sample_scores")}
    cosine_T = clip.images(list(read_sample(manifest.path.parent / rows[2]["path"], None))) @ clip.texts(prompts[2:]).T
    assert kept.keys() == {"set000", "set002", "set003"} and len(kept) == 3
    assert kept["set002"] == pytest.approx(100 * float(cosine_T.clamp(min=0).mean()), abs=1e-3)
    assert own.value > 0 and own.value != other.value
    assert own.value == pytest.approx(np.mean(list(kept.values())))
    with pytest.raises(GokuError, match="not one of 1 samples"):
        eval_alignment(manifest, "set", rows[1:2], Quiet())


def test_diversity_is_the_mean_over_pairs_of_a_prompt(manifest, image_weights):
    clips = textures(5, size=(64, 80))
    clips[3] = clips[1]  # the second prompt has collapsed
    rows = draw(manifest, clips)
    suite = eval_diversity(manifest, rows, Quiet())
    net = Lpips(VGG16.place)
    x = torch.from_numpy(clips[:, 0]).permute(0, 3, 1, 2).float() / 127.5 - 1
    pairs = [float(net(x[i : i + 1], x[j : j + 1])) for i, j in itertools.combinations((0, 2, 4), 2)]
    assert suite.figures[0].value == pytest.approx(np.mean(pairs) / 2, rel=1e-4) and suite.figures[0].n == 2
    assert min(pairs) > 0
    with pytest.raises(UsageError, match=r"no prompt has two; draw more with: goku sample --count 4"):
        eval_diversity(manifest, rows[:2], Quiet())


def test_a_protocol_is_beside_the_paper_only_when_it_is_whole(manifest, tmp_path, monkeypatch):
    draw(manifest, textures(9))
    path = manifest.path
    manifest.close()
    monkeypatch.setattr("goku_cli.vision.inception.Inception", Small)
    words = ["eval", str(path), "--bench", "imagenet256", "--real", f"{path}#set"]
    done = goku(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert "imagenet256: 9 of the 50,000 samples of Table 2, so nothing is put beside it" in done.stderr
    assert "inception.fid" not in done.stderr and "2.1572" not in done.stderr
    small = dataclasses.replace(protocols.PROTOCOLS["imagenet256"], samples=8)
    monkeypatch.setitem(protocols.PROTOCOLS, "imagenet256", small)
    done = goku(tmp_path, *words)
    assert "ImageNet 256x256 by class (Table 2)" in done.stderr and "2.157" in done.stderr
    assert (tmp_path / "m.set.imagenet256.svg").exists()
    with Manifest(path, read_only=True) as opened:
        row = opened.query("SELECT * FROM results WHERE metric = 'imagenet256.fid'")[0]
        assert (row["n"], row["expected"], row["found"], row["weights"]) == (8, 8, 9, "0")
    done = goku(tmp_path, *words, "--metric", "fid")
    assert (done.returncode, done.stdout) == (2, "") and "leave out --metric" in done.stderr


def test_real_pictures_keep_their_middle():
    frames = np.zeros((1, 40, 120, 3), np.uint8)
    frames[:, :, 40:80] = 200
    assert fitted(frames, 40, 120) is frames
    middle = fitted(frames, 20, 20)
    assert middle.shape == (1, 20, 20, 3) and middle.min() > 180


def test_the_command_says_what_is_missing_in_one_line(tmp_path, monkeypatch):
    with Manifest(tmp_path / "m.duckdb", create=True) as manifest:
        rows = draw(manifest, textures(2))
        with pytest.raises(UsageError, match="no real clips for fid, fvd; name them"):
            pretrained_metrics.eval_learned(manifest, "set", rows, ["fid", "fvd", "clip_score"], None, Quiet())
    monkeypatch.setenv("GOKU_WEIGHTS", str(tmp_path))
    for metric in ("inception_score", "clip_score", "fid"):
        done = goku(tmp_path, "eval", "m.duckdb", "--metric", metric, "--real", "m.duckdb#set")
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
        assert f"no weights at {tmp_path}" in done.stderr and "get them with: " in done.stderr
