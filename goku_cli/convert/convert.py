"""`goku convert`: which way is decided by what lies in the folder."""

from pathlib import Path

from goku_cli.errors import UsageError
from goku_cli.model.weights import checkpoint

PIPELINE = "Wan2.1-T2V-1.3B-Diffusers"


def convert(source: Path, out: Path, *, parts: Path | None, weights: str, ema_length: float | None = None) -> str:
    """Convert a published Wan model to a checkpoint, or a checkpoint to folders for diffusers; return what to say.

    With `ema_length` a run becomes a checkpoint whose average of the weights has that length.

    Raises:
        UsageError: `source` is neither, `out` exists, or the model is one that cannot be converted.
        GokuError: a file is damaged or missing.
    """
    if out.exists():
        raise UsageError(f"{out} exists; remove it, or name another folder with -o")
    if ema_length is not None:
        from goku_cli.convert.averaged import average_run

        return f"an average of length {ema_length:g}, of {average_run(source, out, ema_length)} snapshots"
    if (source / checkpoint.COMPLETE).exists() or checkpoint.checkpoints(source):
        from goku_cli.convert.exported import export_checkpoint

        return export_checkpoint(source, out, weights)
    if not any((source / name / "config.json").is_file() for name in ("transformer", ".")):
        raise UsageError(f"{source} holds neither a goku checkpoint nor a published transformer; get one with: "
                         f"hf download Wan-AI/{PIPELINE} --local-dir {PIPELINE}")  # fmt: skip
    from goku_cli.convert.published import import_published

    import_published(source, out, parts)
    return f'to draw: goku sample {out} -m samples.duckdb -p "..." --solver unipc --steps 50 --guidance 5'
