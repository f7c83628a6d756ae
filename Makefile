.DEFAULT_GOAL := help
.PHONY: help up fleet drill build test race lint fmt bench clean

GOLANGCI_LINT_VERSION := v2.15.0
# The version is part of the name, so that a new one is built when it changes.
GOLANGCI_LINT := bin/golangci-lint-$(GOLANGCI_LINT_VERSION)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: build ## build and run everything in one process on an embedded PostgreSQL
	bin/courante up

fleet: build ## build and run every service as a process of its own, with RabbitMQ and Redis
	@scripts/install-rabbitmq
	@scripts/install-redis
	bin/courante fleet

drill: build ## break parts of a fleet while orders flow, and verify what is left
	@scripts/install-postgresql
	@scripts/install-rabbitmq
	@scripts/install-redis
	bin/courante drill

build: ## build bin/courante
	@scripts/need-go
	go build -o bin/courante ./cmd/courante

test: ## install what the tests need, then check and test everything
	@scripts/test

race: ## the tests under the race detector (needs a C compiler)
	@scripts/test -race

lint: $(GOLANGCI_LINT) ## the linters of .golangci.yml; the first run builds them
	$(GOLANGCI_LINT) run

$(GOLANGCI_LINT):
	@scripts/need-go
	GOBIN="$(CURDIR)/bin" go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv bin/golangci-lint $@

fmt: ## format all Go files
	gofmt -w .

bench: ## the benchmarks, without the tests
	@scripts/install-postgresql
	@scripts/install-rabbitmq
	@scripts/install-redis
	go test -run='^$$' -bench=. -benchmem ./...

clean: ## remove what was built, never data
	rm -rf bin
