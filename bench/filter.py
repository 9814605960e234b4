"""All embedded scorers of `goku filter` against Data-Juicer's motion filter alone, on the same clips.

python bench/filter.py FOLDER --data-juicer /path/to/dj-process

Data-Juicer's text and aesthetic filters need weights that have to be downloaded; its motion filter (Farneback) needs
none. It gets the frame size and the pairs per second of ours. Both are timed as whole commands.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

RECIPE = """
project_name: bench
dataset_path: {folder}/clips.jsonl
export_path: {folder}/out/kept.jsonl
np: 2
use_cache: false
process:
  - video_motion_score_filter: {{min_score: 0.0, sampling_fps: {fps}, size: 240}}
"""


def timed(*command):
    """Return the seconds of a command."""
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - started


parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("--data-juicer", required=True)
asked = parser.parse_args()
videos = sorted(asked.folder.resolve().glob("*.mp4"))
with tempfile.TemporaryDirectory() as folder:
    manifest = f"{folder}/a.duckdb"
    timed("goku", "ingest", *videos, "-m", manifest, "--rules", "none")
    # One clip per file: nothing that the detectors could cut.
    timed("goku", "split", manifest, "--threshold", "1000", "--min-similarity", "0", "--max-seconds", "100")
    rows = [f"| goku filter, 11 scorers | {timed('goku', 'filter', manifest):.1f} |"]
    lines = [json.dumps({"text": "<__dj__video>", "videos": [str(path)]}) for path in videos]
    Path(folder, "clips.jsonl").write_text("\n".join(lines))
    for fps in (2, 4):
        Path(folder, "recipe.yaml").write_text(RECIPE.format(folder=folder, fps=fps))
        seconds = timed(asked.data_juicer, "--config", f"{folder}/recipe.yaml")
        rows.append(f"| Data-Juicer, motion alone, {fps} frames per second | {seconds:.1f} |")
print(f"{len(videos)} files\n\n| | seconds |\n|---|---|\n" + "\n".join(rows))
