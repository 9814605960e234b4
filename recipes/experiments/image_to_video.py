"""Experiment 5: image-to-video (paper, section 3.4): is the first frame kept, and does what is in it move as asked?

First frames are rendered with the prompts' own objects, none of which was trained on. The text-to-video model that it
was tuned from draws the same prompts without them.
"""

from typing import Any

import numpy as np
from outcome import WORK, Row, keep
from PIL import Image
from shapes_world import ATTRIBUTES, RADII, make_data, train

from goku_cli.sample.generate import Generator, SampleSettings
from goku_cli.shapes.caption import caption, metadata
from goku_cli.shapes.detect import judge
from goku_cli.shapes.render import render
from goku_cli.shapes.scene import Scene, draw_scene

CLIPS = 64
HEIGHT, WIDTH, FPS, FRAMES = 32, 32, 8, 9


def scenes() -> list[Scene]:
    """Return scenes of one moving object, from a seed that training never saw."""
    return [
        draw_scene(np.random.default_rng([2026, i]), "motion", seconds=1.0, aspect=WIDTH / HEIGHT, radii=RADII)
        for i in range(CLIPS)
    ]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of two pictures, uint8, in dB."""
    return float(10 * np.log10(255**2 / max(np.square(a.astype(float) - b.astype(float)).mean(), 1e-9)))


def run() -> None:
    """Tune the joint model to first frames and keep frame fidelity and attributes, with and without the frame."""
    make_data()
    text_to_video = train("sizes/tiny.toml")
    image_to_video = train("image-to-video/image-to-video.toml")
    drawn = scenes()
    clips = [render(scene, height=HEIGHT, width=WIDTH, fps=FPS, frames=FRAMES) for scene in drawn]
    folder = WORK / "first-frames"
    folder.mkdir(exist_ok=True)
    for i, frames in enumerate(clips):
        Image.fromarray(frames[0]).save(folder / f"{i:03d}.png")
    arms = {"text alone": (text_to_video, False), "first frame and text": (image_to_video, True)}
    rows: list[Row] = []
    for arm, (checkpoint, given) in arms.items():
        generator = Generator.load(checkpoint)
        images = [str(folder / f"{i:03d}.png") if given else "" for i in range(len(drawn))]
        wanted = [generator.request(caption(scene), i, image=images[i]) for i, scene in enumerate(drawn)]
        made = [clip.frames for clip in generator.generate(wanted, SampleSettings())]
        rows.append({"arm": arm} | measured(made, clips, drawn))
    kept = [psnr(restored(generator, frames[0]), frames[0]) for frames in clips]
    rows.append({"arm": "the VAE's own", "psnr_first": float(np.mean(kept))})
    keep(
        "image-to-video", "Image-to-video: the first frame, and what moves", rows, lambda axes: plot(axes, rows),
        panels=2,
    )  # fmt: skip


def measured(made: list[np.ndarray], clips: list[np.ndarray], drawn: list[Scene]) -> Row:
    """Return the PSNR of the first and the last frame, and the share of right attributes."""
    found = [judge(frames, metadata(scene), FPS) for frames, scene in zip(made, drawn, strict=True)]
    row: Row = {
        f"psnr_{name}": float(np.mean([psnr(a[at], b[at]) for a, b in zip(made, clips, strict=True)]))
        for name, at in (("first", 0), ("last", -1))
    }
    for name in ATTRIBUTES:
        values = [judged[name] for judged in found if judged[name] is not None]
        row[name] = float(np.mean(values))
    return row


def restored(generator: Generator, frame: np.ndarray) -> np.ndarray:
    """Return a picture as the VAE gives it back: the most that a first frame can be kept."""
    from goku_cli.model.vae.linear_codec import to_frames, to_unit

    return to_frames(generator.codec.decode(generator.codec.moments(to_unit(frame[None])).mean_CTHW))[0]


def plot(axes: Any, rows: list[Row]) -> None:
    """Draw the first frame's fidelity, and what is right."""
    axes[0].bar([row["arm"] for row in rows], [row["psnr_first"] for row in rows], color=["C0", "C1", "gray"])
    axes[0].set_ylabel("PSNR of frame 0 (dB)")
    axes[0].tick_params(axis="x", labelsize=8)
    places = np.arange(len(ATTRIBUTES))
    for i, row in enumerate(rows[:2]):
        axes[1].bar(places + 0.4 * i - 0.2, [row[name] for name in ATTRIBUTES], 0.4, label=row["arm"])
    axes[1].set_xticks(places, ATTRIBUTES)
    axes[1].set_ylabel("share right")
    axes[1].legend(fontsize=8)
    for axis in axes:
        axis.grid(axis="y", alpha=0.3)
