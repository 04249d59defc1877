# Every command that a person or CI runs. Recipes use cargo, python3, sh and coreutils only; the rest is in scripts/.

PYTHON ?= python3
VENV_PYTHON := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup weights demo test lint fmt bench bench-setup examples chaos reliability compatibility reference rest-fuzz fastapi-suite fastapi-generated fuzz lock clean

define HELP
make setup        build everything into .venv: tools from the lock file, Eagleray from this checkout
make demo         train the iris model, serve it, query it over HTTP
make test         Rust tests, model of the claim page, fuzz seeds, Python tests; ends with `N passed, N failed`
make lint         formatters and linters for Rust and Python, types, stubs, documents
make fmt          format Rust and Python
make bench        Eagleray beside its peers and its limit: a table, and JSON under benches/results
make bench-setup  install the peers that `make bench` compares with
make examples     run every example
make weights      install the weights that examples use (80 MB; `make test` and `make examples` do it)
make chaos        kill processes at random under load, for CHAOS_SECONDS (60)
make reliability  write docs/reliability.md from what the last `make test` and `make chaos` counted
make compatibility  write docs/compatibility.md from the contract's rows and the tests' markers
make reference      write the pages of docs/reference that are made of tables
make fastapi-suite  run FastAPI's own tests on compiled routes and beside it as ASGI, and compare (fetches them)
make fastapi-generated  send GENERATED_REQUESTS (20000) generated requests to generated FastAPI applications both ways
make rest-fuzz    send the control API REST_CASES (2000) requests that Schemathesis draws from its description
make fuzz         fuzz the codec under a coverage-guided fuzzer, for FUZZ_SECONDS (60)
make lock         resolve requirements/*.in anew
make clean        remove everything that was built

Another Python: make setup PYTHON=python3.12
endef
export HELP

help:
	@printf '%s\n' "$$HELP"

setup:
	@$(PYTHON) scripts/setup.py

demo: setup
	@$(VENV_PYTHON) examples/iris/demo.py

weights: setup
	@$(PYTHON) scripts/setup.py --weights

test: weights
	@$(VENV_PYTHON) scripts/test.py

lint: setup
	@$(VENV_PYTHON) scripts/lint.py

fmt: setup
	cargo fmt --all
	$(VENV_PYTHON) -m ruff check --fix --quiet .
	$(VENV_PYTHON) -m ruff format --quiet .

bench: setup
	@$(VENV_PYTHON) benches/run.py

bench-setup: setup
	@$(VENV_PYTHON) benches/setup.py

examples: weights
	@$(VENV_PYTHON) scripts/examples.py

chaos: setup
	@EAGLERAY_CHAOS_SECONDS=$${CHAOS_SECONDS:-60} $(VENV_PYTHON) -m pytest -m chaos --timeout 600 tests/process tests/scenarios

reliability:
	@$(PYTHON) scripts/reliability.py

compatibility:
	@$(PYTHON) scripts/compatibility.py

reference:
	@$(PYTHON) scripts/reference.py

rest-fuzz: setup
	@EAGLERAY_TEST_REST_CASES=$${REST_CASES:-2000} $(VENV_PYTHON) -m pytest -q -s tests/process/test_rest_schema.py

fastapi-suite: setup
	@$(VENV_PYTHON) scripts/fastapi_suite.py

fastapi-generated: setup
	@EAGLERAY_GENERATED_REQUESTS=$${GENERATED_REQUESTS:-20000} $(VENV_PYTHON) -m pytest -q -s tests/python/test_compiled_generated.py

fuzz: setup
	@$(VENV_PYTHON) scripts/fuzz.py

lock:
	@$(PYTHON) scripts/lock.py

clean:
	rm -rf .venv build dist target examples/*/model .mypy_cache .ruff_cache .pytest_cache
