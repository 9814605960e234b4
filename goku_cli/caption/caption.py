"""Caption: every kept clip gets what each captioner says of it, and one merged text that training uses.

Invariant: a caption is made again when what it rests on changed: the sidecar, the motion score, the captioners.
"""

from collections.abc import Callable
from dataclasses import asdict

from goku_cli.caption.clip import Clip
from goku_cli.caption.conflict import conflict
from goku_cli.caption.settings import CaptionSettings
from goku_cli.errors import GokuError
from goku_cli.manifest.store import Manifest, Row
from goku_cli.recipe import fingerprint
from goku_cli.registry import load
from goku_cli.stage import Item, Outcome, Progress, Rows, run_stage
from goku_cli.wording import clean

STAGE = "caption"
VERSION = 1
CAPTIONERS = {"given": "goku_cli.caption.given:given", "measured": "goku_cli.caption.measured:measured"}
MAX_CHARACTERS = 2_000

Job = tuple[Clip, CaptionSettings]


def caption(
    manifest: Manifest, selection: str, settings: CaptionSettings, *, workers: int = 0,
    progress: Progress | None = None,
) -> Outcome:  # fmt: skip
    """Caption the kept clips of a selection that have no caption yet, or one that rests on other facts.

    Raises:
        UsageError: an unknown captioner.
        GokuError: the selection keeps no clip.
    """
    for name in settings.steps():
        captioner(name)
    clips = _clips(manifest, selection)
    if not clips:
        raise GokuError(f"selection {selection} keeps no clips; see why with: goku show {manifest.path}#{selection}")
    items = [Item(clip.row["id"], (clip, settings), fingerprint([clip.sidecars, clip.motion])) for clip in clips]
    params = fingerprint([VERSION, asdict(settings)])
    return run_stage(manifest, STAGE, params, items, caption_clip, total=len(items), workers=workers, progress=progress)


def captioner(name: str) -> Callable[[Clip], str | None]:
    """Return a captioner by name or `module:function`: it takes a Clip and has something to say or not."""
    return load(name, CAPTIONERS, "captioner")


def caption_clip(job: Job) -> Rows:
    """Run the captioners on one clip and merge what they say.

    Raises:
        GokuError: the clip cannot be read, or no captioner says anything.
    """
    clip, settings = job
    said = {name: captioner(name)(clip) for name in settings.steps()}
    texts = {name: clean(text, MAX_CHARACTERS) for name, text in said.items() if text and text.strip()}
    if not texts:
        raise GokuError(f"{settings.captioner} says nothing about this clip; add measured to --captioner")
    merged = next(iter(texts.values()))
    if settings.motion_score and clip.motion is not None and clip.is_video:
        merged = with_motion_score(merged, clip.motion)
    rows = [_row(clip, name.rpartition(":")[2], text, name) for name, text in texts.items()]
    disagreement = conflict(texts.get("given"), texts.get("measured"))
    rows.append(_row(clip, "merged", merged, settings.captioner) | {"conflict": disagreement})
    return Rows(insert={"captions": rows}, replace={"captions": "clip"})


def with_motion_score(text: str, motion: float) -> str:
    """Append the motion score as a sentence of its own, rounded to a whole number."""
    return f"{text}{'' if text.endswith('.') else '.'} motion score: {round(motion)}."


def _row(clip: Clip, kind: str, text: str, model: str) -> Row:
    return {"clip": clip.row["id"], "kind": kind, "text": text, "model": f"{model}@{VERSION}"}


def _clips(manifest: Manifest, selection: str) -> list[Clip]:
    sidecars: dict[str, list[Row]] = {}
    for row in manifest.query(
        "SELECT source, start_us, end_us, text FROM sidecars ORDER BY source, start_us, end_us, text"
    ):
        sidecars.setdefault(row["source"], []).append(row)
    rows = manifest.query(
        "SELECT id, source, kind, source_path, start_us, end_us, scores.value AS motion FROM clip_files "
        "JOIN selections ON selections.clip = id AND name = ? AND reason IS NULL "
        "LEFT JOIN current_scores AS scores ON scores.clip = id AND metric = 'motion' ORDER BY source_path, start_us",
        [selection],
    )
    return [Clip(row, tuple(sidecars.get(row["source"], ())), row["motion"]) for row in rows]
