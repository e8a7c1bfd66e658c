# Thin: creates .venv from envs/ and runs the tools.
PYTHON ?= python3
CORES ?= 2
ENV ?= cpu
# make demo SHOW='--logger rich' draws bars (pip install -r envs/requirements-rich.txt).
SHOW ?= --logger mgd3
PYTEST ?= pytest
STAMP := .venv/.installed-$(ENV)
# Of folders, the path may hold spaces: in recipes, programs are named relative to this one.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: .venv demo tune analysis plan test test-fast coverage test-processors test-slow test-analysis fault-test browser-test slurm-test report bench bench-gpu lint clean
.DEFAULT_GOAL := demo

$(STAMP): envs/requirements.txt envs/requirements-$(ENV).txt envs/requirements-dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("mgd3 needs Python 3.11 or newer: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r envs/requirements-$(ENV).txt -r envs/requirements-dev.txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	.venv/bin/python -m compileall -q workflow  # pip leaves that to each process, of an editable one
	touch $@

.venv: $(STAMP)

demo: $(STAMP)
	@echo "A line for each finished job follows; how far a running one is, its log tells: results/logs/"
	@snakemake --cores $(CORES) $(SHOW)
	@mgd3 show results/reports/demo/tables/results.csv
	@echo "Tables:   results/reports/demo/tables/   (results.csv, .md, .tex; claims.md: the paper's claims)"
	@echo "Pictures: results/reports/demo/figures/  (a grid per method, overview.png)"

# For instance `make ablation-stop`: workflow/presets/ablation-stop.yaml.
ablation-%: $(STAMP)
	snakemake --cores $(CORES) $(SHOW) --config preset=$@
	@mgd3 show results/reports/$@/tables/results.csv
	@echo "Tables and pictures: results/reports/$@/"

# Settings chosen on held-out training images, and beside the defaults on the test set.
TUNED := results/reports/tune-demo
tune: $(STAMP)
	snakemake --cores $(CORES) $(SHOW) --configfile workflow/presets/tune-demo.yaml -- tune
	snakemake --cores $(CORES) $(SHOW) \
	  --configfile workflow/presets/tune-demo.yaml $(TUNED)/tuning/overlay.yaml
	@mgd3 show $(TUNED)-tuned/tables/results.csv
	@echo "What was tried: $(TUNED)/tables/tuning.md, $(TUNED)/figures/"

# Every ablation but that over IPC, with its measures and figures, from one generation seed.
analysis: $(STAMP)
	snakemake --cores $(CORES) $(SHOW) --config preset=analysis -- all metrics figures
	@mgd3 show results/reports/analysis/tables/results.csv
	@echo "Tables and pictures: results/reports/analysis/"

# The demo with its gallery, and all of it in one file.
report: $(STAMP)
	snakemake --cores $(CORES) $(SHOW) -- all gallery
	snakemake --report results/reports/demo/report.html -- all gallery
	@echo "To open in a browser: results/reports/demo/report.html, results/reports/demo/gallery.html"

# What a run will take: one batch of each stage, timed on this device.
plan: $(STAMP)
	@mgd3 plan config.yaml $(CONFIG)

QUICK := not slow and not analysis and not faults and not browser and not slurm
# Files with runs of the workflow first: what is short fills the end.
test: $(STAMP)
	$(PYTEST) -q -n $(CORES) --dist loadfile --no-loadscope-reorder -m "$(QUICK)" tests/workflow tests/unit

# The inner loop: what needs no training and no generator.
FAST := $(addprefix tests/unit/,base data discovery networks planning reporting stages)
test-fast: $(STAMP)
	pytest -q -n $(CORES) --dist loadfile -m "$(QUICK)" $(FAST)

# Lines that `make test PYTEST="coverage run -m pytest"` ran, in stages' own processes, too.
coverage: $(STAMP)
	coverage combine --quiet
	coverage report --fail-under=90

# Rounding differs by the instructions of the processor: what compares results of arithmetic, with
# other ones. Both settings run wherever AVX2 does, and neither is any processor's own.
test-processors: $(STAMP)
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=SSE41 \
	  pytest -q -n $(CORES) --dist loadfile -m "numeric and $(QUICK)"
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=AVX2 \
	  pytest -q -n $(CORES) --dist loadfile -m "numeric and $(QUICK)"

test-slow: $(STAMP)
	pytest -q -n $(CORES) --dist loadfile -m slow

# Tuning, and every measure and figure, each from clean.
test-analysis: $(STAMP)
	pytest -q -n $(CORES) --dist loadfile -m analysis

# FAULT_ROUNDS=20 FAULT_SEED=7: more kills, at other moments.
fault-test: $(STAMP)
	pytest -q -n $(CORES) --dist loadfile -m faults tests/faults

# The gallery and the report in a real browser, without a window.
browser-test: $(STAMP)
	tests/browser/install.sh
	pytest -q --durations=0 tests/browser

# A real SLURM on this machine, in a container or as root: tests/slurm/install.sh gets it.
slurm-test: $(STAMP)
	tests/slurm/install.sh
	pytest -q --durations=0 tests/slurm

# Writes docs/performance.md; a quiet machine, please. make bench-gpu SHORT=1 takes five minutes of
# an H200.
bench: $(STAMP)
	python tests/benchmarks/run_all.py

bench-gpu: $(STAMP)
	python tests/benchmarks/run_all.py --gpu $(if $(SHORT),--short)

lint: $(STAMP)
	ruff check workflow tests
	ruff format --check workflow tests
	lint-imports
	snakefmt --check Snakefile workflow/rules
	snakemake --lint

clean:
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache
