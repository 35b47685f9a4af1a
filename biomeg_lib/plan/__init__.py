"""What a run would take on a machine that need not be here: memory, time, and which way of spreading it is best.

    machine.py   what a machine is, and a few that there are
    spread.py    a run, and a way to spread it over ranks
    memory.py    bytes a rank holds at the peak of a step, by part
    timing.py    seconds of a step, by part
    planner.py   all ways to spread a run, those that fit, and the fastest of them
    runs.py      the runs of a params file
    command.py   `biomeg plan`

Nothing here trains or allocates: all of it is arithmetic on shapes. Memory is held against what real steps allocate
(`tests/plan`); time is an estimate at a stated utilisation.
"""
