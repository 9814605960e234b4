"""Settings of `goku split`, with their defaults."""

from dataclasses import dataclass

LEAST_SIMILARITY = {"layout": 0.2, "dinov2": 0.85}
"""The paper's 0.85 (0.90 for 720p) is for DINOv2. The layout of one shot falls to 0.3 in a fast pan, so it cuts only
where nothing is left of the picture; what it leaves uncut is for the filter to judge."""


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
    """The feature of the second cut: `layout`, `dinov2`, or `module:function` from a frame to a vector of length 1."""
    min_similarity: float | None = None
    """Neighbors a second apart that are less alike than this are cut apart; None is the feature's own figure."""
    min_seconds: float = 1.0
    """Shorter pieces are dropped; the paper does not say."""
    max_seconds: float = 10.0
    """Longer pieces are divided evenly."""

    @property
    def least_similarity(self) -> float:
        """The least similarity that is asked for, or the feature's own."""
        own = LEAST_SIMILARITY.get(self.similarity, LEAST_SIMILARITY["dinov2"])
        return own if self.min_similarity is None else self.min_similarity


@dataclass(frozen=True)
class WriteSettings:
    """How clips are encoded when they are cut to files of their own."""

    crf: int = 18
    """Quality of x264: less is better and larger."""
    preset: str = "veryfast"
    """Of x264: slower ones make smaller files."""
