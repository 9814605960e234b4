"""Write a raw collection of the moving-shapes world: real files with planted faults, and their truth.

Beside `x.mp4` or `x.png` stands `x.json`: captions as a crawler would have found them (a planted wrong one
included; its "metadata" is still the truth), the cuts, and per shot what is shown and what is wrong with it.
The sidecar is written last, so a file that has one of this seed and world is whole and is skipped. `synth.json` lists
everything and is written at the end.
"""

import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from goku_cli.media.ffmpeg import write_image, write_video
from goku_cli.publish import publish
from goku_cli.shapes.render import iter_frames
from goku_cli.synth.defects import Damage, Grain
from goku_cli.synth.shots import FADE_FRAMES, FPS, WHOLE, Shot, VideoPlan, World, plan_image, plan_video

CATALOG = "synth.json"
BROKEN_EVERY = 6
"""One video in so many also leaves a truncated copy of itself, as an interrupted download does."""
_BROKEN_BYTES = 1024


def make(
    out: Path,
    *,
    videos: int,
    images: int,
    seed: int,
    world: World = WHOLE,
    advance: Callable[[int], None] = lambda count: None,
    workers: int = 2,
) -> dict[str, Any]:
    """Write videos (H.264, 24 fps) and images (PNG) with sidecars to `out`; call `advance` per file.

    Returns {"videos", "images", "broken", "written", "skipped", "shots", "defects": {kind: count},
    "seconds"}.
    A file depends on (seed, world, its index) alone: asking for more later adds files and changes none.
    """
    out.mkdir(parents=True, exist_ok=True)
    jobs = [("video", index) for index in range(videos)] + [("image", index) for index in range(images)]
    todo = [job for job in jobs if not _is_done(_path(out, *job), _origin(seed, world))]
    advance(len(jobs) - len(todo))
    for _ in _run(out, seed, world, todo, workers):
        advance(1)
    return _summarize(out, jobs, seed, world, written=len(todo))


def _run(out: Path, seed: int, world: World, todo: list[tuple[str, int]], workers: int) -> Iterator[None]:
    if workers < 2 or len(todo) < 2:
        for job in todo:
            _write(out, seed, world, *job)
            yield
        return
    # Spawned, not forked: OpenCV's and the parent's threads do not survive a fork.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        futures = [pool.submit(_write, out, seed, world, *job) for job in todo]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


def _write(out: Path, seed: int, world: World, kind: str, index: int) -> None:
    cv2.setNumThreads(1)
    (_write_video if kind == "video" else _write_image)(out, seed, world, index)


def _write_video(out: Path, seed: int, world: World, index: int) -> None:
    path, plan = _path(out, "video", index), plan_video(seed, index, world)
    rng = np.random.default_rng([seed, 2, index])
    write_video(path, _film(plan, rng, world.video_size), fps=FPS)
    if index % BROKEN_EVERY == BROKEN_EVERY - 1:
        broken = _path(out, "broken", index)
        with publish(broken) as temporary:
            temporary.write_bytes(path.read_bytes()[:_BROKEN_BYTES])
        sidecar = {
            "kind": "video",
            "captions": [],
            "cuts": [],
            "shots": [],
            "defects": ["broken"],
            **_origin(seed, world),
        }
        _write_json(broken.with_suffix(".json"), sidecar)
    _write_json(path.with_suffix(".json"), _video_truth(plan, out) | _origin(seed, world))


def _film(plan: VideoPlan, rng: np.random.Generator, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """All frames of a video in order, with damage, grain and fades."""
    half = FADE_FRAMES // 2
    fades = (*plan.fades, False)
    comes_in_from_black = False
    for shot, fade in zip(plan.shots, fades, strict=True):
        height, width = size
        damage, grain = Damage(shot.defect, rng), Grain(height, width, rng)
        frame = np.zeros((height, width, 3), np.uint8)
        frames = iter_frames(shot.scene, height=height, width=width, fps=FPS, frames=shot.frames)
        for number, clean in enumerate(frames):
            frame = grain(damage(clean))
            if number == 0 and comes_in_from_black:
                yield from (cv2.convertScaleAbs(frame, alpha=step / half) for step in range(half))
            yield frame
        if fade:
            yield from (cv2.convertScaleAbs(frame, alpha=1 - (step + 1) / half) for step in range(half))
        comes_in_from_black = fade


def _video_truth(plan: VideoPlan, out: Path) -> dict[str, Any]:
    starts = plan.starts()
    spans = [(start / FPS, (start + shot.frames) / FPS) for start, shot in zip(starts, plan.shots, strict=True)]
    cuts = [
        {
            "time": (before[1] + after[0]) / 2,
            "kind": "fade" if fade else "hard",
            "start": before[1],
            "end": after[0],
        }
        for before, after, fade in zip(spans, spans[1:], plan.fades, strict=False)
    ]
    shots = [_shot_truth(shot, *span, out) for shot, span in zip(plan.shots, spans, strict=True)]
    captions = [_caption_truth(shot, *span) for shot, span in zip(plan.shots, spans, strict=True)]
    return {"kind": "video", "captions": captions, "cuts": cuts, "shots": shots, "defects": []}


def _write_image(out: Path, seed: int, world: World, index: int) -> None:
    path, (shot, (height, width)) = _path(out, "image", index), plan_image(seed, index, world)
    damage = Damage(shot.defect, np.random.default_rng([seed, 3, index]))
    frame = damage(next(iter_frames(shot.scene, height=height, width=width, fps=1, frames=1)))
    if shot.defect == "near_duplicate":
        # One level of brightness: another file to a hash of bytes, the same picture to an eye.
        frame = np.minimum(frame, 254) + np.uint8(1)
    write_image(path, frame)
    truth = {
        "kind": "image",
        "captions": [_caption_truth(shot, 0.0, 0.0)],
        "cuts": [],
        "shots": [_shot_truth(shot, 0.0, 0.0, out)],
        "defects": [],
    }
    _write_json(path.with_suffix(".json"), truth | _origin(seed, world))


def _shot_truth(shot: Shot, start: float, end: float, out: Path) -> dict[str, Any]:
    kind = "image" if shot.frames == 1 else "video"
    twin = None
    if shot.twin is not None:
        # What is repeated is always the first shot of its file, and as long.
        twin = {"file": _path(out, kind, shot.twin).name, "start": 0.0, "end": end - start}
    return {
        "start": start,
        "end": end,
        "task": shot.scene.task,
        "metadata": shot.truth,
        "defect": shot.defect,
        "twin": twin,
    }


def _caption_truth(shot: Shot, start: float, end: float) -> dict[str, Any]:
    return {"start": start, "end": end, "text": shot.text, "metadata": shot.truth}


def _path(out: Path, kind: str, index: int) -> Path:
    return out / f"{kind}-{index:05d}{'.png' if kind == 'image' else '.mp4'}"


def _origin(seed: int, world: World) -> dict[str, Any]:
    """Return what a file depends on beside its index, as its sidecar says it."""
    return {"seed": seed, **json.loads(json.dumps(asdict(world)))}  # tuples as a file gives them back


def _is_done(path: Path, origin: dict[str, Any]) -> bool:
    sidecar = path.with_suffix(".json")
    if not path.exists() or not sidecar.exists():
        return False
    said = json.loads(sidecar.read_text())
    return all(said.get(name) == value for name, value in origin.items())


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with publish(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def _summarize(out: Path, jobs: list[tuple[str, int]], seed: int, world: World, written: int) -> dict[str, Any]:
    files = [_path(out, *job) for job in jobs]
    broken = [_path(out, "broken", i) for kind, i in jobs if kind == "video" and i % BROKEN_EVERY == BROKEN_EVERY - 1]
    truths = [json.loads(path.with_suffix(".json").read_text()) for path in files]
    shots = [shot for truth in truths for shot in truth["shots"]]
    counts = Counter(kind for kind, _ in jobs)
    catalog = {
        "arguments": {"videos": counts["video"], "images": counts["image"], **_origin(seed, world)},
        "files": [path.name for path in files + broken],
    }
    if not (out / CATALOG).exists() or json.loads((out / CATALOG).read_text()) != catalog:
        _write_json(out / CATALOG, catalog)
    return {
        "videos": counts["video"],
        "images": counts["image"],
        "broken": len(broken),
        "written": written,
        "skipped": len(jobs) - written,
        "shots": len(shots),
        "defects": dict(sorted(Counter(shot["defect"] for shot in shots if shot["defect"]).items())),
        "seconds": round(sum(truth["shots"][-1]["end"] for truth in truths), 3),
    }
