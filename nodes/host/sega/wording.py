"""What a concept's words let expect: hints for texts that rarely do what they are meant to."""

from __future__ import annotations

import re

from ..page.messages import Message, input_name, message

DENIAL = re.compile(r"(no|not|without|never|nothing)\b", re.IGNORECASE)
SEVERAL = re.compile(r"[,;，、；\n]|\s(?:and|und|et|y)\s", re.IGNORECASE)
COLOUR = "black|white|gr[ae]y|silver|gold|red|orange|yellow|green|blue|purple|violet|pink|brown"
# One thing for all its "and".
ONE = re.compile(rf"\b(?:(?:{COLOUR}) and (?:{COLOUR})|salt and pepper|pen and ink|rock and roll)\b", re.IGNORECASE)


def hints(text: str, adds: bool, prompt: str) -> tuple[Message, ...]:
    """About a concept's text, whether it is added or removed, and the prompt in whose context it is (or empty)."""
    found = []
    if adds and DENIAL.match(text):
        found.append(message("says_no", direction=input_name("SEGAConcept", "direction")))
    elif len([part for part in SEVERAL.split(ONE.sub("one", text)) if part.strip()]) > 1:
        found.append(message("several"))
    where = input_name("SEGAConcept", "prompt")
    words = rf"(?<!\w){re.escape(text)}(?!\w)"
    denied = re.search(rf"\b(?:no|not|without)\s+(?:an?\s+|any\s+)?{words}", prompt, re.IGNORECASE)
    if adds and denied:
        found.append(message("prompt_denies", prompt=where))
    elif re.search(words, prompt, re.IGNORECASE) and not denied:
        found.append(message("in_the_prompt") if adds else message("removed_in_the_prompt", prompt=where))
    return tuple(found)
