"""Near duplicates: the same as comparing every pair, and far fewer comparisons."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goku_cli.filter.duplicates import BUCKET, drop_duplicates, masks
from goku_cli.filter.tier import Duplicates
from goku_cli.manifest.store import Manifest


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    with Manifest(tmp_path_factory.mktemp("twins") / "a.duckdb", create=True) as opened:
        yield opened


def near(rng, count, bits, tones=1):
    """Hashes around a few centers, each a few random bits away, and a tone of color for each."""
    centers = rng.integers(0, 2**64, max(1, count // 8), dtype=np.uint64)
    hashes = rng.choice(centers, count)
    for _ in range(bits):
        hashes ^= np.uint64(1) << rng.integers(0, 64, count, dtype=np.uint64)
    return hashes, rng.integers(0, tones, count)


def dropped(manifest, hashes, tones, limits):
    """Run the search over clips whose merit falls with their number; return the numbers that are dropped."""
    manifest.execute("DELETE FROM clips")
    rows = [
        {"id": f"{i:06}", "key_colors": [int(tone) * 40] * 192}
        for i, tone in enumerate(tones)
    ]  # fmt: skip
    manifest.insert("clips", rows)
    manifest.execute(
        "CREATE OR REPLACE TEMP TABLE decided (clip TEXT, kind TEXT, source TEXT, key_hash TEXT, merit DOUBLE, "
        "reason TEXT, run BIGINT)"
    )
    manifest.insert(
        "decided",
        [
            {"clip": f"{i:06}", "kind": "video", "source": str(i % 3), "key_hash": f"{value:016x}", "merit": -i,
             "reason": None}
            for i, value in enumerate(hashes)
        ],
    )  # fmt: skip
    manifest.execute("ALTER TABLE decided ALTER merit TYPE DOUBLE")
    drop_duplicates(manifest, limits)
    return [int(row["clip"]) for row in manifest.query("SELECT clip FROM decided WHERE reason IS NOT NULL ORDER BY 1")]


def by_brute_force(hashes, tones, limits):
    """Go through the clips, best first, and drop what is like a kept one."""
    kept, gone = [], []
    for i, value in enumerate(hashes):
        alike = any(
            (int(value) ^ int(hashes[k])).bit_count() <= limits.hash_distance
            and abs(int(tones[i]) - int(tones[k])) * 40 <= limits.color_distance
            and (limits.scope == "set" or i % 3 == k % 3)
            for k in kept
        )
        (gone if alike else kept).append(i)
    return gone


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 8), st.integers(1, 4), st.sampled_from(["set", "source"]))
def test_the_same_as_brute_force(manifest, seed, distance, bits, scope):
    hashes, tones = near(np.random.default_rng(seed), 60, bits, tones=3)
    limits = Duplicates(distance, 4.0, scope)
    assert dropped(manifest, hashes, tones, limits) == by_brute_force(hashes, tones, limits)


def test_a_crowd_in_one_bucket_is_thinned_to_one(manifest):
    crowd = np.full(BUCKET * 20, 12345, np.uint64)
    assert len(dropped(manifest, crowd, np.zeros(len(crowd)), Duplicates(6, 4.0))) == len(crowd) - 1


def test_off_keeps_all(manifest):
    assert dropped(manifest, np.zeros(5, np.uint64), np.zeros(5), Duplicates(-1, 4.0)) == []


def test_every_near_pair_shares_a_key():
    rng = np.random.default_rng(0)
    for count in (1_000, 10_000_000):
        keys = masks(6, count)
        for _ in range(200):
            flipped = sum(1 << int(bit) for bit in rng.choice(64, 6, replace=False))
            assert any(flipped & key == 0 for key in keys)
    assert len(masks(6, 10_000_000)) > len(masks(6, 1_000))
