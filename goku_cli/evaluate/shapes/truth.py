"""Ground truth of a synthetic set: the truth beside each source file, and the manifest's rows in the same form.

Times here are seconds, as in the sidecars.
"""

import contextlib
import json
import tarfile
from pathlib import Path
from typing import Any

from goku_cli.manifest.store import Manifest, Row

CLIPS = """
SELECT clips.id, files.path AS file, start_us / 1e6 AS start, end_us / 1e6 AS "end" FROM clips
JOIN (SELECT source, min(path) AS path FROM source_paths GROUP BY source) AS files USING (source) ORDER BY file, start
"""


def read_truth(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Return the sidecar of every source that has one with shots, by the source's path.

    It lies beside the file or, for what came out of a tar (`item` is ARCHIVE.tar!MEMBER), beside the member.
    """
    found: dict[str, dict[str, Any]] = {}
    tars: dict[str, dict[str, bytes]] = {}
    for row in manifest.query(
        "SELECT min(path) AS path, arg_min(item, path) AS item FROM source_paths GROUP BY source ORDER BY 1"
    ):
        archive, inside, member = row["item"].rpartition("!")
        if inside and row["item"] != row["path"]:
            if archive not in tars:
                tars[archive] = _texts(archive)
            content = tars[archive].get(str(Path(member).with_suffix(".json")))
        else:
            sidecar = Path(row["path"]).with_suffix(".json")
            content = sidecar.read_bytes() if sidecar.is_file() else None
        with contextlib.suppress(ValueError):  # somebody else's JSON, which has no truth
            truth = json.loads(content or b"null")
            if isinstance(truth, dict) and "shots" in truth:
                found[row["path"]] = truth
    return found


def _texts(archive: str) -> dict[str, bytes]:
    """Return the JSON members of a tar by name; none when it is gone or damaged."""
    try:
        with tarfile.open(archive, "r:") as opened:
            named = [info for info in opened if info.isreg() and info.name.endswith(".json")]
            return {info.name: file.read() for info in named if (file := opened.extractfile(info)) is not None}
    except (tarfile.TarError, OSError):
        return {}


def shots(truth: dict[str, dict[str, Any]]) -> list[Row]:
    """Return every shot with its file."""
    return [{"file": file, **shot} for file, sidecar in truth.items() for shot in sidecar["shots"]]


def cuts(truth: dict[str, dict[str, Any]]) -> list[Row]:
    """Return every planted cut as a span: the time between the shots that it joins."""
    found = []
    for file, sidecar in truth.items():
        for cut in sidecar["cuts"]:
            before = max((s["end"] for s in sidecar["shots"] if s["end"] <= cut["time"] + 1e-6), default=cut["time"])
            after = min(
                (s["start"] for s in sidecar["shots"] if s["start"] >= cut["time"] - 1e-6),
                default=cut["time"],
            )
            found.append({"file": file, "kind": cut["kind"], "start": before, "end": after})
    return found


def shot_of(clip: Row, found: list[Row]) -> Row | None:
    """Return the shot that a clip lies in, by the clip's middle."""
    middle = (clip["start"] + clip["end"]) / 2
    return next((s for s in found if s["file"] == clip["file"] and s["start"] <= middle <= max(s["end"], 0)), None)
