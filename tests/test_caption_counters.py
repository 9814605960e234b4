"""Counters of how captions are written, with the clips behind each, from the command line."""

import json
import subprocess

import pytest

from goku_cli.errors import UsageError
from goku_cli.manifest.store import Manifest
from goku_cli.report.captions import count_captions, counter

USUAL = [
    "A brown dog runs across a wet lawn while two children watch it from a wooden bench.",
    "Seen from above, a red car turns slowly into a narrow street between old brick houses.",
    "An old man repairs a bicycle in a garage that is lit by one bare lamp near the door.",
    "Waves break against dark rocks as a flock of gulls circles over a small white boat.",
    "In a crowded kitchen three cooks plate noodles and pass them over a steel counter.",
    "The camera follows a skier down a steep slope, snow flying behind her in the sun.",
]
ODD = {
    "short": "A dog.",
    "long": " ".join(["a very long sentence that goes on"] * 60) + ".",
    "one": "A blue kite with 2 tails rises over the beach on a windy day in early spring.",
    "other": "A blue kite with 3 tails rises over the beach, on a windy day in early Spring!",
    "same1": USUAL[0],
    "refusing": "I'm sorry, but I can't help with describing the people who are shown in this video.",
    "german": "Ein alter Mann repariert in der Werkstatt sein Fahrrad, während draußen der Regen fällt.",
}


@pytest.fixture
def path(tmp_path):
    with Manifest(tmp_path / "m.duckdb", create=True) as manifest:
        texts = {f"usual{i}": text for i, text in enumerate(USUAL)} | ODD
        manifest.insert("captions", [
            {"clip": clip, "kind": "merged", "text": f"{text} motion score: 7."} for clip, text in texts.items()
        ])  # fmt: skip
        manifest.insert("failures", [
            {"stage": "caption", "item": "gone", "cause": "refused", "reason": "refused: no", "partial": False},
        ])  # fmt: skip
    return tmp_path / "m.duckdb"


def test_every_counter_finds_its_clips(path):
    with Manifest(path, read_only=True) as manifest:
        found = {name: {clip for clip, _ in one.clips} for name, one in count_captions(manifest).items()}
    assert found["short"] == {"short"} and found["long"] == {"long"}
    assert found["repeated"] == {"usual0", "same1"} and found["alike"] == {"one", "other"}
    assert found["refusing"] == {"refusing"} and found["refused"] == {"gone"}
    assert found["language"] == {"german"}
    assert found["opening"] in ({"usual0", "same1"}, {"one", "other"})
    with pytest.raises(UsageError, match="did you mean"):
        counter({"short": None}, "shrt")


def test_they_are_shown_with_the_clips_behind_them(path, tmp_path):
    def show(*words):
        return subprocess.run(["goku", "show", str(path), *words], capture_output=True, text=True)

    told = show("--captions", "all")
    assert told.returncode == 0 and "13 captions" in told.stdout and "repeated" in told.stdout, told.stderr
    lines = json.loads(show("--captions", "alike", "--json").stdout)
    assert [line["clip"] for line in lines] == ["one", "other"]
    wrong = show("--captions", "aliek")
    assert wrong.returncode == 2 and "did you mean" in wrong.stderr
    with Manifest(tmp_path / "empty.duckdb", create=True):
        pass
    none = subprocess.run(["goku", "show", str(tmp_path / "empty.duckdb"), "--captions", "all"], capture_output=True)
    assert none.returncode == 0
