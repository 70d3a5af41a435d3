# make demo      from a bare machine (Python >= 3.11, pip) to report.html
# make test      the same environment, then the tests that `./check` runs
# make nightly   all tests, with coverage, all figures drawn; then what is slow and rarely breaks
# make docs      the documentation as a site, site/index.html; a broken link is an error
# make clients   others' clients of `salientry serve`, in an environment of their own: tests use them where they are
# make fuzz      600 calls of the command line with odd and damaged input
# make mutants   inserts faults in a copy, one at a time, and shows that the tests of `./check` catch each
# pip reads its options from the environment: PIP_EXTRA_INDEX_URL=ADDRESS make demo takes torch for CPUs, where ADDRESS has it
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= smoke-report
PYTEST := PYTHONHASHSEED=0 $(BIN)/python -m pytest -n 2 --dist loadfile
NIGHTLY := docs clients everything soak fuzz  # targets; whatever else is slow and rarely breaks goes here

$(VENV)/.ok: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[digits,report,onnx,serve,test,oracle,video,cluster]'
	touch $@

env: $(VENV)/.ok

demo: $(VENV)/.ok
	$(BIN)/salientry run smoke --out $(OUT)

test: $(VENV)/.ok
	$(PYTEST)

everything: $(VENV)/.ok
	$(PYTEST) -m "" --cov --cov-report=term:skip-covered --cov-fail-under=90

soak: $(VENV)/.ok
	$(BIN)/python -m tests.soak

$(VENV)/.docs: $(VENV)/.ok
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	touch $@

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

clients: $(VENV)-clients/.ok

$(VENV)-clients/.ok: pyproject.toml
	$(PYTHON) -m venv $(VENV)-clients
	$(VENV)-clients/bin/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['clients'], sep='\n')" > $(VENV)-clients/requirements.txt
	$(VENV)-clients/bin/python -m pip install -q -r $(VENV)-clients/requirements.txt
	touch $@

fuzz: $(VENV)/.ok
	$(BIN)/python -m tests.fuzz

mutants: $(VENV)/.ok
	$(BIN)/python -m tests.mutants

nightly: $(VENV)/.ok
	@began=$$(date +%s); \
	for target in $(NIGHTLY); do $(MAKE) $$target || { echo "nightly: $$target failed" >&2; exit 1; }; done; \
	echo "nightly: $(strip $(NIGHTLY)) passed on $$(date +%F) at $$(git describe --always --dirty) in $$(( ($$(date +%s) - began + 59) / 60 )) minutes"

.PHONY: env demo test everything soak docs clients fuzz mutants nightly
