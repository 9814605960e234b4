"""The commands around a model: encode-latents, train, convert."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goku_cli.cli.console import Bar, Session, emit, reference_from, say, table, working
from goku_cli.cli.options import AsJson, Output, Reference, Strict, Workers
from goku_cli.encode.settings import BUCKETS, DTYPES, TEXT_DTYPES, EncodeSettings, Slice, size_of
from goku_cli.errors import GokuError, Held, Interrupted, UsageError
from goku_cli.sample.settings import SampleSettings

if TYPE_CHECKING:
    from goku_cli.train.plan import Run
    from goku_cli.train.settings import Recipe

ENCODE = EncodeSettings()
SAMPLE = SampleSettings()


def encode_latents(
    manifest: Reference = None,
    vae: Annotated[
        str, typer.Option(help="linear, or the folder of a VAE (ours, or as diffusers saves it).")
    ] = ENCODE.vae,
    text: Annotated[
        str, typer.Option(help="tiny, words, t5:FOLDER, t5:google/flan-t5-xl, bert:FOLDER or umt5:FOLDER.")
    ] = ENCODE.text,
    bucket: Annotated[
        str | None, typer.Option(help=f"{', '.join(BUCKETS)}; portrait clips get the turned twin.")
    ] = None,
    size: Annotated[str | None, typer.Option(help=f"HEIGHTxWIDTH instead of a bucket; {ENCODE.size} if none.")] = None,
    frames: Annotated[int, typer.Option(help="Frames of a window, 4k+1.")] = ENCODE.frames,
    fps: Annotated[float, typer.Option(help="Frames per second after resampling.")] = ENCODE.fps,
    windows: Annotated[int, typer.Option(help="Most windows per clip.")] = ENCODE.windows,
    channels: Annotated[int, typer.Option(help="Latent channels of the linear VAE.")] = ENCODE.channels,
    allow_upscale: Annotated[bool, typer.Option("--allow-upscale", help="Enlarge what is smaller than that.")] = False,
    flip: Annotated[bool, typer.Option("--flip", help="Encode every window mirrored as well.")] = False,
    dtype: Annotated[
        str, typer.Option(help=f"Of the stored latents and text states: {', '.join(DTYPES)}.")
    ] = ENCODE.dtype,
    text_dtype: Annotated[
        str, typer.Option(help=f"Of the text states: {', '.join(TEXT_DTYPES)} (half of float16); empty: as --dtype.")
    ] = ENCODE.text_dtype,
    tile: Annotated[
        int, typer.Option(help="Side in pixels of the squares that a VAE works in, to save memory at 720p; 0: none.")
    ] = ENCODE.tile,
    shard: Annotated[
        str | None, typer.Option(help="One machine's part, e.g. 3/8; each has a copy of the manifest.")
    ] = None,
    merge: Annotated[list[Path] | None, typer.Option(help="Instead, take in what another copy encoded.")] = None,
    export: Annotated[
        Path | None, typer.Option(help="Instead, write the selection's latents as WebDataset tars into a new folder.")
    ] = None,
    take: Annotated[
        list[Path] | None, typer.Option("--import", help="Instead, take in such a folder, or a tar; several times.")
    ] = None,
    forget_lost: Annotated[
        bool, typer.Option("--forget-lost", help="Go on when all shards of a folder are gone: make them again.")
    ] = False,
    workers: Workers = 0,
    output: Output = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Encode the kept clips and their captions, once, into shards beside the manifest.

    The default VAE is linear (3D PCA, causal, stride 4x8x8) and is fitted on the first use. With a GPU, workers
    decode and one process encodes on it.

    Example: goku encode-latents manifests/my.duckdb --size 48x80 --frames 9 --fps 8
    """
    chosen = size_of(bucket, size)
    settings = EncodeSettings(
        vae, text, chosen, frames, fps, windows, channels, allow_upscale, flip, dtype, text_dtype, tile
    )
    part = Slice.parse(shard) if shard else Slice()
    if sum(map(bool, (merge, export, take))) > 1:
        raise UsageError("give one of --merge, --export and --import")
    if merge:
        _merge(manifest, merge, output, as_json, forget_lost=forget_lost)
    elif export:
        _export(manifest, export, as_json)
    elif take:
        _import(manifest, take, output, as_json, forget_lost=forget_lost)
    else:
        arguments = vars(settings) | {"shard": shard}
        with working("encode-latents", manifest, arguments=arguments, output=output, as_json=as_json) as session:
            _encode(session, settings, part, workers=workers, strict=strict, forget_lost=forget_lost)


def _encode(
    session: Session, settings: EncodeSettings, part: Slice, *, workers: int, strict: bool, forget_lost: bool
) -> None:
    from goku_cli.encode.encode import encode_latents as encode
    from goku_cli.encode.encode import remarks
    from goku_cli.encode.lost import check_mounted, remove_orphans

    manifest = session.manifest
    selection = manifest.selection(session.name)
    if not forget_lost:
        check_mounted(manifest)
    _forget_lost(session)
    if freed := remove_orphans(manifest):
        say(f"{freed / 1e6:.1f} MB of shards that no row names were removed")
    clips, texts = encode(manifest, selection, settings, workers=workers, progress=session.bar, part=part)
    session.count(texts, "captions")
    session.count(clips, "clips")
    for line in remarks(manifest, settings):
        say(line)
    session.output = f"{manifest.path}#{selection}"
    clips.check("encode-latents", strict)
    texts.check("encode-latents", strict)


def _forget_lost(session: Session) -> None:
    from goku_cli.encode.lost import forget, lost_shards

    if lost := lost_shards(session.manifest):
        items = forget(session.manifest, lost)
        say(f"{len(lost)} shards are gone or cut; what they held of {items} clips and captions is no longer listed")


def _merge(manifest: str | None, others: list[Path], output: Path | None, as_json: bool, *, forget_lost: bool) -> None:
    from goku_cli.encode.merge import merge

    arguments = {"merge": [str(other) for other in others]}
    with working("encode-latents", manifest, arguments=arguments, output=output, as_json=as_json) as session:
        if forget_lost:
            _forget_lost(session)
        for other in others:
            done = merge(session.manifest, other)
            say(f"{other}: {done}")
            session.counts[str(other)] = vars(done)
        session.output = str(session.manifest.path) + (f"#{session.name}" if session.name else "")


def _export(manifest: str | None, folder: Path, as_json: bool) -> None:
    from goku_cli.encode.export import export

    with working("encode-latents", manifest, arguments={"export": str(folder)}, as_json=as_json) as session:
        selection = session.manifest.selection(session.name)
        say(f"export: {export(session.manifest, selection, folder, session.bar)}")
        session.output = f"{session.manifest.path}#{selection}"


def _import(manifest: str | None, paths: list[Path], output: Path | None, as_json: bool, *, forget_lost: bool) -> None:
    from goku_cli.encode.importing import import_tars

    arguments = {"import": [str(path) for path in paths]}
    with working("encode-latents", manifest, arguments=arguments, output=output, as_json=as_json) as session:
        if forget_lost:
            _forget_lost(session)
        done = import_tars(session.manifest, paths, session.bar)
        say(f"import: {done}")
        session.counts.update(vars(done))
        session.output = str(session.manifest.path) + (f"#{session.name}" if session.name else "")


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A TOML file, or the name of one that ships.")],
    manifest: Reference = None,
    runs: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs"),
    named: Annotated[
        Path | None,
        typer.Option("--continue", help="A run that goes on with this recipe and these data, if they fit it."),
    ] = None,
    ranks: Annotated[
        int, typer.Option(help="Processes on each node; 0 is one per GPU, or without one a core each, up to 4.")
    ] = 0,
    hostfile: Annotated[Path | None, typer.Option(help="Nodes, a line HOST slots=GPUS each; needs ssh.")] = None,
    port: Annotated[int, typer.Option(help="Where the ranks meet; 0 takes a free one.")] = 0,
    plan: Annotated[bool, typer.Option("--plan", help="Start nothing; say what it would take, or why not.")] = False,
    gpu: Annotated[str, typer.Option(help="With --plan: a kind of GPU (rtx-4090, a100-80gb, h100, ...).")] = "h100",
    gpus: Annotated[int, typer.Option(help="With --plan: how many of them.")] = 8,
    mfu: Annotated[float, typer.Option(help="With --plan: the share of their peak that is reached.")] = 0.35,
    price: Annotated[float, typer.Option(help="With --plan: dollars of one for an hour.")] = 0.0,
    size: Annotated[str, typer.Option(help="With --plan, without MANIFEST: HEIGHTxWIDTH.")] = "480x864",
    frames: Annotated[int, typer.Option(help="The same: frames of a clip, 4k+1; 1 is images alone.")] = 97,
    as_json: AsJson = False,
) -> None:
    """Train as a recipe says: spawns the deepspeed launcher, also without a GPU.

    The run's folder is named by what it learns, so the same command goes on where it stopped, also with other
    max_tokens, recompute, save_every and the like. Ctrl-C saves first.
    Under torchrun, srun or mpirun it is itself one of the ranks. Prints the checkpoint's folder; with --plan RECIPE.

    Example: goku train recipes/shapes.toml manifests/my.duckdb
    """
    from goku_cli.recipe import find
    from goku_cli.train.settings import load_recipe

    path = find(".", recipe)
    settings = load_recipe(path)  # before torch is loaded: a typing error is answered at once
    if plan:
        _plan(path, settings, manifest, (gpu, gpus, mfu, price), (size, frames), as_json)
        return
    from goku_cli.manifest.store import Manifest, parse_reference
    from goku_cli.train import outer
    from goku_cli.train.launch import Launch, attention_kernel, check_compiler, default_ranks, launch
    from goku_cli.train.plan import Run, prepare

    kernel = attention_kernel(settings.train)
    check_compiler(settings.train)
    file, name = parse_reference(reference_from(manifest))
    started = time.monotonic()
    arguments: dict[str, object] = {"recipe": str(path), "ranks": ranks}

    def prepared() -> Run:
        with Manifest(file) as opened:
            run = prepare(opened, opened.selection(name), settings, path.stem, runs, named)
        if run.remark:
            say(f"train: {run.remark}")
        say(f"train: {run.folder} on {run.clips} clips, attention by {kernel}")
        return run

    found = outer.place(os.environ)
    if found is not None:
        run = outer.train_here(found, prepared)
        if run is None:
            return  # another rank prints
    else:
        how = Launch(ranks or (0 if hostfile else default_ranks()), hostfile, port)
        how.check()
        run = prepared()
        say(f"train: {how.ranks or 'as the hostfile says'} rank(s), log in {run.folder}/launch.log")
        try:
            with Bar() as bar:
                launch(run, how, bar=bar, say=say)
        except (GokuError, Interrupted) as error:
            status = "interrupted" if isinstance(error, Interrupted) else f"failed: {error}"
            with contextlib.suppress(Exception):  # the first error is the one to report
                _note_run(run, file, arguments, status, {}, time.monotonic() - started)
            raise
    _tell_run(run, file, arguments, time.monotonic() - started, as_json)


def _plan(
    path: Path, recipe: "Recipe", reference: str | None, on: tuple[str, int, float, float], clip: tuple[str, int],
    as_json: bool,
) -> None:  # fmt: skip
    """Say what a recipe's run would take, and print the recipe's path."""
    from goku_cli.manifest.store import Manifest, parse_reference
    from goku_cli.train.fitting import check_fits
    from goku_cli.train.forecast import Machine
    from goku_cli.train.lengths import plan_of_manifest, plan_of_sizes

    if recipe.kind != "flow":
        raise UsageError(f'--plan is for kind = "flow"; {path} trains a VAE')
    machine = Machine(*on)
    if reference is None:
        planned = plan_of_sizes(recipe, machine, *clip)
    else:
        file, name = parse_reference(reference)
        with Manifest(file) as opened:
            planned = plan_of_manifest(recipe, machine, opened, opened.selection(name))
    found = planned.forecast()
    table(str(path), ["what", "foretold"], found.rows())
    check_fits(planned, found)
    emit(str(path), {"command": "train", "plan": True, **found.figures()}, as_json)


def _tell_run(run: "Run", file: Path, arguments: dict[str, object], seconds: float, as_json: bool) -> None:
    """Write a finished run into its manifest, say its figures, and print its checkpoint."""
    from goku_cli.train.launch import last_figures
    from goku_cli.train.outlook import compared
    from goku_cli.train.watch import balance

    checkpoint = run.finished
    assert checkpoint is not None
    figures = last_figures(checkpoint)
    for told in filter(None, (balance(run.folder), compared(run.folder))):
        say(f"train: {told}")
    try:
        _note_run(run, file, arguments, "ok", {"steps": run.recipe.train.steps, **figures}, seconds)
    except Held as held:  # no failure after days of training: the checkpoint is there, and what reads it goes on
        say(f"train: {held}: the checkpoint is whole, its figures come into the manifest with the same command")
    if "held_out_loss" in figures:
        untrained = figures.get("held_out_loss_untrained", float("nan"))
        say(f"train: held-out loss {figures['held_out_loss']:.4f}, untrained {untrained:.4f}")
    emit(str(checkpoint), {"command": "train", "seconds": round(seconds, 3), **figures}, as_json)


def _note_run(
    run: "Run", file: Path, arguments: dict[str, object], status: str, counts: dict[str, object], seconds: float
) -> None:
    """Write into its manifest how a run ended, and the losses of its samples up to the last checkpoint."""
    from goku_cli.manifest.store import Manifest
    from goku_cli.train.losses import take_in

    with Manifest(file) as opened:
        opened.begin_run("train", arguments)
        take_in(opened, run.folder)
        opened.end_run(status, counts, seconds, str(run.folder.absolute()))


def convert(
    source: Annotated[
        str | None,
        typer.Argument(metavar="[FOLDER]", help="Published Wan 2.1 weights, or a checkpoint; from the pipe."),
    ] = None,
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write; it must not exist yet.")],
    parts: Annotated[
        Path | None,
        typer.Option(help="A diffusers pipeline's folder, for a transformer without VAE and text encoder beside it."),
    ] = None,
    weights: Annotated[str, typer.Option(help="Of a checkpoint: ema, raw, or another average.")] = SAMPLE.weights,
    ema_length: Annotated[
        float | None, typer.Option(help="Of a run with ema_lengths: a checkpoint with an average of this length.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn published Wan 2.1 weights into a checkpoint, or a checkpoint of Wan's form into folders for diffusers.

    The way is decided by what lies in FOLDER. Tensors keep their bits. Prints the folder that was written.

    Example: goku convert Wan2.1-T2V-1.3B-Diffusers -o weights/wan-1.3b
    """
    from goku_cli.convert.convert import convert as run

    started = time.monotonic()
    told = run(Path(reference_from(source)), output, parts=parts, weights=weights, ema_length=ema_length)
    say(f"convert: {told}")
    emit(str(output), {"command": "convert", "seconds": round(time.monotonic() - started, 3)}, as_json)


COMMANDS: dict[str, Callable[..., None]] = {
    "encode-latents": encode_latents,
    "train": train,
    "convert": convert,
}
