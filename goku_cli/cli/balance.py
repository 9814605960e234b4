"""`goku balance`: class weights of a selection."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from goku_cli.balance import taxonomy as balance_taxonomy
from goku_cli.chat.settings import SERVER as SERVED
from goku_cli.chat.settings import ServerSettings
from goku_cli.cli.console import reference_from, say, table, working
from goku_cli.cli.options import AsJson, Output, Reference, Workers

if TYPE_CHECKING:
    from goku_cli.balance.balance import Balanced
    from goku_cli.cli.console import Session

TAGGERS = {"rules": "goku_cli.balance.tags:tag_by_rules", "clip": "goku_cli.balance.look:tag_by_looking"}
BAR = 24


def balance(
    manifest: Reference = None,
    taxonomy: Annotated[
        str, typer.Option(help="Taxonomy of categories: a packaged name (default, shapes) or a TOML file.")
    ] = balance_taxonomy.DEFAULT,
    tagger: Annotated[
        str,
        typer.Option(help="Tagger: rules (over captions), clip (zero-shot on frames), openai:URL, or kept."),
    ] = "rules",
    model: Annotated[str | None, typer.Option(help="Model of the server; default: its first one.")] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Number of clips to keep, sampled by weight; default: all, with weights.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the draw.")] = 0,
    explain: Annotated[bool, typer.Option("--explain", help="Print the SQL that would run; write nothing.")] = False,
    output: Output = None,
    workers: Workers = 0,
    as_json: AsJson = False,
) -> None:
    """Weigh clips so that categories are sampled evenly.

    Sub-categories of a class are drawn equally often. Writes the selection NAME-balanced.

    Example: goku balance manifests/my.duckdb#480p --taxonomy default
    """
    from goku_cli.balance import balance as room
    from goku_cli.registry import load

    classes = balance_taxonomy.load_taxonomy(taxonomy)
    if explain:
        _explain_balance(manifest, classes, size, seed)
        return
    arguments = {"taxonomy": taxonomy, "tagger": tagger, "model": model, "size": size, "seed": seed}
    with working("balance", manifest, arguments=arguments, output=output, as_json=as_json) as session:
        name = session.manifest.selection(session.name).removesuffix(room.SUFFIX)
        if tagger.startswith(SERVED):
            _ask_for_tags(session, name, classes, tagger, model)
        elif tagger != "kept":
            tag = load(tagger, TAGGERS, "tagger")
            session.count(tag(session.manifest, name, classes, session.bar), "tag")
        done = room.balance(session.manifest, name, classes, size, seed)
        session.counts.update(clips=done.clips, effective=round(done.effective, 1), untagged=done.untagged)
        _distribution(done)
        session.output = f"{session.output}#{done.name}"


def _ask_for_tags(
    session: "Session", name: str, classes: balance_taxonomy.Taxonomy, url: str, model: str | None
) -> None:
    from goku_cli.balance.asked import tag_by_asking
    from goku_cli.chat.spending import Spending

    spending = Spending(ServerSettings(), session.bar.describe)
    outcome = tag_by_asking(session.manifest, name, classes, session.bar, url=url, model=model, spending=spending)
    session.count(outcome, "tag")
    say(f"  {spending}")
    spending.finish()
    outcome.check("tag", strict=False)


def _distribution(done: "Balanced") -> None:
    """Print how often each class is there, and how often it is drawn."""
    clips, drawn = sum(c.clips for c in done.classes), sum(c.drawn for c in done.classes)
    most = max(max(c.clips / clips, c.drawn / drawn) for c in done.classes)
    rows = []
    for entry in done.classes:
        shares = entry.clips / clips, entry.drawn / drawn
        bars = [f"{share:6.1%} {'█' * round(BAR * share / most)}" for share in shares]
        rows.append([f"{entry.primary} / {entry.subcategory}", entry.clips, entry.weight, *bars])
    title = f"selection {done.name}{'' if done.changed else ' (unchanged)'}"
    table(title, ["class", "clips", "weight", "before", "after"], rows)
    varied = f"as varied as {done.effective:.0f} equally weighted ones"
    say(f"  {done.clips} clips, {varied}; {done.moved:.0%} of the draws went to other classes")
    if done.untagged:
        say(f"  {done.untagged} clips have no tag and are left out")


def _explain_balance(reference: str | None, classes: balance_taxonomy.Taxonomy, size: int | None, seed: int) -> None:
    from goku_cli.balance import balance as room
    from goku_cli.manifest.store import Manifest, parse_reference

    path, name = parse_reference(reference_from(reference))
    with Manifest(path, read_only=True) as opened:
        selection = opened.selection(name).removesuffix(room.SUFFIX)
        sys.stdout.write(";\n\n".join(room.explain(opened, selection, classes, size, seed)) + ";\n")
