"""Fetches what a GPU machine without network lacks, as wheels: python bench/gpu/prepare.py [--python 3.12]

It is taken to have PyTorch, Triton, torchvision, transformers, OpenCV, SciPy, pandas, pyarrow, safetensors, typer and
rich; WHEELS are what goku and its comparison want beside those. Of a package that is published as source alone a wheel
is built here. Nothing is installed.
"""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
WHEELS = HERE / "wheels"
BINARY = (
    "duckdb", "diffusers", "importlib-metadata", "pebble", "pydantic", "pydantic-core", "annotated-types",
    "typing-inspection", "pytz",
)  # fmt: skip
SOURCE = ("deepspeed", "hjson")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
MOST_BYTES = 60 << 20
"""Of the wheels and the tree."""


def pinned(names: tuple[str, ...]) -> list[str]:
    """Return requirements, in the version that the tests run with where there is one."""
    lines = (HERE.parent.parent / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    versions = {name.lower().replace("_", "-"): version for name, version in pairs}
    return [f"{name}=={versions[name]}" if name in versions else name for name in names]


def main() -> None:
    """Fill the folder and say what it weighs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default="3.12")
    options = parser.parse_args()
    WHEELS.mkdir(exist_ok=True)
    for wheel in WHEELS.glob("*.whl"):
        wheel.unlink()  # two versions of one package stop the whole installation
    pip = [sys.executable, "-m", "pip"]
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    fetch = ["download", "-q", "--no-deps", "--only-binary=:all:", "--implementation", "cp", *platforms]
    subprocess.run([*pip, *fetch, "--python-version", options.python, "-d", WHEELS, *pinned(BINARY)], check=True)
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", WHEELS, *pinned(SOURCE)], check=True)
    if bound := [wheel.name for wheel in WHEELS.glob("*.whl") if not fits(wheel.name, options.python)]:
        sys.exit(f"these run on this machine's Python alone: {', '.join(bound)}")
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=HERE.parent.parent,
        capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    tree = sum((HERE.parent.parent / name).stat().st_size for name in tracked if name)
    wheels = sum(wheel.stat().st_size for wheel in WHEELS.glob("*.whl"))
    print(f"{len(list(WHEELS.glob('*.whl')))} wheels of {wheels / 2**20:.1f} MiB, the tree {tree / 2**20:.1f} MiB")
    if wheels + tree > MOST_BYTES:
        sys.exit(f"together they are more than {MOST_BYTES >> 20} MiB")


def fits(wheel: str, python: str) -> bool:
    """Return whether a wheel is pure, or built for this Python (or the stable interface) and for Linux."""
    tags, abi, platform = wheel.removesuffix(".whl").split("-")[-3:]
    here = "cp" + python.replace(".", "")
    return platform == "any" or ("x86_64" in platform and (abi == "abi3" or here in tags))


if __name__ == "__main__":
    main()
