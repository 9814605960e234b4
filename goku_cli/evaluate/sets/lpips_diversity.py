"""LPIPS diversity: the mean LPIPS (Zhang et al. 2018) between samples of one prompt.

A model that has collapsed draws one picture for each prompt, and no score of single samples sees it.
"""

import itertools

import numpy as np
import torch

from goku_cli.errors import GokuError, UsageError
from goku_cli.evaluate.bootstrap import mean_figure
from goku_cli.evaluate.run import Suite
from goku_cli.evaluate.sets.reference_clips import drawn_frames
from goku_cli.manifest.store import Manifest, Row
from goku_cli.publish import sha256
from goku_cli.stage import Progress
from goku_cli.vision.device import device
from goku_cli.vision.distances import Lpips
from goku_cli.weights import VGG16

METRIC = "lpips.lpips_diversity"
FRAMES = 8
"""Most frames of a clip that are compared, evenly spread."""


def eval_diversity(manifest: Manifest, rows: list[Row], progress: Progress) -> Suite:
    """Return the mean over prompts of the mean LPIPS of their pairs; n counts prompts, and the interval is over them.

    Only samples of one size and length are pairs.

    Raises:
        UsageError: no prompt has two samples.
        GokuError: the weights are missing, or no pair could be read.
    """
    alike: dict[tuple[str, int, int, int], list[Row]] = {}
    for row in rows:
        alike.setdefault((row["prompt"], row["frames"], row["height"], row["width"]), []).append(row)
    groups = [group for group in alike.values() if len(group) > 1]
    if not groups:
        raise UsageError("lpips_diversity compares samples of one prompt, and no prompt has two; "
                         "draw more with: goku sample --count 4")  # fmt: skip
    path = VGG16.path()
    net = Lpips(path).to(device()).eval()
    progress.start("lpips", sum(map(len, groups)))
    found, read = [], 0
    for group in groups:
        clips = [_pictures(frames) for frames in drawn_frames(manifest, group, progress)]
        pairs = itertools.combinations(clips, 2)
        read += len(clips)
        if len(clips) > 1:
            with torch.inference_mode():
                found.append(float(np.mean([float(net(one, other)) for one, other in pairs])))
    if not found:
        raise GokuError(f"lpips_diversity: of no prompt could two of its {len(rows):,} samples be read")
    figure = mean_figure(METRIC, found, implementation="goku on LPIPS of torchmetrics", weights=sha256(path),
                         license="BSD-3-Clause (VGG16), BSD-2-Clause (LPIPS)")  # fmt: skip
    note = f"lpips: {len(found):,} prompts of two or more samples, of {len({r['prompt'] for r in rows}):,}"
    return Suite("lpips", [figure], len(rows), sum(map(len, groups)), read, [note])


def _pictures(frames: np.ndarray) -> torch.Tensor:
    """Return up to 8 frames (T, 3, H, W) in [-1, 1]."""
    chosen = np.linspace(0, len(frames) - 1, min(len(frames), FRAMES)).round().astype(int)
    return torch.from_numpy(frames[chosen]).to(device()).permute(0, 3, 1, 2).float() / 127.5 - 1
