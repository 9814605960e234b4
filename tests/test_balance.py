"""Balance: tags by rules, and weights with the properties that the paper asks for."""

import pytest

from goku_cli.balance.balance import balance, class_weights
from goku_cli.balance.tags import classify
from goku_cli.balance.taxonomy import Taxonomy, load_taxonomy
from goku_cli.errors import GokuError, UsageError
from goku_cli.manifest.store import Manifest

SHAPES = load_taxonomy("shapes").patterns()
DEFAULT = load_taxonomy("default").patterns()


@pytest.mark.parametrize(
    ("text", "primary", "subcategory"),
    [
        ("a red circle. motion score: 3.", "circle", "red"),
        ("exactly three blue crosses", "cross", "blue"),
        ("a square whose color is cyan", "square", "cyan"),
        ("a green triangle and a red circle", "triangle", "green"),
        ("both a circle and a cross", "circle", "uncolored"),
        ("nothing of this world", "other", "other"),
    ],
)
def test_shapes_taxonomy(text, primary, subcategory):
    assert classify(text, SHAPES)[:2] == (primary, subcategory)


@pytest.mark.parametrize(
    ("text", "primary"),
    [
        ("A dog runs on the beach", "animals"),
        ("two women talking to the camera", "human"),
        ("Cars on a busy street at night", "vehicles"),
        ("a mostly blue and grey video, slow motion, static camera", "other"),
    ],
)
def test_default_taxonomy(text, primary):
    assert classify(text, DEFAULT)[0] == primary


def test_the_default_has_nine_primary_classes():
    assert len(load_taxonomy("default").classes) == 9


def taxonomy(cap=100.0, **emphasis):
    return Taxonomy(cap, {name: {"emphasis": value} for name, value in emphasis.items()})


def shares(counts, weights):
    total = sum(counts[key] * weights[key] for key in counts)
    return {key: counts[key] * weights[key] / total for key in counts}


COUNTS = {("a", "x"): 60, ("a", "y"): 20, ("b", "z"): 20}


def test_subcategories_become_equal_and_primaries_keep_their_share():
    weights = class_weights(COUNTS, taxonomy())
    drawn = shares(COUNTS, weights)
    assert drawn[("a", "x")] == pytest.approx(drawn[("a", "y")]) == pytest.approx(0.4)
    assert drawn[("b", "z")] == pytest.approx(0.2)


def test_emphasis_moves_a_primary():
    drawn = shares(COUNTS, class_weights(COUNTS, taxonomy(b=2.0)))
    assert drawn[("b", "z")] == pytest.approx(0.4 / 1.2)


def test_mean_weight_is_one_and_the_cap_holds():
    counts = {("a", "x"): 990, ("a", "y"): 9, ("a", "z"): 1}
    weights = class_weights(counts, taxonomy(cap=4.0))
    assert sum(counts[key] * weights[key] for key in counts) == pytest.approx(sum(counts.values()))
    assert max(weights.values()) == 4.0 and weights[("a", "x")] < 1


@pytest.fixture
def manifest(tmp_path):
    with Manifest(tmp_path / "m.duckdb", create=True) as opened:
        texts = ["a red circle"] * 6 + ["a blue circle"] * 2 + ["a red cross"]
        clips = [f"c{i}" for i in range(len(texts) + 1)]
        opened.insert("sources", [{"id": "s"}])
        opened.insert("clips", [{"id": c, "source": "s", "start_us": 0, "end_us": 0} for c in clips])
        opened.insert(
            "captions", [{"clip": c, "kind": "merged", "text": t} for c, t in zip(clips, texts, strict=False)]
        )
        opened.insert("selections", [{"name": "480p", "clip": c, "weight": 1.0, "reason": None} for c in clips])
        yield opened


def test_a_balanced_selection(manifest):
    done = balance(manifest, "480p", load_taxonomy("shapes"))
    assert (done.name, done.changed, done.clips) == ("480p-balanced", True, 9)
    assert 6 < done.effective < 9
    rows = manifest.query("SELECT avg(weight) AS mean FROM selections WHERE name = '480p-balanced' AND reason IS NULL")
    assert rows[0]["mean"] == pytest.approx(1)
    assert manifest.value("SELECT reason FROM selections WHERE name = '480p-balanced' AND clip = 'c9'") == "no caption"
    assert manifest.value("SELECT sum(weight) FROM selections WHERE name = '480p'") == 10
    again = balance(manifest, "480p-balanced", load_taxonomy("shapes"))
    assert (again.name, again.changed, again.outcome.skipped) == ("480p-balanced", False, 9)


def test_no_captions_says_what_to_type(manifest):
    manifest.execute("DELETE FROM captions")
    with pytest.raises(GokuError, match="goku caption"):
        balance(manifest, "480p", load_taxonomy("shapes"))


def test_a_bad_taxonomy_says_where(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("max_weight = 4.0\n[primary.human]\nempasis = 2.0\n")
    with pytest.raises(UsageError, match=r'primary\.human: unknown key "empasis".*emphasis'):
        load_taxonomy(str(path))
