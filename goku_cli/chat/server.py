"""A model behind an OpenAI-compatible server (vLLM, SGLang, `transformers serve`, ...). The only import of openai.

The library repeats what may succeed a moment later (connections, timeouts, 408, 409, 429, 5xx) with growing pauses, or
when the server says so. The key comes from OPENAI_API_KEY and goes nowhere but into the request.
"""

import base64
import os
import re
import threading
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import openai

from goku_cli.chat.asking import MAX_TOKENS, TEMPERATURE
from goku_cli.chat.settings import PARAMETERS
from goku_cli.chat.spending import Spending
from goku_cli.errors import Cause, Fault, GokuError, UsageError
from goku_cli.registry import nearest
from goku_cli.wording import clean

RETRIES = 4
LIST_SECONDS = 10.0
START = "is one running there? e.g. vllm serve Qwen/Qwen2.5-VL-7B-Instruct --port 8000"


class Server:
    """A server, of which any number of threads may ask."""

    def __init__(self, url: str, spending: Spending) -> None:
        self.url = url.rstrip("/") if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/v1"
        self._spending = spending
        self._at_once = threading.BoundedSemaphore(spending.settings.in_flight)
        counted = openai.DefaultHttpxClient(event_hooks={"request": [lambda _: spending.turn()]})
        self._client = openai.OpenAI(
            base_url=self.url, api_key=os.environ.get("OPENAI_API_KEY") or "none", max_retries=RETRIES,
            timeout=spending.settings.timeout, http_client=counted,
        )  # fmt: skip

    def model(self, name: str | None) -> "ServedModel":
        """Return a model of the server by name, or its first one.

        Raises:
            UsageError: it has no such model.
            GokuError: it does not answer, or wants a key.
        """
        names = self._names(needed=name is None)
        if names and name is not None and name not in names:
            raise UsageError(f'{self.url} has no model "{name}"{nearest(name, names)}; it has: {", ".join(names[:10])}')
        return ServedModel(self, name or names[0])

    def _names(self, *, needed: bool) -> list[str]:
        """Return the names of the server's models; empty when it does not list them and that is no matter."""
        try:
            listed = self._client.with_options(max_retries=1, timeout=LIST_SECONDS).models.list()
            names = [model.id for model in listed.data or []]
        except openai.APIConnectionError as error:
            raise GokuError(f"nothing answers at {self.url}; {START}") from error
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise GokuError(f"{self.url} wants another key; set OPENAI_API_KEY") from error
        except (openai.OpenAIError, AttributeError, TypeError, ValueError) as error:  # not what such a server says
            if not needed:
                return []
            raise GokuError(f"{self.url} lists no models; does the URL end in /v1? or name one with --model") from error
        if not names and needed:
            raise GokuError(f"{self.url} has no model; name one with --model")
        return names

    def complete(self, body: dict[str, Any]) -> str:
        """Return the body of the reply to a chat completion request.

        A parameter that the server refuses is left out from then on, and the request sent once more.

        Raises:
            Fault: NETWORK or TIMEOUT after all retries, ANSWER when the request is refused as such, UNASKED.
        """
        with self._at_once:
            self._spending.check()
            try:
                return self._post(body)
            except openai.APITimeoutError as error:
                self._spending.outage("timeout")
                seconds = self._spending.settings.timeout
                raise Fault(Cause.TIMEOUT, f"no answer within {seconds:g} s; see --timeout") from error
            except openai.APIConnectionError as error:
                self._spending.outage("no connection")
                raise Fault(Cause.NETWORK, f"no connection to {self.url}") from error
            except openai.APIStatusError as error:
                raise self._status(error, body["model"]) from error

    def _post(self, body: dict[str, Any]) -> str:
        without = set(self._spending.without)
        try:
            # The typed method would walk through the pictures to check them: a third of the time of a request.
            return self._client.post("/chat/completions", body=_taken(body, without), cast_to=str)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            refused = {name for name in PARAMETERS if re.search(rf"\b{name}\b", str(error))} - without
            if not refused:
                raise
            self._spending.without |= refused
            return self._post(body)

    def _status(self, error: openai.APIStatusError, model: str) -> Fault:
        told = f"HTTP {error.status_code}: {clean(error.message, 200)}"
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            self._spending.stop(f"{self.url} wants another key; set OPENAI_API_KEY")
            return Fault(Cause.UNASKED, self._spending.stopped or "")
        if isinstance(error, openai.NotFoundError):
            self._spending.stop(f'{self.url} has no model "{model}", or does not end in /v1 ({told})')
            return Fault(Cause.UNASKED, self._spending.stopped or "")
        if error.status_code in (408, 409, 429) or error.status_code >= 500:
            self._spending.outage(told)
            return Fault(Cause.NETWORK, told)
        return Fault(Cause.ANSWER, told)


def _taken(body: dict[str, Any], without: set[str]) -> dict[str, Any]:
    """Return a request without parameters that its server refuses; for one there is another name."""
    taken = {name: value for name, value in body.items() if name not in without}
    return taken | ({"max_completion_tokens": body["max_tokens"]} if "max_tokens" in without else {})


class ServedModel:
    """One model of a server."""

    def __init__(self, server: Server, name: str) -> None:
        self.name = self.identity = name
        self._server = server

    def complete(self, prompt: str, images: Sequence[bytes], attempt: int) -> str:
        """Return the body of the reply to a prompt with JPEGs."""
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"}}
            for image in images
        ]
        content.append({"type": "text", "text": prompt})
        return self._server.complete({
            "model": self.name, "messages": [{"role": "user", "content": content}], "max_tokens": MAX_TOKENS,
            "seed": attempt, "temperature": TEMPERATURE if attempt else 0.0,
        })  # fmt: skip
