"""The folder beside a manifest that holds what was fetched: every file once, named by its content.

A file gets its name only when it was measured, so what is there is media. Its time is always the same: files of
one content that come twice, at the same moment even, are one file.
"""

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from goku_cli.manifest.beside import beside
from goku_cli.media.probing.probe import Probe, check_regular, probe
from goku_cli.publish import publish, sha256

SUFFIXES = {"mov": "mp4", "matroska": "mkv", "jpeg": "jpg", "mpegts": "ts"}
"""First name of a container -> the suffix that people give it; the others are called by their own name."""
UNFINISHED = ".unfinished"


def kept_folder(manifest: Path) -> Path:
    """Return the folder of a manifest's own files."""
    return beside(manifest, "files").absolute()


def sweep(folder: Path) -> None:
    """Remove what killed runs left half fetched; nobody else writes here while the manifest is held."""
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


def keep(folder: Path, write: Callable[[Path], None]) -> tuple[Path, str, Probe]:
    """Let `write` fill a file, measure it, and give it its name; return its path, its hash and its facts.

    Raises:
        Fault: what `write` raises, or it is not media: then nothing is kept.
    """
    unfinished = folder / UNFINISHED / uuid.uuid4().hex
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    try:
        write(unfinished)
        check_regular(unfinished)
        facts, digest = probe(unfinished), sha256(unfinished)[:32]
        first = facts.container.partition(",")[0]
        path = folder / digest[:2] / f"{digest}.{SUFFIXES.get(first, first)}"
        if not path.exists():
            os.utime(unfinished, (0, 0))
            with publish(path) as temporary:
                os.replace(unfinished, temporary)
        return path, digest, facts
    finally:
        unfinished.unlink(missing_ok=True)
