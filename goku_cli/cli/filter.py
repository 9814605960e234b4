"""`goku filter`: measure clips and keep those within a tier."""

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from goku_cli.cli.console import reference_from, stderr, stdout, table, working
from goku_cli.cli.options import TIMEOUT, AsJson, Output, Reference, Strict, Timeout, Workers
from goku_cli.filter import tier as filter_tier
from goku_cli.filter.scorers import in_use

if TYPE_CHECKING:
    pass


def filter_(
    manifest: Reference = None,
    tier: Annotated[
        str, typer.Option(help="Tier of limits: a packaged name (480p, 720p, 1080p, shapes) or a TOML file.")
    ] = filter_tier.DEFAULT,
    scorer: Annotated[
        list[str] | None,
        typer.Option(help="Scorer to use for its metric (dinov2, laion, ..., module:function); repeatable."),
    ] = None,
    explain: Annotated[
        str | None, typer.Option(metavar="CLIP", help="Print each rule's value, bound and verdict for one clip.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what limits would keep by stored scores; write nothing.")
    ] = False,
    output: Output = None,
    workers: Workers = 0,
    timeout: Timeout = TIMEOUT,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Score clips and keep those within a tier's limits.

    The selection is named after the tier. It has a row for every clip: kept, or dropped with the first limit that it
    breaks. Clips are scored once; other limits need no second pass. Scorers that are models need weights on disk: goku
    doctor lists them and says how to get them.

    Example: goku filter manifests/my.duckdb --tier 480p
    """
    from goku_cli.filter import decide as deciding
    from goku_cli.filter.measure import measure

    scorers = in_use(scorer or ())
    limits = filter_tier.load_tier(tier, scorers)
    if explain is not None or dry_run:
        _look_at_tier(manifest, limits, explain, as_json)
        return
    arguments = {"tier": tier, "scorers": scorers}
    with working("filter", manifest, arguments=arguments, output=output, as_json=as_json) as session:
        outcome = measure(session.manifest, scorers, workers=workers, timeout=timeout, progress=session.bar)
        session.count(outcome, "filter")
        deciding.decide(session.manifest, limits)
        changed = deciding.keep(session.manifest, limits)
        rows = deciding.summary(session.manifest)
        session.counts["selection"] = dict(rows)
        _funnel(f"selection {limits.name}{'' if changed else ' (unchanged)'}", rows)
        outcome.check("filter", strict)
        session.output = f"{session.output}#{limits.name}"


def _look_at_tier(reference: str | None, limits: filter_tier.Tier, clip: str | None, as_json: bool) -> None:
    """Say what a tier would do, to all clips or to one; nothing is measured and nothing is written."""
    from goku_cli.filter import decide as deciding
    from goku_cli.manifest.store import Manifest, parse_reference

    path, _ = parse_reference(reference_from(reference))
    with Manifest(path, read_only=True) as opened:
        deciding.decide(opened, limits)
        if clip is None:
            told = deciding.summary(opened)
            if as_json:
                sys.stdout.write(json.dumps({"reference": str(path), "selection": dict(told)}) + "\n")
            else:
                _funnel(f"selection {limits.name} would be", told, to=stdout)
            return
        found = opened.clip(clip)
        rules = deciding.explain(opened, limits, found)
        if as_json:
            sys.stdout.write(json.dumps({"clip": found["id"], "rules": rules}) + "\n")
        else:
            title = f"{found['id']} by {limits.name}"
            table(title, list(rules[0]), [list(rule.values()) for rule in rules], to=stdout)


def _funnel(title: str, rows: list[tuple[str, int]], to: Console = stderr) -> None:
    total = sum(count for _, count in rows)
    shares = [[rule, count, f"{count / total:.1%}" if total else ""] for rule, count in rows]
    table(title, ["", "clips", "share"], shares, to=to)
