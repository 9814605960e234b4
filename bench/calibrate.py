"""On which scale the embedded scorers' figures lie: python bench/calibrate.py FOLDER_OF_VIDEOS

Each is compared with a truth that is planted into frames of the videos: a cut, a movement, a line of text, a fault.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from goku_cli.filter.motion import dis_flow
from goku_cli.filter.ocr import rapidocr_area
from goku_cli.filter.picture import blur, measured_aesthetic
from goku_cli.filter.sampled import SampledClip, sample
from goku_cli.media.layout import layout, similarity

SIDE = 240


def clips(folder):
    """One clip of up to ten seconds from each video, sampled as the filter samples."""
    return [sample(path, 0, 10_000_000) for path in sorted(Path(folder).glob("*.mp4"))]


def seconds(clip):
    return [layout(frame) for frame in clip.seconds]


def table(title, columns, rows):
    print(f"\n### {title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(f'{cell:.3g}' if isinstance(cell, float) else str(cell) for cell in row)} |")


def similarities(found):
    """Neighbors a second apart in one shot, against frames of two videos, which a missed cut would join."""
    within = [similarity(a, b) for clip in found for a, b in zip(seconds(clip), seconds(clip)[1:], strict=False)]
    firsts = [seconds(clip)[0] for clip in found]
    across = [similarity(a, b) for i, a in enumerate(firsts) for b in firsts[:i]]
    rows = [
        [limit, float(np.mean(np.array(within) < limit)), float(np.mean(np.array(across) >= limit))]
        for limit in (0.7, 0.75, 0.8, 0.85, 0.9)
    ]
    table(
        f"dino_sim by layout ({len(within)} neighbors, {len(across)} pairs of scenes)",
        ["limit", "one shot dropped", "two scenes kept"], rows,
    )  # fmt: skip


def pan(frame, step):
    """A window of 426 x SIDE over an enlarged still, moving `step` pixels per sample."""
    scale = 2 * 426 / frame.shape[1]
    wide = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    moved = (cv2.warpAffine(wide, np.float32([[1, 0, -i * step], [0, 1, 0]]), (426, SIDE)) for i in range(17))
    return SampledClip(tuple(moved))


def movements(found):
    """A camera that moves so many pixels of a 480 frame in a quarter of a second."""
    rows = []
    for true in (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0):
        step = true / 2 / 2  # two samples are a quarter of a second, and the clip is half of 480
        figures = [dis_flow(pan(clip.frames[0], step)) for clip in found]
        rows.append([true, float(np.median(figures)), float(min(figures)), float(max(figures))])
    table("motion by dis", ["planted", "median", "least", "most"], rows)


def texts(found):
    """White letters with a black border; the share of the box that encloses them against the share that is found."""
    rows = []
    for scale in (0.4, 0.6, 1.0, 1.6):
        (width, height), base = cv2.getTextSize("breaking news", cv2.FONT_HERSHEY_SIMPLEX, scale, 2)
        figures, true = [], 0.0
        for clip in found:
            frame = cv2.resize(clip.frames[0], (426, SIDE))
            for color, thickness in (((0, 0, 0), 5), ((255, 255, 255), 2)):
                cv2.putText(frame, "breaking news", (20, 200), cv2.FONT_HERSHEY_SIMPLEX, scale, color, thickness)
            true = width * (height + base) / frame.shape[0] / frame.shape[1]
            figures.append(rapidocr_area(SampledClip((frame,))))
        rows.append([true, float(np.median(figures)), f"{sum(f > 0 for f in figures)} of {len(figures)}"])
    table("ocr_area by rapidocr", ["planted", "median", "found"], rows)


FAULTS = {
    "as it is": lambda f: f,
    "blurred, sigma 2 of 240": lambda f: cv2.GaussianBlur(f, (0, 0), 2),
    "blurred, sigma 4": lambda f: cv2.GaussianBlur(f, (0, 0), 4),
    "a third of the contrast": lambda f: (f / 3.0 + 85).astype(np.uint8),
    "grey": lambda f: np.repeat(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
    "a fifth of the light": lambda f: (f * 0.2).astype(np.uint8),
    "flat": lambda f: np.full_like(f, 128),
}


def looks(found):
    """Key frames as they are and with a fault."""
    frames = [frame for clip in found for frame in clip.seconds]
    rows = []
    for name, fault in FAULTS.items():
        spoiled = [SampledClip((fault(frame),)) for frame in frames]
        score = np.array([measured_aesthetic(clip) for clip in spoiled])
        soft = np.array([blur(clip) for clip in spoiled])
        rows.append([name, float(np.median(score)), float((score < 4.3).mean()), float((score < 4.5).mean())])
        rows[-1] += [float(np.median(soft)), float((soft > 0.6).mean())]
    columns = ["frames", "measured", "below 4.3", "below 4.5", "blur", "above 0.6"]
    table(f"aesthetic by measured, and blur ({len(frames)} frames)", columns, rows)


found = clips(sys.argv[1])
for part in (similarities, movements, texts, looks):
    part(found)
