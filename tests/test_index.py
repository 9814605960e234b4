"""The columns that ranks map: what the manifest gave, whatever pieces it came in."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from encoded import make_encoded

from goku_cli.errors import GokuError
from goku_cli.manifest.store import Manifest
from goku_cli.model.network.packing import token_count
from goku_cli.train.data import index as module
from goku_cli.train.data.index import Index, TensorRef, Window, write_index
from goku_cli.train.prepare import prepare
from goku_cli.train.recipe import Recipe, TrainConfig
from goku_cli.train.runs import samples

RECIPE = Recipe("flow", TrainConfig(steps=1, tokens_per_step=60, lr=1e-3), size="nano")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index")
    with Manifest(make_encoded(folder)) as manifest:
        return prepare(manifest, "small", RECIPE, "r", folder / "runs").folder


@pytest.mark.parametrize("piece", [1, 7, 1 << 17])
def test_every_row_and_text_is_found_again(run, tmp_path, monkeypatch, piece):
    monkeypatch.setattr(module, "READ_ROWS", piece)
    write_index(run / "data.parquet", tmp_path / "index")
    rows = pq.read_table(run / "data.parquet").to_pylist()
    index = Index.open(tmp_path / "index")
    assert len(index) == len(rows)
    for i, row in enumerate(rows):
        about = [row[name] for name in ("clip", "key", "shard", "crc", "logvar")]
        assert index.window(i) == Window(*about, tuple(row["shape"]))
        of = {name: column[i] for name, column in index.rows.items()}
        assert (of["tokens"], of["weight"]) == (token_count(row["shape"]), row["weight"])
        assert (of["image"], of["held_out"]) == (row["frames"] == 1, row["held_out"])
        texts = range(of["first"], of["first"] + of["texts"])
        places = zip(row["text_shards"], row["text_keys"], row["text_crcs"], strict=True)
        assert [index.text(n) for n in texts] == [TensorRef(*place) for place in places]
        assert index.texts["tokens"][texts].tolist() == row["text_tokens"]
        assert [index.names["sources"][n] for n in index.texts["source"][texts]] == row["text_sources"]


def test_columns_are_mapped_and_not_read(run):
    index = Index.open(run / "index")
    assert all(isinstance(column, np.memmap) for column in (*index.rows.values(), *index.texts.values()))


def test_a_file_that_is_not_whole_is_named(run, tmp_path):
    write_index(run / "data.parquet", tmp_path / "index")
    (tmp_path / "index" / "rows.clip").write_bytes(b"x")
    with pytest.raises(GokuError, match="index is not whole"):
        Index.open(tmp_path / "index")
    with pytest.raises(GokuError, match="nowhere is not whole"):
        Index.open(tmp_path / "nowhere")


def test_the_name_of_the_rows_changes_with_each_of_them_and_not_with_the_pieces(run, tmp_path):
    table = pq.read_table(run / "data.parquet")
    name = samples(run / "data.parquet")
    path = tmp_path / "other.parquet"
    pq.write_table(table, path, row_group_size=5)
    assert samples(path) == name
    names = {name}
    rows = table.to_pylist()
    at = next(n for n, row in enumerate(rows) if len(row["text_keys"]) > 1)
    for i, change in enumerate((
        {"weight": 0.5}, {"key": "other"}, {"text_keys": rows[at]["text_keys"][:1]},
        {"text_keys": rows[at]["text_keys"][::-1]},
    )):  # fmt: skip
        changed = [row | change if n == at else row for n, row in enumerate(rows)]
        pq.write_table(type(table).from_pylist(changed, schema=table.schema), path)
        names.add(samples(path))
        assert len(names) == i + 2, change
    pq.write_table(type(table).from_pylist(rows[::-1], schema=table.schema), path)
    assert samples(path) not in names
    assert json.loads((run / "recipe.json").read_text())["samples"] == name
