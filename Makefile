# Every target of the project. What they make lies in dist/.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# The version of what is built: the tag that is checked out, or VERSION=1.2.3.
VERSION ?= $(or $(patsubst v%,%,$(shell git describe --tags --exact-match --match 'v[0-9]*' 2>/dev/null)),0.0.0-dev)
# The architectures of packages and images, by any of their usual names.
ARCHES ?= amd64,arm64
# Times inside what is built come from the commit, so that two builds of it are equal.
export SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),0)
export CGO_ENABLED ?= 0

LDFLAGS = -s -w -X github.com/trident-project/trident/internal/version.current=$(VERSION) -X github.com/trident-project/trident/internal/version.built=$(SOURCE_DATE_EPOCH)
NEED = .ci/need "make $@"
# The VM tests and the demo make packages and images themselves.
VMTOOLS = openssl debootstrap mkfs.ext4 mkfs.vfat mcopy zstd qemu-system-x86_64 qemu-img ovmf swtpm sbsign grub-mkimage grub-efi
# Programs of the build run on this machine, whatever they build for.
GORUN = env -u GOOS -u GOARCH go run
# The packages of the SDK, a module of its own: a pattern of folders does not match them.
SDK = github.com/trident-project/trident/proto
# Fails when VERSION, or an architecture that follows, is none to build.
CHECK = $(GORUN) ./packaging/target '$(VERSION)'
# All of them write dist/stage.
ALONE = umask 022; mkdir -p dist && flock dist/.lock

.PHONY: build
build: ## Build trident, tridentd, trident-rescue and trident-gateway for this machine
	@$(NEED) go
	@$(CHECK) >/dev/null
	umask 022; go build -tags grpcnotrace -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o dist/ ./cmd/...

.PHONY: rpm
rpm: ## Build the RPMs: dist/rpm/VERSION (VERSION=1.2.3, ARCHES=amd64,arm64)
	@$(NEED) go
	@$(CHECK) '$(ARCHES)' >/dev/null
	@$(NEED) openssl $(if $(TRIDENT_RPM_SIGNER),gpg rpmsign)
	@$(ALONE) $(GORUN) ./packaging/build rpm -version '$(VERSION)' -arch '$(ARCHES)'

.PHONY: deb
deb: ## Build the packages for dpkg: dist/deb/VERSION (VERSION=1.2.3, ARCHES=amd64,arm64)
	@$(NEED) go
	@$(CHECK) '$(ARCHES)' >/dev/null
	@$(NEED) openssl
	@$(ALONE) $(GORUN) ./packaging/build deb -version '$(VERSION)' -arch '$(ARCHES)'

.PHONY: sysext
sysext: ## Build the signed extension images: dist/sysext/VERSION (VERSION=1.2.3, ARCHES=amd64,arm64)
	@$(NEED) go
	@$(CHECK) '$(ARCHES)' >/dev/null
	@$(NEED) openssl
	@$(ALONE) $(GORUN) ./packaging/build sysext -version '$(VERSION)' -arch '$(ARCHES)'

.PHONY: containers
containers: ## Build the container images, without a container engine: dist/containers/VERSION (VERSION=1.2.3, ARCHES=amd64,arm64)
	@$(NEED) go
	@$(CHECK) '$(ARCHES)' >/dev/null
	@$(NEED) $(if $(TRIDENT_RPM_SIGNER),gpg rpmsign)
	@$(ALONE) $(GORUN) ./packaging/build containers -version '$(VERSION)' -arch '$(ARCHES)'

.PHONY: live-iso
live-iso: ## Build the live image for x86-64 that installs empty machines, as root: dist/live-iso/VERSION (VERSION=1.2.3)
	@[[ $$EUID == 0 ]] || { echo 'make live-iso makes a tree with debootstrap: run it as root' >&2; exit 1; }
	@$(NEED) go openssl debootstrap mksquashfs mkfs.vfat mcopy xorriso
	@$(CHECK) >/dev/null
	@$(ALONE) $(GORUN) ./packaging/build deb -version '$(VERSION)' -arch amd64 >/dev/null
	@packaging/live/iso '$(VERSION)'

.PHONY: release
release: ## Build everything that is published: dist/release/VERSION (VERSION=1.2.3, ARCHES=amd64,arm64)
	@$(NEED) go
	@$(CHECK) '$(ARCHES)' >/dev/null
	@$(NEED) openssl $(if $(TRIDENT_RPM_SIGNER),gpg rpmsign)
	@$(ALONE) $(GORUN) ./packaging/build release -version '$(VERSION)' -arch '$(ARCHES)'

.PHONY: demo
demo: ## Show in a VM how Trident replaces itself (STAY=1 keeps the VM until Ctrl-C)
	@$(NEED) go $(VMTOOLS)
	@GOFLAGS=-trimpath go run ./internal/e2e/demo $(if $(STAY),-stay)

# GOGC: memory for time. The power-cut cases take two thirds as long. The vet of go test is part
# of lint.
.PHONY: test
test: ## Run the tests that need neither root nor a VM (PACKAGES=./internal/fetch for some)
	@$(NEED) go
	export TMPDIR=$$(.ci/memory) && trap 'rm -rf "$$TMPDIR"' EXIT && \
	GOGC=400 go test -vet=off -timeout 20m $(or $(PACKAGES),./... $(SDK)/...)

.PHONY: test-root
test-root: ## Run the tests on loop devices, packages and containers (as root; PACKAGES=... for some)
	@[[ $$EUID == 0 ]] || { echo 'make test-root works on loop devices and mounts: run it as root' >&2; exit 1; }
	@$(NEED) go openssl gpg rpm rpmsign rpmlint createrepo_c dnf veritysetup mdadm mkfs.erofs fsck.erofs mksquashfs mkfs.xfs sfdisk sgdisk systemd-dissect debootstrap docker-registry swtpm \
		grub-mkimage grub-efi
	export TRIDENT_TRIXIE_TREE=$${TRIDENT_TRIXIE_TREE:-$$(.ci/debian trixie)} && \
	GOGC=400 go test -tags root -count 1 -timeout 20m $(or $(PACKAGES),./internal/... ./packaging/...)

.PHONY: test-outside
test-outside: ## Run the tests with servers, tools and hosts of other projects (as root; RUN=Name for some)
	@[[ $$EUID == 0 ]] || { echo 'make test-outside works on namespaces and containers: run it as root' >&2; exit 1; }
	@$(NEED) go openssl gpg rpm rpmsign createrepo_c veritysetup mdadm mkfs.ext4 mkfs.xfs mkfs.vfat mcopy mkfs.erofs mksquashfs sfdisk systemd-repart systemd-dissect debootstrap \
		nginx apache2 lighttpd docker-registry squid ssh sshd chromium curl node npm pip3 python3 ip tmux qemu-img xz zstd
	export TRIDENT_TRIXIE_TREE=$${TRIDENT_TRIXIE_TREE:-$$(.ci/debian trixie)} && \
	go test -tags outside -count 1 -timeout 25m -run '$(or $(RUN),.)' $(or $(PACKAGES),./internal/e2e/)

.PHONY: test-vm
test-vm: ## Run the tests in a VM (as root, because of debootstrap; RUN=Name for some, EVERY=1 to cut the power in every step, V=1 to see what each took)
	@[[ $$EUID == 0 ]] || { echo 'make test-vm makes a disk image with debootstrap: run it as root' >&2; exit 1; }
	@$(NEED) go $(VMTOOLS)
	TRIDENT_EVERY_CUT=$(EVERY) go test -tags vm -count 1 -p 1 -parallel 2 -timeout 150m $(if $(V),-v) -run '$(or $(RUN),.)' ./internal/e2e/...

# The packages whose code runs in several goroutines. The race detector needs cgo, and more
# memory than the test that is skipped allows.
CONCURRENT = ./internal/operation/... ./internal/api/... ./internal/fetch/... ./internal/daemon/... ./internal/observe/... ./internal/rescue/... ./internal/gateway/connect $(SDK)/client/...

.PHONY: race
race: ## Run the tests of the concurrent packages with the race detector (PACKAGES=... for some)
	@$(NEED) go gcc libc6-dev
	CGO_ENABLED=1 GOGC=400 go test -race -skip TestMessagesThatAreHeldBackCostLittle -timeout 10m $(or $(PACKAGES),$(CONCURRENT))

.PHONY: fuzz
fuzz: ## Run every fuzz target (FUZZTIME=20s each; LANDING=7 for every third, in three landings all)
	@$(NEED) go
	@.ci/fuzz $(or $(FUZZTIME),20s) $(LANDING)

.PHONY: breaking
breaking: ## Fail when proto/ breaks the clients of an earlier commit (BASE=commit)
	@$(NEED) go git
	@.ci/breaking $(BASE)

.PHONY: vulnerabilities
vulnerabilities: ## Look the dependencies up in Go's database of vulnerabilities
	@$(NEED) go
	@.ci/vulnerabilities

.PHONY: compare-builds
compare-builds: ## Build twice in two folders; fail when the programs differ in a byte
	@$(NEED) go git
	@.ci/compare-builds

.PHONY: bench
bench: ## Measure Trident side by side with other tools
	@$(NEED) go veritysetup curl casync $(VMTOOLS)
	@if [[ $$EUID == 0 ]]; then export TRIDENT_TRIXIE_TREE=$${TRIDENT_TRIXIE_TREE:-$$(.ci/debian trixie)}; fi; \
	for part in images blocks deploy daemon gateway watchers guest; do GOFLAGS=-trimpath go run ./internal/e2e/bench/$$part; echo; done
	@go test -run '^$$' -bench PublishTwoHundred ./internal/feed/publish
	@go test -run '^$$' -bench CheckOfAWarmFeed ./internal/updates

.PHONY: lint
lint: ## Check the code, the API definitions and the scripts
	@$(NEED) go shellcheck
	for module in . proto internal/e2e/foreign; do (cd $$module && go mod tidy -diff); done
	gofmt=$$(gofmt -l cmd internal packaging proto); [[ -z $$gofmt ]] || { echo "gofmt these: $$gofmt" >&2; exit 1; }
	tool=$$(.ci/tool golangci-lint); for tag in root vm root,outside; do $$tool run --allow-parallel-runners --build-tags $$tag; done; cd proto && $$tool run --allow-parallel-runners
	tool=$$(.ci/tool buf); $$tool lint
	shellcheck .ci/breaking .ci/compare-builds .ci/debian .ci/fuzz .ci/memory .ci/need .ci/run .ci/tool .ci/vulnerabilities packaging/keys packaging/live/iso packaging/stage packaging/sysext
	shellcheck -s sh packaging/rpm/*.sh packaging/deb/*

.PHONY: shape
shape: ## Measure packages, files and functions; fail when a figure is beyond its bar
	@$(NEED) go
	@go run .ci/shape.go

.PHONY: generate
generate: ## Generate the Go code of the API, that of a foreign client, the reference of the Host Configuration, and the pictures
	@$(NEED) go
	tool=$$(.ci/tool buf); $$tool generate
	cd internal/e2e/foreign && go generate
	go run ./packaging/docs host-configuration docs
	go run ./packaging/pictures docs/pictures

.PHONY: check-generated
check-generated: ## Generate again; fail if the result differs from the committed files
	$(MAKE) --no-print-directory generate
	git diff --exit-code -- proto internal/e2e/foreign docs/host-configuration.md docs/host-configuration.schema.json docs/pictures
	new=$$(git ls-files --others --exclude-standard proto internal/e2e/foreign docs/host-configuration.md docs/host-configuration.schema.json docs/pictures); [[ -z $$new ]] || { echo "not committed: $$new" >&2; exit 1; }

.PHONY: clean
clean: ## Delete what was built, except the keys
	[[ ! -d dist ]] || find dist -mindepth 1 -maxdepth 1 ! -name keys -exec rm -rf {} +

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
