"""CLIP on key frames: the LAION aesthetic predictor, and zero-shot questions. The only module that imports open_clip.

One image encoder (OpenAI's ViT-L/14) serves every question; a clip's features are computed once.
"""

import weakref
from collections.abc import Callable, Sequence
from functools import cache

import open_clip
import torch
from torch import Tensor, nn

from goku_cli.errors import GokuError
from goku_cli.filter.device import by_clip, device, in_batches, square
from goku_cli.filter.sampled import SampledClip
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


class Encoder:
    """CLIP's two encoders, which return unit vectors."""

    def __init__(self) -> None:
        path = CLIP.path()
        self.model = open_clip.create_model(f"local-dir:{path}", precision="fp32").to(device()).eval()
        self.tokenizer = open_clip.get_tokenizer(f"local-dir:{path}")
        self.known: weakref.WeakKeyDictionary[SampledClip, Tensor] = weakref.WeakKeyDictionary()

    def images(self, clips: Sequence[SampledClip]) -> list[Tensor]:
        """Return the features (seconds, D) of each clip."""
        fresh = [clip for clip in clips if clip not in self.known]
        config = open_clip.get_model_preprocess_cfg(self.model)
        side = config["size"] if isinstance(config["size"], int) else config["size"][0]
        frames = [square(frame, side, config["mean"], config["std"]) for clip in fresh for frame in clip.seconds]
        if frames:
            rows = in_batches(lambda pixels: self.model.encode_image(pixels, normalize=True), frames)
            self.known.update(zip(fresh, by_clip(rows, [len(clip.seconds) for clip in fresh]), strict=True))
        return [self.known[clip] for clip in clips]

    @torch.inference_mode()
    def texts(self, lines: Sequence[str]) -> Tensor:
        """Return the features (N, D) of N lines."""
        return self.model.encode_text(self.tokenizer(list(lines)).to(device()), normalize=True).float().cpu()

    @property
    def scale(self) -> float:
        """What CLIP multiplies cosines by before a softmax."""
        return float(self.model.logit_scale.exp())


@cache
def encoder() -> Encoder:
    """Return the one encoder of this process."""
    return Encoder()


def load_aesthetic() -> Scorer:
    """Return the LAION-Aesthetics V2 predictor, 1 to 10, the mean over key frames (Schuhmann et al. 2022).

    Raises:
        GokuError: weights are missing, or are of another CLIP.
    """
    eyes = encoder()
    predictor = _predictor()

    def score(clips: Sequence[SampledClip]) -> list[float]:
        with torch.inference_mode():
            return [float(predictor(rows).mean()) for rows in eyes.images(clips)]

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
        chances = [(eyes.scale * rows @ answers.T).softmax(1)[:, : len(yes)].sum(1) for rows in eyes.images(clips)]
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
