"""Asking a model about pictures: the reply is kept before it is read, and asked for again when it is no caption."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from goku_cli.chat.answer import read_answer
from goku_cli.chat.replies import Replies, reply_key
from goku_cli.chat.spending import Spending
from goku_cli.errors import Cause, Fault

ATTEMPTS = 3
"""Each with another seed, and all but the first with some temperature."""
MAX_TOKENS = 512
TEMPERATURE = 0.7
CUT_OFF = frozenset(["length", "max_tokens", "model_length"])
WITHHELD = frozenset(
    ["content_filter", "refusal", "safety", "recitation", "prohibited_content", "blocklist", "sensitive"]
)
BROKEN_OFF = frozenset(
    ["abort", "error", "cancelled", "timeout", "network_error", "insufficient_system_resource", "tool_calls",
     "function_call"]
)  # fmt: skip
"""Reasons to finish as OpenAI, vLLM, SGLang, Mistral, Anthropic, Gemini, DeepSeek and Zhipu name them; others mean that
the answer is whole."""


class Model(Protocol):
    """Something that answers with the body of an OpenAI chat completion."""

    name: str
    """As it stands in rows of captions."""
    identity: str
    """What its replies are kept under."""

    def complete(self, prompt: str, images: Sequence[bytes], attempt: int) -> str:
        """Return the body of the reply to a prompt with JPEGs."""
        ...


@dataclass(frozen=True)
class Completion:
    """What matters in the body of a chat completion."""

    text: str
    finish: str
    """Why the answer ends where it does: stop, length, content_filter, ... in lower case."""
    tokens_in: int
    tokens_out: int

    @property
    def cut_off(self) -> bool:
        """Whether it ends where its length ran out."""
        return self.finish in CUT_OFF

    def caption(self) -> str:
        """Return what it says, as a caption.

        Raises:
            Fault: REFUSED, by the model or by what stands before it; ANSWER, when it is none.
        """
        if self.finish in WITHHELD:
            raise Fault(Cause.REFUSED, f"the server withheld it ({self.finish}): {self.text[:100]}")
        if self.finish in BROKEN_OFF:
            raise Fault(Cause.ANSWER, f"the server broke it off ({self.finish})")
        return read_answer(self.text, cut_off=self.cut_off)


def ask(model: Model, replies: Replies, spending: Spending, prompt: str, images: Sequence[bytes] = ()) -> str:
    """Return what a model says, as a caption; from its kept reply when there is one.

    Raises:
        Fault: REFUSED or ANSWER, when no attempt gave a caption; UNASKED; or what the server failed with.
    """
    reason = Fault(Cause.ANSWER)
    for attempt in range(ATTEMPTS):
        completion = _completion(model, replies, spending, prompt, images, attempt)
        if completion is None:
            reason = Fault(Cause.ANSWER, "the server's reply is no chat completion")
            continue
        try:
            return completion.caption()
        except Fault as fault:
            reason = fault
    raise reason


def _completion(
    model: Model, replies: Replies, spending: Spending, prompt: str, images: Sequence[bytes], attempt: int
) -> Completion | None:
    key = reply_key(model.identity, prompt, images, attempt)
    with replies.turn(key):
        if kept := read_completion(replies.get(key)):
            return kept
        spending.check()
        body = model.complete(prompt, images, attempt)
        try:
            replies.put(key, body)
        except Exception as error:  # what cannot be kept must not be paid for
            spending.stop(str(error))
            raise
    completion = read_completion(body)
    spending.answered(*(completion.tokens_in, completion.tokens_out) if completion else (0, 0))
    return completion


def read_completion(body: str | None) -> Completion | None:
    """Return what a body says, or None when it is none of a chat completion."""
    try:
        said = json.loads(body or "")
        choice, usage = said["choices"][0], said.get("usage") or {}
        message = choice["message"]
        refusal = message.get("refusal")
        return Completion(
            text=_text(message["content"] or refusal or ""),
            finish="refusal" if refusal else str(choice.get("finish_reason") or "stop").lower().partition(":")[0],
            tokens_in=int(usage.get("prompt_tokens") or 0),
            tokens_out=int(usage.get("completion_tokens") or 0),
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None


def _text(content: Any) -> str:
    """Return a message's text, which may come as one or in parts, of which some may be reasoning."""
    if isinstance(content, list):
        return "".join(str(part["text"]) for part in content if part.get("type") in ("text", "output_text"))
    return str(content)
