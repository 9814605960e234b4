"""Training a VAE: its losses against closed forms, resumption, and the command from files to a folder for diffusers."""

import json
import shutil
import subprocess
import tomllib

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from at_work import ranks_do
from diffusers import AutoencoderKLWan
from encoded import make_encoded
from safetensors.torch import load_file, save_file

from goku_cli.errors import GokuError, UsageError
from goku_cli.media.ffmpeg import write_image, write_video
from goku_cli.model.vae.codec import load_codec
from goku_cli.model.vae.diffusers_codec import build as build_vae
from goku_cli.recipe import build
from goku_cli.shapes.render import render
from goku_cli.shapes.scene import draw_scene
from goku_cli.train.recipe import Recipe
from goku_cli.train.tasks.discriminator import Adversary
from goku_cli.train.tasks.vae import TINY, VaeTask
from goku_cli.train.tasks.vae_init import begin
from goku_cli.train.tasks.vae_metrics import figures
from goku_cli.vision.distances import load_perceptual

RECIPE = """
kind = "vae"
[train]
steps = 4
tokens_per_step = 12
lr = 1e-3
[vae]
base_dim = 8
size = "32x48"
frames = 5
adversarial_weight = 0.1
adversarial_from = 1
discriminator_dim = 4
"""


def recipe(**changes):
    table = tomllib.loads(RECIPE)
    table["vae"] |= changes
    return build(Recipe, table, where="recipe")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Rows of one video, one image and one file that is gone."""
    folder, rows = tmp_path_factory.mktemp("clips"), []
    scene = draw_scene(np.random.default_rng(0), "motion", seconds=1.2)
    frames = render(scene, height=48, width=72, fps=24, frames=29)
    write_video(folder / "0.mp4", frames, fps=24)
    write_image(folder / "1.png", frames[0])
    for i, (name, end) in enumerate((("0.mp4", 29 * 1_000_000 // 24), ("1.png", 0), ("gone.png", 0))):
        rows.append({"clip": f"{i + 1:032x}"[::-1], "source_path": str(folder / name), "start_us": 0, "end_us": end})
    return pd.DataFrame(rows).assign(held_out=False, fields=None)


def steps_of(task, first, last):
    """Train the task without an engine; return the losses."""
    optimizer = torch.optim.SGD(task.model.parameters(), lr=1e-3)
    losses = []
    for step in range(first, last):
        (batch,) = task.prepare(step).batches
        loss = task.loss(task.model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_a_resumed_discriminator_goes_on_where_it_was(clips):
    whole = VaeTask(recipe(), clips, 0, 1)
    losses = steps_of(whole, 0, 5)
    assert {"mse", "kl", "perceptual", "adversarial", "discriminator"} <= whole.diagnose().keys()
    first, second = VaeTask(recipe(), clips, 0, 1), VaeTask(recipe(), clips, 0, 1)
    steps_of(first, 0, 3)
    second.model.load_state_dict(first.model.state_dict())
    second.load_state(first.state())
    second.go_to([3])
    assert steps_of(second, 3, 5) == losses[3:]


def test_the_loss_is_the_weighted_sum_of_what_is_told(clips):
    weights = {"perceptual": 0.5, "kl": 0.25, "adversarial": 2.0}
    names = {name: name if name == "kl" else f"{name}_weight" for name in weights}
    task = VaeTask(recipe(**{names[name]: weight for name, weight in weights.items()}), clips, 0, 1)
    (loss,) = steps_of(task, 2, 3)
    told = task.diagnose()
    assert all(told[name] for name in weights)
    assert loss == pytest.approx(told["mse"] + sum(weight * told[name] for name, weight in weights.items()), rel=1e-5)


def test_images_and_videos_are_seen_and_reported_apart(clips):
    task = VaeTask(recipe(), clips, 0, 1)
    assert [len(window) for window in task.images] == [1] and [len(window) for window in task.videos] == [5]
    assert task.evaluate(task.model.eval()).keys() == {
        "held_out_loss",
        "psnr_images",
        "psnr_videos",
        "ssim_images",
        "ssim_videos",
    }
    perfect = figures([torch.zeros(3, 5, 32, 48)], lambda clip: clip + 0.1, None)
    assert perfect["psnr_videos"] == pytest.approx(10 * np.log10(4 / 0.01))


def test_the_adversarial_term_pulls_as_strongly_as_the_reconstruction():
    torch.manual_seed(0)
    adversary = Adversary(4, 1e-3, torch.device("cpu"))
    real = torch.rand(2, 3, 5, 32, 48) * 2 - 1
    made = (real / 2).requires_grad_()
    reconstruction = (made - real).abs().mean()
    term = adversary.term(made, reconstruction)
    norms = [torch.autograd.grad(x, made, retain_graph=True)[0].norm() for x in (term, reconstruction)]
    torch.testing.assert_close(*norms)
    losses = [float(adversary.learn(real, made)) for _ in range(30)]
    assert losses[0] == pytest.approx(2, abs=0.5)
    assert losses[-1] < losses[0]
    assert adversary.model(real[:, :, :1]).shape == (2, 1, 1, 4, 6)


def learn_apart(rank, folder):
    """Let this rank's discriminator begin with other weights and see other clips than the other's."""
    generator = torch.Generator().manual_seed(rank)
    torch.manual_seed(rank)
    adversary = Adversary(4, 1e-2, torch.device("cpu"))
    weights = list(adversary.model.parameters())
    for _ in range(3):
        clips = torch.rand(2, 1, 3, 1, 16, 16, generator=generator)
        real, made = (adversary.model(x) for x in clips)
        own = torch.autograd.grad((1 - real).relu().mean() + (1 + made).relu().mean(), weights)
        adversary.learn(*clips)
    save_file(adversary.state(), folder / f"{rank}.safetensors")
    gradients = {f"own {i}": x for i, x in enumerate(own)} | {f"shared {i}": p.grad for i, p in enumerate(weights)}
    save_file(gradients, folder / f"gradients-{rank}.safetensors")


def test_two_ranks_have_one_discriminator(tmp_path):
    ranks_do(2, learn_apart, tmp_path)
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    here, there = (load_file(tmp_path / f"gradients-{rank}.safetensors") for rank in range(2))
    for i in range(len(here) // 2):  # what it learns from is the mean of what both saw
        torch.testing.assert_close(here[f"shared {i}"], (here[f"own {i}"] + there[f"own {i}"]) / 2)


def test_latents_carry_the_picture_from_the_first_steps_on():
    """Began with PyTorch's own weights, this gives one gray for all pictures: 0.7 dB more than their mean."""
    torch.manual_seed(0)
    vae = build_vae(TINY | {"base_dim": 8, "z_dim": 16})
    begin(vae)
    torch.manual_seed(0)
    colors = torch.rand(16, 3, 1, 1, 1) * 2 - 1
    pictures = torch.cat([x.expand(-1, -1, 1, 16, 16) for x in (colors, colors.roll(1, 0))], dim=4)
    optimizer = torch.optim.Adam(vae.parameters(), lr=2e-3)
    for _ in range(40):
        posterior = vae.encode(pictures).latent_dist
        error = (vae.decode(posterior.sample()).sample - pictures).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    blind = (pictures - pictures.mean(0)).square().mean()
    assert 10 * torch.log10(blind / error) > 5


@pytest.fixture(params=["ssim", "alexnet", "vgg16"])
def perceptual(request, tmp_path):
    if request.param == "ssim":
        return load_perceptual("ssim")
    torch.manual_seed(0)
    weights = getattr(torchvision.models, request.param)(weights=None).features.state_dict()
    torch.save({f"features.{name}": x for name, x in weights.items()}, tmp_path / "weights.pth")
    return load_perceptual(f"lpips:{tmp_path}/weights.pth")


def test_perceptual_distances_are_zero_for_equals_and_lead_back(perceptual):
    wanted = torch.rand(2, 3, 48, 64) * 2 - 1
    assert float(perceptual(wanted, wanted)) == pytest.approx(0, abs=1e-6)
    made = (wanted + 0.3 * torch.randn_like(wanted)).clamp(-1, 1).requires_grad_()
    distance = perceptual(made, wanted)
    distance.backward()
    assert distance > 0
    with torch.no_grad():
        assert perceptual(made - 1e-2 * made.grad / made.grad.abs().mean(), wanted) < distance


def test_lpips_is_reported_only_when_it_is_there(perceptual):
    found = figures([torch.zeros(3, 1, 48, 64)], lambda clip: clip + 0.1, perceptual)
    assert ("lpips_images" in found) == ("Lpips" in type(perceptual).__name__)


def test_other_weights_are_no_lpips(tmp_path):
    torch.save({"x": torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(GokuError, match="no weights of torchvision's vgg16"):
        load_perceptual(f"lpips:{tmp_path}/other.pth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"perceptual": "lpips:absent.pth"}, "no weights at absent.pth; get them with: curl"),
        ({"perceptual": "lpisp"}, 'must be ssim, none or lpips:FILE, not "lpisp"'),
        ({"frames": 8}, "4k\\+1"),
        ({"size": "50x80"}, "divisible by 16"),
        ({"discriminator_dim": 6}, "multiple of 4"),
        ({"kl": -1.0}, "kl must be 0 or more"),
        ({"fps": 0.0}, "fps must be positive"),
        ({"image_share": 2.0}, "between 0 and 1"),
    ],
)
def test_bad_values_are_one_line(changes, message):
    with pytest.raises(UsageError, match=message):
        recipe(**changes)


def test_train_resume_and_load_in_diffusers(tmp_path):
    make_encoded(tmp_path, videos=1, images=2)
    (tmp_path / "vae.toml").write_text(RECIPE.replace("[train]", "[train]\nsave_every = 2\nlog_every = 1"))

    def train():
        words = ["goku", "train", "vae.toml", "small.duckdb", "--ranks", "1", "--json"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        summary = json.loads(done.stdout)
        lines = (tmp_path / summary["reference"]).parent.joinpath("metrics.jsonl").read_text().splitlines()
        return summary, [line["loss"] for line in map(json.loads, lines) if "loss" in line]

    summary, losses = train()
    assert {"psnr_videos", "ssim_videos", "held_out_loss_untrained"} <= summary.keys()
    folder = tmp_path / summary["reference"]
    state = json.loads((folder / "state.json").read_text())
    shutil.rmtree(folder)
    assert train()[1] == [*losses, *losses[2:]]
    again = json.loads((folder / "state.json").read_text())
    for what in ("step", "position", "optimizer_steps", "spikes", "rollbacks"):
        assert again[what] == state[what]
    codec, theirs = load_codec(folder), AutoencoderKLWan.from_pretrained(folder)
    assert codec.statistics is None
    video = torch.rand(3, 5, 32, 48) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(codec.moments(video).mean_CTHW, theirs.encode(video[None]).latent_dist.mean[0])
