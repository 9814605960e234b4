"""Files that a converted folder shares with the one it came from, by a second name where the file system has these."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from goku_cli.model.weights.published import STEM, weight_files


def same_file(path: Path, name: Path) -> None:
    """Give a file a second name, or copy it."""
    try:
        os.link(path.resolve(), name)  # a hub's cache holds links to files
    except OSError:  # a file system without hard links
        shutil.copyfile(path, name)


def copy_vae(source: Path, folder: Path, config: dict[str, Any]) -> None:
    """Write a new folder with the weights of a VAE in diffusers' layout, and `config` as its config.json."""
    folder.mkdir()
    for path in [*weight_files(source), *source.glob(f"{STEM}*.index.json")]:
        same_file(path, folder / path.name)
    described = {name: value for name, value in config.items() if name != "_name_or_path"}
    (folder / "config.json").write_text(json.dumps(described, indent=1) + "\n")
