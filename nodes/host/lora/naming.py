"""Names of layers that the host's table does not have: which layer of the model each of them means.

A name is read as a prefix and the rest, and the rest is looked for at the end of the model's own names, whatever stands
between the words (dots or underscores). One prefix is taken for as many of the file's layers as possible, and names
without a layer's number only beside others of the same prefix, so that a short name that fits by chance is no reading.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

# Before a layer's own name in the host's table.
TABLE_PREFIX = re.compile(
    r"^(?:unet\.base_model\.model\.|base_model\.model\.|diffusion_model\.|transformer\.|unet\."
    r"|lora_prior_unet_|lora_transformer_|lora_unet_|lycoris_)"
)
# Prefixes that say no more than which part of a pipeline is meant; behind them a name may lack the model's first words.
PLAIN = re.compile(
    r"(?:lora_unet|lora_transformer|lora_prior_unet|lycoris|transformer|diffusion_model|model|unet"
    r"|(?:unet_|transformer_)?base_model_model|lora_(?:prior_)?te\d?|text_encoders?(?:_\d)?|lora_text(?:_encoder)?|te\d?)?"
)

Words = tuple[str, ...]
# (the file's words before the common ones, the model's)
Reading = tuple[Words, Words]


def words(name: str) -> Words:
    return tuple(word for word in re.split(r"[._]+", name) if word)


def _numbered(name: Words) -> bool:
    return any(word.isdigit() for word in name)


def meant(
    names: Iterable[str], table: dict[str, Any], fits: Callable[[str, Any], bool], taken: Iterable[Any], label: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """({name: the weight it means}, {name: a weight of that name which it does not fit}) for names of a file.

    table: the host's, {name: weight}; fits: whether a layer of the file has the shape of a weight; taken: weights that
    others of the file's layers change already. Raises ValueError for two readings that fit equally.
    """
    index = _by_last_words(table)
    readings: dict[Reading, dict[str, list[Any]]] = defaultdict(dict)
    places: dict[str, int] = {}
    by_number: dict[Reading, set[str]] = defaultdict(set)
    unfit: dict[str, Any] = {}
    for name in names:
        for reading, numbered, targets in _candidates(name, index):
            fitting = [target for target in targets if fits(name, target)]
            if not fitting:
                unfit.setdefault(name, next(iter(targets)))
                continue
            readings[reading][name] = fitting
            places[name] = targets[fitting[0]]
            if numbered:
                by_number[reading].add(name)
    found: dict[str, Any] = {}
    occupied = set(taken)
    while True:
        claims = {
            reading: {
                name: free
                for name, targets in layers.items()
                if name not in found and (free := [t for t in targets if t not in occupied])
            }
            for reading, layers in readings.items()
            if by_number[reading]  # a name without a number may be any family's
        }
        claims = {reading: claim for reading, claim in claims.items() if claim}
        if not claims:
            return found, {name: target for name, target in unfit.items() if name not in found}
        best = max(claims.values(), key=len)
        _check_only_one(best, claims.values(), label)
        # In the table's order: where several names of one prefix mean the same weight, the host takes the last.
        for name, targets in sorted(best.items(), key=lambda item: places[item[0]]):
            found[name] = targets[0]
        occupied |= {targets[0] for targets in best.values()}


def _by_last_words(table: dict[str, Any]) -> dict[Words, dict[Words, dict[Any, int]]]:
    """{last words of a model's names: {the words before them: {weight: its place in the table}}}. A number says which
    layer is meant, so it is never among the words before."""
    index: dict[Words, dict[Words, dict[Any, int]]] = defaultdict(lambda: defaultdict(dict))
    for place, (name, target) in enumerate(table.items()):
        whole = words(TABLE_PREFIX.sub("", name))
        for cut in range(len(whole)):
            before, last = whole[:cut], whole[cut:]
            if cut and (_numbered(before) or not _numbered(last)):
                break
            index[last][before][target] = place
    return index


def _candidates(
    name: str, index: dict[Words, dict[Words, dict[Any, int]]]
) -> Iterable[tuple[Reading, bool, dict[Any, int]]]:
    """(reading, whether its words have a number, weights) for one name of a file."""
    whole = words(name)
    for cut in range(len(whole)):
        prefix, last = whole[:cut], whole[cut:]
        plain = PLAIN.fullmatch("_".join(prefix)) is not None
        if _numbered(prefix) and not plain:
            continue
        for before, targets in index.get(last, {}).items():
            if not before or plain:
                yield (prefix, before), _numbered(last), targets


def _check_only_one(best: dict[str, list[Any]], claims: Iterable[dict[str, list[Any]]], label: str) -> None:
    """Raises ValueError where another reading, as good as the best, means other weights."""
    for name, targets in best.items():
        if len(targets) > 1:
            raise ValueError(_ambiguous(label, len(best), f"{name!r} as {_shown(targets[0])} or {_shown(targets[1])}"))
    by_target = {targets[0]: name for name, targets in best.items()}
    for claim in claims:
        if claim is best or len(claim) < len(best):
            continue
        for name, targets in claim.items():
            if name in best and best[name][0] != targets[0]:
                both = f"{name!r} as {_shown(best[name][0])} or {_shown(targets[0])}"
                raise ValueError(_ambiguous(label, len(best), both))
            if name not in best and targets[0] in by_target:
                both = f"{by_target[targets[0]]!r} or {name!r} as {_shown(targets[0])}"
                raise ValueError(_ambiguous(label, len(best), both))


def _ambiguous(label: str, layers: int, both: str) -> str:
    return (
        f"{label} can be read in two ways that fit this model equally well ({layers} layers each): {both}. Use a "
        "version of this slider whose keys have the model's own names"
    )


def _shown(target: Any) -> str:
    """A weight for people, and which part of it."""
    if isinstance(target, str):
        return repr(target)
    return repr(target[0]) if target[1] is None else f"{target[0]!r} from {target[1][1]} on"
