"""Reasoning of a model before its answer, in the forms in which servers leave it in the text."""

import re

_NAMES = r"(?:[a-z]{1,20}[:_])?(?:think(?:ing)?|thoughts?|reasoning|reason|analysis|reflection|scratchpad)"
_OPEN = (
    rf"(?:<{_NAMES}(?:\s[^<>]{{0,80}})?>|◁think▷|\[THINK\]|<\|START_THINKING\|>|<\|(?:begin|start)_of_thought\|>"
    r"|<\|inner_prefix\|>|<unused94>|\[BEGIN OF THOUGHTS?\])"
)
_CLOSE = (
    rf"(?:</{_NAMES}\s*>|◁/think▷|\[/THINK\]|<\|END_THINKING\|>|<\|end_of_thought\|>|<\|inner_suffix\|>"
    r"|<unused95>|\[END OF THOUGHTS?\])"
)
_INNERMOST = re.compile(rf"{_OPEN}(?:(?!{_OPEN}|{_CLOSE}).)*{_CLOSE}", re.DOTALL | re.IGNORECASE)
_UNOPENED = re.compile(rf"^.*{_CLOSE}", re.DOTALL | re.IGNORECASE)
_UNCLOSED = re.compile(rf"{_OPEN}.*$", re.DOTALL | re.IGNORECASE)
_CHANNEL = "<|channel|>"
_FINAL = re.compile(r"^.*<\|channel\|>final\b[^<]*<\|message\|>", re.DOTALL)
_MESSAGE_END = re.compile(r"<\|(?:end|return|start|call)\|>.*$", re.DOTALL)
_BARE_CHANNELS = re.compile(r"^analysis.*assistant(?:<[^<>]*>)?final", re.DOTALL)
_HEADED = re.compile(
    r"^\W*(?:(?:my )?(?:reasoning|analysis|thoughts?|thinking)(?: process)?)\W{0,3}:.*"
    r"\n\W*(?:(?:final )?(?:answer|caption|description|response))\W{0,3}:\W*?(?=\w|\")",
    re.DOTALL | re.IGNORECASE,
)
_ANSWER = re.compile(r"^.*<(answer|response|final_answer)>(.*?)(?:</\1>.*)?$", re.DOTALL | re.IGNORECASE)


def without_reasoning(text: str) -> str:
    """Return what is left of an answer without its reasoning; nothing, when reasoning is all there is.

    Forms: a tag and its end (DeepSeek, Qwen, GLM, Kimi, Seed, Mistral, Cohere), nested ones too; an end alone, since
    templates may write the beginning into the prompt; a beginning alone, of an answer that was cut off; channels of
    gpt-oss, with their tokens and without; a heading, when the answer has one too; an answer in a tag of its own.
    """
    if _CHANNEL in text:
        final = _FINAL.match(text)
        return _MESSAGE_END.sub("", text[final.end() :]) if final else ""
    text = _BARE_CHANNELS.sub("", text)
    found = 1
    while found:
        text, found = _INNERMOST.subn(" ", text)
    text = _HEADED.sub("", _UNCLOSED.sub(" ", _UNOPENED.sub(" ", text)))
    answer = _ANSWER.match(text)
    return answer[2] if answer else text
