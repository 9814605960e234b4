"""`goku convert` against diffusers: a small random Wan pipeline goes in, is drawn with, and comes out again."""

import copy
import json
import shutil
from dataclasses import replace

import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import ByT5Tokenizer, UMT5Config, UMT5EncoderModel
from typer.testing import CliRunner

from goku_cli.cli.app import app
from goku_cli.convert.convert import convert
from goku_cli.convert.exported import vae_config
from goku_cli.errors import GokuError, UsageError
from goku_cli.manifest.store import Manifest
from goku_cli.model.network.packing import pack, unpack
from goku_cli.model.objective.noise import noise
from goku_cli.model.text.encoders import load_text_encoder
from goku_cli.model.vae.codec import Statistics, codec_fingerprint, load_codec
from goku_cli.model.vae.linear_codec import LinearCodec
from goku_cli.model.weights import checkpoint
from goku_cli.model.weights.wan import config_from_wan, config_to_wan
from goku_cli.sample.generate import Generator, Request, SampleSettings

SHIFT = 3.0
STEPS = 4


@pytest.fixture(scope="module")
def pipeline():
    """A Wan pipeline of every part, small and random."""
    torch.manual_seed(0)
    transformer = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=20, in_channels=4, out_channels=4, text_dim=24, ffn_dim=64,
        num_layers=2,
    )  # fmt: skip
    for name, parameter in transformer.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.1)
    vae = AutoencoderKLWan(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[0.5, 1.5, 2.0, 0.7],
    )  # fmt: skip
    text = UMT5EncoderModel(UMT5Config(vocab_size=384, d_model=24, d_kv=8, d_ff=32, num_heads=2, num_layers=1))
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT)
    made = WanPipeline(ByT5Tokenizer(extra_ids=0), text.eval(), vae, scheduler, transformer)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def published(pipeline, tmp_path_factory):
    """Its folder, as from the hub: the transformer in shards."""
    folder = tmp_path_factory.mktemp("wan") / "pipeline"
    pipeline.save_pretrained(folder)
    shutil.rmtree(folder / "transformer")
    pipeline.transformer.save_pretrained(folder / "transformer", max_shard_size="100KB")
    assert len(list((folder / "transformer").glob("*.safetensors"))) > 1
    return folder


@pytest.fixture(scope="module")
def converted(published):
    out = published.parent / "weights" / "wan"
    done = CliRunner().invoke(app, ["convert", str(published), "-o", str(out)])
    assert done.stdout == f"{out}\n"
    return out


@pytest.fixture(scope="module")
def generator(converted):
    return Generator.load(converted)


@pytest.fixture
def source(published, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(published, tmp_path / "source")


def damaged(folder, part="transformer", name="config.json", **changes):
    path = folder / part / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@settings(max_examples=15, deadline=None)
@given(
    frames=st.integers(1, 4), height=st.integers(1, 5), width=st.integers(1, 5), words=st.integers(1, 9),
    t=st.floats(0, 1), seed=st.integers(0, 9),
)  # fmt: skip
def test_our_class_with_wans_weights_is_wan(pipeline, generator, frames, height, width, words, t, seed):
    shape = (4, frames, 2 * height, 2 * width)
    x, text, t_B = noise(shape, seed), noise((words, 24), seed, "text"), torch.tensor([t])
    with torch.no_grad():
        ours = unpack(generator.model(pack([x], [text]), t_B), [shape])[0]
        theirs = -pipeline.transformer(x[None], 1000 * (1 - t_B), text[None]).sample[0]
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("prompt", ["", "A cat &amp;amp;\n  a dog\u3000 play. ", "long " * 200])
def test_text_states_are_the_pipelines(pipeline, published, prompt):
    theirs, _ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False, max_sequence_length=512)
    ours = load_text_encoder(f"umt5:{published}").encode(prompt)
    torch.testing.assert_close(ours, theirs[0][: len(ours)], atol=1e-5, rtol=0)
    assert not theirs[0][len(ours) :].any()
    assert len(ours) == min(512, len(prompt_clean(prompt).encode()) + 1)


class Even:
    """Sigmas from 1 to 0 in even steps, then shifted, and the times of just these sigmas.

    The schedulers' own grids end at 1 / 1000 before the last step to 0, and UniPC's times are whole numbers.
    """

    def set_timesteps(self, num_inference_steps, **arguments):
        super().set_timesteps(sigmas=torch.linspace(1, 0, num_inference_steps + 1)[:-1].double().numpy(), **arguments)
        self.timesteps = self.sigmas[:-1] * 1000


class EvenEuler(Even, FlowMatchEulerDiscreteScheduler):
    pass


class EvenUniPC(Even, UniPCMultistepScheduler):
    pass


@pytest.mark.parametrize("solver", ["euler", "unipc"])
def test_a_drawn_clip_is_the_pipelines(pipeline, generator, monkeypatch, solver):
    latents = []
    decode, normalize = generator.codec.decode, generator.statistics.normalize
    monkeypatch.setattr(generator.codec, "decode", lambda z: decode(latents.append(normalize(z)) or z))
    multistep = EvenUniPC.from_config(pipeline.scheduler.config)
    monkeypatch.setattr(pipeline, "scheduler", EvenEuler(shift=SHIFT) if solver == "euler" else multistep)
    request = Request("a red circle", seed=7, frames=5, height=32, width=48)
    (clip,) = generator.generate([request], SampleSettings(steps=STEPS, guidance=5.0, solver=solver))
    wanted = {"prompt": request.prompt, "height": 32, "width": 48, "num_frames": 5, "num_inference_steps": STEPS}
    wanted |= {"latents": noise(generator.latent_shape(request), request.seed)[None]}
    theirs = pipeline(**wanted, guidance_scale=5.0, output_type="latent").frames[0]
    torch.testing.assert_close(latents[0], theirs, atol=1e-3, rtol=0)
    pixels = pipeline(**wanted, guidance_scale=5.0, output_type="np").frames[0] * 255
    assert abs(pixels - clip.frames).max() < 1


def test_tiles_are_an_option_of_sample(converted, tmp_path):
    words = [
        "sample",
        str(converted),
        "-m",
        str(tmp_path / "m.duckdb"),
        "-p",
        "a cat",
        "--steps",
        "1",
        "--size",
        "96x96",
    ]
    words += ["--frames", "1", "--guidance", "1"]
    drawn = [CliRunner().invoke(app, [*words, "--tile", tile]).stdout for tile in ("0", "64")]
    assert drawn[0] != drawn[1]  # two sets
    with Manifest(tmp_path / "m.duckdb", read_only=True) as manifest:
        sums = manifest.query("SELECT DISTINCT sha256 FROM samples")
    assert len(sums) == 2
    assert "multiple of 32" in str(CliRunner().invoke(app, [*words, "--tile", "50"]).exception)


def test_latents_are_normalized_by_channel(pipeline, converted):
    vae, codec, video = pipeline.vae, load_codec(converted / "vae"), torch.rand(3, 5, 32, 32) * 2 - 1
    mean, std = (torch.tensor(vae.config[name]).view(4, 1, 1, 1) for name in ("latents_mean", "latents_std"))
    with torch.no_grad():
        theirs = (vae.encode(video[None]).latent_dist.mean[0] - mean) / std
    torch.testing.assert_close(codec.statistics.normalize(codec.moments(video).mean_CTHW), theirs)
    z = codec.statistics.restore(theirs)
    torch.testing.assert_close(codec.decode(z), vae.decode((theirs * std + mean)[None]).sample[0])


def test_there_and_back_keeps_every_bit(published, converted, tmp_path):
    out = tmp_path / "exported"
    convert(converted, out, parts=None, weights="raw")
    shards = (published / "transformer").glob("*.safetensors")
    tensors = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    for part, wanted in (("transformer", tensors), ("vae", load_file(next((published / "vae").glob("*.safetensors"))))):
        found = load_file(out / part / "diffusion_pytorch_model.safetensors")
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
        described = [json.loads((folder / part / "config.json").read_text()) for folder in (out, published)]
        assert described[0] == {key: value for key, value in described[1].items() if key != "_name_or_path"}
    convert(out, tmp_path / "again", parts=published, weights="ema")
    vae = ("vae/diffusion_pytorch_model.safetensors", "vae/config.json")
    for name in ("ema.safetensors", "model.safetensors", *vae):
        assert (tmp_path / "again" / name).read_bytes() == (converted / name).read_bytes()
    before, after = (checkpoint.read_config(folder) for folder in (converted, tmp_path / "again"))
    assert after["data"].pop("text") == f"umt5:{out}" != before["data"].pop("text")
    assert after == before
    checkpoint.verify(tmp_path / "again")


def test_diffusers_draws_the_same_from_the_exported_pipeline(pipeline, converted, tmp_path):
    assert "WanPipeline" in convert(converted, tmp_path / "out", parts=None, weights="ema")
    loaded = WanPipeline.from_pretrained(tmp_path / "out")
    loaded.set_progress_bar_config(disable=True)
    wanted = {"prompt": "a cat", "height": 32, "width": 48, "num_frames": 5, "num_inference_steps": 2}
    wanted |= {"latents": noise((4, 2, 4, 6), 0)[None], "output_type": "latent"}
    loaded.scheduler = pipeline.scheduler  # which has a shift of its own
    torch.testing.assert_close(loaded(**wanted).frames, pipeline(**wanted).frames, atol=1e-4, rtol=0)


def test_diffusers_loads_the_export_and_bfloat16_stays(pipeline, source, tmp_path):
    copy.deepcopy(pipeline.transformer).bfloat16().save_pretrained(source / "lone")
    convert(source / "lone", tmp_path / "weights", parts=source, weights="ema")
    assert checkpoint.read_weights(tmp_path / "weights", "ema.safetensors")["patch_in.weight"].dtype == torch.bfloat16
    convert(tmp_path / "weights", tmp_path / "out", parts=None, weights="ema")
    loaded = WanTransformer3DModel.from_pretrained(tmp_path / "out", subfolder="transformer", torch_dtype=torch.float32)
    given = torch.randn(1, 4, 2, 6, 4), torch.tensor([300.0]), torch.randn(1, 5, 24)
    model = Generator.load(tmp_path / "weights").model
    with torch.no_grad():
        theirs = loaded(*given).sample[0]
        ours = unpack(-model(pack([given[0][0]], [given[2][0]]), 1 - given[1] / 1000), [(4, 2, 6, 4)])[0]
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_what_latents_were_normalized_by_goes_into_the_vaes_config():
    config = {"_class_name": "AutoencoderKLWan", "z_dim": 2, "latents_mean": [0.0, 0.0], "kind": "vae", "step": 9}
    found = vae_config(config, Statistics((0.5, 1.0), (2.0, 3.0)))
    assert found == {
        "_class_name": "AutoencoderKLWan", "z_dim": 2, "latents_mean": [0.5, 1.0], "latents_std": [2.0, 3.0],
    }  # fmt: skip


ORIGINAL = {
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "attn1": "self_attn", "attn2": "cross_attn", "to_out.0": "o", "to_q": "q", "to_k": "k", "to_v": "v",
    "norm2": "norm3", "ffn.net.0.proj": "ffn.0", "ffn.net.2": "ffn.2", "proj_out": "head.head",
}  # fmt: skip


def original_name(name):
    if name == "scale_shift_table":
        return "head.modulation"
    for ours, theirs in ORIGINAL.items():
        name = name.replace(ours, theirs)
    return name.replace("scale_shift_table", "modulation")


def test_the_authors_own_layout_gives_the_same_checkpoint(pipeline, published, converted, tmp_path):
    folder = tmp_path / "original"
    folder.mkdir()
    weights = {original_name(name): value for name, value in pipeline.transformer.state_dict().items()}
    assert "blocks.1.self_attn.norm_q.weight" in weights
    save_file(weights, folder / "diffusion_pytorch_model.safetensors")
    described = {
        "_class_name": "WanModel", "model_type": "t2v", "dim": 40, "num_heads": 2, "num_layers": 2, "ffn_dim": 64,
        "in_dim": 4, "out_dim": 4, "freq_dim": 256, "eps": 1e-6, "text_len": 512, "text_dim": 24,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(described))
    convert(folder, tmp_path / "weights", parts=published, weights="ema")
    for name in ("ema.safetensors", "config.json"):
        assert (tmp_path / "weights" / name).read_bytes() == (converted / name).read_bytes()
    (folder / "config.json").write_text(json.dumps(described | {"model_type": "i2v"}))
    with pytest.raises(UsageError, match="Wan's i2v model"):
        convert(folder, tmp_path / "other", parts=published, weights="ema")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_dim": 1280}, "image-to-video"),
        ({"in_channels": 36}, "image-to-video"),
        ({"patch_size": [1, 4, 4]}, r"patch_size is \[1, 4, 4\]"),
        ({"qk_norm": None}, "qk_norm is None"),
        ({"num_layers": 3}, "the weights lack blocks.2"),
        ({"num_layers": 1}, "the weights have blocks.1"),
        ({"ffn_dim": 65}, r"ffn.0.weight is \[64, 40\]"),
        ({"_class_name": "FluxTransformer2DModel"}, "holds FluxTransformer2DModel"),
    ],
)
def test_transformers_that_are_not_wans_are_refused(source, tmp_path, changes, message):
    damaged(source, **changes)
    with pytest.raises(GokuError, match=message):
        convert(source, tmp_path / "out", parts=None, weights="ema")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_other_pipelines_and_parts_are_refused(source, tmp_path):
    def refused(message):
        with pytest.raises(UsageError, match=message):
            convert(source, tmp_path / "out", parts=None, weights="ema")
        assert not list(tmp_path.glob("*out*"))

    damaged(source, ".", "model_index.json", boundary_ratio=0.875)
    refused("Wan 2.2")
    (source / "model_index.json").unlink()
    damaged(source, "vae", is_residual=True)
    refused("no VAE of Wan 2.1")
    shutil.rmtree(source / "vae")
    refused("has no vae/.*--parts")


def test_damaged_and_pickled_files_are_one_line(source, tmp_path):
    def refused(message):
        with pytest.raises(GokuError, match=message) as caught:
            convert(source, tmp_path / "out", parts=None, weights="ema")
        assert "\n" not in str(caught.value)

    first, *_, last = sorted((source / "transformer").glob("*.safetensors"))
    first.write_bytes(first.read_bytes()[:-100])
    refused("damaged or cut short")
    last.unlink()
    first.unlink()
    refused("is missing, which the index")
    next((source / "transformer").glob("*.index.json")).unlink()
    refused("no diffusion_pytorch_model.safetensors in")
    (source / "transformer" / "diffusion_pytorch_model.bin").write_bytes(b"x")
    refused("is a pickle")


def test_models_of_another_form_do_not_leave(generator):
    own = generator.model.config
    assert own.text_rows == 512
    assert config_from_wan(config_to_wan(own)) == replace(own, text_rows=0)
    for changes, message in (
        ({"shared_modulation": False}, "biases = true, layer_norms = true, shared_modulation = true"),
        ({"rope_scale": (1.0, 0.6, 0.6)}, "no rope_scale"),
        ({"rope_split": (4, 8, 8)}, r"rope_split = \[8, 6, 6\]"),
        ({"classes": 10}, "has no classes"),
    ):
        with pytest.raises(UsageError, match=message):
            config_to_wan(replace(own, **changes))


def test_checkpoints_that_diffusers_has_no_place_for(converted, tmp_path):
    folder = shutil.copytree(converted, tmp_path / "checkpoint")
    config = json.loads((folder / "config.json").read_text())

    def export(**changes):
        (folder / checkpoint.COMPLETE).unlink()
        (folder / "config.json").write_text(json.dumps(config | changes))
        checkpoint.seal(folder)
        return convert(folder, tmp_path / "out", parts=None, weights="ema")

    LinearCodec.fit([torch.rand(3, 5, 16, 16)], channels=4).save(tmp_path)
    linear = {"codec": str(tmp_path), "codec_sha256": codec_fingerprint(tmp_path)}
    assert "no vae/" in export(data=config["data"] | linear)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["transformer"]
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(UsageError, match="is not the VAE"):
        export(data=config["data"] | {"codec": str(tmp_path)})
    with pytest.raises(UsageError, match="predicts ddpm-v"):
        export(objective=config["objective"] | {"kind": "ddpm-v"})
    with pytest.raises(UsageError, match="holds a VAE"):
        export(kind="vae")


def test_what_to_type_when_something_is_missing(converted, tmp_path):
    for arguments, message in (
        (["convert", str(tmp_path), "-o", str(tmp_path / "out")], "hf download Wan-AI"),
        (["convert", str(converted), "-o", str(tmp_path)], "exists; remove it"),
        (["sample", str(converted), "-p", "x"], "was not trained here; say where .* with -m"),
    ):
        error = CliRunner().invoke(app, arguments).exception
        assert isinstance(error, UsageError), error
        with pytest.raises(UsageError, match=message):
            raise error
