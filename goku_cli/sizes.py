"""Sizes and ranges as people write them: HEIGHTxWIDTH in pixels, FROM,TO."""

from goku_cli.errors import UsageError

MULTIPLE = 16
"""VAEs take 8 x 8 pixels to one latent, and patches 2 x 2 latents to one token."""


def parse_size(text: str, name: str = "--size") -> tuple[int, int]:
    """Return (height, width).

    Raises:
        UsageError: it is not of that form, or no multiple of what a token covers; the message calls it `name`.
    """
    height, _, width = text.partition("x")
    if height.isdigit() and width.isdigit():
        size = int(height), int(width)
        if min(size) and not size[0] % MULTIPLE and not size[1] % MULTIPLE:
            return size
    raise UsageError(f"{name} must be HEIGHTxWIDTH, both divisible by {MULTIPLE}, e.g. 480x864, not {text}")


def parse_range(text: str, name: str, example: str) -> tuple[float, float]:
    """Return both ends of FROM,TO.

    Raises:
        UsageError: it is not of that form; the message calls it `name` and gives an example.
    """
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{name} takes two numbers, e.g. {example}, not {text}") from error
    return low, high
