# The README's two commands are `make serve` and `make test`; `make help` lists the rest.
# Needs Python 3.11+ and make, nothing else: uv is fetched by pip where it is missing.
#
# TORCH_BACKEND  which build of torch to install: cpu (default), or what a GPU host has (cu130, auto …).
# MODELS         what `make serve` serves, e.g. MODELS="--model prm=OpenGVLab/VisualPRM-8B@main"
# HOST PORT      where it listens.
# REQUESTS       how many `make check-hostile` fires.
# GROUPS FAULTS  how many `make check-chaos` sends and injects.
# TOKENS         the longest prompts that `make check-kernels` takes.
# ITEMS          how many `make check-verify` sends.
# RAY            where `make check-ray` makes its environment.
# GPU_PYTHON     what `make gpu-check` runs: any Python that has torch and Triton.
# TRAINED STATE SEED  where `make train-demo` puts its checkpoints and what it resumes from, and its seed.
PYTHON ?= python3
TORCH_BACKEND ?= cpu
MODELS ?=
HOST ?= 127.0.0.1
PORT ?= 8000
WORKERS ?= 2
REQUESTS ?= 5000
GROUPS ?= 10000
FAULTS ?= 100
ITEMS ?= 10000
TOKENS ?= 3000
RAY ?= .ray
GPU_PYTHON ?= $(VENV)/bin/python
TRAINED ?= demo
STATE ?= .demo-state
SEED ?= 0

# Many processes here import the same packages: compiling them each time takes longer than most tests.
unexport PYTHONDONTWRITEBYTECODE
SHELL := /bin/bash
VENV := .venv
RUN := PYTHONPATH=.:client $(VENV)/bin/python
# A thread for each worker: more only wait for one another.
TEST := OMP_NUM_THREADS=1 $(RUN) -m pytest
TRAIN = OMP_NUM_THREADS=1 $(RUN) -m demo.train
UV = $(PYTHON) requirements/uv.py
INSTALL = $(UV) pip install --quiet --python $(VENV)/bin/python
COMPILE = $(UV) pip compile --quiet --generate-hashes --no-header --python-version 3.11 --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help install serve test check check-kernels gpu-check check-hostile check-load check-verify check-chaos check-trainers check-ray check-clients lint types imports bench train-demo judge-demo pictures lock clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

install: $(VENV)/.dev ## .venv with everything the server and its tests need

serve: $(VENV)/.server ## serve the default models on http://HOST:PORT
	@PYTHONPATH=.:client exec $(VENV)/bin/python -m service --host $(HOST) --port $(PORT) $(MODELS)

test: $(VENV)/.dev ## the tests
	$(TEST) -n $(WORKERS) -m "not slow" $(ARGS)

check: lint types imports ## lint, types, import rules, then every test, the slow ones too
	$(TEST) -n $(WORKERS)

check-kernels: $(VENV)/.dev ## every golden case of both families through the kernels, interpreted (minutes)
	@$(MAKE) --no-print-directory -j 2 check-kernels-visualprm check-kernels-ixc_reward

check-kernels-%: $(VENV)/.dev
	@OMP_NUM_THREADS=1 TRITON_INTERPRET=1 $(RUN) -m tests.conformance.by_models $* --interpreted --progress --most-tokens $(TOKENS)

gpu-check: ## on a GPU, in under four minutes: kernels, golden scores, speed into benchmarks/results (ARGS="--quick")
	PYTHONPATH=.:client $(GPU_PYTHON) -m benchmarks.gpu_check $(ARGS)

check-hostile: $(VENV)/.dev ## fire REQUESTS=5000 random requests at a server; counts by status, memory before and after
	HOSTILE_REQUESTS=$(REQUESTS) $(TEST) -q -s tests/service/hostile/test_any_request.py

check-load: $(VENV)/.dev ## ten times a server's capacity for a minute: statuses, online p99, memory, recovery
	@$(RUN) -m loadtest.overload $(ARGS)

check-verify: $(VENV)/.dev ## ITEMS=10000 hostile texts at POST /verify: errors, times, ranges; then its speed
	@OMP_NUM_THREADS=1 $(RUN) -m loadtest.verify_fuzz --items $(ITEMS) $(ARGS)
	@OMP_NUM_THREADS=1 $(RUN) -m benchmarks.verify_throughput

check-chaos: $(VENV)/.dev ## GROUPS=10000 through a fleet while FAULTS=100 fall: lost, duplicated, wrong
	@OMP_NUM_THREADS=1 $(RUN) -m loadtest.chaos --groups $(GROUPS) --faults $(FAULTS) $(ARGS)

check-trainers: $(VENV)/.dev ## the trainers at work on a server's rewards: TRL for longer than the tests do, the others installed into .trainers
	TRAINER_STEPS=40 $(TEST) -q -s tests/client/trainers/test_trl.py
	@OMP_NUM_THREADS=1 $(RUN) -m tests.trainers $(ARGS)

check-ray: $(VENV)/.dev $(RAY)/.made ## filtering by Ray Data, in an environment of its own, gives the local run's output
	RAY_PYTHON=$(abspath $(RAY))/bin/python $(TEST) -q tests/client/data/test_ray.py

check-clients: $(VENV)/.dev ## LiteLLM, in an environment of its own, against the compatible routes
	@$(UV) venv --quiet --allow-existing .clients
	@$(UV) pip install --quiet --python .clients/bin/python litellm==1.110.2
	CLIENTS_PYTHON=.clients/bin/python $(TEST) -q tests/service/compat/test_litellm.py $(ARGS)

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

types: $(VENV)/.dev
	$(RUN) -m mypy

imports: $(VENV)/.dev
	PYTHONPATH=.:client $(VENV)/bin/lint-imports --no-cache

# VLLM, PRELOAD: the Python of vLLM's own environment, and libraries that it wants (benchmarks/vllm_baseline.py).
bench: $(VENV)/.dev ## the benchmarks: the engine's into benchmarks/results, the others' on the screen
	$(RUN) -m benchmarks.engine $(if $(VLLM),--vllm $(VLLM) --preload $(PRELOAD))
	$(RUN) -m benchmarks.engine --dtype float32 --workloads W1 --baselines soft_v2 padded --rounds 2
	$(RUN) -m benchmarks.service_throughput
	$(RUN) -m benchmarks.engine_memory
	$(RUN) -m benchmarks.service_overhead
	$(RUN) -m benchmarks.verify_throughput
	$(RUN) -m benchmarks.queue_throughput
	$(RUN) -m benchmarks.load_memory
	$(RUN) -m benchmarks.refuse_bomb

train-demo: $(VENV)/.dev ## train both demo models into TRAINED; an interrupted run goes on
	$(TRAIN) process $(TRAINED)/visualprm --state $(STATE) --seed $(SEED)
	$(TRAIN) outcome $(TRAINED)/ixc_reward --state $(STATE) --seed $(SEED)

judge-demo: $(VENV)/.dev ## train the demo models' ablations too, then judge all on the test split
	$(TRAIN) process $(STATE)/visualprm-blind --state $(STATE) --seed $(SEED) --blind
	$(TRAIN) outcome $(STATE)/ixc_reward-blind --state $(STATE) --seed $(SEED) --blind
	$(RUN) -m demo.judge process $(TRAINED)/visualprm --ablation $(STATE)/visualprm-blind
	$(RUN) -m demo.judge outcome $(TRAINED)/ixc_reward --ablation $(STATE)/ixc_reward-blind

pictures: $(VENV)/.dev ## the README's two pictures anew: the demo models choose among a seeded policy's candidates
	@mkdir -p .pictures docs/pictures
	$(RUN) -m demo.policy --split test --seed 0 --candidates 64 --questions 200 --out .pictures/policy.jsonl
	$(RUN) -m evaluation.best_of_n --candidates .pictures/policy.jsonl --checkpoint demo/visualprm \
		--checkpoint demo/ixc_reward --threads 1 --out .pictures/best_of_n
	$(RUN) -m evaluation.showcase --candidates .pictures/policy.jsonl --line 6 --checkpoint demo/visualprm --threads 1 --out .pictures
	cp .pictures/best_of_n/by_n.svg docs/pictures/best_of_n.svg
	cp .pictures/showcase.svg docs/pictures/candidates.svg

lock: ## compile requirements/*.txt anew (UPGRADE=--upgrade for the newest)
	$(COMPILE) $(UPGRADE) --group server --group torch --no-emit-package torch -o requirements/server.txt
	$(COMPILE) $(UPGRADE) --group dev --group torch --no-emit-package torch -o requirements/dev.txt
	$(COMPILE) $(UPGRADE) --group gpu -o requirements/gpu.txt

clean: ## remove what was installed and built
	rm -rf $(VENV) $(RAY) .clients .uv dist .pytest_cache .mypy_cache .ruff_cache

$(RAY)/.made:
	@$(PYTHON) -m venv $(RAY)
	@$(RAY)/bin/python -m pip install --quiet "ray[data]==2.60.0" "pyarrow>=20" "tqdm>=4.67" "httpx2>=2.16,<3" "pydantic>=2.12,<3"
	@touch $@

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Steelyard needs Python 3.11 or newer; name one with PYTHON=python3.12" >&2; exit 1; }
	@echo "installing into $(VENV), once"
	@$(UV) venv --quiet --allow-existing --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV)
	@touch $@

# The locks are whole but for torch, so nothing else is looked for.
$(VENV)/.server: $(VENV)/.python requirements/server.txt pyproject.toml
	@$(INSTALL) --no-deps --require-hashes -r requirements/server.txt
	@$(PYTHON) requirements/uv.py --torch $(TORCH_BACKEND) pip install --quiet --python $(VENV)/bin/python --group torch
	@touch $@

$(VENV)/.dev: $(VENV)/.server requirements/dev.txt
	@$(INSTALL) --no-deps --require-hashes -r requirements/dev.txt
	@touch $@
