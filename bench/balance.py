"""How long balancing takes: python bench/balance.py 36000000

Fills a manifest with tagged clips, half of them kept, and weighs them as `goku balance --tagger kept` does.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

from goku_cli.balance.balance import balance
from goku_cli.balance.taxonomy import load_taxonomy
from goku_cli.manifest.store import Manifest

taxonomy = load_taxonomy("default")
classes = [(name, sub) for name, primary in taxonomy.classes.items() for sub in primary.subcategories]
print("| clips | seconds | again | peak memory |\n|---|---|---|---|")
for count in map(int, sys.argv[1:]):
    with tempfile.TemporaryDirectory() as folder, Manifest(Path(folder) / "a.duckdb", create=True) as manifest:
        manifest.execute('CREATE TEMP TABLE classes (i BIGINT, "primary" TEXT, subcategory TEXT, run BIGINT)')
        manifest.insert(
            "classes", [{"i": i, "primary": name, "subcategory": sub} for i, (name, sub) in enumerate(classes)]
        )
        manifest.execute(
            "INSERT INTO tags SELECT md5(n::TEXT), \"primary\", subcategory, 0.5, 'rules@1', 1 FROM range(?) AS t (n) "
            "JOIN classes ON i = (86 * pow((hash(n) % 1000000) / 1000000, 2))::BIGINT % 86", [count],
        )  # fmt: skip
        manifest.execute(
            "INSERT INTO selections SELECT '480p', md5(n::TEXT), 1, NULL, 1 FROM range(?) AS t (n)", [count]
        )
        manifest.execute("CHECKPOINT")
        took = []
        for _ in range(2):
            started = time.monotonic()
            done = balance(manifest, "480p", taxonomy)
            took.append(time.monotonic() - started)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"| {done.clips:,} | {took[0]:.1f} | {took[1]:.1f} | {peak:.1f} GiB |", flush=True)
