"""`goku sample`: draw what is not there yet, publish each file, then its row."""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from goku_cli.manifest.store import Manifest, Row
from goku_cli.media.sample_files import enlarged, write_shown
from goku_cli.model.sampling.guidance import Share
from goku_cli.model.weights import checkpoint
from goku_cli.publish import sha256
from goku_cli.recipe import fingerprint
from goku_cli.sample.generate import Clip, Generator
from goku_cli.sample.request import Request
from goku_cli.sample.settings import SampleSettings
from goku_cli.stage import Progress


@dataclass(frozen=True)
class Set:
    """A set of samples: of one checkpoint, drawn in one way, into one folder."""

    name: str
    folder: Path
    """Of the checkpoint."""
    settings: SampleSettings
    out: Path
    root: Path
    """Folder of the manifest, from which the rows' paths count."""

    @property
    def weights(self) -> str:
        """SHA-256 of the weights that are drawn from."""
        files: dict[str, dict[str, str]] = json.loads((self.folder / checkpoint.COMPLETE).read_text())
        return files[checkpoint.weights_file(self.folder, self.settings.weights)]["sha256"]


def set_name(folder: Path, bench: str, settings: SampleSettings) -> str:
    """Return the name of a set of samples: run, step, benchmark, and a fingerprint of the settings."""
    parts = [folder.resolve().parent.name, folder.name, bench, fingerprint(settings)[:4]]
    return "-".join(part for part in parts if part)


def sample_id(drawn: Set, request: Request) -> str:
    """Return the id of a sample of a set: the same weights, request and settings draw the same clip."""
    frames = {name: getattr(request, name) for name in ("image", "last_image")}
    digests = {name: sha256(Path(path)) if path else "" for name, path in frames.items()}
    key = json.dumps([drawn.weights, asdict(request) | digests, drawn.name])
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def missing(manifest: Manifest, ids: Mapping[Request, str]) -> set[Request]:
    """Return the requests whose sample has no row, or whose file is gone."""
    known = {row["id"]: manifest.path.parent / row["path"] for row in manifest.query("SELECT id, path FROM samples")}
    return {request for request, key in ids.items() if key not in known or not known[key].exists()}


def keep(manifest: Manifest, row: Row) -> None:
    """Replace a sample's row."""
    with manifest.transaction():
        manifest.execute("DELETE FROM samples WHERE id = ?", [row["id"]])
        manifest.insert("samples", [row])


def draw_rows(
    generator: Generator, drawn: Set, ids: Mapping[Request, str], wanted: Collection[Request], progress: Progress,
    share: Share | None = None,
) -> Iterator[Row]:  # fmt: skip
    """Draw the wanted ones of a set's requests and yield the row of each when its file is there."""
    weights = drawn.weights
    how = drawn.settings
    for clip in generator.generate(list(ids), how, wanted=wanted, share=share, progress=progress):
        yield _published(clip, ids[clip.request], drawn, how.fps or generator.fps, weights)


def _published(clip: Clip, key: str, drawn: Set, fps: float, weights: str) -> Row:
    request, latent = clip.request, clip.latent.numpy()
    form = drawn.settings.format
    shown = clip.frames if form in ("tensor", "frames") else enlarged(clip.frames)
    settings = json.dumps(asdict(drawn.settings))
    about = {
        "made_by": f"goku {version('goku-cli')}", "prompt": request.prompt, "text": request.read,
        "negative": request.negative, "seed": request.seed, "settings": asdict(drawn.settings), "weights": weights,
    }  # fmt: skip
    path = write_shown(drawn.out, key, shown, fps, form=form, about=json.dumps(about), latent_CTHW=latent)
    return {
        "id": key, "name": drawn.name, "prompt": request.prompt, "text": request.read, "metadata": request.metadata,
        "seed": request.seed, "path": os.path.relpath(path, drawn.root), "frames": request.frames,
        "width": shown.shape[2], "height": shown.shape[1], "fps": fps, "settings": settings,
        "checkpoint": str(drawn.folder.absolute()), "sha256": sha256(path) if path.is_file() else None,
        "latent_sha256": hashlib.sha256(latent.tobytes()).hexdigest(),
    }  # fmt: skip
