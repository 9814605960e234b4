"""Balance: tags by rules, and weights with the properties that the paper asks for."""

import pytest

from goku_cli.balance.balance import balance as weigh
from goku_cli.balance.balance import explain
from goku_cli.balance.tags import classify, tag_by_rules
from goku_cli.balance.taxonomy import Taxonomy, load_taxonomy
from goku_cli.balance.weights import class_weights
from goku_cli.errors import GokuError, UsageError
from goku_cli.manifest.store import Manifest

SHAPES = load_taxonomy("shapes").lexicon()
DEFAULT = load_taxonomy("default").lexicon()


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


def test_the_default_has_nine_primary_classes_and_86_subcategories():
    classes = load_taxonomy("default").classes
    assert len(classes) == 9 and sum(len(primary.subcategories) for primary in classes.values()) == 86


def taxonomy(cap=100.0, **emphasis):
    some = {"subcategories": {"some": ["word"]}}
    return Taxonomy(cap, {name: some | {"emphasis": value} for name, value in ({"a": 1.0} | emphasis).items()})


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


def balance(manifest, selection="480p", found=None, **drawing):
    found = found or load_taxonomy("shapes")
    return tag_by_rules(manifest, selection, found), weigh(manifest, selection, found, **drawing)


def test_a_balanced_selection(manifest):
    _, done = balance(manifest)
    assert (done.name, done.changed, done.clips, done.untagged) == ("480p-balanced", True, 9, 1)
    assert 6 < done.effective < 9 and done.moved == pytest.approx(2 / 9)
    rows = manifest.query("SELECT avg(weight) AS mean FROM selections WHERE name = '480p-balanced' AND reason IS NULL")
    assert rows[0]["mean"] == pytest.approx(1)
    assert manifest.value("SELECT reason FROM selections WHERE name = '480p-balanced' AND clip = 'c9'") == "no tag"
    assert manifest.value("SELECT sum(weight) FROM selections WHERE name = '480p'") == 10
    tags, again = balance(manifest)
    assert (again.name, again.changed, tags.skipped) == ("480p-balanced", False, 9)


def test_a_size_draws_by_weight_and_seed(manifest):
    def drawn(seed):
        balance(manifest, size=4, seed=seed)
        rows = manifest.query("SELECT clip FROM selections WHERE name = '480p-balanced' AND reason IS NULL ORDER BY 1")
        return [row["clip"] for row in rows]

    assert drawn(0) == drawn(0) and all(len(drawn(seed)) == 4 for seed in range(5))
    assert len({tuple(drawn(seed)) for seed in range(12)}) > 3
    counts = [sum(clip in drawn(seed) for seed in range(60)) for clip in ("c0", "c6")]
    assert counts[1] > 1.5 * counts[0]  # c6 is one of two blue circles, c0 one of six red ones


def test_the_explained_sql_yields_what_is_written(manifest):
    balance(manifest)
    first, counted, last = explain(manifest, "480p", load_taxonomy("shapes"), None, 0)
    manifest.execute(first)
    assert sum(row["clips"] for row in manifest.query(counted)) == 9
    written = manifest.query("SELECT clip, weight, reason FROM selections WHERE name = '480p-balanced' ORDER BY 1")
    assert manifest.query(f"SELECT * FROM ({last}) ORDER BY clip") == written


def test_an_emphasis_of_zero_leaves_a_class_out(manifest):
    shapes = load_taxonomy("shapes")
    without = Taxonomy(4.0, shapes.primary | {"circle": shapes.primary["circle"] | {"emphasis": 0.0}})
    _, done = balance(manifest, found=without)
    assert done.clips == 1 and manifest.value("SELECT sum(weight) FROM selections WHERE name = '480p-balanced'") == 4.0
    off = {name: shapes.primary[name] | {"emphasis": 0.0} for name in ("circle", "cross")}
    nothing = Taxonomy(4.0, off | {"square": shapes.primary["square"]})
    with pytest.raises(GokuError, match="leaves nothing of circle, cross"):
        balance(manifest, found=nothing)


def test_no_captions_says_what_to_type(manifest):
    manifest.execute("DELETE FROM captions")
    with pytest.raises(GokuError, match="goku caption"):
        balance(manifest)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_weight = 0.5\n[primary.a.subcategories]\nx = ['y']", "max_weight must be at least 1"),
        ("max_weight = 4.0\n[primary.a]\nemphasis = -1.0\nsubcategories = {x = ['y']}", "must not be negative"),
        ("max_weight = 4.0\n[primary.a]\nemphasis = 0.0\nsubcategories = {x = ['y']}", "every emphasis is 0"),
        ("max_weight = 4.0\n[primary.a]", "has no subcategories"),
        ("max_weight = 4.0\n[primary.a.subcategories]\nx = []", "must be a list of words"),
        ("max_weight = 4.0\n[primary.a.subcategories]\nx = ['y']\nx = ['z']", "is not a TOML recipe: Cannot overwrite"),
    ],
)
def test_what_a_taxonomy_may_not_say(tmp_path, text, said):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UsageError, match=said):
        load_taxonomy(str(tmp_path / "mine.toml"))


def test_a_bad_taxonomy_says_where(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("max_weight = 4.0\n[primary.human]\nempasis = 2.0\n")
    with pytest.raises(UsageError, match=r'primary\.human: unknown key "empasis".*emphasis'):
        load_taxonomy(str(path))
