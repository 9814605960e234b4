"""Every way to part the work learns the same: ZeRO stages, recomputation, precision and sequence parallelism together.

ZeRO 3 leaves weights of up to 100,000 numbers whole; here it parts all of them, as those of a large model.
"""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from at_work import ranks_do, train_all_parted
from encoded import make_encoded

from goku_cli.manifest.store import Manifest
from goku_cli.model.network.presets import POLICIES, Recompute
from goku_cli.train.prepare import prepare
from goku_cli.train.recipe import LoggingConfig, Parallel, Recipe, TrainConfig

RECIPE = Recipe(
    "flow", size="nano", watch=LoggingConfig(preview_every=2, prompts=("a red circle",), preview_steps=1),
    train=TrainConfig(
        steps=2, tokens_per_step=120, lr=3e-3, warmup=1, save_every=2, log_every=1, eval_every=2, max_tokens=60
    ),
)  # fmt: skip
WAYS = [
    (stage, policy, bf16, sequence)
    for stage, policy, bf16, sequence in itertools.product(range(4), POLICIES, (False, True), (1, 2))
    # Sequence parallelism has nothing to do with the stage, but that both sum gradients; it is tried with processes
    # that read ahead, which know no ranks.
    if sequence == 1 or (policy == "attention" and stage in (1, 3))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One run of each way, on two ranks."""
    folder = tmp_path_factory.mktemp("parting")
    runs = []
    with Manifest(make_encoded(folder, videos=3, images=9)) as manifest:
        for way in WAYS:
            stage, policy, bf16, sequence = way
            kernel = "flash-attn-2" if bf16 else "sdpa"
            train = replace(RECIPE.train, bf16=bf16, recompute=Recompute(policy), attention=kernel)
            recipe = replace(RECIPE, train=train, parallel=Parallel(stage, sequence, readers=sequence - 1))
            made = prepare(manifest, "small", recipe, "way", folder / "prepared").folder
            runs.append(made.rename(folder / name(way)))
    ranks_do(2, train_all_parted, runs)
    return folder


def name(way: tuple) -> str:
    return "-".join(str(part) for part in way)


def told(run: Path, what: str) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line[what] for line in lines if what in line]


@pytest.mark.parametrize("way", WAYS, ids=name)
def test_all_ways_learn_the_same(folder, way):
    _, _, bf16, _ = way
    for what in ("loss", "norm", "held_out_loss"):
        found, expected = (told(folder / name(run), what) for run in (way, (0, "none", bf16, 1)))
        assert len(found) == 2
        assert found == pytest.approx(expected, rel=2e-3 if bf16 else 1e-5)


def test_bfloat16_is_another_precision(folder):
    for what in ("loss", "held_out_loss"):
        half, exact = (told(folder / name((0, "none", bf16, 1)), what) for bf16 in (True, False))
        assert half != exact
        assert half == pytest.approx(exact, rel=2e-2)


def test_previews_are_drawn_in_every_way(folder):
    for way in WAYS:
        assert (folder / name(way) / "previews" / "step-000002" / "prompts.json").exists(), way
