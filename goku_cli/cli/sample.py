"""`goku sample`: clips and images from a checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goku_cli.cli.console import reference_from, say, working
from goku_cli.cli.options import AsJson
from goku_cli.errors import UsageError
from goku_cli.manifest.beside import beside
from goku_cli.model.solvers import SOLVERS
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
        typer.Argument(metavar="[CHECKPOINT]", help="A checkpoint or a run; from the pipe when absent."),
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", "-p", help="A prompt; may be given again.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="A file of prompts, one a line, or JSON lines; - is stdin.")
    ] = None,
    bench: Annotated[str | None, typer.Option(help=f"A benchmark's own prompts: {BENCHES}.")] = None,
    bench_list: Annotated[
        Path | None, typer.Option("--list", help="With --bench: your own copy of its list of prompts.")
    ] = None,
    part: Annotated[
        list[str] | None, typer.Option(help="With --bench: only its prompts of this kind; may be given again.")
    ] = None,
    negative: Annotated[str, typer.Option(help="What guidance leads away from.")] = "",
    image: Annotated[Path | None, typer.Option(help="First frame, for an image-to-video checkpoint.")] = None,
    last_image: Annotated[
        Path | None, typer.Option(help="Last frame as well, for a checkpoint with [model] last_frame.")
    ] = None,
    motion: Annotated[
        float | None, typer.Option(help="Motion score to ask for, of a model trained on captions with one.")
    ] = None,
    rewrite: Annotated[
        str | None, typer.Option(help="Let a server rewrite prompts first: openai:http://localhost:8000/v1")
    ] = None,
    rewrite_model: Annotated[str | None, typer.Option(help="Its model; the first one by default.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of the solver.")] = SAMPLE.steps,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance; 1 is none.")] = SAMPLE.guidance,
    image_guidance: Annotated[
        float, typer.Option(help="By the first frame, apart from the text's; 0: not told apart.")
    ] = SAMPLE.image_guidance,
    interval: Annotated[
        str, typer.Option("--guidance-interval", help="Times with guidance, FROM,TO; 0 is noise.")
    ] = "0,1",
    zero_init: Annotated[int, typer.Option(help="First steps in which nothing moves.")] = SAMPLE.zero_init,
    cache: Annotated[
        float, typer.Option(help="Skip blocks that hardly change, up to this drift of the latent (0.05); 0: none.")
    ] = SAMPLE.cache,
    frames: Annotated[int, typer.Option(help="4k+1; 1 draws images; 0 as trained.")] = SAMPLE.frames,
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH; empty as trained.")] = SAMPLE.size,
    fps: Annotated[float, typer.Option(help="Of the files; 0 as trained.")] = SAMPLE.fps,
    weights: Annotated[str, typer.Option(help="ema, raw, or another average, as ema-0.99.")] = SAMPLE.weights,
    solver: Annotated[str, typer.Option(help=f"{', '.join(SOLVERS)}; ddim is for DDPM.")] = SAMPLE.solver,
    tile: Annotated[
        int, typer.Option(help="Side in pixels of the squares that a VAE decodes in, to save memory at 720p; 0: none.")
    ] = SAMPLE.tile,
    dtype: Annotated[str, typer.Option(help=f"Of matrix products: {', '.join(DTYPES)} (as trained).")] = "auto",
    form: Annotated[str, typer.Option("--format", help=f"Of videos: {', '.join(FORMATS)}.")] = SAMPLE.format,
    seed: Annotated[int, typer.Option(help="Seed of the first sample; the next ones count up.")] = 0,
    count: Annotated[int, typer.Option(help="Samples per prompt; 0: as the benchmark wants, else 1.")] = 0,
    ranks: Annotated[int, typer.Option(help="Processes; 0 is one per GPU.")] = MACHINE.ranks,
    sequence: Annotated[int, typer.Option(help="Ranks that draw a clip together.")] = MACHINE.sequence,
    offload: Annotated[str, typer.Option(help=f"To save GPU memory: {', '.join(OFFLOADS)}.")] = MACHINE.offload,
    manifest: Annotated[
        Path | None,
        typer.Option("-m", "--manifest", help="Where samples are noted; the training manifest by default."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the files; beside the manifest by default.")] = None,
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
    from goku_cli.model.checkpoint import resolve
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
    from goku_cli.model.checkpoint import read_config

    found = read_config(folder).get("data", {}).get("manifest")
    if found and Path(found).exists():
        return Path(found)
    gone = f"the training manifest {found} is gone" if found else f"{folder} was not trained here"
    raise UsageError(f"{gone}; say where to note the samples with -m samples.duckdb")
