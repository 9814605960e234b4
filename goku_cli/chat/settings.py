"""Settings of models and servers."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from goku_cli.errors import UsageError
from goku_cli.registry import nearest

SERVER, LOCAL = "openai:", "transformers:"
"""How models that are asked begin: a server's URL, a folder of weights."""
PARAMETERS = ("max_tokens", "temperature", "seed")
"""What some servers refuse: in place of the first they take max_completion_tokens; the others can be left out."""


@dataclass(frozen=True)
class ServerSettings:
    """How a server is asked."""

    in_flight: int = 64
    """Requests at once."""
    rate: float | None = None
    """Most requests per minute."""
    tokens_budget: int | None = None
    """Tokens, read and written, after which nothing more is asked; requests in flight may pass it."""
    price_in: float = 0.0
    price_out: float = 0.0
    """Per million tokens."""
    timeout: float = 300.0
    """Seconds to wait for one answer."""
    without: tuple[str, ...] = ()
    """Of PARAMETERS, those that the server does not take."""

    def __post_init__(self) -> None:
        for name in self.without:
            if name not in PARAMETERS:
                raise UsageError(
                    f"--without takes {', '.join(PARAMETERS)}, not {name}{nearest(name, list(PARAMETERS))}"
                )


def check_url(url: str) -> None:
    """Refuse what is no server, and what would put a key into the manifest.

    Raises:
        UsageError: with what to type instead.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{SERVER}{url} is no server; e.g. {SERVER}http://localhost:8000/v1")
    if parts.username or parts.password or parts.query:
        raise UsageError("a URL is kept in the manifest; put the key into the environment as OPENAI_API_KEY")
