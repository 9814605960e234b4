"""One rank of a training run: what the `deepspeed` launcher starts.

    deepspeed --module goku_cli.train.worker RUN_FOLDER

Reads `recipe.json` and `data.parquet` from the run's folder, goes on from its newest checkpoint that is whole, and
tells in files (train/journal.py) what it does.
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
from goku_cli.model import checkpoint
from goku_cli.model.ulysses import check_degree
from goku_cli.recipe import build
from goku_cli.train.average import Averages
from goku_cli.train.boards import open_boards
from goku_cli.train.engine import make_engine, part_early, start_ranks
from goku_cli.train.forecast import Machine
from goku_cli.train.fragments import Fragments, whole_shape
from goku_cli.train.hardware import gpu_here, gpu_named
from goku_cli.train.journal import REFUSAL, REFUSED, START, STOP, Journal, forget_after
from goku_cli.train.optimizer import learning_rate, make_optimizer
from goku_cli.train.outlook import write_forecast
from goku_cli.train.pace import Pace
from goku_cli.train.precision import precision
from goku_cli.train.previews import Previews
from goku_cli.train.ranks import Ranks
from goku_cli.train.resume import newest_whole
from goku_cli.train.saving import POLL_SECONDS, STATE, Saver, restore, snapshot
from goku_cli.train.settings import Recipe
from goku_cli.train.spikes import Spikes
from goku_cli.train.step import Step
from goku_cli.train.tasks import make_task

PATIENCE_SECONDS = 3.0
"""That steps wait for a save at most; with the copy that is made then, under the four seconds of the paper's."""


class Worker:
    """The loop of one rank."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.plan = json.loads((run / "recipe.json").read_text())
        self.recipe = build(Recipe, self.plan["recipe"], where=str(run / "recipe.json"))
        self.settings, self.faults = self.recipe.train, self.recipe.faults
        if self.recipe.kind == "flow":
            check_degree(self.recipe.parallel.sequence, self.plan["model"]["heads"], torch.distributed.get_world_size())
        self.ranks = Ranks.join(self.recipe.parallel.sequence)
        self.journal = Journal(run, self.ranks.rank, open_boards(run, self.recipe.watch))
        self.journal.beat(0, START)
        self.task = make_task(run, self.plan, self.recipe, self.ranks, part_early(self.recipe))
        shapes = {name: whole_shape(p) for name, p in self.task.model.named_parameters() if p.requires_grad}
        self.optimizer = make_optimizer(self.task.model, self.settings)
        self.engine = make_engine(self.task.model, self.optimizer, self.recipe)
        stage = self.recipe.parallel.zero_stage
        self.fragments = Fragments(self.engine, self.optimizer, stage, self.ranks.rank, self.ranks.world)
        self.averages = Averages(self.fragments, self.settings)
        keep = self.settings.keep, self.settings.keep_every
        self.saver = Saver(run, self.ranks.rank, self.ranks.world, shapes, *keep)
        self.spikes = Spikes(self.faults.spike, self.faults.spike_after)
        self.data = self.task.ahead()
        self.pace = Pace()
        self.gpu = gpu_here()
        if self.ranks.rank == 0:
            write_forecast(run, self.recipe, Machine(self.gpu, self.ranks.world))
        self.previews = Previews(run, self.plan, self.recipe, self.ranks, self.journal, self.engine.device)
        self.optimizer.guard = self._guard
        self.step = 0
        self.position: list[int] = []
        self.rollbacks = 0
        self.figures: dict[str, float] = {}
        self.told: dict[str, float] = {}
        self.asked_to_stop = False
        """Known to this rank."""
        self.stopping = False
        """Known to all."""
        self._loss, self._norm, self._verdict = 0.0, 0.0, ""
        self._judged = False

    def train(self) -> bool:
        """Run to the recipe's last step; return False when the run was asked to stop before."""
        self._resume()
        if self.step == 0:
            self.evaluate()
        else:
            self._tell(f"goes on after step {self.step}")
        self.pace.start()
        while self.step < self.settings.steps and not self.stopping:
            data = self._one_step()
            self.pace.add(data, self.data.waited)
            self._after(data)
            if self.spikes.in_a_row >= self.faults.rollback_after:
                self._roll_back()
        self._end_saving()
        problem = self._tell_save()
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
        self.journal.beat(self.step, "data")
        data = self.data.get(self.step, self.settings.steps)
        self.journal.beat(self.step, "compute")
        for reason in data.lost if self.ranks.stretch == 0 else ():  # those that share a pack read the same
            self.journal.event(self.step, f"a sample was left out: {reason}")
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
                self._agree(total)
            self.engine.step()
        if not self._judged:  # DeepSpeed left the step out by itself
            self._judge(float("inf"))
        self.step += 1
        self.position = data.position
        if self._verdict:
            self._tell(f"step {self.step} was left out: {self._verdict}")
        else:
            self.averages.update(self.step)
        return data

    def _agree(self, loss: Tensor) -> None:
        """Let all ranks know the step's loss, and whether one of them was asked to stop."""
        asked = self.asked_to_stop or (self.ranks.rank == 0 and (self.run / STOP).exists())
        told = torch.stack([loss.float(), loss.new_tensor(float(asked), dtype=torch.float32)])
        loss_sum, stops = self.ranks.total(told).tolist()
        self._loss = loss_sum / self.ranks.world
        self.stopping = stops > 0
        self._judged = False

    def _guard(self) -> bool:
        """Answer the optimizer, which asks once for each of its tensors, whether to change the weights."""
        if not self._judged:
            if self.recipe.parallel.zero_stage:
                norm = self.engine.optimizer._global_grad_norm
            else:
                clip = self.settings.clip or float("inf")
                norm = nn.utils.clip_grad_norm_(self.engine.module.parameters(), clip)
            self._judge(float(norm))
        return not self._verdict

    def _judge(self, norm: float) -> None:
        self._norm, self._judged = norm, True
        self._verdict = self.spikes.judge(self._loss, norm)

    def _log(self, data: Step) -> None:
        """Write a line of figures."""
        clipped = min(self._norm, self.settings.clip) if self.settings.clip else self._norm
        figures: dict[str, Any] = {
            "loss": self._loss, "norm": self._norm, "norm_clipped": clipped,
            "lr": learning_rate(self.settings, self.step - 1), **self.pace.figures(),
        }  # fmt: skip
        if torch.cuda.is_available():
            figures["memory_bytes"] = torch.cuda.max_memory_allocated()
        if self.gpu and "flops_per_second" in figures:
            figures["mfu"] = figures["flops_per_second"] / (self.ranks.world * gpu_named(self.gpu).flops)
        self._tell_save()
        self.journal.metrics(self.step, figures | self.told | dict(data.figures) | self.task.diagnose())
        self.told = {}

    def evaluate(self) -> None:
        """Log the held-out figures of the averaged weights."""
        self.journal.beat(self.step, "evaluate")
        with self.averages.in_place(), precision(self.recipe, self.engine.device):
            figures = self.task.evaluate(self.engine.module)
        if self.step == 0:
            self.figures["held_out_loss_untrained"] = figures["held_out_loss"]
        self.figures |= figures
        self.journal.metrics(self.step, figures)

    def _tell(self, what: str) -> None:
        """Log what all ranks know, once."""
        if self.ranks.rank == 0:
            self.journal.event(self.step, what)

    def _preview(self) -> None:
        """Let the averaged weights draw the recipe's prompts."""
        with self.averages.in_place():
            self.previews.draw(self.step, self.engine.module)

    def _can_save(self) -> bool:
        """Give the save before a little time; where it goes on for longer, this one is left out, and no step waits."""
        started = time.monotonic()
        self.saver.wait(PATIENCE_SECONDS)
        self.told["save_blocked_seconds"] = time.monotonic() - started
        if not self.ranks.any(self.saver.busy):
            return True
        self._tell(f"no checkpoint of step {self.step}: the one before is still being written; raise save_every")
        return False

    def _end_saving(self) -> None:
        """Wait for the last checkpoint, with a sign of life for every file: all of a large model takes its time, which
        is neither a rank that hangs nor a collective that waits."""
        told = -1
        while self.saver.pending:
            if self.saver.written != told:
                told = self.saver.written
                self.journal.beat(self.step, "save")
            time.sleep(POLL_SECONDS)

    def save(self) -> None:
        """Copy what this rank holds, and let a thread write it."""
        self.journal.beat(self.step, "save")
        started = time.monotonic()
        self.saver.wait()
        self._tell_save()
        self.journal.losses(self.step, self.task.records())
        taken = snapshot(self.step, self.fragments, self.averages, self.task.state())
        state = {
            "step": self.step, "position": self.position, "optimizer_steps": self.fragments.steps(),
            "figures": dict(self.figures), "spikes": self.spikes.state(), "rollbacks": self.rollbacks,
        }  # fmt: skip
        about = {"step": self.step, "figures": dict(self.figures), "data": self.plan["data"]}
        self.saver.start(taken, lambda folder: self.task.describe(folder) | about, state)
        self.told["save_blocked_seconds"] = self.told.get("save_blocked_seconds", 0.0) + time.monotonic() - started

    def _tell_save(self) -> str:
        """Log how the last save went, once, when it is over; return what went wrong with it."""
        if self.saver.seconds:
            self.told["save_seconds"], self.saver.seconds = self.saver.seconds, 0.0
        problem, self.saver.problem = self.saver.problem, ""
        if problem:
            self.journal.event(self.step, problem)
        return problem

    def _resume(self) -> None:
        """Go on from the newest checkpoint that is whole, if there is one."""
        self.saver.wait()
        folder = newest_whole(self.run, self.ranks, self.journal)
        if folder is not None:
            extra = restore(folder, self.fragments, self.averages, self.ranks.rank, self.ranks.world)
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
        self.saver.wait()
        self.ranks.wait()
        if not checkpoint.checkpoints(self.run) or rollbacks > self.faults.restarts:
            raise GokuError(f"{self.spikes.in_a_row} steps in a row were left out before step {at} ({self._verdict}); "
                            "try a lower lr, or look at the samples in losses/")  # fmt: skip
        self._resume()
        self.position, self.rollbacks = position, rollbacks
        self.task.go_to(position)
        self._tell(f"went back from step {at} to {self.step}, and goes on with the data after step {at}")


def work(run: Path, *, on_signals: bool = False) -> bool:
    """Train as one rank of several that have found each other; return False when asked to stop before the end.

    `on_signals` takes SIGINT and SIGTERM for that question.
    """
    faulthandler.register(signal.SIGUSR1)  # where does it hang?
    torch.set_num_threads(int(os.environ.get("GOKU_THREADS", "1")))
    worker = Worker(run)
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
