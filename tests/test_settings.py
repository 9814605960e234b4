"""How far every setting goes: the last value that is taken, and the first that is refused."""

import functools
from contextlib import nullcontext

import pytest

from goku_cli.encode.settings import EncodeSettings
from goku_cli.errors import UsageError
from goku_cli.sample.settings import Machine, SampleSettings
from goku_cli.train.recipe import FaultTolerance, Flow, LoggingConfig, Lora, Parallel, TrainConfig, Vae

TRAIN = functools.partial(TrainConfig, 10, 10, 1e-3)
STEPS = functools.partial(TrainConfig, tokens_per_step=10, lr=1e-3)
TOKENS = functools.partial(TrainConfig, 10, lr=1e-3)
LIMITS = {
    TRAIN: {
        "eps": [(1e-12, 0.0)], "max_tokens": [(0, -1)], "save_every": [(1, 0)], "log_every": [(1, 0)],
        "eval_every": [(1, 0)], "keep": [(1, 0)], "keep_every": [(0, -1)],
        "ema": [((0.0,), (-0.1,)), ((0.9, 0.99), (0.9, 1.0)), ((0.8, 0.9), (0.9, 0.9)), ((0.9,), ())],
        "ema_lengths": [((0.01,), (0.009,)), ((0.05, 0.28), (0.05, 0.29)), ((), (0.0,))],
        "optimizer": [("muon", "sgd")], "schedule": [("constant", "linaer")],
    },
    STEPS: {"steps": [(1, 0)]},
    TOKENS: {"tokens_per_step": [(1, 0)]},
    Parallel: {
        "zero_stage": [(0, -1), (3, 4)], "sequence": [(1, 0)], "readers": [(-1, -2)], "shard_group": [(0, -1)],
    },
    functools.partial(Parallel, zero_stage=3): {"shard_group": [(1, -1)], "zero_stage": [(3, 4)]},
    functools.partial(Parallel, offload_weights=True): {"zero_stage": [(3, 2)]},
    functools.partial(Parallel, shard_group=2): {"zero_stage": [(3, 2)]},
    functools.partial(Parallel, offload_optimizer=True): {"zero_stage": [(1, 0)]},
    FaultTolerance: {
        "spike": [(0.0, -0.1)], "spike_after": [(0, -1)], "restarts": [(0, -1)], "rollback_after": [(1, 0)],
        "hang_seconds": [(0.1, 0.0)],
    },
    LoggingConfig: {"preview_every": [(0, -1), (0, 1)], "preview_steps": [(1, 0)], "prompts": [((), ("a cat",))]},
    functools.partial(LoggingConfig, prompts=("a cat",)): {"preview_every": [(1, 0)]},
    Flow: {
        "image_share": [(0.001, 0.0009), (0.999, 0.9991), (0, -0.1), (1, 1.1)], "text_dropout": [(0, -0.1), (1, 1.1)],
        "image_dropout": [(0, -0.1), (1, 1.1)], "last_frame_share": [(0, -0.1), (1, 1.1)],
    },
    Lora: {"rank": [(0, -1)], "alpha": [(0.1, 0.0)], "targets": [(("q",), ())]},
    Vae: {
        "frames": [(1, 0), (5, 6), (1, -3)], "discriminator_dim": [(4, 0), (8, 6)], "kl": [(0, -0.1)],
        "image_share": [(0, -0.1), (1, 1.1)], "perceptual_weight": [(0, -0.1)], "adversarial_weight": [(0, -0.1)],
        "adversarial_from": [(0, -1)], "base_dim": [(1, 0)], "latent_channels": [(1, 0)], "fps": [(0.1, 0)],
        "perceptual": [("none", "lpips"), ("ssim", "ssmi"), ("none", "lpips:gone.pth"), ("none", "ssim:")],
    },
    SampleSettings: {
        "steps": [(1, 0)], "frames": [(0, -1), (1, 2), (9, 8)], "zero_init": [(0, -1), (24, 25)], "cache": [(0, -0.1)],
        "interval": [((0, 1), (-0.1, 1)), ((0.5, 1), (0.5, 1.1)), ((0.2, 0.3), (0.3, 0.3))], "fps": [(0, -1)],
        "image_guidance": [(0, -0.1)], "format": [("gif", "git")], "dtype": [("bfloat16", "float16")],
    },
    Machine: {"ranks": [(0, -1)], "sequence": [(1, 0), (3, -1)], "offload": [("blocks", "block")]},
    functools.partial(Machine, ranks=4): {"sequence": [(2, 3)]},
}  # fmt: skip
CASES = [
    pytest.param(make, {name: value}, well, id=f"{getattr(make, 'func', make).__name__}-{name}-{value}")
    for make, names in LIMITS.items()
    for name, pairs in names.items()
    for pair in pairs
    for value, well in zip(pair, (True, False), strict=True)
]


@pytest.mark.parametrize(("make", "given", "well"), CASES)
def test_a_setting_goes_as_far_as_this(make, given, well):
    with nullcontext() if well else pytest.raises(UsageError):
        make(**given)


def test_a_vae_learns_from_clips_as_they_are_encoded_when_nobody_says_otherwise():
    assert (Vae.size, Vae.frames, Vae.fps) == (EncodeSettings.size, EncodeSettings.frames, EncodeSettings.fps)
