"""Command lines of official evaluators: a process per part, in the interpreter that has their authors' pins.

None of them runs beside a current torch (VBench pins transformers 4.33, GenEval mmdet 2, DPG modelscope and fairseq),
so nothing of them is imported here. Read from Vchitect/VBench@45e79ec, djghosh13/geneval@af4902f,
TencentQQGYLab/ELLA@3c228f1 and Karine-Huang/T2I-CompBench@1b70949.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from goku_cli.benches.protocol import BENCHES, FLICKERING
from goku_cli.errors import UsageError
from goku_cli.evaluate.benchmarks.aggregate import DIMENSIONS
from goku_cli.registry import nearest

VBENCH_DRIVER = """
import sys
from pathlib import Path
import torch
import vbench
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
videos, out, dimension = sys.argv[1:]
judge = vbench.VBench(device, str(Path(vbench.__file__).with_name("VBench_full_info.json")), out)
judge.evaluate(videos_path=videos, name=dimension, dimension_list=[dimension], local=False,
               imaging_quality_preprocessing_mode="longer")
"""
"""What `vbench evaluate` does with one GPU. That command hands its arguments to a shell and fails without a GPU."""


@dataclass(frozen=True)
class Part:
    """One part of an evaluation: a dimension, a category, or all of it."""

    name: str
    commands: list[list[str]]
    """Argument lists, run one after the other."""
    folder: Path
    """Where they run. Not VBench's checkout for VBench: its package there would stand before the installed one."""
    result: Path
    """What they leave."""
    fresh: list[Path] = field(default_factory=list)
    """Folders that earlier attempts may have left, and that are removed first."""


@dataclass(frozen=True)
class Setup:
    """Where an evaluation finds things."""

    python: str
    """The interpreter."""
    tool: Path | None
    """The checkout of the benchmark's repository."""
    layout: Path
    out: Path
    """A folder for results, which is there."""
    dims: tuple[str, ...]
    """Parts to run; none means all."""


def parts(bench: str, setup: Setup) -> list[Part]:
    """Return what has to be run.

    Raises:
        UsageError: the checkout is not what it should be, or `dims` names what the benchmark does not have.
    """
    return PLANS[bench](setup)


def _vbench(setup: Setup) -> list[Part]:
    # The filter lies in the repository and not in the package, and without it the dimension is another one.
    possible = [d for d in DIMENSIONS if setup.tool is not None or d != FLICKERING]
    if FLICKERING in setup.dims and setup.tool is None:
        raise UsageError(f"{FLICKERING} needs static_filter.py of VBench: --tool VBench, after: "
                         f"{BENCHES['vbench'].checkout}")  # fmt: skip
    found = []
    for dimension in _chosen(setup.dims, possible, "dimension"):
        videos, commands, fresh = setup.layout, [], []
        if dimension == FLICKERING:
            tool = _checkout("vbench", setup.tool, "static_filter.py")
            fresh = [setup.out / "static"]
            script = [setup.python, str(tool / "static_filter.py"), "--videos_path", str(setup.layout)]
            commands.append([*script, "--result_path", str(fresh[0])])
            videos = fresh[0] / "filtered_videos"
        commands.append([setup.python, "-c", VBENCH_DRIVER, str(videos), str(setup.out), dimension])
        result = setup.out / f"{dimension}_eval_results.json"
        found.append(Part(dimension, commands, setup.out, result, fresh))
    return found


def _geneval(setup: Setup) -> list[Part]:
    tool = _checkout("geneval", setup.tool, "evaluation/evaluate_images.py")
    if not list(tool.glob("*.pth")):
        raise UsageError(f"no detector in {tool}; get it with: cd {tool} && bash evaluation/download_models.sh ./")
    result = setup.out / "results.jsonl"
    words = [setup.python, "evaluation/evaluate_images.py", str(setup.layout), "--outfile", str(result)]
    return [Part("geneval", [[*words, "--model-path", "./"]], tool, result)]


def _dpg(setup: Setup) -> list[Part]:
    tool = _checkout("dpg", setup.tool, "dpg_bench/compute_dpg_bench.py")
    if not (tool / "dpg_bench/dpg_bench.csv").exists():
        raise UsageError(f"no questions in {tool / 'dpg_bench/dpg_bench.csv'}; they are a file of that repository")
    result = setup.out / "dpg_results.txt"
    words = [setup.python, "dpg_bench/compute_dpg_bench.py", "--image-root-path", str(setup.layout)]
    words += ["--resolution", str(_side(setup.layout)), "--pic-num", "4", "--vqa-model", "mplug"]
    return [Part("dpg", [[*words, "--res-path", str(result)]], tool, result)]


def _compbench(setup: Setup) -> list[Part]:
    tool = _checkout("t2i-compbench", setup.tool, "BLIPvqa_eval/BLIP_vqa.py")
    categories = sorted(folder.name for folder in setup.layout.iterdir())
    found = []
    for category in _chosen(setup.dims, categories, "category"):
        folder = setup.layout / category
        words = [setup.python, "BLIP_vqa.py", "--out_dir", str(folder)]
        result = folder / "annotation_blip" / "vqa_result.json"
        found.append(Part(category, [words], tool / "BLIPvqa_eval", result))
    return found


def _checkout(bench: str, tool: Path | None, script: str) -> Path:
    if tool is None or not (tool / script).is_file():
        gone = f"there is no {script} in {tool}" if tool else f"{bench} is run from its repository"
        raise UsageError(f"{gone}; give it with --tool, after: {BENCHES[bench].checkout}")
    return tool.absolute()


def _chosen(wanted: tuple[str, ...], known: list[str], what: str) -> list[str]:
    for name in wanted:
        if name not in known:
            raise UsageError(f'unknown {what} "{name}"{nearest(name, known)}; known: {", ".join(known)}')
    return [name for name in known if not wanted or name in wanted]


def _side(layout: Path) -> int:
    from PIL import Image

    with Image.open(next(layout.glob("*.png"))) as grid:
        return grid.width // 2


PLANS: dict[str, Callable[[Setup], list[Part]]] = {
    "vbench": _vbench,
    "geneval": _geneval,
    "dpg": _dpg,
    "t2i-compbench": _compbench,
}
