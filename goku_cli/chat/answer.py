"""Model answers, parsed into a caption or into the reason why it is none; an answer is data, whatever it says."""

import json
import re

from goku_cli.chat.reasoning import without_reasoning
from goku_cli.chat.refusal import is_refusal
from goku_cli.errors import Cause, Fault
from goku_cli.wording import clean

MAX_CHARACTERS = 4_000
"""What is longer was not written to describe a clip."""
CAPTION_KEYS = ("caption", "description", "text")
"""Of an answer that is a JSON object although none was asked for."""
_MARKUP = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-z]|<\|im_start\|>assistant|<\|[^|>]*\|>|</?[a-zA-Z][^<>]{0,200}>|```[a-z]*"
    r"|^[ \t]*(?:#{1,6}|[-*+]|\d+\.)[ \t]+",
    re.MULTILINE,
)
_EMPHASIS = re.compile(r"(\*\*|__|\*|`)(?=\S)(.+?)(?<=\S)\1")
_LABEL = re.compile(
    r"^\W*(?:(?:sure|certainly|of course|okay)\b[^:]{0,80}:|here(?:'s| is| are)\b[^:]{0,80}:"
    r"|(?:the )?(?:(?:dense|merged|final|video|image|frame|detailed) )*(?:caption|description)\s*:)\s*",
    re.IGNORECASE,
)
_BOXED = re.compile(r"\\boxed\{(.*)\}", re.DOTALL)
_OFFER = re.compile(
    r"(?<=[.!?])\s+(?:would you like|do you want|let me know|feel free|if you(?:'d| would) like|if you (?:want|need))\b"
    r"[^.!?]*\b(?:me|you|your)\b[^.!?]*[.!?]$",
    re.IGNORECASE,
)
"""What a helpful model adds for whom it takes to be there."""
_NOTHING = frozenset(["n/a", "none", "null", "undefined", "nan", "no caption"])
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_FENCE = re.compile(r"^\s*```(?:json)?|```\s*$")


def read_answer(text: str, *, cut_off: bool = False) -> str:
    """Return the caption in a model's answer: one line, without reasoning, markup, labels or control characters.

    An answer that was cut off ends with its last whole sentence.

    Raises:
        Fault: ANSWER, when it is empty, endless or data of some format; REFUSED.
    """
    said = without_reasoning(text.replace("’", "'"))
    if len(said) > 4 * MAX_CHARACTERS:
        raise Fault(Cause.ANSWER, f"{len(said)} characters; a caption has at most {MAX_CHARACTERS}")
    said = _caption_of_json(_BOXED.sub(r"\1", said))
    plain = _LABEL.sub("", _EMPHASIS.sub(r"\2", clean(_MARKUP.sub(" ", said), 4 * MAX_CHARACTERS))).strip()
    if len(plain) > 1 and plain[0] == plain[-1] == '"':
        plain = plain[1:-1].strip()
    if cut_off:
        ends = [match.end() for match in _SENTENCE_END.finditer(plain)]
        if not ends:
            raise Fault(Cause.ANSWER, "it was cut off before its first sentence ended")
        plain = plain[: ends[-1]]
    plain = _OFFER.sub("", plain)
    if not any(character.isalpha() for character in plain) or plain.strip("[]().").lower() in _NOTHING:
        raise Fault(Cause.ANSWER, "it holds no words")
    if plain[0] in "{[":
        raise Fault(Cause.ANSWER, f"data instead of a text: {plain[:60]}")
    if is_refusal(plain):
        raise Fault(Cause.REFUSED, plain[:200])
    if len(plain) > MAX_CHARACTERS:
        raise Fault(Cause.ANSWER, f"{len(plain)} characters; a caption has at most {MAX_CHARACTERS}")
    return plain


def _caption_of_json(said: str) -> str:
    """Return the one caption of an answer that is a JSON object, or the answer as it is."""
    bare = _FENCE.sub("", said.strip()).strip()
    if not bare.startswith("{"):
        return said
    try:
        found = json.loads(bare)
    except (ValueError, RecursionError):
        return said
    texts = [found[key] for key in CAPTION_KEYS if isinstance(found.get(key), str)]
    return texts[0] if len(texts) == 1 else said
