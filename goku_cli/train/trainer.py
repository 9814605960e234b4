"""One rank of a training run: what the `deepspeed` launcher starts.

    deepspeed --module goku_cli.train.trainer RUN_FOLDER

Reads `recipe.json` and `data.parquet` from the run's folder, goes on from its newest checkpoint that is whole, and
tells in files (train/logs/run_log.py) what it does.
"""

import faulthandler
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from goku_cli.errors import GokuError
from goku_cli.model.network.ulysses import check_degree
from goku_cli.model.weights import checkpoint
from goku_cli.recipe import build
from goku_cli.train.distributed.checkpointer import POLL_SECONDS, STATE, Checkpointer, restore, snapshot
from goku_cli.train.distributed.ema import EmaWeights
from goku_cli.train.distributed.engine import make_engine, part_early, start_ranks
from goku_cli.train.distributed.optimizer import learning_rate, make_optimizer
from goku_cli.train.distributed.resume import newest_whole
from goku_cli.train.distributed.topology import Ranks
from goku_cli.train.distributed.weight_shards import WeightShards, whole_shape
from goku_cli.train.forecast.accuracy import write_forecast
from goku_cli.train.forecast.forecast import Machine
from goku_cli.train.forecast.gpus import gpu_here, gpu_named
from goku_cli.train.logs.loggers import open_boards
from goku_cli.train.logs.run_log import REFUSAL, REFUSED, START, STOP, RunLog, forget_after
from goku_cli.train.logs.spikes import Spikes
from goku_cli.train.logs.throughput import Throughput
from goku_cli.train.precision import precision
from goku_cli.train.previews import Previews
from goku_cli.train.recipe import Recipe
from goku_cli.train.task import Step
from goku_cli.train.tasks.build import make_task

PATIENCE_SECONDS = 3.0
"""That steps wait for a save at most; with the copy that is made then, under the four seconds of the paper's."""


class Trainer:
    """The loop of one rank."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.plan = json.loads((run / "recipe.json").read_text())
        self.recipe = build(Recipe, self.plan["recipe"], where=str(run / "recipe.json"))
        self.settings, self.faults = self.recipe.train, self.recipe.faults
        if self.recipe.kind == "flow":
            check_degree(self.recipe.parallel.sequence, self.plan["model"]["heads"], torch.distributed.get_world_size())
        self.ranks = Ranks.join(self.recipe.parallel.sequence)
        self.run_log = RunLog(run, self.ranks.rank, open_boards(run, self.recipe.watch))
        self.run_log.beat(0, START)
        self.task = make_task(run, self.plan, self.recipe, self.ranks, part_early(self.recipe))
        shapes = {name: whole_shape(p) for name, p in self.task.model.named_parameters() if p.requires_grad}
        self.optimizer = make_optimizer(self.task.model, self.settings)
        self.engine = make_engine(self.task.model, self.optimizer, self.recipe)
        stage = self.recipe.parallel.zero_stage
        self.weight_shards = WeightShards(self.engine, self.optimizer, stage, self.ranks.rank, self.ranks.world)
        self.ema = EmaWeights(self.weight_shards, self.settings)
        keep = self.settings.keep, self.settings.keep_every
        self.checkpointer = Checkpointer(run, self.ranks.rank, self.ranks.world, shapes, *keep)
        self.spikes = Spikes(self.faults.spike, self.faults.spike_after)
        self.data = self.task.ahead()
        self.throughput = Throughput()
        self.gpu = gpu_here()
        if self.ranks.rank == 0:
            write_forecast(run, self.recipe, Machine(self.gpu, self.ranks.world))
        self.previews = Previews(run, self.plan, self.recipe, self.ranks, self.run_log, self.engine.device)
        self.optimizer.guard = self._should_step
        self.step = 0
        self.position: list[int] = []
        self.rollbacks = 0
        self.figures: dict[str, float] = {}
        self.pending_metrics: dict[str, float] = {}
        self.asked_to_stop = False
        """Known to this rank."""
        self.stopping = False
        """Known to all."""
        self._loss, self._norm, self._verdict = 0.0, 0.0, ""
        self._step_checked = False

    def train(self) -> bool:
        """Run to the recipe's last step; return False when the run was asked to stop before."""
        self._resume()
        if self.step == 0:
            self.evaluate()
        else:
            self._log_event(f"goes on after step {self.step}")
        self.throughput.start()
        while self.step < self.settings.steps and not self.stopping:
            data = self._one_step()
            self.throughput.add(data, self.data.waited)
            self._after(data)
            if self.spikes.in_a_row >= self.faults.rollback_after:
                self._roll_back()
        self._end_saving()
        problem = self._log_save()
        self.ranks.wait()  # the launcher ends the others when one is gone, and the first may still write
        if problem:
            raise GokuError(problem)
        return self.step == self.settings.steps

    def ask_to_stop(self) -> None:
        """Let all ranks save and end after this step."""
        self.asked_to_stop = True

    def _after(self, data: Step) -> None:
        """Log, evaluate and save, when it is time or the last step."""
        last = self.step == self.settings.steps
        if last or self.step % self.settings.log_every == 0:
            self._log(data)
        if last or self.step % self.settings.eval_every == 0:
            self.evaluate()
        if self.previews.due(self.step):
            self._preview()
        in_doubt = self.spikes.in_a_row > 0  # to go back to here would be of no use
        due = self.step % self.settings.save_every == 0 and not in_doubt
        if last or self.stopping or (due and self._can_save()):
            self.save()

    def _one_step(self) -> Step:
        """Do one optimizer step, or leave it out when it would do harm."""
        self.run_log.beat(self.step, "data")
        data = self.data.get(self.step, self.settings.steps)
        self.run_log.beat(self.step, "compute")
        for reason in data.lost if self.ranks.sequence_rank == 0 else ():  # those that share a pack read the same
            self.run_log.event(self.step, f"a sample was left out: {reason}")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, self.step)
        total = torch.zeros((), device=self.engine.device)
        for i, batch in enumerate(data.batches):
            # The weights change after the last pack of the step; gradients of those before it add up.
            last = i == len(data.batches) - 1
            self.engine.set_gradient_accumulation_boundary(last)
            loss = self.task.loss(self.engine, batch.to(self.engine.device))
            self.engine.backward(loss)
            total += loss.detach()
            if last:
                self._sync_loss(total)
            self.engine.step()
        if not self._step_checked:  # DeepSpeed left the step out by itself
            self._check_step(float("inf"))
        self.step += 1
        self.position = data.position
        if self._verdict:
            self._log_event(f"step {self.step} was left out: {self._verdict}")
        else:
            self.ema.update(self.step)
        return data

    def _sync_loss(self, loss: Tensor) -> None:
        """Let all ranks know the step's loss, and whether one of them was asked to stop."""
        asked = self.asked_to_stop or (self.ranks.rank == 0 and (self.run / STOP).exists())
        told = torch.stack([loss.float(), loss.new_tensor(float(asked), dtype=torch.float32)])
        loss_sum, stops = self.ranks.total(told).tolist()
        self._loss = loss_sum / self.ranks.world
        self.stopping = stops > 0
        self._step_checked = False

    def _should_step(self) -> bool:
        """Answer the optimizer, which asks once for each of its tensors, whether to change the weights."""
        if not self._step_checked:
            if self.recipe.parallel.zero_stage:
                norm = self.engine.optimizer._global_grad_norm
            else:
                clip = self.settings.clip or float("inf")
                norm = nn.utils.clip_grad_norm_(self.engine.module.parameters(), clip)
            self._check_step(float(norm))
        return not self._verdict

    def _check_step(self, norm: float) -> None:
        self._norm, self._step_checked = norm, True
        self._verdict = self.spikes.judge(self._loss, norm)

    def _log(self, data: Step) -> None:
        """Write a line of figures."""
        clipped = min(self._norm, self.settings.clip) if self.settings.clip else self._norm
        figures: dict[str, Any] = {
            "loss": self._loss, "norm": self._norm, "norm_clipped": clipped,
            "lr": learning_rate(self.settings, self.step - 1), **self.throughput.figures(),
        }  # fmt: skip
        if torch.cuda.is_available():
            figures["memory_bytes"] = torch.cuda.max_memory_allocated()
        if self.gpu and "flops_per_second" in figures:
            figures["mfu"] = figures["flops_per_second"] / (self.ranks.world * gpu_named(self.gpu).flops)
        self._log_save()
        self.run_log.metrics(self.step, figures | self.pending_metrics | dict(data.figures) | self.task.diagnose())
        self.pending_metrics = {}

    def evaluate(self) -> None:
        """Log the held-out figures of the averaged weights."""
        self.run_log.beat(self.step, "evaluate")
        with self.ema.in_place(), precision(self.recipe, self.engine.device):
            figures = self.task.evaluate(self.engine.module)
        if self.step == 0:
            self.figures["held_out_loss_untrained"] = figures["held_out_loss"]
        self.figures |= figures
        self.run_log.metrics(self.step, figures)

    def _log_event(self, what: str) -> None:
        """Log what all ranks know, once."""
        if self.ranks.rank == 0:
            self.run_log.event(self.step, what)

    def _preview(self) -> None:
        """Let the averaged weights draw the recipe's prompts."""
        with self.ema.in_place():
            self.previews.draw(self.step, self.engine.module)

    def _can_save(self) -> bool:
        """Give the save before a little time; where it goes on for longer, this one is left out, and no step waits."""
        started = time.monotonic()
        self.checkpointer.wait(PATIENCE_SECONDS)
        self.pending_metrics["save_blocked_seconds"] = time.monotonic() - started
        if not self.ranks.any(self.checkpointer.busy):
            return True
        self._log_event(f"no checkpoint of step {self.step}: the one before is still being written; raise save_every")
        return False

    def _end_saving(self) -> None:
        """Wait for the last checkpoint, with a heartbeat for every file: all of a large model takes its time, which
        is neither a rank that hangs nor a collective that waits."""
        told = -1
        while self.checkpointer.pending:
            if self.checkpointer.written != told:
                told = self.checkpointer.written
                self.run_log.beat(self.step, "save")
            time.sleep(POLL_SECONDS)

    def save(self) -> None:
        """Copy what this rank holds, and let a thread write it."""
        self.run_log.beat(self.step, "save")
        started = time.monotonic()
        self.checkpointer.wait()
        self._log_save()
        self.run_log.losses(self.step, self.task.records())
        taken = snapshot(self.step, self.weight_shards, self.ema, self.task.state())
        state = {
            "step": self.step, "position": self.position, "optimizer_steps": self.weight_shards.steps(),
            "figures": dict(self.figures), "spikes": self.spikes.state(), "rollbacks": self.rollbacks,
        }  # fmt: skip
        about = {"step": self.step, "figures": dict(self.figures), "data": self.plan["data"]}
        self.checkpointer.start(taken, lambda folder: self.task.describe(folder) | about, state)
        waited = self.pending_metrics.get("save_blocked_seconds", 0.0)
        self.pending_metrics["save_blocked_seconds"] = waited + time.monotonic() - started

    def _log_save(self) -> str:
        """Log how the last save went, once, when it is over; return what went wrong with it."""
        if self.checkpointer.seconds:
            self.pending_metrics["save_seconds"], self.checkpointer.seconds = self.checkpointer.seconds, 0.0
        problem, self.checkpointer.problem = self.checkpointer.problem, ""
        if problem:
            self.run_log.event(self.step, problem)
        return problem

    def _resume(self) -> None:
        """Go on from the newest checkpoint that is whole, if there is one."""
        self.checkpointer.wait()
        folder = newest_whole(self.run, self.ranks, self.run_log)
        if folder is not None:
            extra = restore(folder, self.weight_shards, self.ema, self.ranks.rank, self.ranks.world)
            state = json.loads((folder / STATE).read_text())
            if extra:
                self.task.load_state(extra)
            self.step, self.figures, self.position = state["step"], state["figures"], state["position"]
            self.rollbacks = state["rollbacks"]
            self.spikes.load_state(state["spikes"])
            self.data.forget()
            self.task.go_to(self.position)
        if self.ranks.rank == 0:
            forget_after(self.run, self.step)

    def _roll_back(self) -> None:
        """Go back to the newest checkpoint, but not to its data: those that follow did the harm."""
        self.rollbacks += 1
        position, rollbacks, at = self.position, self.rollbacks, self.step
        self.checkpointer.wait()
        self.ranks.wait()
        if not checkpoint.checkpoints(self.run) or rollbacks > self.faults.restarts:
            raise GokuError(f"{self.spikes.in_a_row} steps in a row were left out before step {at} ({self._verdict}); "
                            "try a lower lr, or look at the samples in losses/")  # fmt: skip
        self._resume()
        self.position, self.rollbacks = position, rollbacks
        self.task.go_to(position)
        self._log_event(f"went back from step {at} to {self.step}, and goes on with the data after step {at}")


def work(run: Path, *, on_signals: bool = False) -> bool:
    """Train as one rank of several that have found each other; return False when asked to stop before the end.

    `on_signals` takes SIGINT and SIGTERM for that question.
    """
    faulthandler.register(signal.SIGUSR1)  # where does it hang?
    torch.set_num_threads(int(os.environ.get("GOKU_THREADS", "1")))
    worker = Trainer(run)
    for number in (signal.SIGINT, signal.SIGTERM) if on_signals else ():
        signal.signal(number, lambda *_: worker.ask_to_stop())
    finished = worker.train()
    torch.distributed.destroy_process_group()
    return finished


def main() -> None:
    """Start this rank."""
    start_ranks()
    try:
        work(Path(next(word for word in sys.argv[1:] if not word.startswith("-"))))
    except GokuError as error:
        sys.stderr.write(f"{REFUSAL}{error}\n")
        sys.stderr.flush()
        os._exit(REFUSED)  # the other ranks may wait for this one: say no goodbyes


if __name__ == "__main__":
    main()
