"""The stage loop: incremental, failures as rows, and a kill at any instant loses nothing."""

import os
import signal
import subprocess
import sys
import time

import pytest
from films import table

from goku_cli.errors import GokuError, UsageError
from goku_cli.manifest.store import Manifest
from goku_cli.stage import Item, Rows, run_stage

KILLED = """
import sys, time
from pathlib import Path
from goku_cli import stage
from goku_cli.manifest.store import Manifest

stage.COMMIT_SECONDS = 0.05

def work(number):
    time.sleep(0.02)
    return stage.Rows(insert={"tags": [{"clip": str(number), "primary": "p"}] * 2}, replace={"tags": "clip"})

with Manifest(Path(sys.argv[1]), create=True) as manifest:
    items = [stage.Item(str(number), number) for number in range(100)]
    print(stage.run_stage(manifest, "test", "1", items, work, total=100, workers=1).skipped, flush=True)
"""


def tag(number):
    if number % 5 == 4:
        raise GokuError("a multiple of five, nearly")
    return Rows(insert={"tags": [{"clip": str(number), "confidence": float(number)}]}, replace={"tags": "clip"})


def misbehave(what):
    """Crash, hang, take all memory, or be well behaved."""
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "hang":
        time.sleep(60)
    if what == "memory":
        return Rows(insert={"tags": [{"clip": bytearray(8 << 30)[:1].hex()}]})
    return Rows(insert={"tags": [{"clip": what}]})


def tag_double(number):
    return Rows(insert={"tags": [{"clip": str(number), "confidence": 2.0 * number}]}, replace={"tags": "clip"})


@pytest.fixture
def manifest(tmp_path):
    with Manifest(tmp_path / "a.duckdb", create=True) as opened:
        yield opened


ITEMS = [Item(str(number), number) for number in range(10)]


@pytest.mark.parametrize("workers", [1, 2])
def test_failures_are_rows_and_only_they_are_done_again(manifest, workers):
    first = run_stage(manifest, "test", "1", ITEMS, tag, total=10, workers=workers)
    assert (first.done, first.failed, first.skipped) == (8, 2, 0)
    assert manifest.value("SELECT count(*) FROM failures WHERE reason LIKE 'a multiple%'") == 2
    second = run_stage(manifest, "test", "1", ITEMS, tag, total=10, workers=workers)
    assert (second.done, second.failed, second.skipped) == (0, 2, 8)
    assert manifest.value("SELECT count(*) FROM failures") == 2


def test_a_worker_that_crashes_hangs_or_bloats_dies_alone(manifest):
    items = [Item(what, what) for what in ("a", "crash", "b", "hang", "c", "memory", "d")]
    outcome = run_stage(manifest, "test", "1", items, misbehave, total=7, workers=2, timeout=4)
    assert (outcome.done, outcome.reasons) == (4, {"crashed": 1, "timeout": 1, "memory": 1})
    rows = manifest.query("SELECT item, reason, cause FROM failures ORDER BY cause")
    assert [(row["item"], row["cause"]) for row in rows] == [
        ("crash", "crashed"),
        ("memory", "memory"),
        ("hang", "timeout"),
    ]
    assert rows[0]["reason"] == "crashed: the worker process ended with code -11"


def test_of_items_that_are_done_together_only_the_bad_ones_fail(manifest):
    sizes = []

    def tag_all(numbers):
        sizes.append(len(numbers))
        return [tag(number) for number in numbers]

    outcome = run_stage(manifest, "test", "1", ITEMS, tag_all, total=10, together=4)
    assert (outcome.done, outcome.failed) == (8, 2)
    assert sizes == [4, 4, 1, 1, 1, 1, 2, 1, 1]  # 4 and 9 fail: their fellows are done one by one
    assert manifest.value("SELECT count(*) FROM receipts") == 8
    assert run_stage(manifest, "test", "1", ITEMS, tag_all, total=10, together=4).skipped == 8


def test_a_model_that_is_not_there_is_asked_for_once(manifest):
    asked = []

    def missing(numbers):
        asked.append(len(numbers))
        raise UsageError("no such model")

    with pytest.raises(UsageError, match="no such model"):
        run_stage(manifest, "test", "1", ITEMS, missing, total=10, together=4)
    assert asked == [4]


def test_items_are_drawn_as_they_are_needed(manifest):
    drawn = 0

    def items():
        nonlocal drawn
        for number in range(20):
            drawn += 1
            yield Item(str(number), number)

    class Interruption(BaseException): ...

    class Monitor:
        def start(self, what, total): ...
        def advance(self, count=1):
            if manifest.value("SELECT count(*) FROM receipts") == 0 and count:
                raise Interruption

    with pytest.raises(Interruption):
        run_stage(manifest, "test", "1", items(), tag, total=20, workers=1, progress=Monitor())
    assert drawn <= 20 and manifest.value("SELECT count(*) FROM receipts") == 1  # what was finished is kept


def test_other_parameters_replace_the_rows(manifest):
    run_stage(manifest, "test", "1", ITEMS, tag, total=10, workers=1)
    again = run_stage(manifest, "test", "2", ITEMS, tag_double, total=10, workers=1)
    assert (again.done, manifest.value("SELECT count(*) FROM failures")) == (10, 0)
    assert manifest.value("SELECT sum(confidence) FROM tags") == 90
    assert manifest.verify() != []  # tags of clips that were never made: the verifier sees them
    assert manifest.value("SELECT count(*) FROM receipts") == 10


def test_a_changed_item_is_done_again(manifest):
    run_stage(manifest, "test", "1", [Item("1", 1, "old")], tag, total=1, workers=1)
    assert run_stage(manifest, "test", "1", [Item("1", 1, "new")], tag, total=1, workers=1).done == 1
    assert run_stage(manifest, "test", "1", [Item("1", 1, "new")], tag, total=1, workers=1).skipped == 1


def test_nothing_succeeded_is_an_error(manifest):
    outcome = run_stage(manifest, "test", "1", [Item("4", 4)], tag, total=1, workers=1)
    with pytest.raises(GokuError, match="1 of 1 items failed, mostly like this: a multiple"):
        outcome.check("test", strict=False)


def test_strict_fails_on_one_failure(manifest):
    outcome = run_stage(manifest, "test", "1", ITEMS, tag, total=10, workers=1)
    outcome.check("test", strict=False)
    with pytest.raises(GokuError, match="2 of 10"):
        outcome.check("test", strict=True)


def test_kill_9_then_rerun_completes_with_the_same_rows(tmp_path):
    path, script = tmp_path / "a.duckdb", tmp_path / "killed.py"
    script.write_text(KILLED)
    with subprocess.Popen([sys.executable, script, path]) as victim:
        while not path.exists():
            time.sleep(0.05)
        time.sleep(1.0)
        os.kill(victim.pid, signal.SIGKILL)
    with Manifest(path) as manifest:  # an item is there whole or not at all
        done = manifest.value("SELECT count(*) FROM receipts")
        assert manifest.value("SELECT count(*) FROM tags") == 2 * done
    assert 0 < done < 100
    again = subprocess.run([sys.executable, script, path], capture_output=True, text=True, check=True)
    assert int(again.stdout) == done
    assert table(path, "SELECT count(*), count(DISTINCT clip) FROM tags") == [(200, 100)]
