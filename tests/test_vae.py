"""VAEs of diffusers as codecs, against diffusers itself: moments, frame counts, statistics, tiles and refusals."""

import json
import shutil

import diffusers
import pytest
import torch

from goku_cli.errors import GokuError, UsageError
from goku_cli.model.vae.codec import Statistics, codec_fingerprint, load_codec
from goku_cli.model.vae.diffusers_codec import DiffusersCodec

SMALL = {
    "AutoencoderKLWan": {
        "base_dim": 8, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1,
        "latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [0.5, 1.5, 2.0, 0.7],
    },
    "AutoencoderKLCogVideoX": {
        "block_out_channels": [8, 8, 8, 8], "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 2,
        "scaling_factor": 0.5, "shift_factor": 0.25,
    },
    "AutoencoderKLHunyuanVideo": {
        "block_out_channels": [8, 8, 8, 8], "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 2,
        "scaling_factor": 0.8,
    },
}  # fmt: skip
NAMES = list(SMALL)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Each class, small and random, and the folder that diffusers saved it to: Wan's in shards."""
    torch.manual_seed(0)
    found = {}
    for name, config in SMALL.items():
        model, folder = getattr(diffusers, name)(**config).eval(), tmp_path_factory.mktemp(name)
        model.save_pretrained(folder, max_shard_size="100KB" if name == "AutoencoderKLWan" else "1GB")
        found[name] = model, folder
    return found


@pytest.fixture(params=NAMES)
def vae(request, saved):
    return saved[request.param]


@pytest.fixture
def copied(saved, tmp_path):
    """A copy of HunyuanVideo's folder that a test may damage."""
    return shutil.copytree(saved["AutoencoderKLHunyuanVideo"][1], tmp_path / "vae")


def noise_clip(frames, height=32, width=48, seed=0):
    return torch.rand(3, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("groups", [0, 1, 2, 3])
def test_moments_and_frames_are_diffusers_own(vae, groups):
    model, folder = vae
    codec = load_codec(folder)
    assert isinstance(codec, DiffusersCodec)
    video = noise_clip(1 + groups * codec.period)
    found = codec.moments(video)
    with torch.no_grad():
        wanted = model.encode(video[None]).latent_dist
        frames = model.decode(wanted.mean).sample[0]
    assert torch.equal(found.mean_CTHW, wanted.mean[0])
    assert torch.equal(found.logvar_CTHW, wanted.logvar[0])
    assert found.mean_CTHW.shape == (codec.channels, 1 + groups * codec.period // 4, 4, 6)
    assert torch.equal(codec.decode(found.mean_CTHW), frames)
    assert frames.shape == video.shape


@pytest.mark.parametrize(("frames", "near"), [(6, {4: "5 or 9", 8: "1 or 9"}), (0, {4: "give 1", 8: "give 1"})])
def test_frames_that_would_be_lost_are_refused(vae, frames, near):
    codec = load_codec(vae[1])
    with pytest.raises(UsageError, match=near[codec.period]):
        codec.moments(noise_clip(frames))


def test_cogvideox_really_makes_other_frames_of_an_even_latent(saved):
    model, folder = saved["AutoencoderKLCogVideoX"]
    with torch.no_grad():
        assert model.decode(model.encode(noise_clip(5)[None]).latent_dist.mean).sample.shape[2] == 8
    with pytest.raises(UsageError, match="8k\\+1 frames, not 5; give 1 or 9"):
        load_codec(folder).check_frames(5)


def test_statistics_are_the_authors(saved):
    wan, cog, hunyuan = (load_codec(saved[name][1]).statistics for name in NAMES)
    assert wan == Statistics((0.1, -0.2, 0.3, 0.0), (0.5, 1.5, 2.0, 0.7))
    assert cog == Statistics((0.25,) * 4, (2.0,) * 4)
    assert hunyuan == Statistics((0.0,) * 4, (1.25,) * 4)
    z = torch.randn(4, 2, 3, 3)
    torch.testing.assert_close(hunyuan.normalize(z), z * 0.8)
    torch.testing.assert_close(wan.restore(wan.normalize(z)), z)
    with pytest.raises(UsageError, match="one positive deviation"):
        Statistics((0.0, 0.0), (1.0, 0.0))


def rewrite(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_statistics_that_change_nothing_are_none(copied):
    rewrite(copied, scaling_factor=1.0)
    assert load_codec(copied).statistics is None


def test_fingerprint_covers_weights_and_config_but_not_where_they_came_from(copied):
    before = codec_fingerprint(copied)
    rewrite(copied, _diffusers_version="9.9", _name_or_path="elsewhere")
    assert codec_fingerprint(copied) == before
    rewrite(copied, scaling_factor=0.9)
    other = codec_fingerprint(copied)
    assert other != before
    file = copied / "diffusion_pytorch_model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert codec_fingerprint(copied) not in (before, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers_per_block": 2}, r"not those of its config.json \(\S+ is missing, expected \(8"),
        ({"latent_channels": 8}, r"is \(\d+.*expected \(\d+"),
        ({"spatial_compression_ratio": 4}, "other strides than 4x8x8"),
        ({"norm_num_groups": 3}, "describes no AutoencoderKLHunyuanVideo"),
        ({"_class_name": "AutoencoderKL"}, 'unknown VAE "AutoencoderKL"'),
    ],
)
def test_vaes_of_another_architecture_are_refused(copied, changes, message):
    rewrite(copied, **changes)
    with pytest.raises(GokuError, match=message) as caught:
        load_codec(copied)
    assert "\n" not in str(caught.value)


def test_pickled_and_damaged_weights_are_refused(copied):
    file = copied / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(GokuError, match="damaged or cut short"):
        load_codec(copied)
    file.rename(copied / "diffusion_pytorch_model.bin")
    with pytest.raises(UsageError, match="is a pickle"):
        load_codec(copied)


@pytest.mark.parametrize("size", [(48, 64), (64, 80), (72, 136), (160, 104)])
def test_tiles_keep_shapes_and_small_pictures_whole(vae, size):
    folder = vae[1]
    whole, tiled = load_codec(folder), load_codec(folder, tile=64)
    video = noise_clip(1 + whole.period, *size)
    z, tiles = whole.moments(video).mean_CTHW, tiled.moments(video).mean_CTHW
    assert tiles.shape == z.shape
    assert tiled.decode(z).shape == video.shape
    if max(size) <= 64:
        assert torch.equal(tiles, z)
        assert torch.equal(tiled.decode(z), whole.decode(z))


@pytest.mark.parametrize("tile", [-64, 32, 100])
def test_impossible_tiles_are_refused(copied, tile):
    with pytest.raises(UsageError, match="multiple of 32"):
        load_codec(copied, tile)
