"""`goku caption`: texts for the clips that a selection keeps."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goku_cli.caption.settings import CaptionSettings
from goku_cli.chat.settings import ServerSettings
from goku_cli.cli.console import say, working
from goku_cli.cli.options import AsJson, Output, Reference, Strict, Workers

if TYPE_CHECKING:
    pass

CAPTION = CaptionSettings()
SERVER = ServerSettings()


def caption(
    manifest: Reference = None,
    captioner: Annotated[
        str,
        typer.Option(help="Captioners joined by +: given, measured, openai:URL, transformers:PATH, module:function."),
    ] = CAPTION.captioner,
    motion_score: Annotated[
        bool, typer.Option(help="Append the motion score to the captions of videos.")
    ] = CAPTION.motion_score,
    model: Annotated[str | None, typer.Option(help="Model of the server; default: its first one.")] = CAPTION.model,
    merge_model: Annotated[
        str | None, typer.Option(help="Model that merges captions; default: the same.")
    ] = CAPTION.merge_model,
    prompts: Annotated[
        Path | None, typer.Option(help="Folder with your own captioning prompts: frame.txt, video.txt, merge.txt.")
    ] = CAPTION.prompts,
    key_frames: Annotated[
        int, typer.Option(min=1, max=64, help="Maximum frames shown to the model, at most one per second.")
    ] = CAPTION.key_frames,
    frame_captions: Annotated[
        int, typer.Option(min=1, max=64, help="Number of key frames that are captioned one by one.")
    ] = CAPTION.frame_captions,
    in_flight: Annotated[int, typer.Option(min=1, max=1000, help="Concurrent requests.")] = SERVER.in_flight,
    rate: Annotated[float | None, typer.Option(min=0.1, help="Maximum requests per minute.")] = SERVER.rate,
    tokens_budget: Annotated[
        int | None, typer.Option(min=0, help="Token budget; clips beyond it wait for a later run.")
    ] = SERVER.tokens_budget,
    price_in: Annotated[float, typer.Option(min=0, help="Price per million input tokens.")] = SERVER.price_in,
    price_out: Annotated[float, typer.Option(min=0, help="Price per million output tokens.")] = SERVER.price_out,
    timeout: Annotated[float, typer.Option(min=0.1, help="Timeout per request in seconds.")] = SERVER.timeout,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Parameters that the server rejects: max_tokens, temperature, seed. Default: detected."),
    ] = None,
    output: Output = None,
    workers: Workers = 0,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Caption the clips that a selection keeps.

    Captions that came with the files, that follow from measurements, that a model writes, and one merged from these. A
    model describes key frames and the whole video, and merges both. Its replies are kept beside the manifest, in
    NAME.replies.sqlite, and never asked for twice; a key is taken from OPENAI_API_KEY. The merged caption's row says
    where it contradicts what was measured, or holds instructions: training leaves such clips out.

    Example: goku caption manifests/my.duckdb#480p --captioner openai:http://localhost:8000/v1
    """
    from goku_cli.caption import caption as room
    from goku_cli.chat.spending import Spending

    settings = CaptionSettings(
        captioner=captioner, motion_score=motion_score, model=model, merge_model=merge_model, prompts=prompts,
        key_frames=key_frames, frame_captions=frame_captions,
    )  # fmt: skip
    asking = ServerSettings(
        in_flight=in_flight, rate=rate, tokens_budget=tokens_budget, price_in=price_in, price_out=price_out,
        timeout=timeout, without=tuple(without or ()),
    )  # fmt: skip
    arguments = {**vars(settings), **vars(asking)}
    with working("caption", manifest, arguments=arguments, output=output, as_json=as_json) as session:
        name = session.manifest.selection(session.name)
        spending = Spending(asking, session.bar.describe)
        outcome = room.caption(
            session.manifest, name, settings, spending=spending, workers=workers, progress=session.bar
        )
        session.count(outcome, "caption")
        if settings.models():
            session.counts.update(requests=spending.requests, tokens=spending.tokens, cost=round(spending.cost, 4))
            say(f"  {spending}")
        conflicts = session.manifest.value(
            "SELECT count(*) FROM captions WHERE kind = 'merged' AND conflict IS NOT NULL"
        )
        session.counts["conflicts"] = conflicts
        if conflicts:
            say(f"  {conflicts} captions contradict what was measured, or instruct")
        spending.finish()
        outcome.check("caption", strict)
        session.output = f"{session.output}#{name}"
