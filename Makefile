# Everything that developing refreeze needs, from a checkout with Python >= 3.12, Rust and make.
# Each target sets up what it needs and is quick when nothing changed: the stamps below know.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VERSITYGW_VERSION := v1.8.0
AZURITE_VERSION := 3.37.0
FAKE_GCS_SERVER_VERSION := v1.56.1

PY := .venv/bin/python
# In CI the lock file is the truth; at a desk cargo may add what a new dependency needs.
LOCKED := $(if $(CI),--locked)
RUST_FILES := $(shell find rust python/src -name '*.rs' 2>/dev/null) Cargo.toml Cargo.lock python/Cargo.toml .cargo/config.toml .cargo/pyo3.txt

.PHONY: help demo test test-rust test-python test-exits test-kills test-writer-kills test-together test-faults test-soak fuzz check check-rust check-python deny audit coverage coverage-python fmt bench bench-full bench-writing bench-scaling bench-billion bench-profile bench-build docs docs-rust build packages smoke lock servers endpoint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.refreeze ## ingest a real data set into Icechunk and read it back (DIR=folder keeps the result)
	@$(PY) -m refreeze demo $(if $(DIR),"$(DIR)")

test: test-rust test-python ## run all tests, those against a real S3 server included

test-together: .venv/.refreeze servers ## 40 files by 8 processes of which 4 are killed, on local disk and S3 (not part of test)
	REFREEZE_SWEEP=1 $(PY) -m pytest tests/python/test_region_together.py -q

test-exits: .venv/.refreeze servers ## run 500 commands that must end with their own exit code (not part of test)
	REFREEZE_EXITS=500 $(PY) -m pytest tests/python/test_exits.py --timeout 3600 $(ARGS)

test-kills: .venv/.refreeze servers ## kill workers and coordinators at a hundred instants (not part of test)
	REFREEZE_KILLS=100 $(PY) -m pytest tests/python/test_crew_kills.py --timeout 3600 $(ARGS)

test-writer-kills: .venv/.refreeze ## kill whatever writes data at forty instants of each kind (not part of test)
	REFREEZE_KILLS=$(or $(REFREEZE_KILLS),40) $(PY) -m pytest tests/python/test_writer_kills.py --timeout 3600 $(ARGS)

test-faults: .venv/.refreeze servers ## let every request of every verb go wrong in every way: hours (REFREEZE_FAULTS=100: of each verb; REFREEZE_FAULTS_MINUTES=60)
	REFREEZE_FAULTS=$(or $(REFREEZE_FAULTS),all) $(PY) -m pytest tests/python/test_fault_sweep.py --timeout 360000 -q -s $(ARGS)
	REFREEZE_FAULTS=all cargo test --test rust $(LOCKED) faults -- --nocapture
	$(MAKE) --no-print-directory fuzz SECONDS_EACH=$(or $(SECONDS_EACH),30)

# The flags that `cargo fuzz` gives to rustc, without the address sanitizer: nothing of ours is unsafe, and so the stable
# toolchain will do.
fuzz: ## any bytes as pages, documents, rows and files of repositories, a minute each (SECONDS_EACH=3600, TARGETS="page")
	scripts/fuzz $(or $(SECONDS_EACH),60) $(TARGETS)

test-soak: .venv/.refreeze endpoint ## 300 commits by one process, and 10 million references through faults: figures are shown
	REFREEZE_SOAK=$(or $(REFREEZE_SOAK),300) $(PY) -m pytest tests/python/test_soak.py --timeout 36000 -q $(ARGS)

test-rust: ## run the Rust tests and doc-tests
	cargo test --workspace $(LOCKED)

test-python: .venv/.refreeze servers endpoint ## run the Python tests (ARGS="-k name" chooses, ARGS="-n 0" in one process)
	$(PY) -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

check: check-python check-rust ## formatting, lints, types, stubs, docs, lock files

check-rust: ## the Rust half of check
	cargo fmt --all --check
	cargo clippy --workspace --all-targets $(LOCKED) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps $(LOCKED)

check-python: .venv/.refreeze ## the Python half of check
	$(PY) scripts/check_dependencies.py
	$(PY) scripts/check_layers.py
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-cache
	@$(MAKE) --no-print-directory docs
	MYPYPATH=python $(PY) -m mypy.stubtest refreeze._refreeze --mypy-config-file pyproject.toml

deny: ## licences, bans and sources of the Rust dependencies (ADVISORIES=1: known vulnerabilities too, over the network)
	@PATH="$(CURDIR)/.tools/bin:$$PATH" cargo deny --version >/dev/null 2>&1 || cargo install cargo-deny --locked --root .tools
	PATH="$(CURDIR)/.tools/bin:$$PATH" cargo deny check bans licenses sources $(if $(ADVISORIES),advisories)

audit: .venv/.tools ## known vulnerabilities of the locked Python packages, as far as their registry tells (over the network)
	@test -x .tools/audit/bin/pip-audit || \
	    { $(PY) -m venv .tools/audit && .tools/audit/bin/python -m pip install --quiet pip-audit; }
	.tools/audit/bin/pip-audit --requirement requirements-dev.lock --require-hashes --disable-pip --strict --progress-spinner off

coverage: .venv/.refreeze servers endpoint ## what the tests reach, in Rust and in Python: reports in target/coverage, no gate
	@PATH="$(CURDIR)/.tools/bin:$$PATH" cargo llvm-cov --version >/dev/null 2>&1 || \
	    { rustup component add llvm-tools && cargo install cargo-llvm-cov --locked --root .tools; }
	PATH="$(CURDIR)/.tools/bin:$$PATH" cargo llvm-cov --workspace --html --output-dir target/coverage/rust $(LOCKED)
	@$(MAKE) --no-print-directory coverage-python

coverage-python: .venv/.refreeze servers endpoint ## the Python half of coverage, commands that tests start included
	@mkdir -p target/coverage
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest $(ARGS)
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage html --quiet
	$(PY) -m coverage report

fmt: .venv/.tools ## format everything, apply the lints' safe repairs
	cargo fmt --all
	$(PY) -m ruff check --fix-only --quiet .
	$(PY) -m ruff format .

bench: bench-build ## compare with VirtualiZarr and obstore, side by side, in half an hour (ARGS="--only listing")
	$(PY) benches/run.py --output target/bench-results/quick $(ARGS)

bench-full: bench-build ## the same on larger data, up to 110 million chunks, and what each design choice brings
	$(PY) benches/run.py --full --output target/bench-results/full $(ARGS)

bench-scaling: bench-build ## how an ingest scales with worker processes, latency-bound and CPU-bound (ARGS="--scale 0.05")
	$(PY) benches/scaling.py $(ARGS)

bench-billion: bench-build ## a billion references, in one process and on a Dask cluster: hours (ARGS="--scale 0.001")
	$(PY) benches/billion.py $(ARGS)

bench-writing: .venv/.refreeze bench-build ## what templates and regions cost, beside xarray's own regions (ARGS="--scale 0.1")
	$(PY) benches/writing.py $(ARGS)

bench-profile: .venv/.tools ## where the CPU time of an ingest of 10 million chunks goes, by perf
	cargo build --profile profiling -p refreeze-python $(LOCKED)
	cargo build --release -p refreeze-endpoint $(LOCKED)
	@rm -rf target/bench-profiling && mkdir -p target/bench-profiling && cp -r python/refreeze target/bench-profiling/
	@rm -f target/bench-profiling/refreeze/_refreeze*.so
	@cp target/profiling/lib_refreeze.so target/bench-profiling/refreeze/_refreeze.abi3.so
	$(PY) benches/cpu_profile.py $(ARGS)

# The package with an optimised extension, where the benchmarks find it.
bench-build: .venv/.tools
	cargo build --release -p refreeze-python -p refreeze-endpoint $(LOCKED)
	@rm -rf target/bench && mkdir -p target/bench && cp -r python/refreeze target/bench/
	@rm -f target/bench/refreeze/_refreeze*.so && cp target/release/lib_refreeze.so target/bench/refreeze/_refreeze.abi3.so

docs: .venv/.refreeze ## build the documentation site into site/ (a link that leads nowhere is an error)
	$(PY) scripts/check_docs.py
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
	@echo "open site/index.html"

docs-rust: ## build the Rust documentation
	cargo doc --workspace --no-deps $(LOCKED)
	@echo "open target/doc/refreeze/index.html"

build: .venv/.tools ## build the optimised wheel into dist/
	$(PY) -m maturin build --release --out dist $(LOCKED)

packages: build ## build the optimised wheel and the source distribution into dist/
	$(PY) -m maturin sdist --out dist

# Not optimised: what is tried is the package, and cargo has compiled it for the tests already.
smoke: .venv/.refreeze ## install the wheel into new environments and run the demo there; the sdist; the container's steps
	rm -rf target/smoke && mkdir -p target/smoke
	$(PY) -m maturin build --out target/smoke/dist --compatibility linux $(LOCKED)
	$(PY) -m maturin sdist --out target/smoke/dist
	$(PY) scripts/smoke_packages.py target/smoke

lock: .venv/.tools ## renew requirements-dev.lock (UPGRADE=1 also moves to the newest versions)
	UV_SYSTEM_CERTS=true $(PY) -m uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.12 \
	    --generate-hashes --no-emit-index-url --custom-compile-command "make lock" \
	    $(if $(UPGRADE),--upgrade) --quiet --output-file requirements-dev.lock

servers: .venv/.tools ## install the S3 server and the Google emulator that the tests start, and Azure's where npm is
	@scripts/get-go-server versitygw github.com/versity/versitygw/cmd/versitygw $(VERSITYGW_VERSION)
	@scripts/get-go-server fake-gcs-server github.com/fsouza/fake-gcs-server $(FAKE_GCS_SERVER_VERSION)
	@scripts/get-azurite $(AZURITE_VERSION)

endpoint: ## build the synthetic S3 endpoint that tests and benchmarks start
	cargo build --quiet --package refreeze-endpoint $(LOCKED)

clean: ## remove everything that was built or installed here
	rm -rf fuzz/artifacts fuzz/found target .venv .tools dist .hypothesis .mypy_cache .pytest_cache .ruff_cache python/refreeze/_refreeze*.so
	find python tests scripts -name __pycache__ -prune -exec rm -rf {} +

# The development tools, exactly as locked.
.venv/.tools: requirements-dev.lock scripts/make-venv scripts/find-python
	@scripts/make-venv
	@touch $@

# refreeze itself, editable: Python files are used in place, Rust files make a new build.
# Offline, because all it needs is locked and installed; into .venv, whatever other environment is active.
.venv/.refreeze: .venv/.tools pyproject.toml $(RUST_FILES)
	VIRTUAL_ENV=$(CURDIR)/.venv UV_OFFLINE=1 env -u CONDA_PREFIX $(PY) -m maturin develop --uv $(LOCKED)
	@touch $@
