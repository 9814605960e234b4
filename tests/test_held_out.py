"""Which clips no training sees: whole sources and their like, some of every kind."""

import hashlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from goku_cli.manifest.held_out import FAMILIAR, FEW, mark_held_out
from goku_cli.manifest.store import Manifest

COLORS = list(range(48))


def named(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def held(path, sources: dict[int, list[str]], kinds: dict[int, str] | None = None, colors=None) -> set[int]:
    """The sources that are held out, of sources whose clips show pictures of these hashes."""
    path.unlink(missing_ok=True)
    with Manifest(path, create=True) as manifest:
        manifest.begin_run("test", {})
        kind_of = kinds or {}
        manifest.insert("sources", [{"id": named(n), "kind": kind_of.get(n, "video")} for n in sources])
        clips = [
            {
                "id": f"{n}-{i}", "source": named(n), "key_hash": picture,
                "key_colors": (colors or {}).get(n, COLORS),
            }
            for n, pictures in sources.items()
            for i, picture in enumerate(pictures)
        ]  # fmt: skip
        manifest.insert("clips", clips)
        mark_held_out(manifest)
        found = {row["clip"] for row in manifest.query("SELECT clip FROM held_out")}
    sides = {n: {f"{n}-{i}" in found for i in range(len(pictures))} for n, pictures in sources.items()}
    assert all(len(side) == 1 for side in sides.values())  # all shots of a film lie on one side
    return {n for n, side in sides.items() if side == {True}}


def alone(count: int) -> dict[int, list[str]]:
    return {n: [f"{n:08x}{i:08x}" for i in range(1 + n % 3)] for n in range(count)}


def test_one_source_in_twenty_whatever_else_there_is(tmp_path):
    found = held(tmp_path / "a.duckdb", alone(2000))
    assert len(found) / 2000 == pytest.approx(1 / 20, abs=0.015)
    assert found == {n for n in range(2000) if int(named(n)[:8], 16) % 20 == 0}
    assert held(tmp_path / "a.duckdb", alone(1000)) == {n for n in found if n < 1000}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)), max_size=30))
def test_sources_that_share_a_picture_lie_on_one_side_and_so_do_theirs(tmp_path, twins):
    sources = alone(60)
    for i, (one, other) in enumerate(twins):
        sources[one].append(f"{i:016x}")
        sources[other].append(f"{i:016x}")
    found = held(tmp_path / "a.duckdb", sources)
    for one, other in twins:
        assert (one in found) == (other in found)


def test_other_colors_or_a_logo_make_no_twins(tmp_path):
    held_alone = held(tmp_path / "a.duckdb", alone(60))
    other = min(set(range(60)) - held_alone)
    one = min(held_alone)
    sources = alone(60)
    for n in (one, other):
        sources[n].append("f" * 16)
    colors = {n: list(map(int, np.clip(np.array(COLORS) + 9 * (n == one), 0, 255))) for n in (one, other)}
    assert held(tmp_path / "a.duckdb", sources, colors=colors) == held_alone
    assert held(tmp_path / "a.duckdb", sources) != held_alone
    for n in range(FAMILIAR + 1):
        sources[n].append("f" * 16)
    assert held(tmp_path / "a.duckdb", sources) == held_alone


def test_some_of_every_kind_is_held_out(tmp_path):
    kinds = dict.fromkeys(range(400), "image") | dict.fromkeys((5, 6, 7, 8, 9), "video")
    found = held(tmp_path / "a.duckdb", alone(400), kinds)
    videos = {n for n in found if kinds[n] == "video"}
    assert videos == {min((5, 6, 7, 8, 9), key=named)}
    few = alone(FEW - 1)
    assert held(tmp_path / "a.duckdb", few) == set()  # of a handful there is none to spare
