# Two commands matter: `make demo` runs the main job on this machine, `make test` sets up and tests.
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed

.PHONY: demo test soak bench lint pictures venv clean

venv: $(STAMP)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Only what the main job needs, so that a first look does not wait for test tools.
$(VENV)/.runtime: requirements.txt requirements-standalone.txt | $(VENV)/bin/python
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-standalone.txt
	$(PY) -c "import pathlib, sysconfig; pathlib.Path(sysconfig.get_path('purelib'), 'ioc_scan.pth').write_text(str(pathlib.Path('lib').resolve()) + chr(10))"
	touch $@

$(STAMP): $(VENV)/.runtime requirements-dev.txt
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

# make demo [FLEET=ssh|salt|ksc] [REPORT=report.json.gz]
demo: $(VENV)/.runtime
	$(PY) -m standalone demo $(if $(FLEET),--fleet "$(FLEET)") $(if $(REPORT),--report "$(REPORT)")

# Three at a time: much of it is waiting for devices. A file's tests stay together, as its servers do.
test: $(STAMP)
	$(PY) -m pytest -n 3 --dist loadfile $(PYTEST_ARGS)

# The sensor against 10,000 simulated reports and 100 deaths; the bounded form is part of `make test`.
soak: $(STAMP)
	IOC_SCAN_SOAK=1 $(PY) -m pytest tests/unit/detection/test_simulation.py $(PYTEST_ARGS)

# The scanner against its peers (`python -m bench.peers` installs them): the table, and bench/results.md.
bench: $(STAMP)
	$(PY) -m bench.scanner $(BENCH_ARGS)

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(PY) -m standalone lint

# The README's pictures, from a real run of the demo; needs chromium.
pictures: $(STAMP)
	$(PY) docs/build_pictures.py

clean:
	rm -rf $(VENV) .demo .pytest_cache .mypy_cache .ruff_cache
