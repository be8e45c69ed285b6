# The verbs of the project. Each is one script in scripts/; see CONTRIBUTING.md.
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup build demo install deb test check lint format arch proto fuzz sim chaos model mutate mutations systemd-test bench asan tsan clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: distribution packages, Python's for the tests
	@scripts/setup test

build: ## build the programs, optimised, into .build/release
	@scripts/setup
	@scripts/build

demo: ## 1,000 simulated doors and three nodes behind a balancer, one of them killed: 40 s
	@scripts/setup
	@scripts/build
	@scripts/demo

install: ## put what was built below PREFIX (default /usr) of DESTDIR (default /)
	@DESTDIR="$(DESTDIR)" PREFIX="$(or $(PREFIX),/usr)" scripts/install

deb: ## build the Debian packages into .build/deb, and have lintian look at them
	@scripts/setup deb
	@scripts/build
	@scripts/deb

test: ## everything: lint, architecture, C, sanitizers, fuzzing, Swift, simulation, models, whole system
	@scripts/setup test
	@scripts/test

check: ## what to run before every commit: lint, architecture, unit tests
	@scripts/setup test
	@scripts/test lint c swift

lint: ## formatters and compilers' warnings, without building
	@scripts/lint

format: ## rewrite the Swift files in the project's format
	@scripts/lint --fix

arch: ## only the architecture's rules
	@scripts/swift-tests --filter ArchitectureTests

proto: ## regenerate Sources/DriverProtocol/Generated from the protos
	@scripts/setup proto
	@scripts/proto

fuzz: ## fuzz every parser for FUZZ_SECONDS (default 60) each
	@scripts/fuzz

sim: ## simulate clusters for SIM_HOURS (default 300); SEED=… one of them again, step by step
	@scripts/setup
	@scripts/build --product cluster-sim
	@scripts/sim

chaos: ## break a cluster on hosts of its own for DURATION (default 600) s; SEED=… the same faults again; needs root
	@scripts/setup test
	@scripts/build
	@scripts/chaos --seed $(or $(SEED),1) --seconds $(or $(DURATION),600) --clocks

model: ## search the models of the ownership protocol with spin; MODEL_SCOPE=long in greater scopes
	@scripts/setup model
	@scripts/model

mutate: ## break Sources/Election on purpose, one way at a time, and see whether the tests notice
	@scripts/mutate-election

mutations: ## break the programs on purpose and see whether a cluster under faults shows it; needs root, half an hour
	@scripts/setup test
	@scripts/mutate-cluster

systemd-test: ## end a node under a real systemd KILLS (default 1000) times by chance, then at 10,000 controllers; needs root
	@scripts/setup test
	@scripts/build
	@scripts/systemd-test --kills $(or $(KILLS),1000)
	@scripts/systemd-test --large

bench: ## the benchmarks, each beside a peer
	@scripts/setup
	@scripts/build
	@scripts/bench

asan: ## C and Swift tests under AddressSanitizer (C: and UndefinedBehaviorSanitizer)
	@scripts/setup test
	@scripts/c-tests asan
	@scripts/swift-tests --sanitize=address

tsan: ## C and Swift tests under ThreadSanitizer
	@scripts/setup test
	@scripts/c-tests tsan
	@scripts/swift-tests --sanitize=thread

clean: ## remove everything that was built
	@rm -rf .build .build-address .build-thread .build-model .venv
