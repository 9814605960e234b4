"""`goku encode-latents`: latents and text states of a selection."""

from pathlib import Path
from typing import Annotated

import typer

from goku_cli.cli import latents
from goku_cli.cli.console import Session, renamed, say, working
from goku_cli.cli.options import AsJson, ForgetLost, Output, Reference, Strict, Workers
from goku_cli.encode.settings import BUCKETS, DTYPES, TEXT_DTYPES, EncodeSettings, Slice, size_of
from goku_cli.errors import UsageError

ENCODE = EncodeSettings()


def encode_latents(
    manifest: Reference = None,
    vae: Annotated[
        str, typer.Option(help="VAE: linear, or a folder (trained here, or saved by diffusers).")
    ] = ENCODE.vae,
    text: Annotated[
        str, typer.Option(help="tiny, words, t5:FOLDER, t5:google/flan-t5-xl, bert:FOLDER or umt5:FOLDER.")
    ] = ENCODE.text,
    bucket: Annotated[
        str | None, typer.Option(help=f"Bucket: {', '.join(BUCKETS)}; portrait clips use the transposed size.")
    ] = None,
    size: Annotated[str | None, typer.Option(help=f"HEIGHTxWIDTH instead of a bucket; default: {ENCODE.size}.")] = None,
    frames: Annotated[int, typer.Option(help="Frames per window, 4k+1.")] = ENCODE.frames,
    fps: Annotated[float, typer.Option(help="Frames per second after resampling.")] = ENCODE.fps,
    windows: Annotated[int, typer.Option(help="Maximum number of windows per clip.")] = ENCODE.windows,
    channels: Annotated[int, typer.Option(help="Latent channels of the linear VAE.")] = ENCODE.channels,
    allow_upscale: Annotated[
        bool, typer.Option("--allow-upscale", help="Upscale clips that are smaller than the bucket.")
    ] = False,
    flip: Annotated[
        bool, typer.Option("--flip", help="Encode a horizontally mirrored copy of every window as well.")
    ] = False,
    dtype: Annotated[
        str, typer.Option(help=f"Dtype of stored latents and text states: {', '.join(DTYPES)}.")
    ] = ENCODE.dtype,
    text_dtype: Annotated[
        str, typer.Option(help=f"Dtype of stored text states: {', '.join(TEXT_DTYPES)}; default: as --dtype.")
    ] = ENCODE.text_dtype,
    tile: Annotated[
        int, typer.Option(help="Tile side in pixels for the VAE, to save memory at 720p; 0: no tiling.")
    ] = ENCODE.tile,
    shard: Annotated[
        str | None, typer.Option(help="Part to encode, e.g. 3/8; every machine has a copy of the manifest.")
    ] = None,
    forget_lost: ForgetLost = False,
    merge: Annotated[list[Path] | None, typer.Option(hidden=True)] = None,
    export: Annotated[Path | None, typer.Option(hidden=True)] = None,
    tars: Annotated[list[Path] | None, typer.Option("--import", hidden=True)] = None,
    workers: Workers = 0,
    output: Output = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Encode clips and captions into latents and text states.

    They are safetensors shards beside the manifest, encoded once. The default VAE is linear (3D PCA, causal, stride
    4x8x8) and is fitted on the first use. With a GPU, workers decode and one process encodes on it.

    Example: goku encode-latents manifests/my.duckdb --size 48x80 --frames 9 --fps 8
    """
    chosen = size_of(bucket, size)
    settings = EncodeSettings(
        vae, text, chosen, frames, fps, windows, channels, allow_upscale, flip, dtype, text_dtype, tile
    )
    part = Slice.parse(shard) if shard else Slice()
    if sum(map(bool, (merge, export, tars))) > 1:
        raise UsageError("give one of --merge, --export and --import")
    if merge:
        renamed("encode-latents --merge", "goku latents merge MANIFEST --from OTHER")
        latents.merge(manifest, others=merge, forget_lost=forget_lost, output=output, as_json=as_json)
    elif export:
        renamed("encode-latents --export", "goku latents export MANIFEST --to FOLDER")
        latents.export(manifest, folder=export, as_json=as_json)
    elif tars:
        renamed("encode-latents --import", "goku latents import MANIFEST --from FOLDER")
        latents.import_(manifest, tars=tars, forget_lost=forget_lost, output=output, as_json=as_json)
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
    latents.forget_lost_shards(session)
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
