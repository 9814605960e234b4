"""From the trainer back to the data: the loss of every sample, in the manifest."""

from pathlib import Path

from goku_cli.manifest.store import Manifest
from goku_cli.train.logs.run_log import LOSSES

# The ranks of a sequence group have a part of each sample's tokens.
TAKE_IN = """
INSERT INTO losses
SELECT $training, step, clip, key, any_value(t), any_value(frames), any_value(height), any_value(width),
    any_value(tokens), any_value(caption), sum(error) / sum(values), $run
FROM read_parquet($files) WHERE values > 0 GROUP BY step, clip, key, t ORDER BY step, clip, key
"""


def take_in(manifest: Manifest, run: Path) -> None:
    """Write the losses of a run into the table `losses`, instead of those that it had there."""
    training = str(run.absolute())
    files = [str(path) for path in sorted((run / LOSSES).glob("*.parquet"))]
    with manifest.transaction():
        manifest.execute("DELETE FROM losses WHERE training = ?", [training])
        if files:
            manifest.execute(TAKE_IN, {"training": training, "run": manifest.run, "files": files})
