"""Paths of files and folders beside a manifest."""

from pathlib import Path

ENDING = ".duckdb"


def true_path(path: Path) -> Path:
    """Return where a manifest's file is: what lies beside it lies there, also when a link to it is named."""
    return path.resolve() if path.is_symlink() else path


def beside(manifest: Path, ending: str) -> Path:
    """Return the path of what lies beside a manifest: `my.latents` of `my.duckdb`.

    A name that does not end in .duckdb stays whole: `data.2024` and `data.2025` share no `data.latents`.
    """
    real = true_path(manifest)
    return real.with_name(f"{real.name.removesuffix(ENDING)}.{ending}")
