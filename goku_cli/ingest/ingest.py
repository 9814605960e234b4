"""Ingest: every file measured once, known by the hash of its bytes, judged by the cheap rules.

Invariant: a source is one content; under however many names it lies, it is one row. A row of `source_paths` is one
thing that was found (a file, a URL, a member of a tar) and is replaced when that is found again. The rules are
applied to the measured facts, so other rules need no second look at the files.
"""

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from goku_cli.errors import Cause, Fault
from goku_cli.ingest.archive import read_range
from goku_cli.ingest.found import Found, Member
from goku_cli.ingest.kept import keep, kept_folder, sweep
from goku_cli.ingest.rules import Rules, rejection
from goku_cli.ingest.sidecar import MAX_BYTES, Said, read_sidecar, sidecars_of
from goku_cli.manifest.bounds import rule_of
from goku_cli.manifest.prune import prune
from goku_cli.manifest.store import Manifest
from goku_cli.media.probing.probe import Probe, check_regular, check_unchanged, probe
from goku_cli.publish import sha256
from goku_cli.recipe import fingerprint
from goku_cli.stage import CHUNK, TIMEOUT, Failure, Item, Outcome, Progress, Quiet, Rows, run_stage

STAGE = "ingest"
PROBE_VERSION = "probe@4"


@dataclass(frozen=True)
class Job:
    """One thing to ingest."""

    found: Found
    folder: Path
    """Where what is fetched is kept."""
    allow_private: bool
    encoding: str


def ingest(
    manifest: Manifest, media: Iterable[Found], rules: Rules, *, allow_private: bool = False,
    encoding: str = "utf-8", workers: int = 0, timeout: float = TIMEOUT, progress: Progress | None = None,
) -> Outcome:  # fmt: skip
    """Bring what is new or changed into the manifest and apply the rules to everything found.

    `media` is iterated twice, first only to count. `encoding` is that of sidecars without a byte order mark.
    """
    progress, folder = progress or Quiet(), kept_folder(manifest.path)
    sweep(folder)
    _ask_again_for_lost(manifest)
    items = (
        Item(found.text, Job(found, folder, allow_private, encoding), _version(found, encoding))
        for found in _distinct(manifest, media, progress)
    )
    total = sum(1 for _ in media)
    outcome = run_stage(
        manifest, STAGE, PROBE_VERSION, items, ingest_found, total=total, workers=workers, timeout=timeout,
        progress=progress,
    )  # fmt: skip
    sweep(folder)
    _forget_moved(manifest)
    prune(manifest)
    with manifest.transaction():
        manifest.execute(
            f"UPDATE sources SET rejected = {rejection(rules)} WHERE id IN "
            "(SELECT source FROM source_paths WHERE md5_number(item) IN (FROM named))"
        )
    return outcome


def rejections(manifest: Manifest) -> list[tuple[str, int]]:
    """Return how many sources each rule rejected, the commonest first."""
    rows = manifest.query(
        f"SELECT {rule_of('rejected')} AS rule, count(*) AS n FROM sources "
        "WHERE rejected IS NOT NULL GROUP BY rule ORDER BY n DESC, rule"
    )
    return [(row["rule"], row["n"]) for row in rows]


def ingest_found(job: Job) -> Rows:
    """Get hold of one file, measure it and read what is said of it.

    Raises:
        Fault: it cannot be had or cannot be read.
    """
    found = job.found
    if found.fault is not None:
        raise Fault(*found.fault)
    said = Said(origin=found.origin, license=found.license)
    if found.caption:
        said.add(found.caption)
    if found.wrong:
        said.wrong.append(f"the caption in the list: {found.wrong}")
    if found.member is not None:
        path, digest, facts = keep(job.folder, partial(_copy, found.member))
        for suffix, offset, size in found.member.texts:
            content = _bytes(found.member.archive, offset, size)
            said.read(f"the {suffix} of {found.text}", suffix, size, content, job.encoding)
    elif found.url:
        from goku_cli.ingest.fetch import fetch

        path, digest, facts = keep(job.folder, partial(fetch, found.name, allow_private=job.allow_private))
    else:
        path, digest, facts = _measure(found)
        for beside in sidecars_of(found.name):
            read_sidecar(said, beside, job.encoding)
    fetched = found.text if str(path) != found.name else None
    return _rows(found, path, digest, facts, said, said.origin or fetched)


def _measure(found: Found) -> tuple[Path, str, Probe]:
    path = Path(found.name)
    if found.text != found.name:
        raise Fault(Cause.NAME, "it is not UTF-8; rename the file")
    status = check_regular(path)
    facts, digest = probe(path), sha256(path)[:32]
    check_unchanged(path, status.st_size, status.st_mtime_ns)  # its facts and its hash are of the same bytes
    return path, digest, facts


def _rows(found: Found, path: Path, source: str, facts: Probe, said: Said, origin: str | None) -> Rows:
    status = path.stat()
    place = {
        "source": source, "path": str(path), "item": found.text, "bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns, "origin": origin, "license": said.license,
    }  # fmt: skip
    captions = [
        {"source": source, "item": found.text, "start_us": start, "end_us": end, "text": text}
        for start, end, text in said.captions
    ]
    return Rows(
        latest={"sources": [{"id": source, **asdict(facts), "bytes": status.st_size}]},
        insert={"source_paths": [place], "sidecars": captions},
        replace={"source_paths": "item", "sidecars": "item"},
        partial=_loss(facts, said),
    )


def _loss(facts: Probe, said: Said) -> Failure | None:
    if facts.missing:
        announced = round(facts.frames / (1 - facts.missing))
        return Failure(Cause.TRUNCATED, f"{Cause.TRUNCATED}: {facts.frames} of {announced} frames are there")
    if said.wrong:
        return Failure(Cause.SIDECAR, f"{Cause.SIDECAR}: {'; '.join(said.wrong)}")
    return None


def _copy(member: Member, target: Path) -> None:
    with target.open("wb") as file:
        for block in read_range(member.archive, member.offset, member.size):
            file.write(block)
        if file.tell() < member.size:
            raise Fault(Cause.TRUNCATED, f"{file.tell()} of {member.size} bytes are in {member.archive}")


def _bytes(path: str, offset: int, size: int) -> bytes:
    return b"".join(read_range(path, offset, min(size, MAX_BYTES)))


def _distinct(manifest: Manifest, media: Iterable[Found], progress: Progress) -> Iterator[Found]:
    """Yield each thing once, the first time that it is found, and note it in the table `named`."""
    manifest.execute("CREATE OR REPLACE TEMP TABLE named AS SELECT md5_number('') AS id LIMIT 0")
    iterator = iter(media)
    while chunk := list(itertools.islice(iterator, CHUNK)):
        by_name = {found.text: found for found in reversed(chunk)}
        rows = manifest.matching("SELECT key FROM asked WHERE md5_number(key) NOT IN (FROM named)", list(by_name))
        fresh = {row["key"] for row in rows}
        manifest.matching("INSERT INTO named SELECT md5_number(key) FROM asked", list(fresh))
        progress.advance(len(chunk) - len(fresh))
        yield from (found for name, found in reversed(by_name.items()) if name in fresh)


def _version(found: Found, encoding: str) -> str:
    """What else its receipt must match: size and time of each file that is read, and what a list says."""
    if found.member is not None:
        files = [found.member.archive]
    else:
        files = [] if found.url or found.fault else [found.name, *sidecars_of(found.name)]
    stated = [found.caption, found.license, found.origin]
    declared = "" if encoding == "utf-8" else f" {encoding}"
    return "".join(map(_stamp, files)) + (f" {fingerprint(stated)}" if any(stated) else "") + declared


def _stamp(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return ""  # reading it will say why
    return f" {status.st_size}@{status.st_mtime_ns}"


def _ask_again_for_lost(manifest: Manifest) -> None:
    """Forget that a file was fetched that is no longer there, so that it is fetched again."""
    rows = manifest.stream("SELECT path, item FROM source_paths WHERE path <> item")
    lost = (row["item"] for row in rows if not os.path.exists(row["path"]))
    while chunk := list(itertools.islice(lost, CHUNK)):
        manifest.delete("receipts", "item", chunk, where="stage = ?", parameters=[STAGE])


def _forget_moved(manifest: Manifest) -> None:
    """Drop old names of files that were moved, so that a source's path is one that can be opened.

    A source keeps its names when none of them is there: a disk may only be away.
    """
    rows = manifest.stream(
        "SELECT source, path, item FROM source_paths WHERE source IN "
        "(SELECT source FROM source_paths GROUP BY source HAVING count(*) > 1) ORDER BY source"
    )
    moved = _moved(rows)
    while chunk := list(itertools.islice(moved, CHUNK)):
        with manifest.transaction():
            manifest.delete("source_paths", "item", chunk)
            manifest.delete("sidecars", "item", chunk)
            manifest.delete("receipts", "item", chunk, where="stage = ?", parameters=[STAGE])


def _moved(rows: Iterable[dict[str, str]]) -> Iterator[str]:
    for _, places in itertools.groupby(rows, key=lambda row: row["source"]):
        there = {row["item"]: os.path.exists(row["path"]) for row in places}
        if any(there.values()):
            yield from (item for item, exists in there.items() if not exists)
