"""Dense captions in two levels, as in the paper: of key frames, of the whole video, and one text made of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from goku_cli.caption.clip import Clip, KeyFrame
from goku_cli.caption.prompts import Prompts
from goku_cli.caption.settings import CaptionSettings
from goku_cli.chat.asking import Model, ask
from goku_cli.chat.replies import Replies
from goku_cli.chat.settings import LOCAL, SERVER
from goku_cli.chat.spending import Spending

FRAME, VIDEO, DENSE = "frame", "video", "dense"


@dataclass(frozen=True)
class Said:
    """One text about a clip."""

    kind: str
    text: str
    by: str
    at_us: int | None = None
    """Of the key frame it speaks of, within the clip."""


@dataclass(frozen=True)
class Dense:
    """A captioner that asks models; its last text is the one to merge."""

    model: Model
    merger: Model
    prompts: Prompts
    replies: Replies
    spending: Spending
    frame_captions: int

    @property
    def identity(self) -> list[str]:
        """What its captions depend on, beside the clip."""
        return [self.model.identity, self.merger.identity, self.prompts.fingerprint]

    def __call__(self, clip: Clip) -> list[Said]:
        """Return the captions of some key frames, of the video, and what a language model made of them.

        Raises:
            Fault: the model refused, gave no caption, or was not asked.
        """
        chosen = _spread(clip.key_frames, self.frame_captions)
        moments = [self._say(FRAME, self.prompts.fill("frame"), [frame]) for frame in chosen]
        if not clip.is_video:
            return moments
        facts = _facts(clip)
        whole = self._say(VIDEO, self.prompts.fill("video", **facts), clip.key_frames)
        told = "\n".join(f"At {(one.at_us or 0) / 1e6:.1f} seconds: {one.text}" for one in moments)
        asked = self.prompts.fill("merge", moments=told, whole=whole.text, **facts)
        merged = ask(self.merger, self.replies, self.spending, asked)
        return [*moments, whole, Said(DENSE, merged, self._by(self.merger))]

    def _say(self, kind: str, prompt: str, frames: Sequence[KeyFrame]) -> Said:
        text = ask(self.model, self.replies, self.spending, prompt, [frame.jpeg for frame in frames])
        return Said(kind, text, self._by(self.model), frames[0].at_us if kind == FRAME else None)

    def _by(self, model: Model) -> str:
        return f"{model.name} prompts {self.prompts.fingerprint[:8]}"


def load_dense(
    name: str, settings: CaptionSettings, prompts: Prompts, replies: Replies, spending: Spending
) -> Dense:  # fmt: skip
    """Return the captioner `openai:URL` or `transformers:PATH`.

    Raises:
        UsageError: no such model.
        GokuError: the server does not answer.
    """
    if name.startswith(SERVER):
        from goku_cli.chat.server import Server

        server = Server(name.removeprefix(SERVER), spending)
        model: Model = server.model(settings.model)
        merger: Model = server.model(settings.merge_model) if settings.merge_model else model
    else:
        from goku_cli.chat.local import LocalModel

        model = merger = LocalModel(Path(name.removeprefix(LOCAL)).expanduser())
    return Dense(model, merger, prompts, replies, spending, settings.frame_captions)


def _facts(clip: Clip) -> dict[str, object]:
    known = clip.camera.sentence if clip.camera else ""
    return {
        "frames": len(clip.key_frames),
        "seconds": f"{clip.seconds:.1f}",
        "times": ", ".join(f"{frame.at_us / 1e6:.1f}" for frame in clip.key_frames),
        "camera": known or "what the camera does is not known",
        "motion": "not known" if clip.motion is None else f"{clip.motion:.1f}",
    }


def _spread(frames: Sequence[KeyFrame], count: int) -> list[KeyFrame]:
    count = min(count, len(frames))
    return [frames[int((part + 0.5) * len(frames) / count)] for part in range(count)]
