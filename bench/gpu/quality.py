"""What recipes/shapes-gpu.toml learns in the time that there is: scenes rendered here, trained on, drawn and judged.

Scenes are rendered straight at 48x80, without files; the same tasks, pairs and sizes of things as `./just shapes-gpu`.
A first start measures the rate, from which the steps follow that fit. OUT/samples.png shows a row of frames for every
eighth prompt.
"""

import os
import re
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from launched import Training
from lines import arguments, report
from made import Sample, make

from goku_cli.encode.settings import EncodeSettings
from goku_cli.evaluate.shapes.scores import controls, sample_figures, score_sample
from goku_cli.model.text.words import WordEncoder
from goku_cli.model.vae.linear_codec import LinearCodec, to_unit
from goku_cli.sample.generate import Generator, SampleSettings
from goku_cli.shapes.caption import caption
from goku_cli.shapes.prompts import benchmark_prompts
from goku_cli.shapes.render import render
from goku_cli.shapes.scene import RADII, draw_scene

RECIPE = Path(__file__).parents[2] / "recipes" / "shapes-gpu.toml"
IMAGES, CLIPS = 12_000, 6_000
MOVING = ("motion", "camera", "two_motion")
CHANNELS, FIT = 32, 1_024
HEIGHT, WIDTH, FRAMES, FPS = 48, 80, 9, 8.0
FINER = 4
"""Scenes are rendered so many times as large and shrunk, as a real file is."""
PROBE_SECONDS = 60.0
DRAWING_SECONDS = 45.0
"""For samples and their judgement."""
COUNT, GUIDANCE = 4, 2.0


def scene(number: int) -> tuple[np.ndarray, str]:
    """Return the frames (T, H, W, 3) uint8 and the caption of a scene."""
    rng = np.random.default_rng([number, 0])
    moving = number >= IMAGES
    tasks = MOVING if moving else [task for task in RADII if task not in MOVING]
    frames = FRAMES if moving else 1
    drawn = draw_scene(rng, str(rng.choice(tasks)), seconds=frames / FPS if moving else 0, aspect=WIDTH / HEIGHT)
    large = render(drawn, height=FINER * HEIGHT, width=FINER * WIDTH, fps=FPS, frames=frames)
    small = [cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for frame in large]
    return np.stack(small), caption(drawn)


def manifest_of(folder: Path, images: int, clips: int) -> Path:
    """Render, fit the codec, encode."""
    numbers = [*range(images), *range(IMAGES, IMAGES + clips)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        scenes = list(pool.map(scene, numbers, chunksize=50))
    codec = LinearCodec.fit([to_unit(frames) for frames, _ in scenes[:: max(1, len(scenes) // FIT)]], CHANNELS)
    samples = (
        Sample(codec.moments(to_unit(frames)).mean_CTHW.numpy().astype(np.float16), said) for frames, said in scenes
    )
    encoder = WordEncoder()
    states = {said: encoder.encode(said).numpy().astype(np.float16) for said in {said for _, said in scenes} | {""}}
    settings = EncodeSettings(size=f"{HEIGHT}x{WIDTH}", frames=FRAMES, fps=FPS, channels=CHANNELS, text="words")
    return make(folder / "shapes.duckdb", samples, codec, settings, "words", states)


def recipe_of(folder: Path, steps: int, smoke: bool, device: torch.device) -> Path:
    """Return the recipe with so many steps; a smoke test is small."""
    text = re.sub(r"(?m)^steps = \d+", f"steps = {steps}", RECIPE.read_text())
    text = re.sub(r"(?m)^(save|eval)_every = \d+", r"\1_every = 100000", text)
    if smoke or device.type == "cpu":
        text = re.sub(r"(?m)^tokens_per_step = \d+", "tokens_per_step = 512", text)
        text = text.replace("bf16 = true", "bf16 = false").replace("compile = true", "compile = false")
        text = re.sub(r"(?m)^layers = \d+", "layers = 2", text)
        text = re.sub(r"(?m)^log_every = \d+", "log_every = 2", text)
        text = re.sub(r"(?m)^readers = \d+", "readers = 0", text)
    path = folder / f"shapes-{steps}.toml"
    path.write_text(text)
    return path


def trained(options, folder: Path, manifest: Path, end: float) -> Path:
    """Return the run of as many steps as there is time for."""
    log = options.out / "quality.launch.log"
    probe = Training(recipe_of(folder, 1_000_000, options.smoke, options.device), manifest, folder / "probe", log)
    started = time.monotonic()
    try:
        for _ in probe.wait(PROBE_SECONDS, 8):
            pass
        lines = probe.lines()
        start_up = time.monotonic() - started
    finally:
        probe.stop()
    if not lines:
        raise SystemExit(f"no step was logged in {start_up:.0f} s")
    rate = max(line["steps_per_second"] for line in lines)
    steps = 4 if options.smoke else int((end - time.monotonic() - DRAWING_SECONDS - 0.7 * start_up) * rate * 0.95)
    report("rate", steps_per_second=rate, tokens_per_second=max(line["tokens_per_second"] for line in lines),
           data_wait=lines[-1]["data_wait"], steps=steps)  # fmt: skip
    training = Training(recipe_of(folder, steps, options.smoke, options.device), manifest, folder / "runs", log)
    try:
        for _ in training.wait(end - time.monotonic() - DRAWING_SECONDS / 2):
            pass
        if not training.ended:
            raise SystemExit(f"{len(training.lines())} lines were logged, and the time is over")
        lines = training.lines()
    finally:
        training.stop()
    assert training.run is not None
    report("training", steps=steps, loss=lines[-1]["loss"], tokens_per_second=lines[-1]["tokens_per_second"],
           data_wait=lines[-1]["data_wait"], seconds=steps / lines[-1]["steps_per_second"])  # fmt: skip
    return training.run


def main() -> None:
    """Report the figures of seen and held-out prompts."""
    options = arguments(__doc__)
    end = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.monotonic()
        manifest = manifest_of(folder, *((60, 30) if options.smoke else (IMAGES, CLIPS)))
        report("data", seconds=time.monotonic() - started)
        generator = Generator.load(trained(options, folder, manifest, end), device=str(options.device))
        rows = [row for row in benchmark_prompts() for _ in range(1 if options.smoke else COUNT)]
        rows = rows[:6] if options.smoke else rows
        requests = [generator.request(row["prompt"], i, row["frames"]) for i, row in enumerate(rows)]
        settings = SampleSettings(steps=2 if options.smoke else 25, guidance=GUIDANCE)
        clips = [clip.frames for clip in generator.generate(requests, settings)]
    asked = [row["metadata"] for row in rows]
    scored = [
        (row["metadata"], row["seen"], score_sample(frames, row["metadata"], other, FPS))
        for row, frames, other in zip(rows, clips, controls(asked), strict=True)
    ]
    for figure in sample_figures(scored):
        report(f"{figure.metric} {figure.tag}", value=figure.value, n=figure.n)
    sheet = [np.concatenate([frames[i % len(frames)] for i in range(0, FRAMES, 2)], axis=1) for frames in clips[::8]]
    cv2.imwrite(str(options.out / "samples.png"), np.concatenate(sheet)[..., ::-1])


if __name__ == "__main__":
    main()
