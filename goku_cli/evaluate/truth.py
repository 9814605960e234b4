"""What is known of a synthetic set: the truth beside each source file, and the manifest's rows in the same form.

Times here are seconds, as in the sidecars.
"""

import json
from pathlib import Path
from typing import Any

from goku_cli.manifest.store import Manifest, Row

CLIPS = """
SELECT clips.id, files.path AS file, start_us / 1e6 AS start, end_us / 1e6 AS "end" FROM clips
JOIN (SELECT source, min(path) AS path FROM source_paths GROUP BY source) AS files USING (source) ORDER BY file, start
"""


def read_truth(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Return the sidecar of every source that has one with shots, by the source's path."""
    found = {}
    for row in manifest.query("SELECT min(path) AS path FROM source_paths GROUP BY source ORDER BY 1"):
        sidecar = Path(row["path"]).with_suffix(".json")
        if sidecar.exists():
            truth = json.loads(sidecar.read_text())
            if isinstance(truth, dict) and "shots" in truth:
                found[row["path"]] = truth
    return found


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
