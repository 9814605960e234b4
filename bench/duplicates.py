"""How long the search for near duplicates takes, and how much memory: python bench/duplicates.py 1000000 10000000

Random hashes, of which one in twenty is a copy of another one with up to four bits flipped.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

from goku_cli.filter.duplicates import drop_duplicates, masks
from goku_cli.filter.tier import Duplicates
from goku_cli.manifest.store import Manifest

CLIPS = """
INSERT INTO clips (id, key_hash, key_colors)
WITH drawn AS (
    SELECT i, CASE WHEN i % 20 = 0 THEN xor(hash(i + 1), xor(1::UBIGINT << (i // 20 % 60)::INTEGER, 1::UBIGINT))
        ELSE hash(i) END AS h FROM range({count}) AS numbers (i)
)
SELECT printf('%032x', i), printf('%016x', h), list_transform(range(192), lambda x: 128)::UTINYINT[] FROM drawn
"""

print("| clips | joins | seconds | dropped | peak memory |\n|---|---|---|---|---|")
for count in map(int, sys.argv[1:]):
    with tempfile.TemporaryDirectory() as folder, Manifest(Path(folder) / "a.duckdb", create=True) as manifest:
        manifest.execute("SET memory_limit = '4GB'")
        manifest.execute(CLIPS.format(count=count))
        manifest.execute(
            "CREATE TEMP TABLE decided AS SELECT id AS clip, 'video' AS kind, '' AS source, key_hash, "
            "0.0::DOUBLE AS merit, NULL::TEXT AS reason FROM clips"
        )
        started = time.monotonic()
        drop_duplicates(manifest, Duplicates(6, 4.0))
        seconds = time.monotonic() - started
        gone = manifest.value("SELECT count(*) FROM decided WHERE reason IS NOT NULL")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"| {count:,} | {len(masks(6, count))} | {seconds:.1f} | {gone:,} | {peak:.1f} GiB |", flush=True)
