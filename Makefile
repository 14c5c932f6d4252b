# Every target of the project. Outputs lie in dist/.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# The version of what is built: the tag that is checked out, or VERSION=1.2.3.
VERSION ?= $(or $(patsubst v%,%,$(shell git describe --tags --exact-match --match 'v[0-9]*' 2>/dev/null)),0.0.0-dev)
# Times inside what is built come from the commit, so that two builds of it are equal.
export SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),0)
export CGO_ENABLED ?= 0

LDFLAGS := -s -w -X github.com/trident-project/trident/internal/version.current=$(VERSION)
GOBUILD := go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

.PHONY: build
build: ## Build trident, tridentd and trident-rescue for this machine
	$(GOBUILD) -o dist/ ./cmd/...

.PHONY: generate
generate: ## Generate the Go code of the API from proto/
	$$(.ci/tool buf) generate

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
