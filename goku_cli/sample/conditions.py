"""From what a request says to what the model is given: text states, labels, the latent of a first frame."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from goku_cli.errors import GokuError, UsageError
from goku_cli.model.network.presets import ModelConfig
from goku_cli.model.sampling.guidance import Condition
from goku_cli.model.text.encoders import TextEncoder
from goku_cli.model.vae.codec import Codec, Statistics
from goku_cli.model.vae.linear_codec import to_unit
from goku_cli.registry import nearest
from goku_cli.sample.request import Request

SHOWN = 40
"""Characters of a prompt in an error."""


def check(requests: list[Request], config: ModelConfig, text: TextEncoder | None, classes: list[str]) -> None:
    """Refuse what the model cannot draw, before anything is drawn.

    Raises:
        UsageError: a text that is longer than the encoder reads, a class that is none, or a first frame for a model
            that takes none, or none for one that was trained with it.
    """
    for request in requests:
        if request.image and not config.image_condition:
            raise UsageError("this checkpoint draws from text alone; train one that takes --image with: "
                             "goku train recipes/shapes/4-image-to-video.toml MANIFEST")  # fmt: skip
        if request.last_image and not config.last_frame:
            raise UsageError("this checkpoint takes no last frame; train one with [model] last_frame = true")
        if request.last_image and not request.image:
            raise UsageError("--last-image needs --image: a clip is led from its first frame to its last")
    for line in dict.fromkeys(line for request in requests for line in (request.read, request.negative)):
        if config.classes:
            if line and line not in classes:
                raise UsageError(f'no class "{line[:SHOWN]}"{nearest(line, classes)}; this checkpoint knows: '
                                 f"{', '.join(classes[:10])}{', ...' if len(classes) > 10 else ''}")  # fmt: skip
        elif text is not None and (tokens := text.count(line)) > text.most_tokens:
            raise UsageError(f"a prompt has {tokens} tokens, the text encoder reads {text.most_tokens}; "
                             f'shorten "{line[:SHOWN]}..."')  # fmt: skip


def read_image(path: Path, height: int, width: int) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 of this size: scaled to cover it, its aspect kept, its middle cropped.

    Of a video it is the first frame.

    Raises:
        UsageError: it cannot be read.
    """
    from goku_cli.media.window import crop_to

    return crop_to(_picture(path), height, width, enlarge=True)


def cropped_share(path: Path, height: int, width: int) -> float:
    """Return which share of a picture is lost when it is cropped to this size; 0 for less than one in a hundred."""
    has = _picture(path).shape
    lost = 1 - min(height * has[1], width * has[0]) / max(height * has[1], width * has[0])
    return lost if lost >= 0.01 else 0.0


def _picture(path: Path) -> np.ndarray:
    from goku_cli.media.frames import read_frames

    try:
        return next(read_frames(path))[1]
    except (GokuError, OSError, StopIteration) as error:
        raise UsageError(f"--image {path} cannot be read: {error or 'it has no frames'}") from error


class Conditions:
    """Makes conditions, and remembers what it made them of: texts and pictures come again."""

    def __init__(self, config: ModelConfig, text: TextEncoder | None, classes: list[str], statistics: Statistics):
        self.config = config
        self.text = text
        self.statistics = statistics
        self._labels = {name: i for i, name in enumerate(classes)}
        self._states: dict[str, Tensor] = {}
        self._frames: dict[tuple[str, int, int, bool], Tensor] = {}

    def read_texts(self, requests: list[Request]) -> None:
        """Encode every text of these requests that is not known yet."""
        for line in dict.fromkeys(line for request in requests for line in (request.read, request.negative)):
            if line not in self._states:
                self._states[line] = torch.zeros(0, 0) if self.text is None else self.text.encode(line).cpu()

    def read_images(self, requests: list[Request], codec: Codec, device: torch.device) -> None:
        """Encode every first frame that is not known yet."""
        for key in dict.fromkeys(key for request in requests for key in _keys(request)):
            if key[0] and key not in self._frames:
                path, height, width, is_last = key
                image = read_image(Path(path), height, width)
                # A latent frame after the first stands for several: the last picture is held for so long.
                still = to_unit(image[None].repeat(1 + codec.period * is_last, axis=0)).to(device)
                latent = codec.moments(still).mean_CTHW[:, -1:]
                self._frames[key] = self.statistics.normalize(latent).float().cpu()

    def of(self, request: Request) -> Condition:
        """Return the condition of a request whose text and image were read."""
        label = self._labels.get(request.read, self.config.classes) if self.config.classes else None
        first, last = (self._frames.get(key) for key in _keys(request))
        return Condition(self._states[request.read], self._states[request.negative], label, first, last)


def _keys(request: Request) -> list[tuple[str, int, int, bool]]:
    """Return path, size and whether it is the last, of the first frame and of the last."""
    size = request.height, request.width
    return [(request.image, *size, False), (request.last_image, *size, True)]
