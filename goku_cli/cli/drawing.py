"""The command that draws: sample."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from goku_cli.cli.console import reference_from, say, working
from goku_cli.cli.options import AsJson
from goku_cli.errors import UsageError
from goku_cli.model.solvers import SOLVERS
from goku_cli.sample.settings import SampleSettings

SAMPLE = SampleSettings()


def sample(
    checkpoint: Annotated[
        str | None,
        typer.Argument(metavar="[CHECKPOINT]", help="A checkpoint or a run; from the pipe when absent."),
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", "-p", help="A prompt; may be given again.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="A file of prompts, one a line; - is stdin.")] = None,
    bench: Annotated[str | None, typer.Option(help="A benchmark's own prompts: shapes.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of the solver.")] = SAMPLE.steps,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance; 1 is none.")] = SAMPLE.guidance,
    frames: Annotated[int, typer.Option(help="4k+1; 1 draws images; 0 as trained.")] = SAMPLE.frames,
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH; empty as trained.")] = SAMPLE.size,
    weights: Annotated[str, typer.Option(help="ema, raw, or another average, as ema-0.99.")] = SAMPLE.weights,
    solver: Annotated[str, typer.Option(help=f"{', '.join(SOLVERS)}; ddim is for DDPM.")] = SAMPLE.solver,
    tile: Annotated[
        int, typer.Option(help="Side in pixels of the squares that a VAE decodes in, to save memory at 720p; 0: none.")
    ] = SAMPLE.tile,
    seed: Annotated[int, typer.Option(help="Seed of the first sample; the next ones count up.")] = 0,
    count: Annotated[int, typer.Option(help="Samples per prompt.")] = 1,
    manifest: Annotated[
        Path | None,
        typer.Option("-m", "--manifest", help="Where samples are noted; the training manifest by default."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the files; beside the manifest by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw clips (MP4) and images (PNG) from a checkpoint. Run again, it draws only what is missing.

    Prints MANIFEST#NAME, the set of samples, which goku eval reads.

    Example: goku sample runs/shapes-1a2b3c4d --prompt "a red circle moving left slowly"
    """
    settings = SampleSettings(steps, guidance, frames, size, weights, solver, tile)
    if sum(source is not None for source in (prompt or None, prompts, bench)) != 1:
        raise UsageError("give prompts in exactly one way: --prompt TEXT, --prompts FILE or --bench shapes")
    from goku_cli.model.checkpoint import resolve
    from goku_cli.sample.generate import Generator
    from goku_cli.sample.prompts import bench_prompts, read_prompts, requests
    from goku_cli.sample.sample import draw_missing, set_name

    folder = resolve(Path(reference_from(checkpoint)))
    rows: list[dict[str, object]]
    if prompts is not None:
        rows = read_prompts(Path("/dev/stdin") if str(prompts) == "-" else prompts)
    else:
        rows = bench_prompts(bench) if bench else [{"prompt": text} for text in prompt or []]
    generator = Generator.load(folder, weights, tile)
    wanted = requests(
        rows, lambda text, number, length: generator.default_request(text, number, length, size),
        frames=frames, seed=seed, count=count,
    )  # fmt: skip
    trained_on = generator.config["data"]["manifest"]
    if manifest is None and not (trained_on and Path(trained_on).exists()):
        gone = f"the training manifest {trained_on} is gone" if trained_on else f"{folder} was not trained here"
        raise UsageError(f"{gone}; say where to note the samples with -m samples.duckdb")
    path = manifest or Path(trained_on)
    name = set_name(folder, bench, settings)
    arguments = vars(settings) | {
        "checkpoint": str(folder),
        "prompts": len(rows),
        "count": count,
        "seed": seed,
    }
    with working("sample", str(path), arguments=arguments, create=manifest is not None, as_json=as_json) as session:
        target = out or session.manifest.path.with_suffix(".samples")
        drawn = draw_missing(
            session.manifest, generator, folder, wanted, settings, name=name, out=target, progress=session.bar
        )
        say(f"sample: {drawn} drawn, {len(wanted) - drawn} were already there, in {target}")
        session.counts.update(drawn=drawn, asked=len(wanted))
        session.output = f"{path}#{name}"


COMMANDS: dict[str, Callable[..., None]] = {"sample": sample}
