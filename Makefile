# Every command of the project. `make help` lists them.
SHELL := /bin/bash
CARGO ?= cargo
# Schedules of the simulation, and the seed of the first.
SCHEDULES ?= 1000
FIRST ?= 1

.DEFAULT_GOAL := help
.PHONY: help quickstart elastic-demo quickstart-reference lda-large logistic test lint faults faults-mutants model fuzz bench build clean \
	images manifests kubernetes-up kubernetes-run kubernetes-down kubernetes-quickstart test-kubernetes

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-z-]*:.*## / {printf "  make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: ## Train LDA on real text through a cluster in one process (first time about 5 minutes, then under one)
	@scripts/quickstart.sh

elastic-demo: ## Watch the same training while its servers join, are killed, hang and leave (about two minutes)
	@scripts/elastic-demo.sh

quickstart-reference: ## Repeat the reference that quickstart compares with: the Python package lda
	@scripts/quickstart-reference.sh

lda-large: ## Train LDA with 100 topics on a whole dictionary; compare tokens/s with the Python package lda
	@scripts/lda-large.sh

logistic: ## Train sparse logistic regression on real e-mails; prints the accuracy on held-out ones
	@scripts/logistic.sh

build: ## Build everything in release
	@scripts/require.sh cargo
	$(CARGO) build --release --workspace --bins --examples

lint: ## Format, clippy and documentation, warnings are errors
	@scripts/require.sh cargo lint python3
	scripts/chart-readme.py --check
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet

test: lint ## Run every check and every test; those on Kubernetes where this machine can run one
	@scripts/require.sh cargo curl procps python3
	$(CARGO) build --workspace --bins
	target/debug/model --quick
	$(CARGO) test --workspace
	@scripts/test-kubernetes.sh

faults: ## Simulate clusters with every fault and check each answer: SCHEDULES=1000, or SEED=7 with its whole trace
	@scripts/require.sh cargo
	@# Many of them take a night: a release build does two thirds more of them in it than that of the tests, which runs 200 in `make test`.
	@$(CARGO) build --release --package glint-tests --bin faults
	@target/release/faults $(if $(SEED),--seed $(SEED),--schedules $(SCHEDULES) --first $(FIRST))

faults-mutants: ## Take one safety step out at a time, and show that the simulation finds each (tests/mutants)
	@scripts/require.sh cargo git
	@SCHEDULES=$(SCHEDULES) scripts/faults-mutants.sh $(MUTANTS)

model: ## Explore the model of the protocol in every order of its steps, and the model without each of its rules
	@scripts/require.sh cargo
	@$(CARGO) build --quiet --package glint-model
	@target/debug/model $(if $(ONLY),--only "$(ONLY)" --traces)

fuzz: ## Feed every decoder with anything for SECONDS=60 each (needs a nightly compiler); TARGETS="push segment" for some
	@scripts/fuzz.sh "$(or $(SECONDS),60)" $(TARGETS)

images: ## Build the images `glint` and `glint-examples`, with archives of them; REGISTRY=HOST/PATH also pushes them there
	@REGISTRY=$(REGISTRY) scripts/images.sh

manifests: ## Write one file for `kubectl apply -f`, in place of the chart: target/manifests/glint.yaml; REGISTRY=HOST/PATH as for images
	@REGISTRY=$(REGISTRY) scripts/manifests.sh

test-kubernetes: ## Test on a real Kubernetes that is started on this machine (Linux, root); TESTS="deaths changes" for some
	@scripts/test-kubernetes.sh $(TESTS)

kubernetes-quickstart: ## From nothing to trained topics on a real Kubernetes on this machine (Linux, root)
	@scripts/kubernetes-quickstart.sh

kubernetes-up: ## Start a Kubernetes on this machine, for trying things (NODES=2 for two nodes; the first time about 10 minutes)
	@tests/kubernetes/cluster/cluster build
	@tests/kubernetes/cluster/cluster up

kubernetes-run: ## Run a command there: make kubernetes-run COMMAND="kubectl get pods -A"
	@tests/kubernetes/cluster/cluster run $(COMMAND)

kubernetes-down: ## End it, and leave nothing behind
	@tests/kubernetes/cluster/cluster down

bench: ## Measure speed against the machine's own limits; writes target/bench/report.json
	@scripts/bench.sh

clean: ## Remove everything that was built or downloaded
	$(CARGO) clean
