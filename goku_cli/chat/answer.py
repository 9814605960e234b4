"""What a model answers, made into a caption, or into the reason why it is none: it is data, whatever it says."""

import re

from goku_cli.errors import Cause, Fault
from goku_cli.wording import clean

MAX_CHARACTERS = 4_000
"""What is longer was not written to describe a clip."""
_HELP = (
    r"(?:assist|help|provide|describe|generate|create|comply|fulfill?|view|see|watch|access|process|analyze|identify|"
    r"do that|do this|answer|continue|discuss|engage|caption|write|determine|make out|with that|with this)"
)
_REFUSALS = (
    r"(?:i'?m |i am )?(?:(?:so|very|really) )?(?:sorry|afraid)\b.{0,60}\b(?:can'?t|cannot|can not|unable|not able|"
    r"won'?t|don'?t|no (?:image|video|frames?))\b",
    rf"i (?:can'?t|cannot|can not|won'?t|could not|couldn'?t|must decline to|will not)\b.{{0,30}}\b{_HELP}",
    r"(?:i'?m|i am) (?:unable|not able|not allowed|not permitted|not comfortable)\b",
    r"i (?:apologize|apologise|must decline|decline)\b",
    r"sorry\b,? (?:but )?i\b",
    r"unfortunately,? i\b",
    r"as an? (?:ai|artificial|language model|large language)",
    r"(?:this|the|your) (?:request|content|image|video) (?:violates|goes against|is against|cannot be|can't be)",
    r"(?:no|there (?:is|are|was|were) no) (?:image|video|picture|frame)s? (?:is |was |were |are )?"
    r"(?:provided|attached|given|visible|available|uploaded)",
    r"please (?:provide|upload|attach|share) (?:the|an?|your|some) (?:image|video|picture|frame)",
)
_REFUSAL = re.compile(rf"\W*(?:{'|'.join(_REFUSALS)})", re.IGNORECASE)
_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|$)", re.DOTALL | re.IGNORECASE)
_MARKUP = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-z]|<\|[^|>]*\|>|</?[a-zA-Z][^<>]{0,200}>|```[a-z]*|^[ \t]*(?:#{1,6}|[-*+]|\d+\.)[ \t]+",
    re.MULTILINE,
)
_EMPHASIS = re.compile(r"(\*\*|__|\*|`)(?=\S)(.+?)(?<=\S)\1")
_LABEL = re.compile(
    r"^\W*(?:(?:sure|certainly|of course|okay)\b[^:]{0,80}:|here(?:'s| is| are)\b[^:]{0,80}:"
    r"|(?:the )?(?:(?:dense|merged|final|video|image|frame|detailed) )*(?:caption|description)\s*:)\s*",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")


def read_answer(text: str, *, cut_off: bool = False) -> str:
    """Return the caption in a model's answer: one line, without markup, labels or control characters.

    An answer that was cut off ends with its last whole sentence.

    Raises:
        Fault: ANSWER, when it is empty, endless or data of some format; REFUSED.
    """
    if len(text) > 4 * MAX_CHARACTERS:
        raise Fault(Cause.ANSWER, f"{len(text)} characters; a caption has at most {MAX_CHARACTERS}")
    plain = _MARKUP.sub(" ", _THOUGHT.sub(" ", text.replace("’", "'")))
    plain = _LABEL.sub("", _EMPHASIS.sub(r"\2", clean(plain, 4 * MAX_CHARACTERS))).strip()
    if len(plain) > 1 and plain[0] == plain[-1] == '"':
        plain = plain[1:-1].strip()
    if cut_off:
        ends = [match.end() for match in _SENTENCE_END.finditer(plain)]
        if not ends:
            raise Fault(Cause.ANSWER, "it was cut off before its first sentence ended")
        plain = plain[: ends[-1]]
    if not any(character.isalpha() for character in plain):
        raise Fault(Cause.ANSWER, "it holds no words")
    if plain[0] in "{[":
        raise Fault(Cause.ANSWER, f"data instead of a text: {plain[:60]}")
    if _REFUSAL.match(plain):
        raise Fault(Cause.REFUSED, plain[:200])
    if len(plain) > MAX_CHARACTERS:
        raise Fault(Cause.ANSWER, f"{len(plain)} characters; a caption has at most {MAX_CHARACTERS}")
    return plain
