"""`goku ingest`: media files into a manifest."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goku_cli.cli.console import say, working
from goku_cli.cli.options import TIMEOUT, AsJson, Strict, Timeout, Workers
from goku_cli.ingest import rules as ingest_rules

if TYPE_CHECKING:
    pass


def ingest(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Files, folders, quoted globs, lists (csv, tsv, parquet, jsonl), tars, http, s3 URLs; -: stdin.",
        ),
    ],
    manifest: Annotated[Path, typer.Option("-m", "--manifest", help="Manifest to write, e.g. manifests/my.duckdb.")],
    rules: Annotated[
        str, typer.Option(help="Rules on file properties: a packaged name (paper, none) or a TOML file.")
    ] = ingest_rules.DEFAULT,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Follow symbolic links that leave the given folders.")
    ] = False,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Allow fetching from private addresses such as 127.0.0.1.")
    ] = False,
    encoding: Annotated[
        str, typer.Option(help="Text encoding of captions and lists without a byte order mark, e.g. cp1252, gb18030.")
    ] = "utf-8",
    workers: Workers = 0,
    timeout: Timeout = TIMEOUT,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Register videos and images in a manifest.

    Files are probed and measured; captions come from x.txt, x.json or a column of a list.
    A file whose bytes are known already adds a name, not a source. What comes from a URL or a tar is kept beside the
    manifest, in NAME.files. Run again, it does what is new or changed, and what failed.

    Example: goku ingest videos/ -m manifests/my.duckdb
    """
    from goku_cli.ingest.ingest import ingest as ingest_media
    from goku_cli.ingest.ingest import rejections
    from goku_cli.ingest.walk import find_media

    media, limits = find_media(paths, follow_links, encoding), ingest_rules.load_rules(rules)
    arguments = {
        "paths": paths, "rules": rules, "follow_links": follow_links, "allow_private": allow_private,
        "encoding": encoding,
    }  # fmt: skip
    with working("ingest", str(manifest), arguments=arguments, create=True, as_json=as_json) as session:
        outcome = ingest_media(
            session.manifest, media, limits, allow_private=allow_private, encoding=encoding, workers=workers,
            timeout=timeout, progress=session.bar,
        )  # fmt: skip
        session.count(outcome, "ingest")
        session.counts["rejected"] = dict(rejections(session.manifest))
        for rule, count in rejections(session.manifest):
            say(f"  {count} rejected for their {rule} (rules {rules})")
        outcome.check("ingest", strict)
