"""One side of a case in a process of its own: `python -m biomeg_lib.bench.worker MAKER SIDE SETTINGS`.

It reads requests from stdin and writes replies to stdout, a JSON value a line; between them it waits for the pipe, so
that it uses no core while the other side is measured. What libraries print goes to stderr.

    {"do": "warm_up", "seconds": s}     {}
    {"do": "check"}                     {"figures": {name: number}, "name": of the side}
    {"do": "value", "number": n}        {"value": number}
    {"do": "share", "value": v}         {"ours": number, "limit": number}

The first line, without a request, is {"generated", "limit"}, or {"error": line} if the side cannot
be made.
"""

import importlib
import json
import os
import sys
from typing import Any

from biomeg_lib.bench.side import Side
from biomeg_lib.errors import BiomegError


def main(maker: str, which: str, settings: dict[str, Any]) -> None:
    """Serve until stdin ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)

    def reply(value: dict[str, Any]) -> None:
        replies.write(json.dumps(value) + "\n")

    try:
        _use_cores(settings["cores"])
        module, function = maker.split(":")
        side: Side = getattr(importlib.import_module(module), function)(which, settings)
        reply({"generated": side.generated, "limit": side.limit})
        for line in sys.stdin:
            reply(_answer(side, json.loads(line)))
    except Exception as error:  # whatever a peer raises is a line of the report, not a traceback
        reply({"error": _line_of(error)})


def _answer(side: Side, request: dict[str, Any]) -> dict[str, Any]:
    match request:
        case {"do": "warm_up", "seconds": seconds}:
            side.warm_up(seconds)
            return {}
        case {"do": "check"}:
            return {"figures": side.check(), "name": side.name}
        case {"do": "value", "number": number}:
            return {"value": side.value(number)}
        case {"do": "share", "value": value}:
            ours, limit = side.share(value)
            return {"ours": ours, "limit": limit}
    raise BiomegError(f"expected a request of the benchmark, found {request}")


def _use_cores(count: int) -> None:
    """Keep this process, before it has any threads, to the first cores that it may use."""
    allowed = sorted(os.sched_getaffinity(0))
    if count < len(allowed):
        os.sched_setaffinity(0, allowed[:count])


def _line_of(error: Exception) -> str:
    text = str(error).strip()
    line = text.splitlines()[0] if text else ""
    return line if isinstance(error, BiomegError) else f"{type(error).__name__}: {line}"


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
