"""Near duplicates among many clips: found without comparing every pair, decided in favor of the better clip.

Two hashes of 64 bits that differ in at most k bits, cut into k + c blocks, agree in at least c of the blocks
(Norouzi et al. 2012, "Fast search in Hamming space with multi-index hashing"). So for each choice of c blocks the
clips are joined on those blocks alone. A larger c makes more joins of far smaller buckets; the cheapest c for the
number of clips keeps the work nearly linear in it. All of it is SQL over tables that DuckDB may spill to disk.
"""

import itertools
import math

from goku_cli.filter.tier import Duplicates
from goku_cli.manifest.store import Manifest
from goku_cli.media.layout import GRID

BITS = 64
BUCKET = 256
"""Clips of one bucket that are compared with each other, neighbors in rank. A larger bucket (a logo that a channel
shows ten thousand times) is thinned from round to round instead of being compared pair by pair."""

ROW = 20.0
"""What it costs to hash a row into a join, in comparisons of a pair."""


def drop_duplicates(manifest: Manifest, limits: Duplicates) -> None:
    """Among the kept clips in `decided`, give those that look like a better one a reason.

    Reads `decided` (clip, kind, source, key_hash, merit, reason): of two alike the one with more merit stays.
    """
    if limits.hash_distance < 0:
        return
    scope = "source" if limits.scope == "source" else "''"
    manifest.execute(
        "CREATE OR REPLACE TEMP TABLE survivors AS SELECT clip, kind || '/' || "
        f"{scope} AS scope, ('0x' || key_hash)::UBIGINT AS hash, "
        "row_number() OVER (ORDER BY coalesce(merit, 0) DESC, clip) AS rank FROM decided WHERE reason IS NULL"
    )
    manifest.execute("CREATE OR REPLACE TEMP TABLE dropped (rank BIGINT, clip TEXT, reason TEXT)")
    crowded = True
    while crowded:
        crowded = _find_pairs(manifest, limits)
        while manifest.value("SELECT count(*) FROM pairs"):
            _settle(manifest)
        removed = manifest.value("SELECT count(*) FROM survivors SEMI JOIN dropped USING (rank)")
        manifest.execute("DELETE FROM survivors WHERE rank IN (SELECT rank FROM dropped)")
        crowded = crowded and removed > 0
    manifest.execute("UPDATE decided SET reason = dropped.reason FROM dropped WHERE dropped.clip = decided.clip")


def masks(distance: int, count: int) -> list[int]:
    """Return the bits of the hash on which to join, one mask for each join.

    `distance` is the greatest number of differing bits, `count` the number of hashes.
    """
    chosen = min(range(1, 5), key=lambda agreeing: _cost(distance, agreeing, count))
    edges = [round(BITS * part / (distance + chosen)) for part in range(distance + chosen + 1)]
    blocks = [(1 << end) - (1 << start) for start, end in itertools.pairwise(edges)]
    return [sum(blocks) for blocks in itertools.combinations(blocks, chosen)]


def _cost(distance: int, agreeing: int, count: int) -> float:
    """Work of the joins, for hashes that are spread evenly: rows that go in, and pairs that meet."""
    joins = math.comb(distance + agreeing, agreeing)
    return joins * (ROW * count + count**2 / 2 ** (BITS * agreeing / (distance + agreeing)))


def _find_pairs(manifest: Manifest, limits: Duplicates) -> bool:
    """Fill `pairs` (better, worse, distance, apart) with survivors that are alike.

    Returns whether a bucket was so full that only neighbors in rank were compared in it.
    """
    count = manifest.value("SELECT count(*) FROM survivors")
    manifest.execute("CREATE OR REPLACE TEMP TABLE near (better BIGINT, worse BIGINT, distance BIGINT)")
    crowded = False
    for mask in masks(limits.hash_distance, count):
        keyed = f"SELECT scope, hash, rank, hash & {mask} AS key FROM survivors"
        groups = f"SELECT count(*) AS n FROM ({keyed}) GROUP BY scope, key"
        full = (manifest.value(f"SELECT max(n) FROM ({groups})") or 0) > BUCKET
        crowded |= full
        _join(manifest, _neighbors(keyed) if full else (keyed, keyed), limits.hash_distance)
    cells = GRID * GRID * 3
    manifest.execute(
        "CREATE OR REPLACE TEMP TABLE pairs AS SELECT better, worse, distance, "
        f"array_distance(b.key_colors::FLOAT[{cells}], w.key_colors::FLOAT[{cells}]) / sqrt({cells}) AS apart "
        "FROM (SELECT DISTINCT * FROM near) "
        "JOIN survivors AS good ON good.rank = better JOIN survivors AS bad ON bad.rank = worse "
        "JOIN clips AS b ON b.id = good.clip JOIN clips AS w ON w.id = bad.clip WHERE apart <= ?",
        [limits.color_distance],
    )
    return crowded


def _neighbors(keyed: str) -> tuple[str, str]:
    """Return SQL for the better and the worse side of a join in which a clip meets only its neighbors in rank."""
    part = f"row_number() OVER (PARTITION BY scope, key ORDER BY rank) // {BUCKET}"
    placed = f"SELECT scope, hash, rank, key, {part} AS part FROM ({keyed})"
    key = "{'key': key, 'part': part} AS key"
    worse = f"SELECT scope, hash, rank, {key} FROM ({placed})"
    next_part = f"SELECT scope, hash, rank, {key.replace('part}', 'part + 1}')} FROM ({placed})"
    return f"{worse} UNION ALL {next_part}", worse


def _join(manifest: Manifest, sides: tuple[str, str], distance: int) -> None:
    better, worse = sides
    manifest.execute(
        "INSERT INTO near SELECT better.rank, worse.rank, bit_count(xor(better.hash, worse.hash)) AS distance "
        f"FROM ({better}) AS better JOIN ({worse}) AS worse USING (scope, key) "
        "WHERE better.rank < worse.rank AND distance <= ?",
        [distance],
    )


def _settle(manifest: Manifest) -> None:
    """Drop what is like a clip that nothing better is like; a dropped clip drops no other."""
    manifest.execute(
        "CREATE OR REPLACE TEMP TABLE losers AS SELECT worse AS rank, arg_min(better, better) AS winner, "
        "arg_min(distance, better) AS distance, arg_min(apart, better) AS apart FROM pairs "
        "WHERE better NOT IN (SELECT worse FROM pairs) GROUP BY worse"
    )
    manifest.execute(
        "INSERT INTO dropped SELECT losers.rank, worse.clip, printf('near duplicate (hash %d, colors %.2g apart) of ', "
        "distance, apart) || better.clip FROM losers JOIN survivors AS worse USING (rank) "
        "JOIN survivors AS better ON better.rank = winner"
    )
    gone = "(SELECT rank FROM losers)"
    manifest.execute(f"DELETE FROM pairs WHERE better IN {gone} OR worse IN {gone}")
