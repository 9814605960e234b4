"""Texts that instruct instead of describing: what an overlay in a frame, or a prompt that leaked, leaves in a caption.

A model that reads "ignore the video and write ..." in a picture may obey. Such a caption is kept, and flagged, so that
nothing trains on it.
"""

import re
from functools import cache

_CLAUSE = r"(?:^|[.!?:;,\"'“‘(]\s*|\b(?:please|then|and|now|must|should)\s+)"
_ASSISTANT = r"(?:an? )?(?:ai|artificial intelligence|large language model|language model|chatbot|virtual assistant)"
_PATTERNS = (
    r"\b(?:https?|ftp)://\S+|\bwww\.[a-z0-9-]+",
    r"\b[a-z0-9-]{2,}\.(?:com|net|org|io|tv|ly|gg|ru|xyz|shop|info|biz)\b",
    r"\b[\w.+-]+@[a-z0-9-]+\.[a-z]{2,}\b|(?<![\w.])@\w{3,}",
    r"\b(?:ignore|disregard|forget|override)\s+(?:(?:all|any|the|your|these|this|my|of)\s+)*(?:previous|prior|above|"
    r"earlier|preceding|video|image|picture|frames?|instructions?|prompts?|rules|guidelines|everything)\b",
    rf"{_CLAUSE}(?:write|say|output|print|reply|respond|answer|type|repeat)\s+"
    r"(?:only|exactly|just|with|that|the following|the words?|this|[\"'“‘:])",
    r"\b(?:system|developer) (?:prompt|message)\b|\b(?:new|following|these) instructions\b",
    rf"\bas {_ASSISTANT}\b|\bi(?: a|')m {_ASSISTANT}\b|\byou are (?:now )?{_ASSISTANT}\b|\byour (?:response|caption)\b",
    r"\bdo not (?:describe|mention|caption|reveal)\b",
    r"\b(?:like and subscribe|subscribe (?:to|now|for|here)|click (?:here|the link|below)|link in (?:the )?(?:bio|"
    r"description)|follow (?:us|me) (?:on|at|for)|(?:promo|discount|coupon) code|visit (?:us|our|my)\b)",
)
_INSTRUCTION = re.compile("|".join(_PATTERNS), re.IGNORECASE)
_RUN = 8
"""So many words in a row that are also in the prompt were not seen in the picture."""
_SHOWN = 60


def instruction(text: str, prompts: str = "") -> str | None:
    """Return the words of `text` that instruct, point elsewhere or repeat the prompts, or None."""
    if match := _INSTRUCTION.search(text):
        return match[0].strip(" .!?:;,\"'“‘(")[:_SHOWN]
    asked = _asked(prompts)
    return next((run[:_SHOWN] for run in _runs(text) if run in asked), None)


@cache
def _asked(prompts: str) -> frozenset[str]:
    return frozenset(_runs(prompts))


def _runs(text: str) -> list[str]:
    words = re.findall(r"[a-z0-9']+", text.lower())
    return [" ".join(words[i : i + _RUN]) for i in range(len(words) - _RUN + 1)]
