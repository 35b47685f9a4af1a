# The project's commands: `make study`, `make test`, `make lab`, `make bench`, and any product by its file name:
#   make outputs/laptop/tables/table3.csv
PROFILE ?= smoke
PYTHON ?= python3
CORES ?= 2
VENV := .venv
BIN := $(VENV)/bin
SNAKEMAKE = $(BIN)/snakemake --cores $(CORES) --nolock --rerun-triggers mtime --rerun-incomplete --keep-incomplete --keep-going --quiet rules
# One of them at a time for a profile, over files that are sound; snakemake's own lock would outlive a kill.
TURN = $(BIN)/python -m biomeg_lib.turn params/$(1).yaml
# `make study MINUTES=9`: stop after so many, as Ctrl-C would. The same command goes on, until there is nothing more to do.
STAGE = $(if $(MINUTES),$(BIN)/python -m biomeg_lib.stage $(MINUTES))

export OMP_NUM_THREADS := 1
# glibc gives large blocks back to the system and fetches them again at every step; keeping them makes training on a CPU
# a quarter faster.
export MALLOC_MMAP_THRESHOLD_ := 4294967296
export MALLOC_TRIM_THRESHOLD_ := 4294967296
export MALLOC_TOP_PAD_ := 268435456

.PHONY: study test test-slow faults lab bench lint clean-venv FORCE
.DEFAULT_GOAL := study

study: $(VENV)/installed
	@$(BIN)/biomeg check params/$(PROFILE).yaml
	@$(call TURN,$(PROFILE)) $(STAGE) $(SNAKEMAKE) --config profile=$(PROFILE)
	@echo "The report: outputs/$(PROFILE)/report/index.html"

test: $(VENV)/installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m pytest

# Minutes of training on real data: that the network learns each task.
test-slow: $(VENV)/installed
	@$(BIN)/python -m pytest -m slow -s

# Hours: kills, full disks, damage and fuzzing, and docs/reliability.md with what came of them.
faults: $(VENV)/installed
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[faults]'
	@$(BIN)/python tests/faults/reliability.py

lab: $(VENV)/installed
	$(BIN)/jupyter lab --notebook-dir=notebooks

# Speed and memory beside peers, in about a quarter of an hour; `make bench CASES=predict,tokenise` for some.
bench: $(VENV)/installed
	@$(BIN)/biomeg bench $(if $(CASES),--cases $(CASES))

# torch first, and alone: its own line keeps pip from weighing other builds of it against the rest.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# outputs/<profile>/... : one product, with whatever it hangs on
outputs/%: FORCE $(VENV)/installed
	@$(BIN)/biomeg check params/$(firstword $(subst /, ,$*)).yaml
	@$(call TURN,$(firstword $(subst /, ,$*))) $(SNAKEMAKE) --config profile=$(firstword $(subst /, ,$*)) -- $@

FORCE:
