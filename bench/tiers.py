"""A second tier over clips that were measured: python bench/tiers.py 100000 1000000

Fills a manifest with measured clips and runs the real command; prints seconds and peak memory of it.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from goku_cli.filter.scorers import in_use, label
from goku_cli.manifest.store import Manifest

FILL = [
    "INSERT INTO sources (id, kind) SELECT printf('%032x', i), 'video' FROM range({n} // 10) AS t (i)",
    "INSERT INTO source_paths (source, path, bytes, mtime_ns) SELECT id, '/videos/' || id || '.mp4', 1, 1 FROM sources",
    "INSERT INTO clips (id, source, start_us, end_us, frames, width, height, fps, key_hash, key_colors) "
    "SELECT printf('%032x', i), printf('%032x', i // 10), i % 10 * 5000000, i % 10 * 5000000 + 5000000, 120, 1920, "
    "1080, 24, printf('%016x', hash(i)), list_transform(range(192), lambda x: (hash(i, x) % 256)::UTINYINT) "
    "FROM range({n}) AS t (i)",
]
FIGURES = {"dino_sim": (0.7, 0.3), "aesthetic": (3, 5), "ocr_area": (0, 0.03), "motion": (0, 30), "shake": (0, 10)}

print("| clips | seconds | peak memory |\n|---|---|---|")
for count in map(int, sys.argv[1:]):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.duckdb"
        with Manifest(path, create=True) as manifest:
            for statement in FILL:
                manifest.execute(statement.format(n=count))
            for metric, scorer in in_use([]).items():
                low, span = FIGURES.get(metric, (0, 0))
                manifest.execute(
                    "INSERT INTO scores SELECT id, ?, ? + ? * (hash(id, ?) % 1000) / 1000, ?, 1 FROM clips",
                    [metric, low, span, metric, label(scorer)],
                )
        started = time.monotonic()
        subprocess.run(["goku", "filter", path, "--tier", "720p"], check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        print(f"| {count:,} | {seconds:.1f} | {peak:.2f} GiB |", flush=True)
