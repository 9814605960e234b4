"""`goku losses`: clips whose training losses are outliers."""

from typing import Annotated

import typer

from goku_cli.cli.console import reference_from, write_rows
from goku_cli.cli.options import AsJson, Reference

OUTLIERS = """
SELECT clip_losses.clip, deviation, at_least, samples, text AS caption, source_path, start_us / 1e6 AS seconds
FROM clip_losses LEFT JOIN clip_files ON id = clip_losses.clip
LEFT JOIN captions ON captions.clip = clip_losses.clip AND captions.kind = 'merged'
ORDER BY at_least DESC, abs(deviation) DESC, 1
"""


def losses(
    manifest: Reference = None,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="Number of clips.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List clips whose training losses are outliers.

    Their losses lie farthest from those of other clips at similar timesteps: by the caption of another clip, a broken
    file, or content that is rare.

    Example: goku losses manifests/my.duckdb -n 10
    """
    from goku_cli.manifest.store import Manifest, parse_reference

    with Manifest(parse_reference(reference_from(manifest))[0], read_only=True) as opened:
        write_rows("losses", opened.query(f"{OUTLIERS} LIMIT {count}"), as_json)
