"""CLIP score (Hessel et al. 2021): prompt adherence, the mean over frames of 100 max(cos, 0).

Beside it stands the control: what the same frames score for the next prompt of the set.

Shapes: T frames, D features; 2 is the prompt and the next one.
"""

from collections.abc import Iterator

from goku_cli.errors import GokuError
from goku_cli.evaluate.bootstrap import mean_figure
from goku_cli.evaluate.result import OWN
from goku_cli.evaluate.run import Suite
from goku_cli.evaluate.sets.reference_clips import drawn_frames
from goku_cli.manifest.store import Manifest, Row
from goku_cli.stage import Progress
from goku_cli.vision.clip import encoder
from goku_cli.vision.device import by_clip

METRIC = "clip.clip_score"
BATCH = 16
"""Samples that are read together."""


def eval_alignment(manifest: Manifest, name: str, rows: list[Row], progress: Progress) -> Suite:
    """Return the CLIP score of a set of samples, of which each one's is kept; and that of mismatched prompts.

    The prompt is the one that was asked for, also when the model read another text; CLIP reads 77 tokens of it.

    Raises:
        GokuError: the weights are missing, or not one sample could be read.
    """
    clip = encoder()
    progress.start("clip", len(rows))
    found = list(_scores(manifest, rows, progress))
    if not found:
        raise GokuError(f"clip_score: not one of {len(rows):,} samples of {name} could be read")
    kept = [{"sample": sample, "metric": METRIC, "value": own, "implementation": OWN} for sample, own, _ in found]
    with manifest.transaction():
        manifest.execute(
            "DELETE FROM sample_scores WHERE metric = ? AND sample IN (SELECT id FROM samples WHERE name = ?)",
            [METRIC, name],
        )
        manifest.insert("sample_scores", kept)
    known = {"implementation": clip.implementation, "weights": clip.sha256, "license": clip.license}
    figures = [mean_figure(METRIC, [own for _, own, _ in found], **known)]
    if len({row["prompt"] for row in rows}) > 1:  # else there is no other prompt
        figures.append(mean_figure(METRIC, [other for _, _, other in found], "mismatched", **known))
    return Suite("clip", figures, len(rows), len(rows), len(found))


def _scores(manifest: Manifest, rows: list[Row], progress: Progress) -> Iterator[tuple[str, float, float]]:
    """Yield (sample, score of its prompt, score of the next prompt) of the samples that can be read."""
    clip = encoder()
    prompts = list(dict.fromkeys(row["prompt"] for row in rows))
    following = dict(zip(prompts, [*prompts[1:], prompts[0]], strict=True))
    for start in range(0, len(rows), BATCH):
        read = [
            (row, frames) for row in rows[start : start + BATCH] for frames in drawn_frames(manifest, [row], progress)
        ]
        if not read:
            continue
        images_TD = clip.images([frame for _, frames in read for frame in frames])
        texts_D = clip.texts([text for row, _ in read for text in (row["prompt"], following[row["prompt"]])])
        for i, ((row, _), seen_TD) in enumerate(zip(read, by_clip(images_TD, [len(f) for _, f in read]), strict=True)):
            both_T2 = 100 * (seen_TD @ texts_D[2 * i : 2 * i + 2].T).clamp(min=0)
            own, other = both_T2.mean(0).tolist()
            yield row["id"], own, other
