"""What `goku split` can be told, and what it does when it is told nothing."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SplitSettings:
    """Parameters of the two cuts (Goku, section 4): shots first, then one frame per second inside each shot."""

    detector: str = "adaptive"
    """`adaptive`, `content`, `hash`, `histogram`, `threshold`, or `module:function` that returns a PySceneDetect
    detector. The adaptive one finds cuts between pictures that differ little, which a fixed threshold misses."""
    threshold: float | None = None
    """The detector's own figure; None is its own default."""
    frame_skip: int = 0
    """Frames that the detector does not look at after each that it does. Cuts stay exact to the frame."""
    similarity: str = "layout"
    """The feature of the second cut: `layout`, or `module:function` from a frame to a vector of length 1."""
    min_similarity: float = 0.8
    """Neighbours a second apart that are less alike than this are cut apart. The paper's 0.85 to 0.90 are for
    DINOv2; on the layout feature, fast motion inside one shot falls to 0.85 and other scenes lie below 0.75."""
    min_seconds: float = 1.0
    """Shorter pieces are dropped; the paper does not say."""
    max_seconds: float = 10.0
    """Longer pieces are divided evenly."""


@dataclass(frozen=True)
class WriteSettings:
    """How clips are encoded when they are cut to files of their own."""

    crf: int = 18
    """Quality of x264: less is better and larger."""
    preset: str = "veryfast"
    """Of x264: slower ones make smaller files."""
