"""Answers that say why there is no caption, told from captions in which the same words are spoken or written."""

import re

_NOT = r"(?:can'?t|cannot|can not|won'?t|will not|could not|couldn'?t|(?:a|')m (?:unable|not able) to)"
_HELP = (
    r"(?:assist|help|provide|describe|generate|create|comply|fulfill?|view|access|process|analyze|identify|answer"
    r"|continue|discuss|engage|caption|determine|make out|do (?:that|this)|with (?:that|this)"
    r"|(?:see|watch|open) (?:the|this|that|any|your|an?|it)\b)"
)
_MEDIUM = r"(?:image|video|picture|photo|frame|attachment|file|clip)s?"
_ONE = r"(?:an?|the|any|this|that|your|some)"
_SENT = r"(?:provided?|attach(?:ed)?|given?|visible|available|uploaded?|shared?|included?)"
_TO_ME = (
    r"\s*(?:$|[.;!]|(?:to|for) me\b|here\b|yet\b|with (?:your|the|this)\b"
    r"|in (?:your|the|this|our) (?:message|request|conversation|prompt|chat)\b)"
)
_SORRY = (
    r"(?:(?:i'?m |i am )?(?:so |very |really |deeply )?(?:sorry|afraid)|unfortunately|regrettably|(?:my )?apologies)"
    r"(?: for [^.,]{0,40})?,?(?: but| that)? "
)
_REFUSALS = (
    rf"(?:{_SORRY})?i ?{_NOT}\b.{{0,30}}\b{_HELP}",
    rf"(?:{_SORRY})?i ?{_NOT}\W*$",
    rf"(?:{_SORRY})?i (?:do not|don'?t|did not|didn'?t|{_NOT}) (?:see|receive|find|have|view) {_ONE} {_MEDIUM}\b",
    rf"(?:{_SORRY})?i (?:do not have|don'?t have|have no|lack) (?:access to|{_ONE} (?:ability|capability|capacity))",
    rf"(?:{_SORRY})?i(?:'?m| am) (?:unable|not (?:able|allowed|permitted|comfortable))\b.{{0,30}}(?:\b{_HELP}|ing\b)",
    rf"i(?:'?m| am) (?:just |only )?an? (?:ai|artificial intelligence|(?:large )?language model)\b.{{0,40}}{_NOT}",
    r"i (?:apologi[sz]e|must decline|have to decline|decline to)\b",
    r"as an? (?:ai|artificial intelligence|(?:large )?language model|vision model)\b.{0,40}\bi\b",
    rf"(?:{_SORRY})?(?:this|the|your) (?:request|content|prompt|image|video)s? (?:may |might |appears to |seems to )?"
    r"(?:violate[sd]?|goes? against|is against|cannot be (?:described|processed|captioned|analyzed|fulfilled))\b",
    rf"(?:{_SORRY})?(?:it (?:seems|looks like|appears)(?: that)? )?(?:no|there (?:is|are|was|were) no) {_MEDIUM}"
    rf"(?: (?:is|was|are|were|has been|have been))? {_SENT}(?:{_TO_ME})",
    rf"(?:{_SORRY})?(?:it (?:seems|looks like|appears)(?: that)? )?you (?:have not|haven'?t|did not|didn'?t) {_SENT} "
    rf"{_ONE} {_MEDIUM}\b",
    rf"please (?:provide|upload|attach|share|send) (?:me )?{_ONE} {_MEDIUM}\b",
    rf"{_SORRY}(?:the|this|these|your) {_MEDIUM} (?:is|are|was|were|seems?|appears?)"
    r" (?:too|not|blank|empty|black|corrupt)",
    rf"the (?:ai |virtual )?assistant {_NOT} (?:describe|provide an?|generate|caption|comply|process|analyze)\b",
    r"(?:http )?(?:error|exception)[ :]{1,2}"
    r"(?:\d{3}\b|rate limit|timed? ?out|internal|server|quota|connection|invalid)",
    r"(?:很|非常|十分)?(?:抱歉|对不起|遗憾).{0,20}(?:无法|不能|没有)",
    r"我(?:无法|不能)(?:看到|查看|描述|提供|分析|处理|协助|回答|识别|满足)",
    r"(?:申し訳|すみません).{0,30}(?:できません|ありません|いたしかねます)",
    r"(?:lo siento,? (?:pero )?)?no puedo (?:ayudar|describir|proporcionar|ver)\b",
    r"(?:(?:je suis )?désolée?,? (?:mais )?)?je ne (?:peux|suis) pas (?:aider|décrire|fournir|voir|en mesure)\b",
    r"(?:es )?tut mir leid,? .{0,60}\b(?:nicht|kein\w*)\b",
)
_BEGIN = r"[\s*_#>.-]*"
"""What may stand before a refusal: no quotation mark, behind which somebody else speaks."""
_REFUSAL = re.compile(rf"{_BEGIN}(?:{'|'.join(_REFUSALS)})", re.IGNORECASE)


def is_refusal(text: str) -> bool:
    """Say whether an answer begins as a refusal; a caption may speak of one, or of what is not there, and is none."""
    return _REFUSAL.match(text) is not None
