"""What `goku caption` can be told, and what it does when it is told nothing."""

from dataclasses import dataclass

from goku_cli.errors import UsageError


@dataclass(frozen=True)
class CaptionSettings:
    """Parameters of captioning."""

    captioner: str = "given+measured"
    """Captioners joined by +, the preferred one first: the first that has something to say is merged."""
    motion_score: bool = True
    """Append the motion score to the caption of a video, as the paper does, so that a prompt can ask for it."""

    def steps(self) -> list[str]:
        """Return the captioners by name.

        Raises:
            UsageError: there is none.
        """
        names = [name.strip() for name in self.captioner.split("+") if name.strip()]
        if not names:
            raise UsageError("--captioner names no captioner; e.g. given+measured")
        return names
