"""How fast `goku split` is beside PySceneDetect's own command and beside plain decoding, in one run.

Usage: python bench/split.py FOLDER [--files 6]

FOLDER holds a few real videos; 60 s files of 1280x720 are made of them in a temporary folder. Prints a markdown table.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import av

from goku_cli.manifest.store import Manifest
from goku_cli.media.ffmpeg import executable

SECONDS, FPS = 60, 25
PRESET, CRF = "veryfast", 22
"""What PySceneDetect's split-video uses."""


def make(sources: list[Path], target: Path, turn: int) -> None:
    """Join the sources again and again, beginning with another one in each file."""
    order = sources[turn % len(sources) :] + sources[: turn % len(sources)]
    scale = "scale=1280:720:force_original_aspect_ratio=increase,crop=1280:720,setsar=1"
    inputs = [word for source in order * 2 for word in ("-i", str(source))]
    chains = [f"[{n}:v]{scale},fps={FPS},format=yuv420p[v{n}]" for n in range(2 * len(order))]
    joined = "".join(f"[v{n}]" for n in range(2 * len(order))) + f"concat=n={2 * len(order)}[out]"
    coding = ["-map", "[out]", "-t", str(SECONDS), "-c:v", "libx264", "-preset", "veryfast", "-crf", "21", "-g", "250"]
    words = [executable(), "-loglevel", "error", "-y", *inputs, "-filter_complex", ";".join([*chains, joined]), *coding]
    subprocess.run([*words, str(target)], check=True)


def seconds(words: list[str], folder: Path) -> float:
    """Wall time of a command."""
    started = time.monotonic()
    subprocess.run(words, check=True, cwd=folder, capture_output=True)
    return time.monotonic() - started


def decode(path: str) -> int:
    """Decode a file with the library's automatic threads and do nothing with it."""
    with av.open(path) as container:
        container.streams.video[0].thread_type = "AUTO"
        return sum(1 for _ in container.decode(video=0))


def goku(folder: Path, name: str, *options: str) -> float:
    """Wall time of `goku split` on a manifest of its own."""
    manifest = folder / f"{name}.duckdb"
    subprocess.run(
        ["goku", "ingest", str(folder / "raw"), "-m", str(manifest), "--rules", "none"], check=True, capture_output=True
    )
    return seconds(["goku", "split", str(manifest), "--detector", "content", *options], folder)


def scenes(files: list[Path], folder: Path, *command: str) -> float:
    """Wall time of PySceneDetect's command, file by file, as its users run it."""
    return sum(
        seconds(["scenedetect", "-i", str(path), "-o", str(folder / "scenes"), "detect-content", *command], folder)
        for path in files
    )


def cuts(folder: Path, files: list[Path]) -> tuple[int, int, int]:
    """How many cuts ours and PySceneDetect's list have, and how many they share."""
    ours, theirs = set(), set()
    with Manifest(folder / "a.duckdb", read_only=True) as manifest:
        rows = manifest.query("SELECT source_path, start_us FROM clip_files WHERE start_us > 0 AND opened_by = 'cut'")
    ours = {(Path(row["source_path"]).name, round(row["start_us"] * FPS / 1e6)) for row in rows}
    for path in files:
        lines = (folder / "scenes" / f"{path.stem}-Scenes.csv").read_text().splitlines()[2:]
        theirs |= {(path.name, int(line.split(",")[1]) - 1) for line in lines if int(line.split(",")[1]) > 1}
    return len(ours), len(theirs), len(ours & theirs)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=6)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "raw").mkdir()
        files = [folder / "raw" / f"{n}.mp4" for n in range(options.files)]
        for turn, path in enumerate(files):
            make(sorted(options.folder.glob("*.mp4")), path, turn)
        started = time.monotonic()
        with ProcessPoolExecutor() as pool:
            frames = sum(pool.map(decode, map(str, files)))
        plain = time.monotonic() - started
        split = goku(folder, "a", "--min-seconds", "0")  # or a cut between two short clips would not be seen
        listed = scenes(files, folder, "list-scenes")
        encoding = ["--crf", str(CRF), "--preset", PRESET]
        written = goku(folder, "b", "--write-clips", str(folder / "clips"), *encoding)
        cut = scenes(files, folder, "split-video", "--preset", PRESET, "--rate-factor", str(CRF))
        counts = cuts(folder, files)
    print(
        f"{len(files)} files of {SECONDS} s, 1280x720, {frames} frames; cuts: ours {counts[0]}, PySceneDetect's "
        f"{counts[1]}, the same {counts[2]}.\n"
    )
    print("| what | seconds | frames/s | goku's rate beside it |\n|---|---|---|---|")
    for what, took, beside in (
        ("decoding alone, PyAV, a process per core", plain, plain / split),
        ("goku split", split, 1.0),
        ("scenedetect detect-content list-scenes", listed, listed / split),
        ("goku split --write-clips", written, 1.0),
        ("scenedetect detect-content split-video", cut, cut / written),
    ):
        print(f"| {what} | {took:.1f} | {frames / took:.0f} | {beside:.2f} |")


if __name__ == "__main__":
    sys.exit(main())
