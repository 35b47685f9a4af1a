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

.PHONY: study test test-slow faults lab bench pins audit FORCE
.DEFAULT_GOAL := study

study: $(VENV)/installed
	@$(BIN)/biomeg check params/$(PROFILE).yaml
	@$(call TURN,$(PROFILE)) $(STAGE) $(SNAKEMAKE) --config profile=$(PROFILE)
	@echo "The report: outputs/$(PROFILE)/report/index.html"

test: $(VENV)/installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m pytest -n $(CORES) --dist loadfile --no-loadscope-reorder

# Minutes of training on real data: that the network learns each task.
test-slow: $(VENV)/installed
	@$(BIN)/python -m pytest -m slow -s

# Hours: kills, full disks, damage and fuzzing, and docs/reliability.md with what came of them.
faults: $(VENV)/installed
	@$(PINNED) --requirement requirements/faults.txt
	@$(BIN)/python tests/faults/reliability.py

lab: $(VENV)/installed
	$(BIN)/jupyter lab --notebook-dir=notebooks

# Speed and memory beside peers, in about a quarter of an hour; `make bench CASES=predict,tokenise` for some.
bench: $(VENV)/installed
	@$(BIN)/biomeg bench $(if $(CASES),--cases $(CASES))

# Every file that is installed has to have a hash of requirements/. torch comes first, and in two steps: pip is to choose
# the build as it does without hashes, and then to compare it. What a CUDA build asks for besides has no hash there, only
# the versions in its metadata; other builds ask for nothing. The project itself comes last.
PINNED = $(BIN)/pip install --quiet --no-deps --require-hashes
TORCH := $(VENV)/torch
HAS_TORCH = $(BIN)/pip freeze 2>/dev/null | sed 's/+.*//' | grep -Fxq "$$(grep ^torch== constraints.txt)"
$(VENV)/installed: pyproject.toml constraints.txt $(wildcard requirements/*.txt)
	$(PYTHON) -m venv $(VENV)
	@rm -rf $(TORCH)
	@$(HAS_TORCH) || $(BIN)/pip download --quiet --no-deps --constraint constraints.txt --dest $(TORCH) torch
	@$(HAS_TORCH) || $(PINNED) --no-index --find-links $(TORCH) --requirement requirements/torch.txt || \
		{ echo "make: pip found a build of torch that has no hash here: install it yourself first, see README.md" >&2; exit 1; }
	@rm -rf $(TORCH)
	$(PINNED) --requirement requirements/all.txt
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# After a change of versions in constraints.txt: their hashes, for all platforms, by uv (which has to be installed).
# torch has a file of its own, by hand, for the builds of it that do not lie in the package index.
CUDA := cublas cuda-cupti cuda-nvrtc cuda-runtime cudnn-cu13 cufft cufile curand cusolver cusparse cusparselt-cu13 \
	nccl-cu13 nvjitlink nvshmem-cu13 nvtx
LEFT_OUT := torch triton cuda-bindings cuda-pathfinder cuda-toolkit $(addprefix nvidia-,$(CUDA))
COMPILE = uv pip compile --quiet --universal --python-version 3.11.7 --generate-hashes --no-header --no-annotate \
	--constraint constraints.txt
pins:
	$(COMPILE) pyproject.toml --extra dev $(addprefix --no-emit-package ,$(LEFT_OUT)) --output-file requirements/all.txt
	echo atheris | $(COMPILE) - --output-file requirements/faults.txt

# Known weaknesses of the pinned packages, asked of the package index by pip-audit (which has to be installed).
audit:
	pip-audit --no-deps --disable-pip $(foreach file,$(wildcard requirements/*.txt),--requirement $(file))

# outputs/<profile>/... : one product, with whatever it hangs on
outputs/%: FORCE $(VENV)/installed
	@$(BIN)/biomeg check params/$(firstword $(subst /, ,$*)).yaml
	@$(call TURN,$(firstword $(subst /, ,$*))) $(SNAKEMAKE) --config profile=$(firstword $(subst /, ,$*)) -- $@

FORCE:
