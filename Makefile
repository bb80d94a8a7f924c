# `make demo` and `make test` set everything up on a machine that has Python 3.11 and make.
PYTHON ?= python3.11
VENV   ?= .venv
DEMO   ?= demo
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
LABEL  ?= .venv-label

# Threads that wait must not spin: on a shared machine that costs several times the work itself.
export OMP_WAIT_POLICY = PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help install demo test test-encoders test-integration test-crash test-long fuzz label-env lint types check clean

help:
	@echo "make demo    synthetic radiographs -> pairs -> training -> report, in $(DEMO)/"
	@echo "make test    the whole test suite"
	@echo "make check   lint, types and tests"
	@echo "make label-env         the label server's own environment, in $(LABEL)/"
	@echo "make test-integration  the tests with real servers: label server, PACS"
	@echo "make test-crash        kill -9 at random moments, 20 times each"
	@echo "make fuzz              50,000 mutated files: none may crash, hang or take the memory"
	@echo "make clean   remove $(VENV)/, $(LABEL)/ and $(DEMO)/"

install: $(READY)

# torch first: a looser requirement would bring several GB of GPU packages with it.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $$(command -v $(PYTHON) || command -v python3) -m venv $(VENV)
	$(BIN)/python -c "import sys; assert sys.version_info[:2] == (3, 11), f'Python 3.11 is needed, this is {sys.version}'"
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e ".[test]"
	touch $@

# An environment of its own: what MONAI Label and pydicom-seg declare cannot be installed together, nor beside pydicom 3,
# so these two come without dependencies; what they import is the extra `label`, and the shim stands for the one module
# of pydicom 2 that they use.
label-env: $(LABEL)/.installed

$(LABEL)/.installed: pyproject.toml constraints.txt constraints-label.txt monai_cxrpair/label/shim.py
	test -x $(LABEL)/bin/python || $$(command -v $(PYTHON) || command -v python3) -m venv $(LABEL)
	$(LABEL)/bin/python -c "import sys; assert sys.version_info[:2] == (3, 11), f'Python 3.11 is needed, this is {sys.version}'"
	$(LABEL)/bin/pip install --quiet -c constraints.txt torch
	$(LABEL)/bin/pip install --quiet --no-deps -c constraints-label.txt monailabel pydicom-seg
	$(LABEL)/bin/pip install --quiet -c constraints.txt -c constraints-label.txt -e ".[label,test]"
	$(LABEL)/bin/python monai_cxrpair/label/shim.py
	$(LABEL)/bin/cxrpair doctor --label
	touch $@

demo: $(READY)
	$(BIN)/python examples/demo.py --out $(DEMO)

# Two processes, a file stays in one: its fixtures are made once. Most of the time goes into processes and servers. Not
# reordered: that would put the slow files last, on one core.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# What needs the extra `encoders`, which the other tests do without: it makes every import of MONAI slower.
test-encoders: $(READY)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[test,encoders]"
	$(BIN)/python -m pytest tests/contrast/test_encoders.py tests/evaluation/test_networks.py tests/integration/test_encoders.py

# With real servers: MONAI Label from its own environment, Orthanc where it is installed; what is missing is skipped.
test-integration: label-env
	$(LABEL)/bin/python -m pytest tests/integration/label

# kill -9 at 20 random moments each; pull needs more studies for that.
test-crash: $(READY)
	CXRPAIR_KILLS=20 CXRPAIR_TEST_PATIENTS=84 $(BIN)/python -m pytest -n 2 --dist loadscope tests/crash \
		tests/integration/test_never_lose.py tests/integration/test_pacs.py -k "killed or kills"

# Random cohorts by the thousand.
test-long: $(READY)
	CXRPAIR_COHORTS=1000 $(BIN)/python -m pytest -n 2 tests/cohort/split/test_leak_proofs.py

# 50,000 mutated files; `make fuzz FUZZ="--files 1000 --seed 7"`. A file of its report is read again by its number:
# `.venv/bin/python tests/fuzz/fuzz_driver.py --seed 7 --only 1234`.
fuzz: $(READY)
	$(BIN)/python tests/fuzz/fuzz_driver.py $(FUZZ)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

check: lint types test

clean:
	rm -rf $(VENV) $(LABEL) $(DEMO)
