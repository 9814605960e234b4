"""Sources of prompts: the command line, a file, stdin, or a benchmark's own list."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goku_cli.errors import UsageError
from goku_cli.media.motion.motion import with_motion_score
from goku_cli.registry import nearest
from goku_cli.sample.request import Request
from goku_cli.wording import decoded, lines_of

KEYS = ("prompt", "negative", "image", "last_image", "frames", "size", "seed", "motion", "metadata")
"""Of a line that is JSON."""
MOST_CHARACTERS = 8_000
"""Of a prompt: what is longer is no prompt but a mistake."""

Prompt = dict[str, Any]


def read_prompts(path: Path) -> list[Prompt]:
    """Return the prompts of a file: one a line, or JSON lines with `prompt` and optional other KEYS.

    Empty lines are passed over.

    Raises:
        UsageError: the file is missing, not UTF-8 or empty, or a line is no prompt.
    """
    try:
        lines = lines_of(decoded(path.read_bytes()))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read prompts from {path}: {error}") from error
    rows = [_row(line.strip(), f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise UsageError(f"{path} holds no prompts; write one a line")
    return rows


def _row(line: str, where: str) -> Prompt:
    row: Any = {"prompt": line}
    if line.startswith("{"):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{where} is not JSON: {error}") from error
        if unknown := [key for key in row if key not in KEYS]:
            raise UsageError(f'{where}: unknown key "{unknown[0]}"{nearest(unknown[0], list(KEYS))}; '
                             f"known: {', '.join(KEYS)}")  # fmt: skip
    if not isinstance(row.get("prompt"), str) or not row["prompt"]:
        raise UsageError(f'{where} has no "prompt"')
    if len(row["prompt"]) > MOST_CHARACTERS:
        raise UsageError(f"{where} has {len(row['prompt']):,} characters, a prompt at most {MOST_CHARACTERS:,}")
    return dict(row)


@dataclass(frozen=True)
class Wish:
    """What the command line says of all prompts; a row's own word is stronger, but for frames and size."""

    seed: int = 0
    count: int = 0
    """Samples of a prompt; 0 is what the benchmark wants, else one."""
    frames: int = 0
    size: str = ""
    negative: str = ""
    image: str = ""
    motion: float | None = None
    bench: str = ""
    last_image: str = ""


def requests(rows: Sequence[Prompt], make: Callable[..., Request], wish: Wish) -> list[Request]:
    """Return the requests of prompts, seeds counted up from the first.

    `make` takes prompt, seed, frames, size and other fields of a request. Where `rewritten` stands in a row, that is
    what the model reads.

    Raises:
        UsageError: an image for what is an image itself.
    """
    if wish.image and wish.frames == 1:
        raise UsageError("--image begins a video; --frames 1 draws images")
    found: list[Request] = []
    for index, row in enumerate(rows):
        prompt = str(row["prompt"])
        frames = wish.frames or int(row.get("frames") or 0)
        size = wish.size or str(row.get("size") or "")
        motion = row.get("motion", wish.motion)
        text = str(row.get("rewritten") or "")
        if motion is not None and frames != 1:
            text = with_motion_score(text or prompt, float(motion))
        more = {"text": text, "negative": str(row.get("negative") or wish.negative)}
        if frames != 1:
            more |= {name: str(row.get(name) or getattr(wish, name)) for name in ("image", "last_image")}
        for take in range(wish.count or int(row.get("count") or 1)):
            seed = int(row["seed"]) + take if row.get("seed") is not None else wish.seed + len(found)
            found.append(make(prompt, seed, frames, size, metadata=_metadata(row, wish.bench, index, take), **more))
    return found


def _metadata(row: Prompt, bench: str, index: int, take: int) -> str | None:
    """Return what is kept for the benchmark's tool, as JSON."""
    if bench:
        seen = {"seen": row["seen"]} if "seen" in row else {}
        return json.dumps({"bench": bench, "index": index, "take": take, "metadata": row["metadata"], **seen})
    return json.dumps(row["metadata"]) if "metadata" in row else None
