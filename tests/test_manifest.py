"""The manifest: migrations, what is refused and how, and a verifier that finds planted damage."""

import subprocess
import sys

import duckdb
import pytest

from goku_cli.errors import GokuError, UsageError
from goku_cli.manifest.prune import prune
from goku_cli.manifest.store import Manifest, parse_reference


@pytest.fixture
def manifest(tmp_path):
    with Manifest(tmp_path / "a.duckdb", create=True) as opened:
        yield opened


def test_new_manifest_is_migrated_and_sound(manifest):
    assert manifest.value("SELECT max(number) FROM schema_version") == 3
    assert manifest.verify() == []


def test_missing_manifest_says_what_to_type(tmp_path):
    with pytest.raises(UsageError, match="goku ingest FOLDER -m"):
        Manifest(tmp_path / "none.duckdb")


def test_newer_schema_is_refused(tmp_path):
    with Manifest(tmp_path / "a.duckdb", create=True) as opened:
        opened.execute("INSERT INTO schema_version VALUES (99, now()::TIMESTAMP)")
    with pytest.raises(UsageError, match=r"schema 99.*upgrade"):
        Manifest(tmp_path / "a.duckdb")


def test_what_is_not_duckdb_is_refused(tmp_path):
    (tmp_path / "a.duckdb").write_text("not a database at all, but long enough to be looked at" * 100)
    with pytest.raises(UsageError, match="not a manifest"):
        Manifest(tmp_path / "a.duckdb")


def test_foreign_duckdb_file_is_refused(tmp_path):
    with duckdb.connect(str(tmp_path / "a.duckdb")) as other:
        other.execute("CREATE TABLE theirs (x INTEGER)")
    with pytest.raises(UsageError, match="not a goku manifest"):
        Manifest(tmp_path / "a.duckdb")


def test_locked_by_another_process_names_it(tmp_path):
    path = tmp_path / "a.duckdb"
    Manifest(path, create=True).close()
    code = f"import duckdb, sys; c = duckdb.connect({str(path)!r}); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(GokuError, match=f"held by process {holder.pid}"):
            Manifest(path)
        holder.stdin.close()


def test_a_failed_transaction_leaves_nothing(manifest):
    with pytest.raises(ZeroDivisionError), manifest.transaction():
        manifest.insert("tags", [{"clip": "a", "primary": "human"}])
        raise ZeroDivisionError
    assert manifest.value("SELECT count(*) FROM tags") == 0


@pytest.mark.parametrize(
    ("table", "rows", "said"),
    [
        ("clips", [{"id": "c", "source": "gone", "start_us": 0, "end_us": 1}], "clips of no known source"),
        ("scores", [{"clip": "gone", "metric": "m", "value": 1.0}], "scores of no known clip"),
        ("source_paths", [{"source": "s", "path": "/x"}] * 2, "source paths listed twice"),
        ("selections", [{"name": "n", "clip": "gone", "weight": -1.0}], "negative weights"),
        ("receipts", [{"stage": "split", "item": "i"}] * 2, "receipts given twice"),
        ("samples", [{"id": "s", "path": "no/such.mp4"}], "missing file no/such.mp4"),
    ],
)
def test_verify_finds_planted_damage(manifest, table, rows, said):
    manifest.insert(table, rows)
    assert any(said in line for line in manifest.verify())


def test_prune_takes_everything_that_spoke_of_a_lost_source(manifest):
    manifest.insert("sources", [{"id": "s"}])
    manifest.insert("clips", [{"id": "c", "source": "s", "start_us": 0, "end_us": 1}])
    for table in ("scores", "captions", "tags", "selections"):
        manifest.insert(table, [{"clip": "c"}])
    manifest.insert("receipts", [{"stage": "split", "item": "s"}, {"stage": "filter", "item": "c"}])
    prune(manifest)  # the source has no file
    for table in ("sources", "clips", "scores", "captions", "tags", "selections", "receipts"):
        assert manifest.value(f"SELECT count(*) FROM {table}") == 0, table
    assert manifest.verify() == []


def test_references():
    assert parse_reference("a/b.duckdb#480p") == (parse_reference("a/b.duckdb")[0], "480p")
    with pytest.raises(UsageError, match="empty reference"):
        parse_reference("#480p")
