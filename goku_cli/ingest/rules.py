"""The cheap rules on raw files, before any model is run (Goku, Table 3). A least figure of 0 switches a rule off."""

from dataclasses import dataclass, field

from goku_cli.manifest.bounds import Bound, first_broken
from goku_cli.recipe import build, find, read_toml

DEFAULT = "paper"


@dataclass(frozen=True)
class VideoRules:
    """Least figures of a raw video."""

    min_duration: float = 0.0
    """Seconds."""
    min_short_side: int = 0
    """Pixels, as displayed."""
    min_bitrate: float = 0.0
    """kbit/s of the video stream."""
    min_fps: float = 0.0
    """Frames per second, measured from the packets, gaps and still stretches left out."""
    max_missing: float | None = None
    """Share of what the header announces that is not there."""


@dataclass(frozen=True)
class ImageRules:
    """Least figures of a raw image."""

    min_short_side: int = 0
    """Pixels, as displayed."""


@dataclass(frozen=True)
class Rules:
    """What `recipes/ingest/*.toml` says."""

    video: VideoRules = field(default_factory=VideoRules)
    image: ImageRules = field(default_factory=ImageRules)


def load_rules(name: str) -> Rules:
    """Read the rules of a packaged name or a path.

    Raises:
        UsageError: no such recipe, or an unknown key in it.
    """
    path = find("ingest", name)
    return build(Rules, read_toml(path), where=str(path))


def rejection(rules: Rules) -> str:
    """Return SQL over `sources` that yields the first broken rule as text, or NULL."""
    video, image = rules.video, rules.image
    return (
        f"CASE WHEN kind = 'image' THEN {first_broken(_on([_side(image.min_short_side)]))} ELSE "
        + first_broken(
            _on(
                [
                    Bound("duration", "duration_us / 1e6", low=video.min_duration, unit="s"),
                    _side(video.min_short_side),
                    Bound("bitrate", "bitrate / 1e3", low=video.min_bitrate, unit="kbit/s"),
                    Bound("frame rate", "usual_fps", low=video.min_fps, unit="fps", slack=1e-3),
                    Bound("missing", "missing * 100", high=_percent(video.max_missing), unit="%"),
                ]
            )
        )
        + " END"
    )


def _side(pixels: int) -> Bound:
    return Bound("short side", "least(width, height)", low=pixels, unit="px")


def _on(bounds: list[Bound]) -> list[Bound]:
    return [bound for bound in bounds if bound.low or bound.high is not None]


def _percent(share: float | None) -> float | None:
    return None if share is None else share * 100
