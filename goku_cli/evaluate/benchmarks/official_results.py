"""Result files of official evaluators, parsed into metrics with the expected number of samples beside each."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from goku_cli.benches.protocol import BENCHES, FLICKERING, TAKES
from goku_cli.errors import GokuError
from goku_cli.evaluate.benchmarks import aggregate
from goku_cli.evaluate.result import Figure
from goku_cli.wording import decoded, lines_of

Prompts = list[dict[str, Any]]
LICENSES = {"motion_smoothness": "CC-BY-NC-4.0"}
"""Of weights that allow less than the tool (AMT: vbench/third_party/amt/LICENSE)."""
GUIDED = {
    "Inception Score": "inception_score", "FID": "fid", "sFID": "sfid", "Precision": "precision", "Recall": "recall",
}  # fmt: skip
"""What guided-diffusion's `evaluator.py` prints, and our names for it."""
NUMBER = r"[-+0-9.eE]+"


@dataclass(frozen=True)
class Scored:
    """A figure, and of how many samples it should be."""

    figure: Figure
    expected: int
    found: int

    @property
    def whole(self) -> bool:
        """Whether the tool saw every sample. Of clips for flickering its filter leaves those that are still."""
        return self.found >= self.expected or (self.figure.metric == f"vbench.{FLICKERING}" and self.figure.n > 0)


def read_results(bench: str, files: Iterable[Path], prompts: Prompts, tool: str) -> list[Scored]:
    """Read result files of a benchmark's tool.

    Args:
        prompts: the benchmark's list, rows of `bench_prompts`.
        tool: what wrote them, as `vbench 0.1.5`.

    Raises:
        GokuError: a file is gone, or is not a result of this tool.
    """
    found = []
    for file in files:
        try:
            read = READERS[bench](file, prompts, tool)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            why = f"{type(error).__name__}: {error}"[:200]  # not its repr: that of a decoding error holds the file
            raise GokuError(f"{file} is not what the tool of {bench} writes, {WRITES[bench]}: {why}") from error
        if bad := [scored.figure.metric for scored in read if not math.isfinite(scored.figure.value)]:
            raise GokuError(f"{file}: {', '.join(bad)} is no number, so the tool failed")
        found += read
    return found


def read_vbench(file: Path, prompts: Prompts, tool: str) -> list[Scored]:
    """Read NAME_eval_results.json, {dimension: [mean, [{"video_path", ...}]]}, and NAME_full_info.json if it is there.

    The latter says which files VBench found: its scorers leave out clips (those of color, where no object was seen).
    """
    info = file.with_name(file.name.replace("_eval_results.json", "_full_info.json"))
    listed = json.loads(info.read_text(encoding="utf-8")) if info != file and info.exists() else None
    found = []
    for dimension, (mean, videos) in json.loads(file.read_text(encoding="utf-8")).items():
        if dimension not in aggregate.DIMENSIONS:
            raise ValueError(f"no dimension {dimension}")
        expected = TAKES * sum(dimension in row["metadata"]["dimension"] for row in prompts)
        seen = len(videos)
        if listed is not None:
            seen = sum(len(row["video_list"]) for row in listed if dimension in row["dimension"])
        figure = Figure(f"vbench.{dimension}", float(mean), len(videos), implementation=tool,
                        license=LICENSES.get(dimension, BENCHES["vbench"].license))  # fmt: skip
        found.append(Scored(figure, expected, seen))
    return found


def read_geneval(file: Path, prompts: Prompts, tool: str) -> list[Scored]:
    """Read results.jsonl, {"tag", "correct", "metadata", ...} of every image, and sum it up as `summary_scores.py`."""
    rows = [json.loads(line) for line in lines_of(decoded(file.read_bytes())) if line.strip()]
    by_task: dict[str, list[bool]] = {}
    by_prompt: dict[str, list[bool]] = {}
    for row in rows:
        by_task.setdefault(row["tag"], []).append(bool(row["correct"]))
        by_prompt.setdefault(row["metadata"], []).append(bool(row["correct"]))
    asked = Counter(row["tag"] for row in prompts)
    count, license = BENCHES["geneval"].count, BENCHES["geneval"].license
    found = []
    for task, correct in [*by_task.items(), ("all", [row["correct"] for row in rows])]:
        figure = Figure("geneval.correct", fmean(correct), len(correct), task, implementation=tool, license=license)
        expected = count * (len(prompts) if task == "all" else asked[task])
        found.append(Scored(figure, expected, len(correct)))
    solved = fmean(any(correct) for correct in by_prompt.values())
    figure = Figure("geneval.prompts", solved, len(by_prompt), implementation=tool, license=license)
    return [*found, Scored(figure, len(prompts), len(by_prompt))]


def read_dpg(file: Path, prompts: Prompts, tool: str) -> list[Scored]:
    """Read the tool's results: `IMAGE, share, ..., mean` of every image, then its own summary.

    The score is taken from the images' lines. Scores of categories, which the tool makes of the last quarter of every
    image alone, are not.
    """
    means = [float(mean) for mean in re.findall(rf"^.*\.png(?:, {NUMBER})+, ({NUMBER})$", file.read_text(), re.M)]
    figure = Figure("dpg.score", aggregate.dpg_score(means), len(means), implementation=tool,
                    license=BENCHES["dpg"].license)  # fmt: skip
    return [Scored(figure, len(prompts), len(means))]


def read_compbench(file: Path, prompts: Prompts, tool: str) -> list[Scored]:
    """Read CATEGORY/annotation_blip/vqa_result.json, [{"question_id", "answer": "0.69"}] of every image."""
    category = file.absolute().parent.parent.name
    asked = sum(row["tag"] == category for row in prompts)
    if not asked:
        raise ValueError(f"no category {category}")
    answers = [float(row["answer"]) for row in json.loads(file.read_text(encoding="utf-8"))]
    figure = Figure(f"t2i-compbench.{category}", fmean(answers), len(answers), implementation=tool,
                    license=BENCHES["t2i-compbench"].license)  # fmt: skip
    return [Scored(figure, BENCHES["t2i-compbench"].count * asked, len(answers))]


def read_guided(file: Path, images: int) -> list[Scored]:
    """Read what guided-diffusion's `evaluator.py` printed, of so many images.

    Raises:
        GokuError: the file is gone, or is no such log.
    """
    try:
        lines = re.findall(rf"^({'|'.join(GUIDED)}): ({NUMBER})$", file.read_text(encoding="utf-8"), re.M)
        values = {GUIDED[name]: float(value) for name, value in lines}
    except (OSError, ValueError) as error:
        raise GokuError(f"cannot read {file}: {error}") from error
    if not values:
        raise GokuError(f"{file} is not what evaluator.py of guided-diffusion prints: {', '.join(GUIDED)}")
    tool = "guided-diffusion"
    return [
        Scored(Figure(f"{tool}.{name}", value, images, implementation=tool, license="MIT"), images, images)
        for name, value in values.items()
    ]


READERS: dict[str, Callable[[Path, Prompts, str], list[Scored]]] = {
    "vbench": read_vbench,
    "geneval": read_geneval,
    "dpg": read_dpg,
    "t2i-compbench": read_compbench,
}
WRITES = {
    "vbench": "NAME_eval_results.json",
    "geneval": "results.jsonl",
    "dpg": "a text with a line for every image",
    "t2i-compbench": "CATEGORY/annotation_blip/vqa_result.json",
}
