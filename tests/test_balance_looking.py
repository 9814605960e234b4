"""Tags by CLIP on four frames, through the real library with small random weights."""

import numpy as np
import pytest
from films import film, picture

from goku_cli.balance.balance import balance
from goku_cli.balance.look import FRAMES, class_features, four_frames, tag_by_looking
from goku_cli.balance.taxonomy import load_taxonomy
from goku_cli.ingest.ingest import ingest
from goku_cli.ingest.rules import load_rules
from goku_cli.ingest.walk import find_media
from goku_cli.manifest.store import Manifest
from goku_cli.split.settings import SplitSettings
from goku_cli.split.split import split
from goku_cli.vision.clip import encoder


@pytest.fixture
def manifest(tmp_path):
    film(tmp_path / "raw" / "a.mp4", [(1, 48), (2, 48)])
    picture(tmp_path / "raw" / "p.png", 3)
    with Manifest(tmp_path / "m.duckdb", create=True) as opened:
        ingest(opened, find_media([tmp_path / "raw"]), load_rules("none"), workers=1)
        split(opened, SplitSettings(), workers=1)
        opened.execute("INSERT INTO selections (name, clip, weight) SELECT 'all', id, 1 FROM clips")
        yield opened


def test_four_frames_are_the_middles_of_the_quarters(manifest):
    (clip,) = manifest.query("SELECT * FROM clip_files WHERE kind = 'video' ORDER BY start_us LIMIT 1")
    frames = four_frames(clip).tensors["frames"]
    assert len(frames) == FRAMES and not np.array_equal(frames[0], frames[3])


def test_looking_gives_the_nearest_class_and_remembers(weights, manifest):
    taxonomy = load_taxonomy("default")
    assert tag_by_looking(manifest, "all", taxonomy, workers=2).done == 3
    rows = manifest.query('SELECT clip, "primary", subcategory, confidence, tagger FROM tags')
    assert len(rows) == 3 and {row["tagger"] for row in rows} == {"clip@1"}
    assert all(0 < row["confidence"] < 1 for row in rows)
    classes, answers = class_features(encoder(), taxonomy)
    (image,) = manifest.query("SELECT * FROM clip_files WHERE kind = 'image'")
    features = encoder().images(four_frames(image).tensors["frames"])
    wanted = classes[int((features @ answers.T).argmax())]
    (found,) = [row for row in rows if row["clip"] == image["id"]]
    assert (found["primary"], found["subcategory"]) == wanted
    assert tag_by_looking(manifest, "all", taxonomy, workers=1).skipped == 3
    assert balance(manifest, "all", taxonomy).untagged == 0
    assert manifest.verify() == []
