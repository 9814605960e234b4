"""The official prompt lists that come with goku, the user's own copies, and what benchmarks make of their parts."""

import json
from collections import Counter

import pytest

from goku_cli.benches.prompts import bench_prompts
from goku_cli.benches.protocol import NAMES, TAKES
from goku_cli.errors import UsageError
from goku_cli.evaluate.benchmarks.aggregate import (
    DIMENSIONS,
    SEMANTIC,
    TASKS,
    dpg_score,
    geneval_overall,
    outside,
    vbench_scores,
)
from goku_cli.evaluate.benchmarks.published import published

TABLE = published()["vbench"]


@pytest.mark.parametrize("model", TABLE["rows"])
def test_vbench_scores_are_those_of_every_published_row(model):
    row = dict(zip(TABLE["metrics"], TABLE["rows"][model], strict=True))
    made = vbench_scores({dimension: row[f"vbench.{dimension}"] / 100 for dimension in DIMENSIONS})
    assert {name: pytest.approx(row[f"vbench.{name}"], abs=0.01) for name in made} == {
        name: 100 * value for name, value in made.items()
    }


def test_a_score_without_all_of_its_parts_is_none():
    assert vbench_scores(dict.fromkeys(SEMANTIC, 0.2)).keys() == {"semantic"}
    assert geneval_overall(dict.fromkeys(TASKS[1:], 1.0)) is None
    assert outside({"scene": 0.83, "color": 1.0, "temporal_flickering": 0.5}) == ["scene", "temporal_flickering"]
    assert geneval_overall({task: i / 10 for i, task in enumerate(TASKS)}) == pytest.approx(0.25)
    assert dpg_score([0.5, 1.0]) == 75


def test_shipped_lists_are_as_long_as_their_authors_say():
    lists = {name: bench_prompts(name) for name in NAMES}
    assert {name: len(rows) for name, rows in lists.items() if name != "shapes"} == {
        "vbench": 946, "geneval": 553, "dpg": 1065, "t2i-compbench": 900,
    }  # fmt: skip
    assert all(
        {"prompt", "metadata", "tag", "frames", "count"} <= row.keys() for rows in lists.values() for row in rows
    )
    assert all(row["prompt"].strip() == row["prompt"] != "" for rows in lists.values() for row in rows)
    samples = {name: sum(row["count"] for row in rows) for name, rows in lists.items()}
    assert (samples["geneval"], samples["dpg"], samples["t2i-compbench"]) == (2212, 4260, 9000)
    # 946 prompts of five videos, and twenty more of each whose stillest five are looked for.
    assert samples["vbench"] == 4730 + 75 * 20 and TAKES * len(lists["vbench"]) == 4730
    dimensions = Counter(dimension for row in lists["vbench"] for dimension in row["metadata"]["dimension"])
    assert set(dimensions) == set(DIMENSIONS)
    assert (dimensions["subject_consistency"], dimensions["human_action"], dimensions["scene"]) == (72, 100, 86)
    assert Counter(row["tag"] for row in lists["geneval"]) == dict(zip(TASKS, (80, 99, 80, 94, 100, 100), strict=True))
    assert Counter(row["tag"] for row in lists["t2i-compbench"]) == {"color": 300, "shape": 300, "texture": 300}
    assert lists["t2i-compbench"][300]["metadata"] == {"category": "shape", "number": 0}
    assert "seen" in lists["shapes"][0]


def official_copies(folder):
    """Copies of the lists in the form that their authors' repositories have, of two prompts each."""
    (folder / "prompts").mkdir()
    (folder / "prompts" / "0.txt").write_text("A cat,\nasleep.\n")
    (folder / "prompts" / "whoops1.txt").write_text("A dog.")
    for category in ("color", "shape", "texture"):
        (folder / f"{category}_val.txt").write_text(f"a {category} bench\r\na {category} cat\tseen")
    rows = [{"prompt_en": "a cat", "dimension": ["color"], "auxiliary_info": {"color": "red"}}]
    (folder / "full.json").write_text(json.dumps([*rows, {"prompt_en": "a dog", "dimension": ["temporal_flickering"]}]))
    line = {"tag": "colors", "include": [{"class": "cat", "count": 1}], "prompt": "a red cat"}
    (folder / "metadata.jsonl").write_text(json.dumps(line) + "\n\n" + json.dumps(line))
    return {"vbench": folder / "full.json", "geneval": folder / "metadata.jsonl", "dpg": folder / "prompts",
            "t2i-compbench": folder}  # fmt: skip


def test_a_copy_of_the_users_own_wins(tmp_path):
    copies = official_copies(tmp_path)
    read = {name: bench_prompts(name, path) for name, path in copies.items()}
    assert [row["count"] for row in read["vbench"]] == [5, 25]
    assert read["vbench"][0]["metadata"] == {"dimension": ["color"], "auxiliary_info": {"color": "red"}}
    assert read["geneval"][0]["metadata"]["prompt"] == "a red cat" and len(read["geneval"]) == 2
    assert [(row["prompt"], row["metadata"]["id"]) for row in read["dpg"]] == [
        ("A cat, asleep.", "0"), ("A dog.", "whoops1"),
    ]  # fmt: skip
    assert [row["prompt"] for row in read["t2i-compbench"]][:3] == ["a color bench", "a color cat", "a shape bench"]
    spatial = tmp_path / "spatial_val.txt"
    spatial.write_text("a cat on the left of a dog")
    assert bench_prompts("t2i-compbench", spatial)[0]["tag"] == "spatial"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("vbench", "a cat"), ("vbench", "[]"), ("vbench", '[{"prompt_en": "a cat"}]'), ("vbench", '{"a": 1}'),
        ("vbench", '[{"prompt_en": "", "dimension": ["color"]}]'), ("geneval", '{"prompt": "a cat", "tag": "colors"}'),
        ("geneval", ""), ("geneval", "[1]"), ("geneval", "\xff"), ("t2i-compbench", "\n"), ("dpg", "a file, no folder"),
    ],
)  # fmt: skip
def test_what_is_no_list_is_refused_in_one_line_that_says_where_the_official_one_is(tmp_path, name, text):
    path = tmp_path / "list"
    path.write_bytes(text.encode("latin-1"))
    for file in (path, tmp_path / "gone"):
        with pytest.raises(UsageError, match=r"is not the list of .*git clone https://github.com/") as error:
            bench_prompts(name, file)
        assert "\n" not in str(error.value)


def test_unknown_benchmarks_and_lists_for_shapes_are_refused(tmp_path):
    with pytest.raises(UsageError, match='did you mean "geneval"'):
        bench_prompts("genevl")
    with pytest.raises(UsageError, match="made, not read"):
        bench_prompts("shapes", tmp_path)


def test_a_part_of_a_list_is_chosen_by_its_tag():
    rows = bench_prompts("shapes", parts=["motion", "counting"])
    assert Counter(row["tag"] for row in rows) == {"motion": 32, "counting": 6}
    with pytest.raises(UsageError, match='no part "motoin" .did you mean "motion"'):
        bench_prompts("shapes", parts=["motoin"])
