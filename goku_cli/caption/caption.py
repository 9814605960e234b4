"""Caption: every kept clip gets what each captioner says of it, and one merged text that training uses.

Invariant: a caption is made again when what it rests on changed: the sidecar, the motion score, the captioners, and for
models their names and prompts.
"""

import functools
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice, takewhile

import cv2

from goku_cli.caption.clip import Clip
from goku_cli.caption.conflict import camera_conflict, conflict, names_things
from goku_cli.caption.dense import Dense, Said, load_dense
from goku_cli.caption.instructions import instruction
from goku_cli.caption.phrases import camera_claims
from goku_cli.caption.prompts import load_prompts
from goku_cli.caption.settings import CaptionSettings
from goku_cli.chat.answer import MAX_CHARACTERS
from goku_cli.chat.replies import Replies
from goku_cli.chat.settings import LOCAL, SERVER
from goku_cli.chat.spending import Spending
from goku_cli.errors import Cause, GokuError
from goku_cli.manifest.store import Manifest, Row
from goku_cli.media.motion.motion import with_motion_score
from goku_cli.recipe import fingerprint
from goku_cli.registry import load
from goku_cli.stage import Item, Outcome, Progress, Rows, run_stage
from goku_cli.wording import clean

STAGE = "caption"
VERSION = 2
MERGED = "merged"
CAPTIONERS = {"given": "goku_cli.caption.given:given", "measured": "goku_cli.caption.measured:measured"}
CORES = os.cpu_count() or 1
_LOOKING = threading.BoundedSemaphore(CORES)
"""Decoding takes a core and memory; waiting for a server takes neither."""

Job = tuple[Clip, CaptionSettings]


def caption(
    manifest: Manifest, selection: str, settings: CaptionSettings, *, spending: Spending | None = None,
    workers: int = 0, progress: Progress | None = None,
) -> Outcome:  # fmt: skip
    """Caption the kept clips of a selection that have no caption yet, or one that rests on other facts.

    When `spending` was stopped, the clips that were not asked about are left as they were.

    Raises:
        UsageError: an unknown captioner, model or placeholder of a prompt.
        GokuError: the selection keeps no clip, or the server does not answer.
    """
    spending = spending or Spending()
    for name in settings.steps():
        captioner(name)
    prompts = load_prompts(settings.prompts)
    total = manifest.value(f"SELECT count(*) {_KEPT}", {"selection": selection})
    if not total:
        raise GokuError(f"selection {selection} keeps no clips; see why with: goku show {manifest.path}#{selection}")
    with ExitStack() as closing:
        models: dict[str, Dense] = {}
        if settings.models():
            replies = closing.enter_context(Replies(manifest.path))
            models = {name: load_dense(name, settings, prompts, replies, spending) for name in settings.models()}
        clips = takewhile(lambda _: spending.stopped is None, _clips(manifest, selection, settings))
        items = (Item(clip.row["id"], (clip, settings), fingerprint([clip.sidecars, clip.motion])) for clip in clips)
        params = fingerprint([VERSION, _facts(settings, models)])
        asked = functools.partial(run_stage, manifest, STAGE, params, items, total=total, progress=progress)
        if not models:
            return asked(caption_clip, workers=workers)
        cv2.setNumThreads(1)
        at_once = spending.settings.in_flight if any(name.startswith(SERVER) for name in models) else 1
        threads = 1 if workers == 1 or at_once == 1 else at_once + CORES
        closing.enter_context(spending.stopped_by_signals())
        outcome = asked(functools.partial(caption_clip, models=models), workers=threads, threads=True)
        return _waiting(manifest, outcome)


def _waiting(manifest: Manifest, outcome: Outcome) -> Outcome:
    """Take back the failures of clips that were not asked about: nothing is wrong with them, they wait."""
    manifest.execute("DELETE FROM failures WHERE stage = ? AND cause = ?", [STAGE, Cause.UNASKED])
    outcome.failed -= outcome.reasons.pop(Cause.UNASKED, 0)
    return outcome


def captioner(name: str) -> Callable[[Clip], str | None] | None:
    """Return a captioner by name or `module:function`: it takes a Clip and has something to say or not.

    A model is None: it is loaded once, where it is used.
    """
    return None if name.startswith((SERVER, LOCAL)) else load(name, CAPTIONERS, "captioner")


def caption_clip(job: Job, models: Mapping[str, Dense] | None = None) -> Rows:
    """Run the captioners on one clip and merge what they say.

    Raises:
        GokuError: the clip cannot be read, no captioner says anything, or a model gave no caption.
    """
    clip, settings = job
    with _LOOKING:
        said = {name: _heard(name, clip) for name in settings.steps()}
        if models:
            _ = clip.camera, clip.key_frames
            clip.release()
    said |= {name: model(clip) for name, model in (models or {}).items()}
    chosen = next((texts for texts in said.values() if texts), None)
    if chosen is None:
        raise GokuError(f"{settings.captioner} says nothing about this clip; add measured to --captioner")
    merged = chosen[-1].text
    if settings.motion_score and clip.motion is not None and clip.is_video:
        merged = with_motion_score(merged, clip.motion)
    texts = [text for group in said.values() for text in group]
    prompts = "\n".join(model.prompts.everything for model in (models or {}).values())
    doubt = doubts(clip, {text.kind: text.text for text in texts}, chosen, prompts)
    rows = [_row(clip, text) for text in [*texts, *_camera(clip)]]
    rows.append(_row(clip, Said(MERGED, merged, chosen[-1].by)) | {"conflict": doubt})
    return Rows(insert={"captions": rows}, replace={"captions": "clip"})


def doubts(clip: Clip, texts: Mapping[str, str], chosen: Sequence[Said], prompts: str = "") -> str | None:
    """Return why the merged caption is not to be trained on: it instructs, or contradicts what was measured.

    `texts` are all texts by kind, `chosen` those that the merged one was made of.
    """
    for text in chosen:
        if found := instruction(text.text, prompts):
            return f'instruction-like text: "{found}"'
    given, measured = texts.get("given"), texts.get("measured")
    if (found := conflict(given, measured)) or names_things(measured):
        return found
    for kind, words in {"given": given or "", chosen[-1].kind: chosen[-1].text}.items():
        if camera_claims(words) and (found := camera_conflict(words, clip.camera)):
            return f"{kind} {found}"
    return None


def _heard(name: str, clip: Clip) -> list[Said]:
    function = captioner(name)
    text = clean(function(clip) or "", MAX_CHARACTERS) if function else ""
    return [Said(name.rpartition(":")[2], text, f"{name}@{VERSION}")] if text else []


def _camera(clip: Clip) -> list[Said]:
    """Return what the camera does, when somebody looked."""
    camera = vars(clip).get("camera")
    if camera is None or not camera.movements:
        return []
    return [Said("camera", f"{' and '.join(camera.movements)}, strength {camera.strength:.3f}", f"camera@{VERSION}")]


def _row(clip: Clip, said: Said) -> Row:
    return {"clip": clip.row["id"], "kind": said.kind, "at_us": said.at_us, "text": said.text, "model": said.by}


def _facts(settings: CaptionSettings, models: Mapping[str, Dense]) -> list[object]:
    """Return what captions depend on: not the address of a server, but its model."""
    if not models:
        return [settings.steps(), settings.motion_score]
    names = [models[name].identity if name in models else name for name in settings.steps()]
    return [names, settings.motion_score, settings.key_frames, settings.frame_captions]


_KEPT = "FROM clip_files AS c JOIN selections ON selections.clip = c.id AND name = $selection AND reason IS NULL"
_CLIPS = f"""
SELECT c.id, kind, source_path, source_bytes, source_mtime_ns, fields, start_us, end_us, m.value AS motion {_KEPT}
LEFT JOIN current_scores AS m ON m.clip = c.id AND metric = 'motion' ORDER BY source_path, start_us
"""
# A text without times, or beside an image, speaks of the whole.
_TEXTS = """
SELECT c.id AS clip, s.start_us, s.end_us, s.text FROM asked JOIN clips AS c ON c.id = key
JOIN sources ON sources.id = c.source JOIN sidecars AS s ON s.source = c.source
    AND (kind = 'image' OR s.start_us IS NULL OR (s.start_us < c.end_us AND s.end_us > c.start_us))
ORDER BY ALL
"""
_TOGETHER = 1000
"""Clips whose texts are looked up at once."""


def _clips(manifest: Manifest, selection: str, settings: CaptionSettings) -> Iterator[Clip]:
    most = settings.key_frames if settings.models() else 0
    rows = manifest.stream(_CLIPS, {"selection": selection})
    while chunk := list(islice(rows, _TOGETHER)):
        texts: dict[str, list[Row]] = {}
        for text in manifest.matching(_TEXTS, [row["id"] for row in chunk]):
            texts.setdefault(text.pop("clip"), []).append(text)
        for row in chunk:
            yield Clip(row, tuple(texts.get(row["id"], ())), row.pop("motion"), most)
