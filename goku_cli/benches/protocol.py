"""Official benchmarks: prompts, samples per prompt, and where their lists and tools lie."""

from dataclasses import dataclass

TAKES = 5
"""Videos of a prompt that VBench reads, `PROMPT-0.mp4` to `PROMPT-4.mp4`."""
FLICKERING = "temporal_flickering"
FLICKERING_TAKES = 25
"""Videos to draw of a prompt of this dimension: its filter keeps five static ones (VBench README)."""


@dataclass(frozen=True)
class Bench:
    """A benchmark as its authors run it."""

    count: int
    """Samples of a prompt."""
    frames: int
    """1: images; 0: clips as long as the model was trained on."""
    official: str
    """What of the checkout is the list, as `file` of `bench_prompts` reads it."""
    checkout: str
    """Shell command that gets list and tool."""
    license: str
    """Of the tool; what its weights allow is their authors' to say."""


BENCHES = {
    "vbench": Bench(
        TAKES, 0, "VBench/vbench/VBench_full_info.json", "git clone https://github.com/Vchitect/VBench", "Apache-2.0"
    ),
    "geneval": Bench(
        4, 1, "geneval/prompts/evaluation_metadata.jsonl", "git clone https://github.com/djghosh13/geneval", "MIT"
    ),
    "dpg": Bench(4, 1, "ELLA/dpg_bench/prompts", "git clone https://github.com/TencentQQGYLab/ELLA", "Apache-2.0"),
    "t2i-compbench": Bench(
        10, 1, "T2I-CompBench/examples/dataset", "git clone https://github.com/Karine-Huang/T2I-CompBench", "MIT"
    ),
}
SHAPES = "goku_cli.shapes.prompts:benchmark_prompts"
"""Our own benchmark: a list made by the synthetic world, read by name because rooms of one floor do not meet."""
NAMES = (*BENCHES, "shapes")
