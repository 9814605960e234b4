"""Ingest: every file measured once, known by the hash of its bytes, judged by the cheap rules.

Invariant: a source is one content; under however many names it lies, it is one row. The rules are applied to
the measured facts, so other rules need no second look at the files.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from goku_cli.errors import GokuError
from goku_cli.ingest.rules import Rules, rejection
from goku_cli.ingest.sidecar import read_sidecar, sidecar_of
from goku_cli.manifest.bounds import rule_of
from goku_cli.manifest.prune import prune
from goku_cli.manifest.store import Manifest
from goku_cli.media.probe import check_regular, probe
from goku_cli.publish import sha256
from goku_cli.stage import Item, Outcome, Progress, Rows, run_stage

STAGE = "ingest"
PROBE_VERSION = "probe@1"


def ingest(
    manifest: Manifest, files: Sequence[Path], rules: Rules, *, workers: int = 0,
    progress: Progress | None = None,
) -> Outcome:  # fmt: skip
    """Bring the files that are new or changed into the manifest and apply the rules to all files named."""
    items = [_item(path) for path in files]
    outcome = run_stage(
        manifest, STAGE, PROBE_VERSION, items, ingest_file, total=len(items), workers=workers, progress=progress
    )
    _forget_moved(manifest)
    prune(manifest)
    _judge(manifest, items, rules)
    return outcome


def rejections(manifest: Manifest) -> list[tuple[str, int]]:
    """Return how many sources each rule rejected, the commonest first."""
    rows = manifest.query(
        f"SELECT {rule_of('rejected')} AS rule, count(*) AS n FROM sources "
        "WHERE rejected IS NOT NULL GROUP BY rule ORDER BY n DESC, rule"
    )
    return [(row["rule"], row["n"]) for row in rows]


def ingest_file(path: Path) -> Rows:
    """Measure one file and read its sidecar.

    Raises:
        GokuError: it cannot be read.
    """
    if _text(path) != str(path):
        raise GokuError("its name is not UTF-8; rename it")
    check_regular(path)
    source, status = sha256(path)[:32], path.stat()
    facts = {"id": source, **asdict(probe(path)), "bytes": status.st_size}
    place = {
        "source": source, "path": str(path), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns,
    }  # fmt: skip
    beside = sidecar_of(path)
    captions = [
        {"source": source, "path": str(path), "start_us": start, "end_us": end, "text": text}
        for start, end, text in (read_sidecar(beside) if beside else ())
    ]
    return Rows(
        once={"sources": [facts]},
        insert={"source_paths": [place], "sidecars": captions},
        replace={"source_paths": "path", "sidecars": "path"},
    )


def _item(path: Path) -> Item:
    return Item(_text(path), path, "".join(_stamp(file) for file in (path, sidecar_of(path)) if file))


def _stamp(path: Path) -> str:
    status = path.stat()
    return f" {status.st_size}@{status.st_mtime_ns}"


def _text(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _forget_moved(manifest: Manifest) -> None:
    """Drop old names of files that were moved, so that a source's path is one that can be opened."""
    rows = manifest.query(
        "SELECT path FROM source_paths WHERE source IN "
        "(SELECT source FROM source_paths GROUP BY source HAVING count(*) > 1)"
    )
    gone = [row["path"] for row in rows if not os.path.exists(row["path"])]
    with manifest.transaction():
        for statement in (
            "DELETE FROM source_paths WHERE list_contains(?, path)",
            "DELETE FROM sidecars WHERE list_contains(?, path)",
            f"DELETE FROM receipts WHERE stage = '{STAGE}' AND list_contains(?, item)",
        ):
            manifest.execute(statement, [gone])


def _judge(manifest: Manifest, items: Sequence[Item], rules: Rules) -> None:
    with manifest.transaction():
        manifest.execute("CREATE OR REPLACE TEMP TABLE named (path TEXT, run BIGINT)")
        manifest.insert("named", [{"path": item.id} for item in items])
        manifest.execute(
            f"UPDATE sources SET rejected = {rejection(rules)} WHERE id IN "
            "(SELECT source FROM source_paths SEMI JOIN named USING (path))"
        )
