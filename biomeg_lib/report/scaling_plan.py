"""What the planner makes of every named size on 1 to 1,024 GPUs: the fastest spread that fits, its memory and time.

Notable: nothing here depends on the study, and nothing is measured: one kind of GPU, one batch and one budget for all
sizes, so that they compare. The batch is Megatron-BERT's, since a smaller one has no work for 1,024 GPUs.
"""

import dataclasses

import pandas as pd
from matplotlib.figure import Figure

from biomeg_lib.model.config import PRESETS, config_for
from biomeg_lib.plan.command import BATCH, LENGTH, TOKENS
from biomeg_lib.plan.machine import MACHINES
from biomeg_lib.plan.planner import plan
from biomeg_lib.plan.spread import Run
from biomeg_lib.report import figures

MACHINE = MACHINES["h100"]
WORDS = 29_056  # rows of BERT's cased vocabulary
GPUS = tuple(2**power for power in range(11))
SHOWN = (8, 64, 512)  # GPUs of the rows that a page shows


def table() -> pd.DataFrame:
    """One row a size and number of GPUs.

    Columns: `Model`, `#Parameters`, `EFLOP` of the run, `GPUs`, `Fits` (yes or no); `Data`, `Tensor`, `Micro-batch`,
    `Accumulate`, `Recompute` and `GB a GPU` of the fastest spread that fits or, where none does, of the one that needs
    least; `Least GB a GPU`; `Hours` and `GPU-hours` of a run, missing where nothing fits.
    """
    rows = []
    for name in PRESETS:
        for gpus in GPUS:
            machine = dataclasses.replace(MACHINE, gpus=gpus)
            found = plan(config_for(name, WORDS), Run(TOKENS, BATCH, LENGTH), machine)
            option = found.best or found.smallest
            spread = option.spread
            rows.append(
                {
                    "Model": name,
                    "#Parameters": found.parameters,
                    "EFLOP": found.flops / 1e18,
                    "GPUs": gpus,
                    "Fits": "yes" if found.best else "no",
                    "Data": spread.data,
                    "Tensor": spread.tensor,
                    "Micro-batch": spread.micro_batch,
                    "Accumulate": spread.accumulate,
                    "Recompute": "yes" if spread.recompute else "no",
                    "GB a GPU": option.memory.total / 1e9,
                    "Least GB a GPU": found.smallest.memory.total / 1e9,
                    "Hours": found.hours(option) if found.best else None,
                    "GPU-hours": found.gpu_hours(option) if found.best else None,
                }
            )
    return pd.DataFrame(rows)


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows and columns of `table` that fit a page."""
    return frame[frame["GPUs"].isin(SHOWN)].drop(columns=["#Parameters", "EFLOP", "Fits", "Least GB a GPU"])


def time_figure(frame: pd.DataFrame) -> Figure:
    """Hours over GPUs, both logarithmic, a line a size from the fewest GPUs on that it fits on."""
    return figures.learning_curve(
        frame, "GPUs", "Hours", "Model", x_label="GPUs", y_label="Time of a run (hours)", log_x=True, log_y=True
    )


def memory_figure(frame: pd.DataFrame) -> Figure:
    """The least memory that a GPU needs over GPUs, both logarithmic, and what a GPU has."""
    figure = figures.learning_curve(
        frame,
        "GPUs",
        "Least GB a GPU",
        "Model",
        x_label="GPUs",
        y_label="Memory a GPU, at least (GB)",
        log_x=True,
        log_y=True,
    )
    figure.axes[0].axhline(MACHINE.usable / 1e9, color=figures.MUTED, linestyle="--", linewidth=1.2)
    return figure
