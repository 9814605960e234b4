"""The floors and doors of CONTRIBUTING.md, read from the imports themselves."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "goku_cli"
FLOOR_OF = {
    "errors": 0,
    "registry": 1, "sizes": 1, "jsonlines": 1, "publish": 1, "wording": 1, "weights": 1, "compiler": 1, "recipe": 2,
    "manifest": 2, "media": 2, "model": 2, "shapes": 2, "benches": 2, "vision": 2,
    "stage": 3, "chat": 3,
    "ingest": 4, "split": 4, "filter": 4, "caption": 4, "balance": 4, "encode": 4, "train": 4, "sample": 4,
    "convert": 4, "evaluate": 4, "synth": 4, "report": 4, "checkup": 4,
    "cli": 5, "__main__": 6,
}  # fmt: skip
DOORS = {
    "duckdb": ["manifest/store.py"],
    "av": ["media/"],
    "ffmpeg": ["media/ffmpeg.py"],
    "imageio_ffmpeg": ["media/ffmpeg.py"],
    "aiohttp": ["ingest/fetch.py"],
    "fsspec": ["ingest/fetch.py"],
    "scenedetect": ["split/"],
    "rapidocr": ["filter/ocr.py"],
    "deepspeed": ["train/distributed/engine.py"],
    "peft": ["train/distributed/lora.py"],
    "subprocess": [
        "train/launch/launcher.py",
        "train/launch/hostfile.py",
        "media/ffmpeg.py",
        "checkup/",
        "evaluate/benchmarks/official.py",
    ],
    "matplotlib": ["evaluate/benchmarks/plot.py"],
    "tensorboard": ["train/logs/loggers.py"],
    "wandb": ["train/logs/loggers.py"],
    "typer": ["cli/"],
    "rich": ["cli/"],
    "openai": ["chat/server.py"],
    "sqlite3": ["chat/replies.py"],
    "diffusers": [
        "model/vae/diffusers_codec.py",
        "model/sampling/multistep.py",
        "model/text/umt5.py",
        "convert/original.py",
    ],
    "transformers": ["model/text/encoders.py", "model/text/umt5.py", "vision/dinov2.py", "chat/local.py"],
    "torchmetrics": ["vision/distances.py"],
    "torch_fidelity": ["vision/inception.py"],
    "open_clip": ["vision/clip.py"],
    "easyocr": ["filter/craft.py"],
    "webdataset": ["encode/export.py"],
    "gradio": ["sample/page.py"],
    "torch": [
        "model/",
        "train/",
        "sample/",
        "convert/",
        "encode/",
        "checkup/",
        "filter/",
        "vision/",
        "evaluate/sets/features.py",
        "evaluate/sets/lpips_diversity.py",
        "evaluate/reconstruction.py",
        "balance/look.py",
        "chat/local.py",
    ],
}
MOST_MODULES = 16
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append(node.module or "")
            if node.module == "goku_cli":
                found += [f"goku_cli.{alias.name}" for alias in node.names]
    return found


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "goku_cli" and len(parts) > 1 else None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_and_through_doors(path):
    name = str(path.relative_to(PACKAGE))
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in imports(path):
        other = room(module)
        if other is not None and other != own:
            assert FLOOR_OF[other] < FLOOR_OF[own], f"{name} may not import {module}"
        for library, doors in DOORS.items():
            if module == library or module.startswith(f"{library}."):
                assert any(name.startswith(door) for door in doors), f"{name} may not import {library}"


def test_no_folder_has_more_modules_than_a_reader_can_hold():
    """But for the commands, of which each has its file."""
    folders = {path.parent for path in FILES} - {PACKAGE / "cli"}
    modules = {folder: [path for path in folder.glob("*.py") if path.name != "__init__.py"] for folder in folders}
    assert not {str(folder): len(found) for folder, found in modules.items() if len(found) > MOST_MODULES}


def test_every_init_is_empty():
    assert not [path for path in PACKAGE.rglob("__init__.py") if path.read_text()]


def test_help_loads_nothing_heavy():
    script = "import sys; import goku_cli.cli.app; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "duckdb", "numpy", "cv2", "av", "pandas", "pyarrow"} & set(loaded)


def test_training_and_sampling_from_latents_need_no_library_of_media():
    """A machine with GPUs may have none of these."""
    absent = ("av", "ffmpeg", "imageio_ffmpeg", "scenedetect", "rapidocr", "open_clip", "openai", "webdataset")
    modules = ("train.trainer", "train.launch.launcher", "sample.generate", "encode.codec", "evaluate.shapes.scores")
    script = f"import sys; sys.modules.update(dict.fromkeys({absent}))\n" + "\n".join(
        f"import goku_cli.{module}" for module in modules
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
