"""Which clips no training sees: decided by the manifest alone, so that all runs, and what measures them, leave out the
same.

Whole sources are held out, since shots of one film look alike, and with them the sources that share a picture.
"""

from goku_cli.manifest.store import Manifest

SHARE = 20
"""One source in so many."""
FEW = 5
"""Of a kind with fewer sources none is held out."""
ALIKE = 4.0
"""Levels by which the colors of two clips with one hash may differ, root mean square, for the same picture."""
FAMILIAR = 8
"""A picture that more sources show is a logo or a title, and says nothing of them."""

_PAIRS = f"""
CREATE OR REPLACE TEMP TABLE alike AS
WITH rare AS (
    SELECT key_hash FROM clips GROUP BY key_hash HAVING count(DISTINCT source) BETWEEN 2 AND {FAMILIAR}
), shown AS (SELECT DISTINCT source, key_hash, key_colors::FLOAT[] AS colors FROM clips JOIN rare USING (key_hash))
SELECT DISTINCT one.source AS source, other.source AS twin FROM shown AS one JOIN shown AS other USING (key_hash)
WHERE one.source <> other.source AND list_distance(one.colors, other.colors) <= {ALIKE} * sqrt(len(one.colors))
"""
_GROUPS = """
CREATE OR REPLACE TEMP TABLE families AS SELECT id AS source, id AS family, kind FROM sources
WHERE id IN (SELECT source FROM clips)
"""
# A source takes the least family of those it shares a picture with, until none has a lesser one.
_STEP = """
UPDATE families SET family = lesser.family FROM (
    SELECT alike.source, min(theirs.family) AS family
    FROM alike JOIN families AS theirs ON theirs.source = twin GROUP BY alike.source
) AS lesser WHERE lesser.source = families.source AND lesser.family < families.family
"""
_HELD = f"""
CREATE OR REPLACE TEMP TABLE held_out AS
WITH chosen AS (SELECT family FROM families WHERE ('0x' || left(family, 8))::UBIGINT % {SHARE} = 0),
left_out AS (
    SELECT kind, min(family) AS family FROM families GROUP BY kind
    HAVING count(DISTINCT family) >= {FEW} AND count(*) FILTER (family IN (FROM chosen)) = 0
)
SELECT clips.id AS clip FROM clips JOIN families USING (source)
WHERE family IN (FROM chosen UNION SELECT family FROM left_out)
"""


def mark_held_out(manifest: Manifest) -> None:
    """Write the ids of the clips that are held out into the temporary table `held_out` (clip).

    It is one source in twenty by its id, with those of its family; of a kind of which that is none, but which has a
    few sources, it is the first.
    """
    manifest.execute(_PAIRS)
    manifest.execute(_GROUPS)
    before = None
    while (now := manifest.value("SELECT md5(string_agg(family, ' ' ORDER BY source)) FROM families")) != before:
        before = now
        manifest.execute(_STEP)
    manifest.execute(_HELD)
