# `make` lists the targets.  PYTHON=python3.12 picks another interpreter, EXTRA=gpu installs TensorFlow for CUDA.
PYTHON ?= python3
EXTRA ?= cpu
INSTALLED = .venv/.installed-$(EXTRA)
PORT ?= 5000
LOGIN ?= false
APP_PORT ?= 5001
CXR_HOME ?= $(CURDIR)
PY := .venv/bin/python
export MLFLOW_DISABLE_TELEMETRY = true

.DEFAULT_GOAL := help
.PHONY: help install app audit benchmark demo faults reproduce reproduce-quick server test test-long ui

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## make .venv with everything that running and testing needs (EXTRA=gpu for CUDA)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRA),dicom,kaggle,export,server,search,slurm,dev]'
	@touch $@

demo: install ## on synthetic phantoms: train, evaluate, and judge an ablation over seeds (under 3 minutes)
	$(PY) -m cxr_experiments.train experiment=demo
	$(PY) -m cxr_experiments.evaluate experiment_name=phantom-demo
	$(PY) -m cxr_experiments.study study=demo

reproduce-quick: install ## run the phantom results again and hold them against the committed ones (under 10 minutes)
	$(PY) -m cxr_experiments.reproduce what=quick

reproduce: install ## run everything that README and results/ report again (CXR_DATA=DIR; about 8 hours on 2 cores)
	$(PY) -m cxr_experiments.reproduce what=full

benchmark: install ## speed and memory beside plain Keras, PyTorch (EXTRA=cpu,benchmark) and the machine's own peaks (about an hour)
	$(PY) -m benchmarks

test: install ## format, lint, types and tests: the one gate (CXR_DATA=DIR adds the tests on real images)
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	$(PY) -m pytest -m "not long" -n auto --dist loadfile

test-long: install ## the proofs that take minutes, and all faults
	$(PY) -m pytest -m "long or fault"

faults: install ## kill, fill up, cut off: what docs/reliability.md says, proven (CXR_SOAK_MINUTES=30)
	$(PY) -m pytest -m fault

audit: install ## look the pinned versions up among known vulnerabilities (asks the package index; one that cannot be looked up fails)
	.venv/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off -r constraints.txt

app: install ## a page on 127.0.0.1 for one film at a time, and the reports (RUN=ID, else the newest run; APP_PORT=5001)
	$(PY) -m cxr_experiments.app port=$(APP_PORT) $(if $(RUN),run=$(RUN))

ui: install ## compare runs in MLflow on 127.0.0.1 (PORT=5000)
	@mkdir -p '$(CXR_HOME)/mlruns'
	@$(PY) -c 'import pathlib, sys; from cxr_experiments.record.tracking.moved import follow_move; follow_move(pathlib.Path(sys.argv[1]))' '$(CXR_HOME)'
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false .venv/bin/mlflow server --host 127.0.0.1 --port $(PORT) --workers 1 \
	  --backend-store-uri 'sqlite:///$(CXR_HOME)/mlruns/mlflow.db' --no-serve-artifacts \
	  --allowed-hosts 'localhost:$(PORT),127.0.0.1:$(PORT)' --x-frame-options SAMEORIGIN \
	  --cors-allowed-origins 'http://localhost:$(PORT),http://127.0.0.1:$(PORT)'

server: install ## MLflow on PostgreSQL for many processes or people, on 127.0.0.1 (PORT=5000, LOGIN=true)
	@CXR_HOME='$(CXR_HOME)' $(PY) -m cxr_experiments.server port=$(PORT) login=$(LOGIN)
