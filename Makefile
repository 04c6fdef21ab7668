# Each target makes what it needs, and is quick the second time.
PYTHON ?= python3
TIER ?= quick
export PATH := $(CURDIR)/.venv/bin:$(PATH)
.DEFAULT_GOAL := help
.PHONY: help reproduce test fuzz lint tables figures report paper docs bench bench-full faults unlock clean

help: ## list the targets
	@sed -n 's/^\([a-z -]*\):.*## /\1\t/p' Makefile | expand -t 20

reproduce: .venv/installed ## everything, from raw data to report (TIER=quick), recorded by DVC
	@domain-experts runs --tier $(TIER) > /dev/null
	@if snakemake --keep-going --config tier=$(TIER) -- download; then missing=false; else \
	  echo; echo '*** Some data could not be downloaded (see above): they are LEFT OUT, and the' \
	  'tables and figures say so. ***'; echo; missing=true; fi; \
	snakemake --config tier=$(TIER) allow_missing=$$missing && \
	if [ $(TIER)-$$missing = quick-false ]; then dvc commit --quiet --force dvc.yaml; fi
	@domain-experts headline --tier $(TIER)

test: .venv/installed-test ## the test suite
	OMP_NUM_THREADS=1 pytest -q -n 2 --dist loadgroup

fuzz: .venv/installed-test ## many more files that are not as they should be (FUZZ_EXAMPLES=20000 a quick reader)
	TMPDIR=$(firstword $(wildcard /dev/shm /tmp)) OMP_NUM_THREADS=1 \
	  pytest -q -n 0 --timeout=0 --hypothesis-profile=fuzz tests/test_fuzz.py

lint: .venv/installed-lint ## style, types, and generated files in step
	ruff check .
	ruff format --check .
	snakefmt --check workflow
	mypy
	@echo snakemake --lint
	@! snakemake --lint 2>&1 | grep '^    \*' | grep -v 'Specify a conda environment or container'
	domain-experts schema --check
	domain-experts dvc-yaml --check
	domain-experts checklist --check

tables figures report: .venv/installed ## from the results that are there alone (TIER=paper)
	snakemake --config tier=$(TIER) --allowed-rules tables figures report -- $@

paper: .venv/installed ## four pages in two columns, from the results and figures that are there (TIER=paper)
	@domain-experts paper --tier $(TIER)

docs: .venv/installed ## README.md and the pages that hold numbers, from the results of quick and paper
	mkdir -p docs/quick
	cp $(foreach t,verdicts answer overview planted_sharing controls oracle,results/quick/tables/$t.md) \
	  $(foreach f,gain_by_domain gate_weights,figures/quick/$f.png) docs/quick/
	@echo '```mermaid' > docs/rulegraph.md
	PYTHONHASHSEED=0 snakemake --forceall --config tier=quick --rulegraph mermaid-js | grep -v style >> docs/rulegraph.md
	@echo '```' >> docs/rulegraph.md
	.venv/bin/python scripts/docs.py --quick
	domain-experts checklist
	domain-experts crate --tier paper

bench: .venv/installed-bench ## how fast the package is, beside other libraries (docs/benchmarks.md)
	.venv/bin/python -m benchmarks

bench-full: .venv/installed-bench ## the same with all models and up to 10^8 rows
	.venv/bin/python -m benchmarks --full

faults: .venv/installed-test ## kills, full and broken disks, wrong clocks (docs/faults.md; hours, as root, on Linux)
	OMP_NUM_THREADS=1 .venv/bin/python scripts/faults.py faults kills
	OMP_NUM_THREADS=1 PYTHONMALLOC=malloc MIMALLOC_PURGE_DELAY=0 .venv/bin/python scripts/soak.py

unlock: .venv/installed ## clear Snakemake's lock after a crash, if no process holds it
	domain-experts unlock

clean: ## remove all results but those of the paper tier; data and models of other tiers too
	rm -rf .snakemake .runs logs $(foreach t,quick smoke,artifacts/$t results/$t figures/$t data/splits/$t)

.venv/installed: pyproject.toml constraints.txt
	$(call install,.)

.venv/installed-%: pyproject.toml constraints.txt
	$(call install,'.[$*]')

.venv/installed-bench: pyproject.toml constraints.txt constraints-bench.txt
	$(call install,'.[bench]',constraints-bench.txt)

define install
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
  "Python >= 3.11 is needed; name one by `make PYTHON=python3.12 ...`")'
$(PYTHON) -m venv .venv
.venv/bin/python -m pip install --disable-pip-version-check -q -c $(or $(2),constraints.txt) -e $(1)
@touch $@
endef
