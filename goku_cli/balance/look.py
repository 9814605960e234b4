"""Tags by looking: CLIP's zero-shot answer on four evenly spaced frames, as the paper's classifier gets them."""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from goku_cli.balance.tags import STAGE, tagged
from goku_cli.balance.taxonomy import Taxonomy
from goku_cli.errors import Cause, Fault
from goku_cli.manifest.store import Manifest, Row
from goku_cli.media.frames import read_frames
from goku_cli.media.probing.probe import check_unchanged
from goku_cli.recipe import fingerprint
from goku_cli.stage import Item, Outcome, Progress, Rows, run_stage
from goku_cli.vision.clip import Encoder, encoder

TAGGER = "clip@1"
FRAMES = 4
SHORT_SIDE = 240
PHRASES = 4
"""Of each sub-category, the first so many make its prompts."""
FROM_CLIPS = """FROM clip_files JOIN selections ON selections.clip = clip_files.id
WHERE name = ? AND reason IS NULL"""


def tag_by_looking(
    manifest: Manifest, selection: str, taxonomy: Taxonomy, progress: Progress | None = None, *, workers: int = 0
) -> Outcome:  # fmt: skip
    """Tag the kept clips that CLIP has not seen, or for another taxonomy.

    Raises:
        GokuError: the weights are not there.
    """
    eyes = encoder()
    classes, answers = class_features(eyes, taxonomy)
    columns = "clip_files.id, source_path, source_bytes, source_mtime_ns, fields, start_us, end_us"
    rows = manifest.stream(f"SELECT {columns} {FROM_CLIPS} ORDER BY source_path, start_us", [selection])
    items: Iterator[Item] = (Item(row["id"], row) for row in rows)
    return run_stage(
        manifest, STAGE, fingerprint([TAGGER, taxonomy.fingerprint()]), items, four_frames,
        total=manifest.value(f"SELECT count(*) {FROM_CLIPS}", [selection]), workers=workers, progress=progress,
        store=functools.partial(_tag_batch, eyes, classes, answers),
    )  # fmt: skip


def class_features(eyes: Encoder, taxonomy: Taxonomy) -> tuple[list[tuple[str, str]], Tensor]:
    """Return the classes and their features (classes, D): the mean over a sub-category's first phrases."""
    classes, rows = [], []
    for name, primary in taxonomy.classes.items():
        for sub, phrases in primary.subcategories.items():
            features = eyes.texts([f"a photo of {phrase}" for phrase in phrases[:PHRASES]]).mean(0)
            classes.append((name, sub))
            rows.append(features / features.norm())
    return classes, torch.stack(rows)


def four_frames(clip: Row) -> Rows:
    """Decode the middle frame of each quarter of a clip; an image is one frame.

    Raises:
        Fault: it cannot be read.
    """
    path, start, end = Path(clip["source_path"]), clip["start_us"], clip["end_us"]
    check_unchanged(path, clip["source_bytes"], clip["source_mtime_ns"])
    if end == start:
        frames = [frame for _, frame in read_frames(path, short_side=SHORT_SIDE)]
    else:
        quarter = (end - start) / FRAMES
        span = read_frames(
            path, start_us=round(start + quarter / 2), end_us=end, fps=1e6 / quarter, short_side=SHORT_SIDE,
            fields=clip["fields"],
        )  # fmt: skip
        frames = [np.ascontiguousarray(frame) for _, frame in span]
    if not frames:
        raise Fault(Cause.UNSUITABLE, "no frame lies in the clip")
    return Rows(tensors={"clip": clip["id"], "frames": frames})


def _tag_batch(eyes: Encoder, classes: list[tuple[str, str]], answers: Tensor, results: list[Rows]) -> None:
    """Give each clip the class that is most probable over its frames together."""
    if not results:
        return
    features = eyes.images([frame for rows in results for frame in rows.tensors["frames"]])
    chances = (eyes.scale * features @ answers.T).softmax(1)
    for rows, own in zip(results, chances.split([len(rows.tensors["frames"]) for rows in results]), strict=True):
        confidence, best = own.mean(0).max(0)
        row = tagged(rows.tensors["clip"], *classes[int(best)], float(confidence), TAGGER)
        rows.insert, rows.replace = row.insert, row.replace
