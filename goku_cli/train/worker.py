"""One rank of a training run: what the `deepspeed` launcher starts. The only module that imports deepspeed.

    deepspeed --module goku_cli.train.worker RUN_FOLDER

Reads `recipe.json` and `data.parquet` from the run's folder, goes on from its newest checkpoint, and appends to
`metrics.jsonl`, from which the launcher draws its progress bar.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import deepspeed
import deepspeed.comm
import torch
from torch import Tensor, nn

from goku_cli.errors import GokuError
from goku_cli.model import checkpoint
from goku_cli.model.objective import Objective
from goku_cli.model.presets import ModelConfig
from goku_cli.model.transformer import Goku
from goku_cli.recipe import build
from goku_cli.train.data import Index, Latents
from goku_cli.train.flow_task import FlowTask
from goku_cli.train.settings import Optimization, Recipe
from goku_cli.train.vae_task import VaeTask


class Task(Protocol):
    """A kind of training."""

    @property
    def model(self) -> nn.Module: ...

    def batches(self, step: int) -> Iterable[Any]: ...
    def loss(self, model: nn.Module, batch: Any) -> Tensor: ...
    def diagnose(self) -> dict[str, float | str]: ...
    def evaluate(self, model: nn.Module) -> dict[str, float]: ...
    def export(self, folder: Path, weights: dict[str, Tensor], ema: dict[str, Tensor]) -> dict[str, Any]: ...
    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: dict[str, Any]) -> None: ...


def make_task(run: Path, plan: dict[str, Any], recipe: Recipe, rank: int, world: int) -> Task:
    """Build the task that a run's plan names."""
    if recipe.kind == "vae":
        import pandas as pd

        return VaeTask(recipe, pd.read_parquet(run / "data.parquet"), rank, world)
    index = Index.read(run / "data.parquet")
    latents = Latents(
        index, Path(plan["root"]), tuple(plan["null_text"]), seed=recipe.train.seed,
        image_share=recipe.flow.image_share, text_dropout=recipe.flow.text_dropout,
        sample_posterior=recipe.flow.sample_posterior,
    )  # fmt: skip
    config = build(ModelConfig, plan["model"], where="recipe.json")
    objective = build(Objective, plan["objective"], where="recipe.json")
    task = FlowTask(recipe, config, objective, latents, rank, world)
    if plan["init_from"]:
        begin_with(task.model, checkpoint.read_weights(Path(plan["init_from"]), "ema.safetensors"))
    return task


def begin_with(model: Goku, weights: dict[str, Tensor]) -> None:
    """Load another run's weights; a first-frame layer that it did not have leaves its function as it was."""
    given = {name: value.float() for name, value in weights.items()}
    missing, unknown = model.load_state_dict(given, strict=False)
    if unknown or any(not name.startswith("condition_in.") for name in missing):
        raise GokuError(f"the weights of init_from do not fit: {[*missing, *unknown][:3]}")


def engine_config(settings: Optimization) -> dict[str, Any]:
    """Return DeepSpeed's configuration."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": settings.clip,
        "zero_optimization": {"stage": settings.zero_stage},
        "zero_allow_untested_optimizer": True,
        "torch_autocast": {"enabled": settings.bf16, "dtype": "bfloat16"},
        "steps_per_print": 10**9,
    }


def learning_rate(settings: Optimization, step: int) -> float:
    """Return the rate of a step: linear warm-up, constant, linear decay to zero."""
    warm = min(1.0, (step + 1) / max(settings.warmup, 1))
    left = (settings.steps - step) / max(settings.decay * settings.steps, 1)
    return settings.lr * min(warm, left, 1.0)


class Worker:
    """The loop of one rank."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.plan = json.loads((run / "recipe.json").read_text())
        self.recipe = build(Recipe, self.plan["recipe"], where=str(run / "recipe.json"))
        self.settings = self.recipe.train
        self.rank, self.world = deepspeed.comm.get_rank(), deepspeed.comm.get_world_size()
        self.task = make_task(run, self.plan, self.recipe, self.rank, self.world)
        decay = [p for p in self.task.model.parameters() if p.ndim > 1]
        plain = [p for p in self.task.model.parameters() if p.ndim <= 1]
        groups = [
            {"params": decay, "weight_decay": self.settings.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.settings.lr, betas=self.settings.betas)
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=self.task.model, optimizer=optimizer, config=engine_config(self.settings)
        )
        self.ema = {name: value.detach().clone() for name, value in self.task.model.state_dict().items()}
        self.step = 0
        self.figures: dict[str, float] = {}

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one."""
        found = checkpoint.checkpoints(self.run)
        if not found:
            return
        # What is unpickled next must be what this run wrote, byte for byte.
        checkpoint.verify(found[-1])
        _, state = self.engine.load_checkpoint(str(found[-1]), tag="deepspeed")
        self.step, self.figures, self.ema = state["step"], state["figures"], state["ema"]
        self.task.load_state(state["task"])

    def train(self) -> None:
        """Run to the recipe's last step."""
        self.resume()
        if self.step == 0:
            self.evaluate()
        started, since = time.monotonic(), self.step
        while self.step < self.settings.steps:
            loss, norm = self.one_step()
            if self.step % self.settings.log_every == 0 or self.step == self.settings.steps:
                rate = (self.step - since) / (time.monotonic() - started)
                started, since = time.monotonic(), self.step
                figures = {"loss": self.mean(loss), "norm": norm, "lr": learning_rate(self.settings, self.step)}
                figures |= {"steps_per_second": rate, "tokens_per_second": rate * self.settings.tokens_per_step}
                self.log(figures | self.task.diagnose())
            last = self.step == self.settings.steps
            if last or self.step % self.settings.eval_every == 0:
                self.evaluate()
            if last or self.step % self.settings.save_every == 0:
                self.save()

    def one_step(self) -> tuple[Tensor, float]:
        """Do one optimizer step; return this rank's loss and the gradient norm."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, self.step)
        batches = list(self.task.batches(self.step))
        total = torch.zeros((), device=self.engine.device)
        for i, batch in enumerate(batches):
            # The weights change after the last pack of the step; gradients of those before it add up.
            self.engine.set_gradient_accumulation_boundary(i == len(batches) - 1)
            loss = self.task.loss(self.engine, batch.to(self.engine.device))
            if not torch.isfinite(loss):
                raise SystemExit(f"the loss is {float(loss)} at step {self.step}; try a lower lr")
            self.engine.backward(loss)
            self.engine.step()
            total += loss.detach()
        self.step += 1
        decay = min(self.settings.ema, self.step / (self.step + 10))
        live = self.engine.module.state_dict()
        torch._foreach_lerp_(list(self.ema.values()), [live[name] for name in self.ema], 1 - decay)
        return total, float(self.engine.get_global_grad_norm() or 0.0)

    def mean(self, value: Tensor) -> float:
        """Return a value's mean over the ranks."""
        total = value.float().clone()
        deepspeed.comm.all_reduce(total)
        return float(total) / self.world

    def evaluate(self) -> None:
        """Log the held-out figures of the averaged weights (every rank computes the same)."""
        live = {name: value.clone() for name, value in self.engine.module.state_dict().items()}
        self.engine.module.load_state_dict(self.ema)
        self.engine.module.eval()
        figures = self.task.evaluate(self.engine.module)
        self.engine.module.train()
        self.engine.module.load_state_dict(live)
        if self.step == 0:
            self.figures["held_out_loss_untrained"] = figures["held_out_loss"]
        self.figures |= figures
        self.log(figures)

    def log(self, figures: Mapping[str, float | str]) -> None:
        """Append one line to metrics.jsonl (first rank only)."""
        if self.rank == 0:
            line = {"step": self.step, "at": time.time(), **figures}
            with (self.run / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")

    def save(self) -> None:
        """Publish a checkpoint: every rank's optimizer state, then weights and configuration, then the name."""
        final = checkpoint.step_folder(self.run, self.step)
        temporary = final.with_name(f".{final.name}")
        if self.rank == 0:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
        deepspeed.comm.barrier()
        state = {"step": self.step, "figures": self.figures, "ema": self.ema, "task": self.task.state()}
        self.engine.save_checkpoint(str(temporary), tag="deepspeed", client_state=state, save_latest=False)
        deepspeed.comm.barrier()
        if self.rank == 0:
            config = self.task.export(temporary, self.engine.module.state_dict(), self.ema)
            config |= {"step": self.step, "figures": self.figures, "data": self.plan["data"]}
            (temporary / "config.json").write_text(json.dumps(config, indent=1) + "\n")
            checkpoint.finish(temporary, final)
            checkpoint.prune(self.run, self.settings.keep)
        deepspeed.comm.barrier()


def main() -> None:
    """Start this rank."""
    run = Path(next(word for word in sys.argv[1:] if not word.startswith("-")))
    torch.set_num_threads(int(os.environ.get("GOKU_THREADS", "1")))
    if not torch.cuda.is_available():
        # The shared-memory reduction is compiled at the first start, and a stale lock of that build waits for
        # ever; gloo alone does the same work.
        import deepspeed.ops

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("nccl" if torch.cuda.is_available() else "gloo")
    Worker(run).train()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
