"""Previews: every so many steps the averaged weights draw the same prompts from the same noise, to be seen learning.

A preview is what `goku sample` draws of that step's checkpoint with the seeds 0, 1, ...
RUN/previews/step-000500/ holds 00.png or 00.mp4 and on, and prompts.json, written last. All ranks compute, because
the weights may be parted between them; the first alone reads the text encoder and the VAE, and writes. What fails
there is an event and not the end of the run.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from goku_cli.errors import GokuError
from goku_cli.model.network.packing import Shape
from goku_cli.model.network.transformer import Goku
from goku_cli.model.objective.noise import noise
from goku_cli.model.objective.objective import Objective
from goku_cli.model.sampling.guidance import Condition, Guidance, batches, draw
from goku_cli.model.text.encoders import load_text_encoder
from goku_cli.model.vae.codec import latent_statistics, load_codec
from goku_cli.model.vae.linear_codec import to_frames
from goku_cli.publish import publish
from goku_cli.recipe import build
from goku_cli.sizes import parse_size
from goku_cli.train.distributed.topology import Ranks
from goku_cli.train.logs.run_log import RunLog
from goku_cli.train.precision import precision
from goku_cli.train.recipe import Recipe


class Previews:
    """The prompts of a recipe, as all ranks know them."""

    def __init__(
        self, run: Path, plan: dict[str, Any], recipe: Recipe, ranks: Ranks, journal: RunLog, device: torch.device
    ) -> None:
        """Let the first rank encode the prompts; every rank takes part."""
        self.run = run
        self.recipe = recipe
        self.watch = recipe.watch
        self.steps = recipe.train.steps
        self.data = plan["data"]
        self.ranks = ranks
        self.run_log = journal
        self.device = device
        self._states: list[Tensor] = []
        """Of the prompts, and at the end of the empty text; nothing when there are no previews."""
        if self.watch.prompts:
            self.objective = build(Objective, plan["objective"], where="recipe.json")
            # A run that learns from images alone draws images.
            frames = 1 if recipe.flow.image_share == 1 else int(self.data["frames"])
            height, width = parse_size(self.data["size"])
            channels = int(plan["model"]["latent_channels"])
            self.shape: Shape = (channels, 1 + (frames - 1) // 4, height // 8, width // 8)
            self._states = self._encode()

    def due(self, step: int) -> bool:
        """Return whether it is time to draw."""
        return bool(self._states) and (step == self.steps or step % self.watch.preview_every == 0)

    def draw(self, step: int, model: Goku) -> None:
        """Draw the prompts and write the files; every rank takes part."""
        *texts, empty = self._states
        x_0 = [noise(self.shape, i) for i in range(len(texts))]
        solver = "euler" if self.objective.kind == "flow" else "ddim"
        how = Guidance(self.watch.preview_steps, self.watch.preview_guidance, solver)
        conditions = [Condition(text, empty) for text in texts]
        latents: list[Tensor] = []
        for part in batches([self.shape] * len(texts)):
            self.run_log.beat(step, "preview")
            with precision(self.recipe, self.device):
                latents += draw(model, self.objective, x_0[part], conditions[part], how, self.device).latents
        if self.ranks.rank == 0:
            try:
                self._write(self.run / "previews" / f"step-{step:06d}", latents)
            except Exception as error:  # whatever it is, the run is worth more
                self.run_log.event(step, f"no preview of step {step}: {error}")

    def _encode(self) -> list[Tensor]:
        """Return the states of the prompts and of the empty text on every rank, or nothing when the first cannot."""
        problem, states = "", []
        if self.ranks.rank == 0:
            try:
                states = self._read_states()
            except Exception as error:  # whatever it is, the run is worth more
                problem = f"no previews: {error}"
                self.run_log.event(0, problem)
        if self.ranks.tell(problem):
            return []
        shapes = json.loads(self.ranks.tell(json.dumps([list(x.shape) for x in states])))
        mine = states or [torch.zeros(shape) for shape in shapes]
        return [self.ranks.total(x.to(self.device)).cpu() for x in mine]

    def _read_states(self) -> list[Tensor]:
        with torch.random.fork_rng(devices=[]):  # training must not notice
            encoder = load_text_encoder(self.data["text"])
        for prompt in self.watch.prompts:
            if (tokens := encoder.count(prompt)) > encoder.most_tokens:
                raise GokuError(f'"{prompt[:40]}..." has {tokens} tokens, the text encoder reads {encoder.most_tokens}')
        return [encoder.encode(text).float() for text in (*self.watch.prompts, "")]

    @torch.no_grad()
    def _write(self, folder: Path, latents: list[Tensor]) -> None:
        from goku_cli.media.sample_files import (  # libraries that a run without previews does without
            enlarged,
            write_shown,
        )

        with torch.random.fork_rng(devices=[]):
            codec = load_codec(Path(self.data["codec"])).to(self.device)
        statistics = latent_statistics(self.data, codec)
        for i, latent in enumerate(latents):
            frames = to_frames(codec.decode(statistics.restore(latent)).cpu())
            write_shown(folder, f"{i:02d}", enlarged(frames), float(self.data["fps"]))
        with publish(folder / "prompts.json") as temporary:
            temporary.write_text(json.dumps(self.watch.prompts) + "\n")
