"""Installed packages and weights, and the features that missing ones switch off. Nothing is changed or fetched."""

import importlib.util
import os
import platform
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from goku_cli import weights
from goku_cli.compiler import cxx_compiler
from goku_cli.media.ffmpeg import executable

HUB = "https://huggingface.co"
HUB_SECONDS = 2.0
WEIGHTS = {"google/flan-t5-xl": "encode-latents --text t5:google/flan-t5-xl, the paper's text encoder"}


@dataclass(frozen=True)
class Finding:
    """One line of the check-up."""

    name: str
    found: str | None
    """Version or place; None when it is missing."""
    without: str = ""
    """What is switched off when it is missing."""
    required: bool = False


def check() -> Iterator[Finding]:
    """Yield the findings one by one, the cheap ones first."""
    yield Finding("python", platform.python_version(), required=True)
    yield Finding("ffmpeg", _ffmpeg(), "every command that writes video", required=True)
    for name, package, without in (
        ("DuckDB", "duckdb", "everything"),
        ("PyAV", "av", "reading video"),
        ("OpenCV", "opencv-python-headless", "optical flow and splitting"),
        ("PySceneDetect", "scenedetect-headless", "splitting"),
        ("PyTorch", "torch", "the model commands"),
        ("transformers", "transformers", "text encoders"),
        ("OCR engine", "rapidocr", "the ocr_area score"),
    ):
        yield Finding(name, _version(package), without, required=True)
    for name, package, without in (
        ("DeepSpeed", "deepspeed", "goku train"),
        ("diffusers", "diffusers", "the Wan VAE"),
        ("open_clip", "open_clip_torch", "CLIP scores and tags"),
        ("flash-attn", "flash-attn", "its fast path; attention runs on PyTorch's own kernels"),
    ):
        yield Finding(name, _version(package), without)
    yield Finding("CUDA GPU", _gpu(), "speed: models run on the CPU")
    yield Finding("C++ compiler", cxx_compiler(), "train.compile, and kernels that DeepSpeed compiles on first use")
    for part in weights.ALL:
        how = f"{part.used_by}; get it with: {part.command.format(part.place)}"
        yield Finding(part.name, _place(part.place), how)
    for repository, without in WEIGHTS.items():
        yield Finding(repository, _place(_hub_cache() / f"models--{repository.replace('/', '--')}"), without)
    yield Finding("Hugging Face hub", _hub(), "fetching weights; those on disk are used")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _ffmpeg() -> str | None:
    return _first_line(lambda: [executable(), "-version"])


def _first_line(command: Callable[[], list[str]]) -> str | None:
    try:
        told = subprocess.run(command(), capture_output=True, text=True, timeout=10, check=True)
    except (OSError, RuntimeError, subprocess.SubprocessError):
        return None
    return told.stdout.split("\n", 1)[0].split(" Copyright")[0]


def _gpu() -> str | None:
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"


def _place(path: Path) -> str | None:
    return str(path) if path.exists() else None


def _hub_cache() -> Path:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub"))


def _hub() -> str | None:
    if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        return None
    request = urllib.request.Request(HUB, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=HUB_SECONDS):  # noqa: S310
            return HUB
    except OSError:
        return None
