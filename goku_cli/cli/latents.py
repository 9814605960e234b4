"""`goku latents`: encoded latents exported, imported, merged between copies of a manifest, and verified."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goku_cli.cli.console import Session, reference_from, say, working
from goku_cli.cli.options import AsJson, ForgetLost, Output, Reference
from goku_cli.errors import GokuError

if TYPE_CHECKING:
    from goku_cli.manifest.store import Manifest


def export(
    manifest: Reference = None,
    *,
    folder: Annotated[Path, typer.Option("--to", help="Folder of WebDataset tars to write; it must not exist.")],
    as_json: AsJson = False,
) -> None:
    """Write a selection's latents, captions and text states as WebDataset tars.

    Example: goku latents export manifests/my.duckdb --to tars/
    """
    from goku_cli.encode.export import export as write

    with working("encode-latents", manifest, arguments={"export": str(folder)}, as_json=as_json) as session:
        selection = session.manifest.selection(session.name)
        say(f"export: {write(session.manifest, selection, folder, session.bar)}")
        session.output = f"{session.manifest.path}#{selection}"


def import_(
    manifest: Reference = None,
    *,
    tars: Annotated[list[Path], typer.Option("--from", help="Folder of tars, or one tar; repeatable.")],
    forget_lost: ForgetLost = False,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Read WebDataset tars of latents into a manifest that has their clips.

    Example: goku latents import manifests/my.duckdb --from tars/
    """
    from goku_cli.encode.importing import import_tars

    arguments = {"import": [str(path) for path in tars]}
    with working("encode-latents", manifest, arguments=arguments, output=output, as_json=as_json) as session:
        if forget_lost:
            forget_lost_shards(session)
        done = import_tars(session.manifest, tars, session.bar)
        say(f"import: {done}")
        session.counts.update(vars(done))
        session.output = _whole(session)


def merge(
    manifest: Reference = None,
    *,
    others: Annotated[list[Path], typer.Option("--from", help="Copy of the manifest to merge; repeatable.")],
    forget_lost: ForgetLost = False,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Add the latents that other copies of a manifest encoded, e.g. with encode-latents --shard on other machines.

    Example: goku latents merge manifests/my.duckdb --from manifests/my-1.duckdb --from manifests/my-2.duckdb
    """
    from goku_cli.encode.merge import merge as merge_copy

    arguments = {"merge": [str(other) for other in others]}
    with working("encode-latents", manifest, arguments=arguments, output=output, as_json=as_json) as session:
        if forget_lost:
            forget_lost_shards(session)
        for other in others:
            done = merge_copy(session.manifest, other)
            say(f"{other}: {done}")
            session.counts[str(other)] = vars(done)
        session.output = _whole(session)


def verify(
    manifest: Reference = None,
    windows: Annotated[int, typer.Option(min=0, help="Windows to encode again and compare.")] = 0,
) -> None:
    """Check a manifest's invariants and every shard's checksums; exit with 1 when one is broken.

    Example: goku latents verify manifests/my.duckdb --windows 8
    """
    from goku_cli.manifest.store import Manifest, parse_reference

    with Manifest(parse_reference(reference_from(manifest))[0], read_only=True) as opened:
        report_broken(opened, windows)


def report_broken(manifest: "Manifest", windows: int | None) -> None:
    """Print broken invariants; with a number of windows, also read every shard and encode so many windows again.

    Raises:
        GokuError: an invariant is broken.
    """
    broken = manifest.verify()
    if windows is not None:
        from goku_cli.encode.verify import verify_latents

        found = verify_latents(manifest, windows)
        broken += found.broken
        say(f"{found.shards} shards read, {found.windows} windows encoded again; "
            f"the largest difference is {found.worst:.3g}")  # fmt: skip
    for line in broken:
        sys.stdout.write(line + "\n")
    if broken:
        raise GokuError(f"{manifest.path}: {len(broken)} broken invariants")
    say(f"{manifest.path} is sound")


def forget_lost_shards(session: Session) -> None:
    """Remove the rows of shards that are gone or cut, so that their clips are encoded again."""
    from goku_cli.encode.lost import forget, lost_shards

    if lost := lost_shards(session.manifest):
        items = forget(session.manifest, lost)
        say(f"{len(lost)} shards are gone or cut; what they held of {items} clips and captions is no longer listed")


def _whole(session: Session) -> str:
    return str(session.manifest.path) + (f"#{session.name}" if session.name else "")


COMMANDS = {"export": export, "import": import_, "merge": merge, "verify": verify}
