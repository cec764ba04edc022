# Run `make help` for a list of the targets.

GO       ?= go
PACKAGES ?= ./...
# make race tests these packages with the race detector. Those that wait for real time are left out.
RACE     ?= $$($(GO) list ./infra/... ./functions/... | grep -v /conformance)
BENCH    ?= .
FUZZTIME ?= 1m
# The seeds of make simulate: the number, and the first one.
SEEDS    ?= 10000
FIRST    ?= 1
ROUNDS   ?= 200
ORDERS   ?= 10000
# A seed repeats the draws of a run that failed: make crash SEED=42
SEED     ?=
# The name of make image's image with its registry (default dev.local/ebb/function:VERSION), and its platforms.
IMAGE    ?=
PLATFORM ?= linux/amd64,linux/arm64

# What is compiled here, in the image and in the products that tests make is compiled alike, so they share a build cache.
export GOFLAGS += -trimpath
export CGO_ENABLED ?= 0

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## Run the whole system on http://127.0.0.1:8080, data under .ebb/
	@echo "building bin/ebb"; $(GO) build -o bin/ebb ./cmd/ebb && exec bin/ebb dev

.PHONY: build
build: ## Build the developer's command into bin/
	$(GO) build -o bin/ebb ./cmd/ebb

# Packages whose tests take longest begin first. Many tests wait rather than compute: two at a time for each processor.
SLOW     := -e /broker/conformance -e /test/docs -e /test/product -e /test/simulation -e /test/brokers

.PHONY: test
test: ## Run all tests that need no external service
	@packages=$$($(GO) list $(PACKAGES)); \
		$(GO) test -timeout 20m -p $$(($$(getconf _NPROCESSORS_ONLN) * 2)) \
		$$(echo "$$packages" | grep $(SLOW)) $$(echo "$$packages" | grep -v $(SLOW))
	cd cmd/image && $(GO) test ./...

.PHONY: race
race: export CGO_ENABLED = 1
race: ## Run the tests of infra/ and functions/ again with the race detector; needs a C compiler
	$(GO) test -race -timeout 20m $(RACE)

.PHONY: simulate
simulate: ## Simulate SEEDS seeds of the shop with faults, on all cores, from FIRST on
	$(GO) test ./test/simulation -run '^TestShop$$' -count 1 -timeout 0 -v -seeds $(SEEDS) -first $(FIRST)

.PHONY: check
check: ## Check format, vet, staticcheck, go.mod and the derived files
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
		if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet $(PACKAGES)
	$(GO) tool staticcheck $(PACKAGES)
	$(GO) mod tidy -diff
	cd cmd/image && $(GO) vet ./... && $$($(GO) tool -C ../.. -n staticcheck) ./... && $(GO) mod tidy -diff
	cd cmd/proto && $(GO) vet ./... && $$($(GO) tool -C ../.. -n staticcheck) ./... && $(GO) mod tidy -diff && $(GO) run . -check
	cd cmd/passwords && $(GO) vet ./... && $$($(GO) tool -C ../.. -n staticcheck) ./... && $(GO) mod tidy -diff && $(GO) run . -check
	$(GO) run ./cmd/ebb generate --check
	cd cmd/dashboards && $(GO) vet ./... && $$($(GO) tool -C ../.. -n staticcheck) ./... && $(GO) mod tidy -diff && $(GO) run . -check

.PHONY: api
api: ## Compare the Go API and OpenAPI with those of the last release: VERSION decides which changes are allowed
	@.ci/api

.PHONY: openapi-lint
openapi-lint: ## Check api/openapi.json with Spectral and Redocly; needs Node.js
	@.ci/openapi-lint

.PHONY: inspector
inspector: build ## Drive the tools of ebb mcp with the inspector of the Model Context Protocol; needs Node.js
	@.ci/inspector

.PHONY: lighthouse
lighthouse: build ## Measure the console's screens with Lighthouse; needs Node.js and chromium (some minutes)
	@.ci/lighthouse

.PHONY: generate
generate: ## Write the derived files: code of .proto files, OpenAPI and its clients, AsyncAPI, Terraform's input, rules, dashboards
	cd cmd/proto && $(GO) run .
	cd cmd/passwords && $(GO) run .
	$(GO) run ./cmd/ebb generate
	cd cmd/dashboards && $(GO) run .

.PHONY: proto
proto: ## Check the .proto files: derived code, buf's lint rules, changes that break clients of the last release
	@.ci/proto

.PHONY: image
image: bin/image ## Make the image into bin/image.tar, or push it: IMAGE=registry/name:tag PUSH=1; PLATFORM=linux/amd64 for one
	@bin/image -name '$(IMAGE)' -platform $(PLATFORM) $(if $(PUSH),-push) $(IMAGEFLAGS)

.PHONY: image-check
image-check: bin/image ## Make the image twice, from two folders, and compare the bytes
	@bin/image -platform $(PLATFORM) -twice $(IMAGEFLAGS)

.PHONY: licenses
licenses: bin/image ## List the licenses of the modules in the image; fails if one is not known
	@bin/image -platform linux/amd64 -licenses

.PHONY: release
release: bin/image ## Make the image with signed provenance, which can be verified offline: KEY=release.pem
	@[ -n "$(KEY)" ] || { echo "make release needs KEY=release.pem: openssl genpkey -algorithm ed25519 -out release.pem"; exit 2; }
	@bin/image -name '$(IMAGE)' -platform $(PLATFORM) -key '$(KEY)' $(if $(PUSH),-push) $(IMAGEFLAGS)

.PHONY: vulnerabilities
vulnerabilities: ## Look for known vulnerabilities in what is called; is skipped where the database is not reached
	@.ci/vulnerabilities

.PHONY: bin/image
bin/image:
	@$(GO) build -C cmd/image -o $(CURDIR)/bin/image .

.PHONY: e2e
e2e: ## Deploy the shop to the Knative of KUBECONFIG and EBB_E2E_*, test it, destroy it: docs/testing.md
	@[ -n "$$EBB_E2E_INGRESS" ] || { echo "no cluster: set KUBECONFIG and EBB_E2E_*, see docs/testing.md"; exit 2; }
	@$(MAKE) --no-print-directory build tools
	$(GO) test ./test/cluster -run '^TestCluster$$' -count 1 -timeout 0 -v

.PHONY: bench
bench: ## Measure orders, reads, events, start and memory; with PEERS=1 compare with peers; tables in bench/results/
ifdef PEERS
	cd test/bench/peers && CADDY=$(call tool,caddy) TEMPORAL=$(call tool,temporal) $(GO) run . -out $(CURDIR)/bench/results $(BENCHFLAGS)
else
	$(GO) run ./test/bench $(BENCHFLAGS)
endif

.PHONY: peers-check
peers-check: ## Check the module of the comparison with peers, which only make bench PEERS=1 needs
	cd test/bench/peers && $(GO) vet ./... && $(GO) mod tidy -diff

# A tool that make peers-tools built, or else the one on the PATH.
tool = $(or $(wildcard $(CURDIR)/bin/$(1)),$(1))

.PHONY: peers-tools
peers-tools: ## Build Caddy and Temporal's CLI into bin/ (15 minutes); prints what else the peers need
	@echo "as root: apt-get install nginx-light haproxy redis-server python3-fastapi uvicorn python3-jwt python3-redis"
	GOBIN=$(CURDIR)/bin $(GO) install github.com/caddyserver/caddy/v2/cmd/caddy@v2.11.9
	GOBIN=$(CURDIR)/bin $(GO) install github.com/temporalio/cli/cmd/temporal@v1.5.1

# The provider of the Knative objects, in the folder layout that terraform init -plugin-dir reads.
KUBECTL_PROVIDER := bin/terraform/registry.terraform.io/gavinbunney/kubectl/1.19.0/$$($(GO) env GOOS)_$$($(GO) env GOARCH)

.PHONY: tools
tools: ## Put Terraform's providers into bin/terraform (some minutes the first time); prints where to get Terraform
	@command -v terraform >/dev/null || echo "Terraform itself (1.9 or later) is not installed: https://developer.hashicorp.com/terraform/install"
	@dir=$(CURDIR)/$(KUBECTL_PROVIDER); [ -x $$dir/terraform-provider-kubectl ] || \
		CGO_ENABLED=0 GOBIN=$$dir $(GO) install -trimpath -ldflags '-s -w' github.com/gavinbunney/terraform-provider-kubectl@v1.19.0
	@.ci/aws-provider

.PHONY: terraform
terraform: ## Check terraform/ without a cluster: format, validity, tests, a plan of each environment, and those of a new product; after make tools
	@terraform/check
	@! command -v terraform >/dev/null || $(GO) test ./test/product -run '^TestTerraform$$' -count 1 -terraform

.PHONY: crds
crds: ## Validate every Kubernetes object that plans of the environments make against the CRDs of Knative and the Prometheus operator; after make tools
	cd test/crds && $(GO) vet . && $$($(GO) tool -C ../.. -n staticcheck) . && $(GO) mod tidy -diff && $(GO) test -count 1 -timeout 0 -v .

.PHONY: lambda
lambda: ## Build the packages for AWS Lambda: bin/lambda-arm64.zip and bin/lambda-amd64.zip
	@$(GO) run ./cmd/lambda/pack

.PHONY: lambda-check
lambda-check: ## Build the packages for AWS Lambda twice, from two folders, and compare the bytes
	@$(GO) run ./cmd/lambda/pack -twice

.PHONY: aws
aws: bin/kumo lambda-check ## Deploy the shop to an emulator of AWS with Terraform, test it, destroy it: docs/testing.md
	@.ci/aws-provider
	@[ -e bin/terraform/registry.terraform.io/hashicorp/aws ] || { echo "make aws needs Terraform and its provider for AWS"; exit 2; }
	$(GO) test ./test/aws -run '^TestDeploy$$' -count 1 -timeout 60m -v -deploy

# The emulator is a module of its own, and no dependency of the product.
bin/kumo: test/aws/kumo/main.go test/aws/kumo/fifo.go test/aws/kumo/go.mod ## Build the emulator of AWS for tests (a minute the first time)
	cd test/aws/kumo && $(GO) vet . && $(GO) mod tidy -diff && $(GO) build -o $(CURDIR)/bin/kumo .

.PHONY: grpc-conformance
grpc-conformance: ## Run the conformance suite of gRPC, gRPC-Web and Connect through the gateway (some minutes to build)
	cd test/grpcconformance && $(GO) vet . && $(GO) mod tidy -diff && $(GO) build -o $(CURDIR)/bin/grpcconformance/ . \
		connectrpc.com/conformance/cmd/connectconformance connectrpc.com/conformance/cmd/referenceserver
	bin/grpcconformance/connectconformance --conf test/grpcconformance/config.yaml --mode server \
		--known-failing @test/grpcconformance/failing.txt -- bin/grpcconformance/grpcconformance \
		-protos $$($(GO) list -C test/grpcconformance -m -f '{{.Dir}}' connectrpc.com/conformance)/proto \
		-reference bin/grpcconformance/referenceserver </dev/null

.PHONY: flagd-testbed
flagd-testbed: ## Run the evaluator's scenarios of flagd's test-bed: TESTBED=folder of a checkout of open-feature/flagd-testbed
	@[ -n "$(TESTBED)" ] || { echo "make flagd-testbed needs TESTBED=folder of a checkout of open-feature/flagd-testbed"; exit 2; }
	$(GO) test ./infra/flag -run '^TestTestbed$$' -count 1 -testbed $(abspath $(TESTBED))

.PHONY: consul
consul: ## Build Consul's agent into bin/consul unless it is there (some 14 minutes), and run the tests of what uses it
	@[ -x bin/consul ] || .ci/consul
	$(GO) test ./infra/discovery/consul ./infra/config/source -run '^TestAgent$$' -count 1 -v -agent $(CURDIR)/bin/consul

.PHONY: jaeger
jaeger: ## Build Jaeger into bin/jaeger unless it is there (some 13 minutes), for make observe
	@[ -x bin/jaeger ] || .ci/jaeger

.PHONY: observe
observe: ## Run the system with Jaeger (bin/jaeger, or on the PATH) and Prometheus beside it: docs/observe.md
	@.ci/observe $(ARGS)

.PHONY: observe-test
observe-test: jaeger ## Read an order as one trace in Jaeger and its metrics in Prometheus
	$(GO) test ./test/observe -count 1 -v

bin/h2spec:
	CGO_ENABLED=0 GOBIN=$(CURDIR)/bin $(GO) install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible

.PHONY: h2spec
h2spec: bin/h2spec ## Compare the gateway with a bare server of Go by h2spec: the cases of HTTP/2 that they fail are the same (a minute)
	$(GO) test ./infra/gateway -run '^TestH2spec$$' -count 1 -v -h2spec $(CURDIR)/bin/h2spec

.PHONY: install-check
install-check: ## Install the command from a module proxy made of the last commit, as go install does, and test a product made with it
	@.ci/install

.PHONY: fuzz
fuzz: ## Fuzz every decoder for FUZZTIME each: 1m, or 5000x for a number of inputs
	@GO="$(GO)" .ci/fuzz $(FUZZTIME)

.PHONY: crash
crash: ## Kill the process ROUNDS times during ORDERS orders, and audit
	$(GO) run ./test/crash kills -rounds $(ROUNDS) -orders $(ORDERS) $(if $(SEED),-seed $(SEED))

.PHONY: brokers
brokers: ORDERS = 500
brokers: bin/kumo ## Kill each broker while the shop has ORDERS orders, and audit: RabbitMQ, Redis, Kafka (fake), NATS outside, SQS (cut off); BROKER=redis: one alone
	$(GO) test ./test/brokers -run '^TestOrdersSurviveTheBroker$$/$(if $(BROKER),^$(BROKER)$$)' -count 1 -timeout 90m -v \
		-orders $(ORDERS) -kills 5

.PHONY: matrix
matrix: bin/kumo ## Run the suites of brokers and write docs/conformance.md: which sentence holds with which broker (some minutes); ONLY=Redis: one column
	$(GO) run ./test/matrix $(if $(ONLY),-only "$(ONLY)")

.PHONY: power
power: ROUNDS = 100
power: ORDERS = 60
power: ## Cut the power ROUNDS times in a recording of ORDERS orders, and audit; needs strace
	$(GO) run ./test/crash power -rounds $(ROUNDS) -orders $(ORDERS) $(if $(SEED),-seed $(SEED))
