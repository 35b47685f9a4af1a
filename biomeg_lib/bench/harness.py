"""Interleaved rounds: ours, peer, ours, peer, ..., each side in its own worker process.

What is notable: a machine's speed drifts by more than most differences that one wants to see, so the two sides of a
ratio are measured right after one another, round by round, and a case's figure is the ratio of the medians. Of several
variants of a peer (its data types, its batch sizes) the quickest in a few interleaved rounds is *the* peer.
"""

import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from biomeg_lib.errors import BiomegError

OURS = "ours"
TOLERANCE = 1e-4  # relative, of losses
TRIALS = 2  # rounds of each variant of a peer
# What a user may have set for our runs, `make` above all, and what nobody sets for a peer.
TUNING = (
    *("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "OMP_", "KMP_", "GOMP_", "MKL_", "DNNL_", "ONEDNN_"),
    *("ATEN_", "TORCH", "PYTORCH_", "RAYON_", "TOKENIZERS_"),
)


@dataclass(frozen=True)
class Plan:
    """What is measured together.

    Attributes:
        maker: `module:function`, (side, settings) -> Side.
        case, unit: the row of ours against the quickest peer; None for no such row.
        share, share_unit: the row of ours against a limit of the machine or of the step itself; None for none.
        peers: variants, each a side of its own.
        settings, quick: what the maker gets, the second for a run that only shows that all works.
        fresh: a process a round, for what only the first step of a process shows.
        cores: of a worker; None for all.
        cuda: needs a CUDA GPU; without one, the rows say so.
    """

    maker: str
    case: str | None = None
    unit: str = ""
    share: str | None = None
    share_unit: str = ""
    peers: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)
    fresh: bool = False
    cores: int | None = None
    cuda: bool = False

    @property
    def cases(self) -> list[str]:
        """Names of its rows."""
        return [name for name in (self.case, self.share) if name is not None]


@dataclass(frozen=True)
class Rounds:
    """How much is measured.

    Args:
        rounds: measured ones.
        seconds: a round of one side, about.
    """

    rounds: int
    seconds: float


@dataclass(frozen=True)
class Figures:
    """What the rounds of one row gave, `ours[i]` and `peer[i]` right after one another."""

    ours: list[float]
    peer: list[float]
    peer_name: str
    generated: bool

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.ours, self.peer, strict=True)]

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return statistics.median(self.ours) / statistics.median(self.peer)


class Worker:
    """A side in its own process, ready when this returns.

    Raises:
        BiomegError: it could not be made, or later could not do what it was asked for; one line.
    """

    def __init__(self, plan: Plan, side: str, settings: Mapping[str, Any]):
        cores = plan.cores or available_cores()
        given = json.dumps({**settings, "cores": cores})
        self.side = side
        self._log = tempfile.TemporaryFile(prefix="biomeg-bench-")  # noqa: SIM115 - `close` closes it
        self._process = subprocess.Popen(
            [sys.executable, "-m", "biomeg_lib.bench.worker", plan.maker, side, given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment(side, cores, plan.cuda),
            text=True,
            encoding="utf-8",
        )
        try:
            self.about = self._read()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """One request, answered."""
        with contextlib.suppress(BrokenPipeError):  # it ended: reading says why
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        return self._read()

    def value(self, number: int) -> float:
        return self.ask("value", number=number)["value"]

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._log.seek(0)
            said = self._log.read().decode("utf-8", "replace").strip().splitlines()
            raise BiomegError(f"{self.side}: the worker ended with {code}: {said[-1] if said else 'nothing was said'}")
        answer = json.loads(line)
        if "error" in answer:
            raise BiomegError(f"{self.side}: {answer['error']}")
        return answer


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def environment(side: str, cores: int, cuda: bool) -> dict[str, str]:
    """The variables of a worker: ours keeps what `make` sets; a peer has the defaults, and as many threads."""
    kept = {key: value for key, value in os.environ.items() if side == OURS or not key.startswith(TUNING)}
    if not cuda:
        kept["CUDA_VISIBLE_DEVICES"] = ""
    return {**kept, "OMP_NUM_THREADS": str(cores), "HF_HUB_OFFLINE": "1", "BIOMEG_OFFLINE": "1"}


def measure(
    plan: Plan, settings: Mapping[str, Any], rounds: Rounds, wanted: set[str], tell: Callable[[str], None]
) -> dict[str, Figures]:
    """The figures of a plan's wanted rows.

    Args:
        settings: for the maker.
        wanted: names of cases; others of the plan are left out.
        tell: is called with a line about a variant that the peer does not offer.

    Raises:
        BiomegError: ours fails, no variant of the peer works, or the two sides do not compute the same.
    """
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(Worker(plan, OURS, settings))
        peer, name = None, ""
        if plan.case in wanted:
            peer, name = _choose_peer(plan, settings, rounds, ours, stack, tell)
        if plan.fresh:
            found, shares = _fresh_rounds(plan, settings, rounds, peer), []
        else:
            ours.ask("warm_up", seconds=rounds.seconds)
            found, shares = _rounds(ours, peer, rounds.rounds, plan.share in wanted)
        about = {"generated": ours.about["generated"]}
        result = {}
        if peer is not None:
            mine, theirs = zip(*found, strict=True)
            result[plan.case] = Figures(list(mine), list(theirs), name, **about)
        if shares:
            mine, limits = zip(*shares, strict=True)
            result[plan.share] = Figures(list(mine), list(limits), ours.about["limit"], **about)
        return result


def _rounds(
    ours: Worker, peer: Worker | None, rounds: int, share: bool
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    pairs, shares = [], []
    for number in range(rounds):
        value = ours.value(number)
        if peer is not None:
            pairs.append((value, peer.value(number)))
        if share:
            answer = ours.ask("share", value=value)
            shares.append((answer["ours"], answer["limit"]))
    return pairs, shares


def _fresh_rounds(plan: Plan, settings: Mapping[str, Any], rounds: Rounds, peer: Worker) -> list[tuple[float, float]]:
    pairs = []
    for number in range(rounds.rounds):
        pair = []
        for side in (OURS, peer.side):
            with Worker(plan, side, settings) as worker:
                pair.append(worker.value(number))
        pairs.append((pair[0], pair[1]))
    return pairs


def _choose_peer(
    plan: Plan,
    settings: Mapping[str, Any],
    rounds: Rounds,
    ours: Worker,
    stack: contextlib.ExitStack,
    tell: Callable[[str], None],
) -> tuple[Worker, str]:
    """The quickest variant, warmed up, and its name, once each has been seen to compute the same as ours."""
    figures = ours.ask("check")["figures"]
    workers: dict[str, Worker] = {}
    reasons = []
    for variant in plan.peers:
        try:
            worker = Worker(plan, variant, settings)
        except BiomegError as error:
            reasons.append(str(error))
            tell(f"{plan.case}: left out: {error}")
            continue
        stack.callback(worker.close)
        checked = worker.ask("check")
        check_parity(f"{plan.case}: {checked['name']}", figures, checked["figures"])
        workers[checked["name"]] = worker
    if not workers:
        raise BiomegError(f"no peer could be run: {'; '.join(reasons)}")
    best = next(iter(workers))
    if not plan.fresh:
        for worker in workers.values():
            worker.ask("warm_up", seconds=rounds.seconds)
    if len(workers) > 1:
        trials = min(TRIALS, rounds.rounds)
        values = {name: [] for name in workers}
        for trial in range(trials):
            for name, worker in workers.items():
                values[name].append(worker.value(-2 - trial))
        best = max(values, key=lambda name: statistics.median(values[name]))
    for name, worker in workers.items():
        if name != best:
            worker.close()
    return workers[best], best


def check_parity(what: str, ours: Mapping[str, float], theirs: Mapping[str, float]) -> None:
    """Compare what both sides computed on the same input.

    Raises:
        BiomegError: a figure of theirs is not within `TOLERANCE` of ours, or there is none to compare.
    """
    if not theirs or not theirs.keys() <= ours.keys():
        raise BiomegError(f"{what}: expected figures out of {', '.join(ours)} to compare, found {', '.join(theirs)}")
    for name, value in theirs.items():
        if not math.isclose(ours[name], value, rel_tol=TOLERANCE):
            raise BiomegError(
                f"{what}: it does not compute the same as ours: {name} is {value:.6g}, expected {ours[name]:.6g}"
            )
