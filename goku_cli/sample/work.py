"""The work of `goku sample`: what is missing of a set is drawn here or on several ranks, and each row kept at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from goku_cli.manifest.store import Manifest
from goku_cli.model.network.ulysses import check_degree
from goku_cli.model.weights import checkpoint
from goku_cli.sample.conditions import cropped_share
from goku_cli.sample.generate import Generator, objective_of
from goku_cli.sample.prompts import Prompt, Wish, requests
from goku_cli.sample.ranks import default_ranks, draw_on_ranks
from goku_cli.sample.request import Request, make_request
from goku_cli.sample.sample import Set, draw_rows, keep, missing, sample_id
from goku_cli.sample.settings import Machine
from goku_cli.stage import Progress


@dataclass(frozen=True)
class Done:
    """How it went."""

    drawn: int
    asked: int
    remarks: list[str]
    """Lines for people."""


def draw_missing(
    manifest: Manifest, drawn: Set, machine: Machine, rows: Sequence[Prompt], wish: Wish, progress: Progress
) -> Done:
    """Draw the samples of prompts that are not there yet.

    Raises:
        UsageError: what is asked for cannot be drawn from this checkpoint, or not on these ranks.
        GokuError: a file is damaged, or a rank failed.
    """
    config = checkpoint.read_config(drawn.folder)
    objective_of(config, drawn.folder)
    ranks = machine.ranks or max(default_ranks(), machine.sequence)
    check_degree(machine.sequence, config["model"]["heads"], ranks)
    settings = drawn.settings
    generator = None
    if ranks == 1:
        generator = Generator.load(drawn.folder, settings.weights, settings.tile, offload=machine.offload)
    codec = generator.codec if generator else checkpoint.read_codec(drawn.folder, config)
    asked = requests(rows, partial(make_request, config["data"], codec), wish)
    remarks = _remarks(asked)
    ids = {request: sample_id(drawn, request) for request in asked}
    wanted = missing(manifest, ids)
    progress.start("sample", len(wanted) * settings.steps)
    if generator is not None:
        found = draw_rows(generator, drawn, ids, wanted, progress)
    else:
        found = draw_on_ranks(drawn, ids, wanted, Machine(ranks, machine.sequence, machine.offload), progress)
    for row in found:
        keep(manifest, row)
    if generator is not None and settings.cache:
        remarks.append(f"{generator.skipped:.0%} of the evaluations skipped all blocks but the first")
    return Done(len(wanted), len(ids), remarks)


def _remarks(asked: Sequence[Request]) -> list[str]:
    found = []
    given = [(image, r.height, r.width) for r in asked for image in (r.image, r.last_image) if image]
    for image, height, width in dict.fromkeys(given):
        if share := cropped_share(Path(image), height, width):
            found.append(f"{share:.0%} of {image} was cropped to fit {height}x{width}; give another --size to keep it")
    return found
