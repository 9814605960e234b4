"""CLIP on key frames: the LAION aesthetic predictor, and zero-shot questions."""

import weakref
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from goku_cli.errors import GokuError
from goku_cli.filter.sampled import SampledClip
from goku_cli.vision.clip import encoder
from goku_cli.vision.device import by_clip
from goku_cli.weights import AESTHETIC, CLIP

Scorer = Callable[[Sequence[SampledClip]], list[float]]
WIDTHS = (1024, 128, 64, 16)
NSFW = (
    ("a photo of nudity", "a pornographic picture", "a picture of a bloody injury", "a picture of graphic violence"),
    ("a photo", "a photo of dressed people", "a photo of a landscape", "a photo of an object", "a drawing"),
)
WATERMARK = (
    ("a photo with a watermark", "a stock photo with a watermark over it", "a frame with a channel logo in a corner"),
    ("a photo", "a clean photo without any text", "a frame of a film"),
)


def _features(clips: Sequence[SampledClip]) -> list[Tensor]:
    """Return the features (seconds, D) of each clip's key frames, computed once for all questions."""
    fresh = [clip for clip in clips if clip not in _known]
    if fresh:
        rows = encoder().images([frame for clip in fresh for frame in clip.seconds])
        _known.update(zip(fresh, by_clip(rows, [len(clip.seconds) for clip in fresh]), strict=True))
    return [_known[clip] for clip in clips]


_known: "weakref.WeakKeyDictionary[SampledClip, Tensor]" = weakref.WeakKeyDictionary()


def load_aesthetic() -> Scorer:
    """Return the LAION-Aesthetics V2 predictor, 1 to 10, the mean over key frames (Schuhmann et al. 2022).

    Raises:
        GokuError: weights are missing, or are of another CLIP.
    """
    predictor = _predictor()

    def score(clips: Sequence[SampledClip]) -> list[float]:
        with torch.inference_mode():
            return [float(predictor(rows).mean()) for rows in _features(clips)]

    return score


def load_nsfw() -> Scorer:
    """Return the probability, the most over key frames, that a frame is one of NSFW rather than harmless."""
    return _question(*NSFW)


def load_watermark() -> Scorer:
    """Return the probability, the mean over key frames, that a watermark or a logo lies over the picture."""
    return _question(*WATERMARK, most=False)


def _question(yes: Sequence[str], no: Sequence[str], *, most: bool = True) -> Scorer:
    eyes = encoder()
    answers = eyes.texts([*yes, *no])

    def score(clips: Sequence[SampledClip]) -> list[float]:
        chances = [(eyes.scale * rows @ answers.T).softmax(1)[:, : len(yes)].sum(1) for rows in _features(clips)]
        return [float(chance.max() if most else chance.mean()) for chance in chances]

    return score


def _predictor() -> nn.Module:
    """Return the perceptron whose weights LAION published, dropout left out."""
    path = AESTHETIC.path()
    weights = torch.load(path, weights_only=True, map_location="cpu")
    sizes = [weights["layers.0.weight"].shape[1], *WIDTHS, 1]
    if sizes[0] != (dim := encoder().texts(["a photo"]).shape[1]):
        raise GokuError(f"{path} is made for CLIP features of {sizes[0]} numbers, {CLIP.place} gives {dim}")
    layers = [nn.Linear(sizes[i], sizes[i + 1]) for i in range(len(sizes) - 1)]
    for layer, number in zip(layers, (0, 2, 4, 6, 7), strict=True):
        layer.load_state_dict({part: weights[f"layers.{number}.{part}"] for part in ("weight", "bias")})
    return nn.Sequential(*layers).eval()
