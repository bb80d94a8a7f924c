# `make demo` and `make test` set everything up on a machine that has Python 3.11 and make.
PYTHON ?= python3.11
VENV   ?= .venv
DEMO   ?= demo
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
LABEL  ?= .venv-label
AUDIT  ?= .venv-audit
MINIMAL ?= .venv-minimal
NEWEST ?= .venv-newest
AUDIT_SERVICE ?= pypi

# Threads that wait must not spin: on a shared machine that costs several times the work itself.
export OMP_WAIT_POLICY = PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help install demo test test-encoders test-minimal test-newest test-integration test-crash test-long fuzz label-env lint types check audit lock clean

help:
	@echo "make demo    synthetic radiographs -> pairs -> training -> report, in $(DEMO)/"
	@echo "make test    the whole test suite"
	@echo "make check   lint, types and tests"
	@echo "make label-env         the label server's own environment, in $(LABEL)/"
	@echo "make test-integration  the tests with real servers: label server, PACS"
	@echo "make test-crash        kill -9 at random moments, 20 times each"
	@echo "make fuzz              50,000 mutated files: none may crash, hang or take the memory"
	@echo "make audit   the exact versions against the known security advisories"
	@echo "make test-minimal, make test-newest   without the extras; with the newest version of everything"
	@echo "make clean   remove the environments and $(DEMO)/"

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

# What needs the extras `encoders` and `export`. The other tests do without: the first makes every import of MONAI slower.
test-encoders: $(READY)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[test,encoders,export]"
	$(BIN)/python -m pytest tests/evaluation/test_export.py tests/contrast/test_encoders.py tests/evaluation/test_networks.py tests/integration/test_encoders.py

# Without any extra, in an environment of its own: what the extras bring is not tested then, all else works.
test-minimal: $(MINIMAL)/.installed
	$(MINIMAL)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/pacs --ignore tests/reporting \
		--ignore tests/integration/test_pacs.py --ignore tests/integration/test_send.py --ignore tests/phantom/test_dicom.py

$(MINIMAL)/.installed: pyproject.toml constraints.txt
	test -x $(MINIMAL)/bin/python || $$(command -v $(PYTHON) || command -v python3) -m venv $(MINIMAL)
	$(MINIMAL)/bin/pip install --quiet -c constraints.txt torch
	$(MINIMAL)/bin/pip install --quiet -c constraints.txt -e . pytest pytest-xdist hypothesis jsonschema
	touch $@

# With the newest version of everything but torch, whose newest would bring several GB; installed anew each time.
test-newest:
	rm -rf $(NEWEST) && $$(command -v $(PYTHON) || command -v python3) -m venv $(NEWEST)
	$(NEWEST)/bin/pip install --quiet -c constraints.txt torch
	$(NEWEST)/bin/pip install --quiet --upgrade --upgrade-strategy eager "$$($(NEWEST)/bin/pip freeze | grep ^torch==)" -e ".[test]"
	$(NEWEST)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

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

# A service that has no answers finds nothing, and pip-audit ends well: so first a version with a known advisory
# (CVE-2026-32711) must be found, and a version that the service does not know is an error (--strict).
# What is excepted goes here as --ignore-vuln with its reason: nothing so far.
audit: $(AUDIT)/bin/pip-audit
	@echo "pydicom==3.0.1" > $(AUDIT)/known.txt
	@$(AUDIT)/bin/pip-audit --service $(AUDIT_SERVICE) --no-deps --disable-pip -r $(AUDIT)/known.txt 2>&1 | \
		grep -qE 'CVE-|GHSA-|PYSEC-' || { echo "error: the advisory service $(AUDIT_SERVICE) does not know the advisory of \
	pydicom 3.0.1, nothing was audited: try AUDIT_SERVICE=osv, or another network" >&2; exit 1; }
	$(AUDIT)/bin/pip-audit --service $(AUDIT_SERVICE) --strict --no-deps --disable-pip -r constraints.txt -r constraints-label.txt

$(AUDIT)/bin/pip-audit $(AUDIT)/bin/uv &:
	test -x $(AUDIT)/bin/python || $$(command -v $(PYTHON) || command -v python3) -m venv $(AUDIT)
	$(AUDIT)/bin/pip install --quiet pip-audit==2.10.1 uv==0.13.9

# Nothing is resolved: constraints.txt is complete, which tests/test_supply.py watches. torch's lines stay.
lock: $(AUDIT)/bin/uv
	grep -v '^torch==' constraints.txt > $(AUDIT)/pins.txt
	$(AUDIT)/bin/uv pip compile --quiet --no-deps --generate-hashes --no-header --no-annotate --universal \
		--python-version 3.11 $(AUDIT)/pins.txt -o $(AUDIT)/hashes.txt
	{ awk '/^[^ ]/ { keep = /^(#|torch==)/ } keep' requirements.txt; cat $(AUDIT)/hashes.txt; } > $(AUDIT)/new.txt
	mv $(AUDIT)/new.txt requirements.txt

clean:
	rm -rf $(VENV) $(LABEL) $(AUDIT) $(MINIMAL) $(NEWEST) $(DEMO)
