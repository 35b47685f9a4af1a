"""Cost curves: how the speed of pre-training hangs on length, vocabulary and size, and building on the corpus."""

import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from biomeg_lib.bench.cases import MINI, NANO
from biomeg_lib.bench.harness import OURS, Plan, Rounds, Worker
from biomeg_lib.bench.machine import machine, today
from biomeg_lib.bench.results import Point
from biomeg_lib.model import PRESETS, ModelConfig, count_parameters

LENGTHS = (64, 128, 256, 512)
TOKENS = 4096  # a step, at any length
VOCABULARIES = (8_064, 16_000, 30_592, 50_048)
SIZES = ("tiny", "mini", "small", "110m")
COPIES = (1, 4, 16)

LENGTH, VOCABULARY, SIZE, BUILDING = "sequence length", "vocabulary", "model size", "corpus building"
CURVES = (LENGTH, VOCABULARY, SIZE, BUILDING)

_STEP = Plan("biomeg_lib.bench.pretraining:make")
_BUILD = Plan("biomeg_lib.bench.building:make")


def measure_curves(
    shared: Mapping[str, Any], rounds: Rounds, quick: bool, tell: Callable[[str], None]
) -> Iterator[list[Point]]:
    """The points of each curve, as it is complete.

    Args:
        shared: settings of all workers, see `data`.
        quick: tiny shapes and few points.
    """
    base = NANO if quick else MINI
    tokens = base["batch"] * base["length"] if quick else TOKENS
    lengths = [(x, {**base, "length": x, "batch": tokens // x}) for x in (LENGTHS[:2] if quick else LENGTHS)]
    yield _speeds(LENGTH, "tokens", lengths, shared, rounds, tell)
    words = [(x, {**base, "vocabulary": x}) for x in ((500, 1000) if quick else VOCABULARIES)]
    yield _speeds(VOCABULARY, "pieces", words, shared, rounds, tell)
    sizes = [_size(name, base) for name in (SIZES[:1] if quick else SIZES)]
    yield _speeds(SIZE, "parameters", sizes, shared, rounds, tell)
    yield _building(shared, {"articles": 5 if quick else 40}, COPIES[:2] if quick else COPIES, tell)


def _size(name: str, base: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    """Parameters and settings of a named shape, pre-LN throughout; a large one has fewer sequences a step."""
    preset = PRESETS[name]
    shape = {"layers": preset.layers, "hidden": preset.hidden, "heads": preset.heads}
    settings = {**base, **shape, "batch": 8 if name == "110m" else base["batch"]}
    return count_parameters(ModelConfig(vocab_size=base["vocabulary"], **shape)), settings


def _speeds(
    curve: str,
    unit: str,
    points: list[tuple[float, dict[str, Any]]],
    shared: Mapping[str, Any],
    rounds: Rounds,
    tell: Callable[[str], None],
) -> list[Point]:
    found = []
    for x, settings in points:
        with Worker(_STEP, OURS, {**shared, **settings}) as worker:
            worker.ask("warm_up", seconds=rounds.seconds)
            speed = statistics.median(worker.value(number) for number in range(rounds.rounds))
            found.append(Point(curve, x, unit, speed, "tokens/s", machine(_STEP.cuda), today()))
        tell(f"{curve}: {x:,} {unit}: {speed:,.0f} tokens/s")
    return found


def _building(
    shared: Mapping[str, Any], settings: Mapping[str, Any], copies: tuple[int, ...], tell: Callable[[str], None]
) -> list[Point]:
    found = []
    for count in copies:
        with Worker(_BUILD, OURS, {**shared, **settings, "copies": count}) as worker:
            figures = worker.ask("check")["figures"]
            about = worker.about
        unit = "words (miniature)" if about["generated"] else "words"
        for quantity in ("seconds", "MB"):
            found.append(
                Point(BUILDING, figures["words"], unit, figures[quantity], quantity, machine(_BUILD.cuda), today())
            )
        tell(f"{BUILDING}: {figures['words']:,.0f} words: {figures['seconds']:.1f} s, {figures['MB']:.0f} MB")
    return found
