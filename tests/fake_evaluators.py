"""Stand-ins for official evaluators, which do not run beside this project.

They are packages and checkouts that are called as the real ones and write files of their formats. The environment says
what goes wrong: FAKE="scene:fail color:hang".
"""

import json
from pathlib import Path

VBENCH = """
import json, os, sys, time
from pathlib import Path
class VBench:
    def __init__(self, device, full_info_dir, output_path):
        assert device == "cpu" and os.path.isdir(output_path)
        self.rows, self.out = json.load(open(full_info_dir)), Path(output_path)
    def evaluate(self, videos_path, name, dimension_list, local, **more):
        [dimension], here = dimension_list, os.listdir(videos_path)
        with open(self.out / "calls", "a") as calls:
            calls.write(dimension + "\\n")
        does = dict(word.split(":") for word in os.environ.get("FAKE", "").split()).get(dimension)
        if does == "fail":
            raise RuntimeError("CUDA error:\\nout of memory")
        if does == "hang":
            (self.out / "pid").write_text(str(os.getpid()))
            time.sleep(600)
        if does == "nothing":
            return
        rows = [row for row in self.rows if dimension in row["dimension"]]
        for row in rows:
            names = [f"{row['prompt_en']}-{i}.mp4" for i in range(5)]
            row["video_list"] = [os.path.join(videos_path, n) for n in names if n in here]
        videos = [path for row in rows for path in row["video_list"]]
        found = {dimension: [0.5, [{"video_path": path, "video_results": 0.5} for path in videos]]}
        (self.out / f"{name}_full_info.json").write_text(json.dumps(rows))
        (self.out / f"{name}_eval_results.json").write_text(json.dumps(found))
"""
TORCH = """
class cuda:
    is_available = staticmethod(lambda: False)
device = str
"""
STATIC_FILTER = """
import shutil, sys
from pathlib import Path
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
still = Path(words["--result_path"]) / "filtered_videos"
still.mkdir(parents=True)
for path in Path(words["--videos_path"]).glob("*-7.mp4"):
    shutil.copy(path, still / path.name.replace("-7", "-0"))
"""
GENEVAL = """
import json, sys
from pathlib import Path
folder, words = Path(sys.argv[1]), dict(zip(sys.argv[2::2], sys.argv[3::2]))
assert list(Path(words["--model-path"]).glob("*.pth"))
with open(words["--outfile"], "w") as out:
    for image in sorted(folder.glob("*/samples/*.png")):
        asked = json.loads((image.parent.parent / "metadata.jsonl").read_text())
        row = {"filename": str(image), "tag": asked["tag"], "prompt": asked["prompt"], "reason": "", "details": "{}"}
        out.write(json.dumps({**row, "correct": image.stem != "0003", "metadata": json.dumps(asked)}) + "\\n")
"""
DPG = """
import sys
from pathlib import Path
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert (words["--resolution"], words["--pic-num"]) == ("16", "4"), words
lines = [f"{image}, 1.0, 0.5, 0.5, 1.0, 0.75" for image in Path(words["--image-root-path"]).iterdir()]
lines += ["Model: layout", "L1 category scores:", "\\tentity: 90.0", "L2 category scores:", "\\tentity - whole: 90.0"]
Path(words["--res-path"]).write_text("\\n".join([*lines, "DPG-Bench score: 75.0"]) + "\\n")
"""
BLIP = """
import json, os, sys
folder = sys.argv[sys.argv.index("--out_dir") + 1]
assert os.path.exists("configs/vqa.yaml")
names = sorted(os.listdir(f"{folder}/samples/"), key=lambda x: int(x.split("_")[-1].split(".")[0]))
assert all(name.split("_")[0].startswith("a ") for name in names)
os.makedirs(f"{folder}/annotation_blip")
with open(f"{folder}/annotation_blip/vqa_result.json", "w") as out:
    json.dump([{"question_id": i, "answer": "{:.4f}".format(0.25)} for i in range(len(names))], out)
"""


def fake_vbench(folder: Path, prompts: list[dict]) -> None:
    """Make the packages torch and vbench in `folder`, which belongs on PYTHONPATH, and the filter in `folder`/tool."""
    write(folder, {"torch.py": TORCH, "vbench/__init__.py": VBENCH, "tool/static_filter.py": STATIC_FILTER,
                   "vbench-0.1.5.dist-info/METADATA": "Metadata-Version: 2.1\nName: vbench\nVersion: 0.1.5\n",
                   "vbench/VBench_full_info.json": json.dumps(prompts)})  # fmt: skip


def fake_checkouts(folder: Path) -> dict[str, Path]:
    """Make the checkouts of the benchmarks of images; return them by benchmark."""
    write(folder, {"geneval/evaluation/evaluate_images.py": GENEVAL, "geneval/mask2former.pth": "",
                   "ella/dpg_bench/compute_dpg_bench.py": DPG, "ella/dpg_bench/dpg_bench.csv": "",
                   "t2i/BLIPvqa_eval/BLIP_vqa.py": BLIP, "t2i/BLIPvqa_eval/configs/vqa.yaml": ""})  # fmt: skip
    return {"geneval": folder / "geneval", "dpg": folder / "ella", "t2i-compbench": folder / "t2i"}


def write(folder: Path, files: dict[str, str]) -> None:
    """Write files with their folders."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
