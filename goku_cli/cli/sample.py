"""`goku sample`: clips and images from a checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goku_cli.cli.console import reference_from, say, working
from goku_cli.cli.options import AsJson
from goku_cli.errors import UsageError
from goku_cli.manifest.beside import beside
from goku_cli.model.sampling.solvers import SOLVERS
from goku_cli.sample.settings import DTYPES, FORMATS, OFFLOADS, Machine, SampleSettings
from goku_cli.sizes import parse_range

if TYPE_CHECKING:
    from goku_cli.sample.prompts import Prompt

SAMPLE = SampleSettings()
MACHINE = Machine()
BENCHES = "vbench, geneval, dpg, t2i-compbench, shapes"


def sample(
    checkpoint: Annotated[
        str | None,
        typer.Argument(metavar="[CHECKPOINT]", help="Checkpoint or run folder; read from the pipe when absent."),
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", "-p", help="Text prompt; repeatable.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="File of prompts, one per line or as JSON lines; - reads stdin.")
    ] = None,
    bench: Annotated[str | None, typer.Option(help=f"Prompts of a benchmark: {BENCHES}.")] = None,
    bench_list: Annotated[
        Path | None, typer.Option("--list", help="With --bench: your own copy of its prompt list.")
    ] = None,
    part: Annotated[
        list[str] | None, typer.Option(help="With --bench: only its prompts of this category; repeatable.")
    ] = None,
    negative: Annotated[str, typer.Option(help="Negative prompt.")] = "",
    image: Annotated[Path | None, typer.Option(help="First frame, of an image-to-video checkpoint.")] = None,
    last_image: Annotated[
        Path | None, typer.Option(help="Last frame, of a checkpoint trained with [model] last_frame.")
    ] = None,
    motion: Annotated[
        float | None, typer.Option(help="Motion score to condition on, of a model trained on captions with one.")
    ] = None,
    rewrite: Annotated[
        str | None, typer.Option(help="Rewrite prompts by a language model first: openai:http://localhost:8000/v1")
    ] = None,
    rewrite_model: Annotated[str | None, typer.Option(help="Model of that server; default: its first one.")] = None,
    steps: Annotated[int, typer.Option(help="Number of solver steps.")] = SAMPLE.steps,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance scale; 1: none.")] = SAMPLE.guidance,
    image_guidance: Annotated[
        float, typer.Option(help="Guidance scale of the first frame, separate from the text's; 0: one scale for both.")
    ] = SAMPLE.image_guidance,
    interval: Annotated[
        str, typer.Option("--guidance-interval", help="Times with guidance, FROM,TO; 0 is noise, 1 is data.")
    ] = "0,1",
    zero_init: Annotated[
        int, typer.Option(help="Zero the velocity in the first N steps (CFG-Zero*).")
    ] = SAMPLE.zero_init,
    cache: Annotated[
        float, typer.Option(help="Step cache: skip blocks up to this drift of the latent, e.g. 0.05; 0: off.")
    ] = SAMPLE.cache,
    frames: Annotated[
        int, typer.Option(help="Number of frames, 4k+1; 1 samples images; 0: as in training.")
    ] = SAMPLE.frames,
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH; default: as in training.")] = SAMPLE.size,
    fps: Annotated[float, typer.Option(help="Frame rate of the files; 0: as in training.")] = SAMPLE.fps,
    weights: Annotated[str, typer.Option(help="Weights: ema, raw, or another EMA such as ema-0.99.")] = SAMPLE.weights,
    solver: Annotated[str, typer.Option(help=f"Solver: {', '.join(SOLVERS)}; ddim is for DDPM.")] = SAMPLE.solver,
    tile: Annotated[
        int, typer.Option(help="Tile side in pixels for VAE decoding, to save memory at 720p; 0: no tiling.")
    ] = SAMPLE.tile,
    dtype: Annotated[str, typer.Option(help=f"Compute dtype: {', '.join(DTYPES)} (auto: as in training).")] = "auto",
    form: Annotated[
        str, typer.Option("--format", help=f"File format of videos: {', '.join(FORMATS)}.")
    ] = SAMPLE.format,
    seed: Annotated[int, typer.Option(help="Seed of the first sample; later ones count up.")] = 0,
    count: Annotated[int, typer.Option(help="Samples per prompt; 0: as the benchmark requires, else 1.")] = 0,
    ranks: Annotated[int, typer.Option(help="Number of processes; 0: one per GPU.")] = MACHINE.ranks,
    sequence: Annotated[int, typer.Option(help="Sequence-parallel ranks per clip.")] = MACHINE.sequence,
    offload: Annotated[str, typer.Option(help=f"Offloading to host memory: {', '.join(OFFLOADS)}.")] = MACHINE.offload,
    manifest: Annotated[
        Path | None,
        typer.Option("-m", "--manifest", help="Manifest that records the samples; default: the training manifest."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder of the sample files; default: beside the manifest.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sample clips (MP4) and images (PNG) from a checkpoint.

    The same command again samples only what is missing. Prints the set of samples,
    MANIFEST#NAME, which goku eval reads.

    Example: goku sample runs/shapes-1a2b3c4d --prompt "a red circle moving left slowly"
    """
    settings = SampleSettings(
        steps, guidance, image_guidance, parse_range(interval, "--guidance-interval", "0.1,0.9"), zero_init, cache,
        frames, size, fps, weights, solver, tile, dtype, form,
    )  # fmt: skip
    machine = Machine(ranks, sequence, offload)
    if sum(source is not None for source in (prompt or None, prompts, bench)) != 1:
        raise UsageError("give prompts in exactly one way: --prompt TEXT, --prompts FILE or --bench shapes")
    from goku_cli.model.weights.checkpoint import resolve
    from goku_cli.sample.prompts import Wish
    from goku_cli.sample.sample import Set, set_name
    from goku_cli.sample.work import draw_missing

    folder = resolve(Path(reference_from(checkpoint)))
    rows = _rows(prompt, prompts, bench, bench_list, part or [])
    path = manifest or training_manifest(folder)
    wish = Wish(seed, count, frames, size, negative, str(image or ""), motion, bench or "", str(last_image or ""))
    arguments = vars(settings) | vars(machine) | vars(wish) | {"checkpoint": str(folder), "prompts": len(rows)}
    with working("sample", str(path), arguments=arguments, create=manifest is not None, as_json=as_json) as session:
        root = session.manifest.path.parent
        target = out or beside(session.manifest.path, "samples")
        drawn = Set(set_name(folder, bench or "", settings), folder, settings, target, root)
        if rewrite:
            from goku_cli.sample.rewriting import rewrite as rewritten

            rows = rewritten(rows, rewrite, rewrite_model, session.manifest.path, session.bar)
        done = draw_missing(session.manifest, drawn, machine, rows, wish, session.bar)
        for line in (f"{done.drawn} drawn, {done.asked - done.drawn} were already there, in {target}", *done.remarks):
            say(f"sample: {line}")
        session.counts.update(drawn=done.drawn, asked=done.asked)
        session.output = f"{path}#{drawn.name}"


def _rows(
    prompt: list[str] | None, file: Path | None, bench: str | None, bench_list: Path | None, parts: list[str]
) -> "list[Prompt]":
    """Return the prompts, from wherever they come."""
    from goku_cli.sample.prompts import read_prompts

    if parts and not bench:
        raise UsageError("--part chooses from the prompts of a benchmark; name that with --bench")

    if bench_list and not bench:
        raise UsageError("--list is the list of a benchmark; name that with --bench")
    if file is not None:
        return read_prompts(Path("/dev/stdin") if str(file) == "-" else file)
    if bench:
        from goku_cli.benches.prompts import bench_prompts

        return bench_prompts(bench, bench_list, parts)
    return [{"prompt": text} for text in prompt or []]


def training_manifest(folder: Path) -> Path:
    """Return the manifest that a checkpoint was trained on."""
    from goku_cli.model.weights.checkpoint import read_config

    found = read_config(folder).get("data", {}).get("manifest")
    if found and Path(found).exists():
        return Path(found)
    gone = f"the training manifest {found} is gone" if found else f"{folder} was not trained here"
    raise UsageError(f"{gone}; say where to note the samples with -m samples.duckdb")
