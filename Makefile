# make demo   from a bare machine (Python >= 3.11, pip) to report.html
# make test   the same environment, then the tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= smoke-report

$(VENV)/.ok: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[digits,test,oracle]'
	touch $@

env: $(VENV)/.ok

demo: $(VENV)/.ok
	$(BIN)/salientry run smoke --out $(OUT)

test: $(VENV)/.ok
	PYTHONHASHSEED=0 $(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered --cov-fail-under=90

soak: $(VENV)/.ok
	$(BIN)/python -m tests.soak

.PHONY: env demo test soak
