# What a contributor types. Every target makes the virtual environment it needs, from pyproject.toml.
# Paths are relative throughout, so that the checkout may lie anywhere, blanks in its name included.

.DEFAULT_GOAL := help
.PHONY: help test long faults demo lint docs docs-serve bench bench-quick clean

# A certain interpreter, which gets environments of its own: make test PYTHON=python3.13
PYTHON ?=
# More for the tool behind a target: make test ARGS="-k disk -x", make demo ARGS="--limit 50"
ARGS ?=

# What bounds the time of `make bench`: the rounds of a contest and the seconds that they may take, how large the
# scale gets (small or full), and how many lookups of a trace are replayed.
ROUNDS ?= 30
SECONDS ?= 2
SCALE ?= full
ACCESSES ?= 100000
# Likewise through memory and a disk tier below, which writes each miss: some two minutes.
CHAIN_ACCESSES ?= 10000
# Files with traces of lookups that it replays, besides those that it makes: make bench TRACES="../traces/*.gz"
TRACES ?=

# The environments are .venv-test, .venv-demo and .venv-bench, with the name of a chosen interpreter after it. The
# whole path, since version managers call every interpreter "python".
blank := $(subst x,,x x)
named := $(subst /,-,$(subst $(blank),-,$(PYTHON)))
chosen := $(named:%=-%)

help: ## Show this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/make \1	\2/p' Makefile

# Three workers on two cores: a quarter of the tests' time is waiting, for servers that hang and for other processes.
test: .venv-test$(chosen)/.installed ## Run the tests
	.venv-test$(chosen)/bin/python -m pytest -n 3 --dist worksteal $(ARGS)

long: .venv-test$(chosen)/.installed ## Run the tests that take minutes: many rounds of crashes and races
	.venv-test$(chosen)/bin/python -m pytest -m long $(ARGS)

faults: .venv-test$(chosen)/.installed ## Break disks, servers and processes for real, and write down what it cost
	.venv-test$(chosen)/bin/python -m pytest tests/faults -m 'long or not long' -p no:randomly --faults-table docs/explanation/faults.md $(ARGS)

demo: .venv-demo$(chosen)/.installed ## Embed real text through memory, disk and SQL, and then not embed it again
	.venv-demo$(chosen)/bin/tiercache demo $(ARGS)

lint: .venv-test$(chosen)/.linters ## Check style and types
	.venv-test$(chosen)/bin/ruff check .
	.venv-test$(chosen)/bin/ruff format --check .
	.venv-test$(chosen)/bin/mypy

docs: .venv-docs$(chosen)/.installed ## Build the documentation's site in site/; a dead link or a warning is an error
	PYTHONPATH=tests .venv-docs$(chosen)/bin/python -m website build

docs-serve: .venv-docs$(chosen)/.installed ## Show that site at localhost:8000, and again whenever a page is saved
	.venv-docs$(chosen)/bin/python -m zensical serve $(ARGS)

# The file's order, so that each server is started once; what takes minutes (-m '') too.
bench: .venv-bench$(chosen)/.installed ## Hold all benchmarks, in some twenty minutes, and write the report in docs/benchmarks
	@mkdir -p .benchmarks
	.venv-bench$(chosen)/bin/python -m pytest benchmarks $(contests) -m '' --rounds $(ROUNDS) --seconds $(SECONDS) \
	    --scale $(SCALE) --benchmark-json .benchmarks/run.json $(ARGS)
	.venv-bench$(chosen)/bin/python -m benchmarks.hit_ratio --json --processes 2 --accesses $(ACCESSES) \
	    --load-price $(price) $(made) $(TRACES) > .benchmarks/hit-ratio.json
	.venv-bench$(chosen)/bin/python -m benchmarks.hit_ratio --json --processes 2 --accesses $(CHAIN_ACCESSES) \
	    --disk 4 --size 1% --size 10% --policy s3-fifo --policy lru \
	    --load-price $(price) $(made-for-chains) $(TRACES) > .benchmarks/hit-ratio-chain.json
	.venv-bench$(chosen)/bin/python benchmarks/langchain_embeddings.py --json > .benchmarks/embeddings.json
	.venv-bench$(chosen)/bin/python -m benchmarks.report \
	    .benchmarks/run.json .benchmarks/embeddings.json .benchmarks/hit-ratio.json .benchmarks/hit-ratio-chain.json \
	    --command $(call typed,bench)

bench-quick: .venv-bench$(chosen)/.installed ## Hold some rounds of as many benchmarks as begin within 70 seconds
	@mkdir -p .benchmarks
	.venv-bench$(chosen)/bin/python -m pytest benchmarks $(contests) -m 'not slow and not long' \
	    --rounds 5 --seconds 0.5 --within 70 --benchmark-json .benchmarks/quick.json $(ARGS)
	.venv-bench$(chosen)/bin/python -m benchmarks.report .benchmarks/quick.json --into .benchmarks/quick \
	    --command $(call typed,bench-quick)

# What was typed, for the report: the settings with it that were given by hand.
settings := PYTHON ROUNDS SECONDS SCALE ACCESSES CHAIN_ACCESSES TRACES ARGS
by-hand = $(foreach name,$(settings),$(if $(filter-out file default undefined,$(origin $(name))),$(name)="$($(name))"))
typed = '$(subst ','\'',$(strip make $(1) $(by-hand)))'
# pytest-benchmark's own table is of one turn of one contender.
contests := --benchmark-enable --benchmark-quiet -p no:randomly
made := zipf:0.8 zipf:0.9 zipf:1.0 zipf:1.1 loop scans day-night
# Of those the ones that are themselves in fewer look-ups.
made-for-chains := zipf:0.9 scans
# Of making a value, in any currency: with the command's 200 ms about what a call of a model takes.
price := 0.001

clean: ## Remove the virtual environments and what the tools left behind
	rm -rf .venv-* .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .coverage* .cache dist build site
	find tiercache tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The linters share the tests' environment: types are checked against the packages that are tested.
.venv-test$(chosen)/.linters: .venv-test$(chosen)/.installed
	@echo "Adding the linters to .venv-test$(chosen)"
	@.venv-test$(chosen)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[lint]'
	@touch $@

# One environment an extra; made afresh when pyproject.toml changed or an installation was broken off.
.venv-%/.installed: extra = $(firstword $(subst -, ,$*))
.venv-%/.installed: pyproject.toml
	@rm -rf .venv-$*
	@seen=; for python in $(if $(PYTHON),'$(PYTHON)',python3 python3.13 python3.12 python3.11); do \
	    command -v "$$python" >/dev/null || { seen="$$seen $$python was not found;"; continue; }; \
	    found=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || { \
	        seen="$$seen $$python does not run;"; continue; }; \
	    seen="$$seen $$python is $$found;"; \
	    case $$found in 2.*|3.[0-9]|3.10) continue;; esac; \
	    echo "Making .venv-$* with $$python ($$found): pip downloads and installs without a word, for one to five minutes"; \
	    "$$python" -m venv .venv-$* || { \
	        echo "$$python cannot make virtual environments (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }; \
	    .venv-$*/bin/python -m pip install --quiet --disable-pip-version-check -e '.[$(extra)]' || exit 1; \
	    touch $@; exit 0; \
	done; \
	echo "tiercache needs Python 3.11 or later;$$seen name one: make PYTHON=/path/to/python3.12" >&2; \
	exit 1
