"""The benchmark: this library beside what a user would otherwise pick, measured in one run on one machine.

    cases       what is measured, and the workers' makers
    harness     interleaved rounds over worker processes
    worker      one side of one case, in a process of its own
    peers       Hugging Face's models with our weights, pubmed_parser
    results     bench.csv and curves.csv
    show        what the notebook makes of them

Notable: every side has a process of its own, since an allocator, the number of threads and the treatment of denormal
numbers are of a process: ours runs as `make` starts a training, the peer in the environment that its user has. Both do
the same work: before anything is timed, the losses (or ids, or tokens) of both are compared on the same input.
"""
