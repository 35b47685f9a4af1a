"""Training: one loop (`loop`), the folder a run leaves (`rundir`), and its two callers, `pretrain` and `finetune`."""
