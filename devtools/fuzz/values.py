"""Values that a widget's input should not have, as a script or a broken workflow file sends them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

NAN, INF = float("nan"), float("inf")
OTHER_KINDS: tuple[Any, ...] = (None, [], {}, [1, 2, 3], {"a": 1}, ["checkpoint"], [None, 0], ["no such node", 0])
TEXTS: tuple[Any, ...] = (
    "", " \n\t", "\ud800", "glasses \udfff", "\U0001f453", "\0", "a\0b", "眼镜", "<img src=x onerror=alert(1)>",
    "%s {} {0}", "(((((", "(a:1e400)", "embedding:nothing", "../../x",
    "/etc/passwd", "C:\\x", "CON", "x" * 5_000,
    "word " * 200_000, ",".join(["1"] * 1_000), "1e999", "nan", 5, 1.5, True,
)  # fmt: skip


def wrong(kind: str, options: dict[str, Any]) -> Iterator[Any]:
    """At its bounds, beyond them, and of other kinds."""
    if kind in ("INT", "FLOAT"):
        bounds = [options[bound] for bound in ("min", "max") if bound in options]
        yield from bounds
        yield from (bound + step for bound in bounds for step in (-1, 1, -1e-9, 1e-9))
        yield from (0, -1, 1.5, 1e-300, 2**31, 2**63, 2**64, 10**30, 1e300, NAN, INF, -INF)
        yield from ("5", "1.5", "nan", "five", "", "\ud800", True)
    elif kind == "STRING":
        yield from TEXTS
    elif kind == "COMBO":
        yield from options["options"][:12]
        yield from ("no such choice", "", "\ud800", "../x", 0, 1.5, True, "x" * 5_000)
    elif kind == "BOOLEAN":
        yield from (True, False, 0, 1, 2, -1, "true", "false", "", NAN, 10**30)
    yield from OTHER_KINDS
