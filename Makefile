# b9: with only git, make and Go on a Debian machine, as root:
#
#   make demo    a Debian system as disk images, from nothing (examples/debian.star)
#   make test    every test, against the real tools
#   make race    the everyday tests with the race detector
#   make fuzz    every fuzz target for FUZZTIME (30s)
#   make kills   the tests that kill processes, KILLS (20) times each
#   make torture kills, faults, power cuts and tampering: half an hour, in parts;
#                TORTURE=short takes a few minutes
#
#   make install the program with its manual pages and completions below PREFIX
#                (/usr/local), and DESTDIR before it
#   make deb     a Debian package of it, in dist/
#   make release archives and Debian packages for amd64 and arm64, with checksums, in
#                dist/; RELEASE_KEY=FILE, a private SSH key, signs these
#   make docs    the documentation as a static site, in dist/site
#   make picture draws docs/console.svg from a real run
#
# Debian packages that are missing are installed first; .ci/packages lists them.

SHELL := /bin/bash
export PATH := $(PATH):/usr/local/go/bin

# The binding to libvirt loads its library when it is used, so that neither
# its headers nor the library is needed to build or to run b9.
TAGS := libvirt_dlopen

# The program is stamped with its revision, unless git doesn't say it: of a tree that
# belongs to another user, or none.
VCS := -buildvcs=$(shell git rev-parse HEAD >/dev/null 2>&1 && test -d .git && echo true || echo false)

# Further arguments of go test, the packages to test, and the figures to measure.
TESTFLAGS ?=
PKG ?= ./...
FIGURES ?=
# How long each fuzz target runs, and how often each crash test kills.
FUZZTIME ?= 30s
KILLS ?= 20
# "short" for a short torture.
TORTURE ?=
# Where installed files go, and what signs a release.
PREFIX ?= /usr/local
DESTDIR ?=
RELEASE_KEY ?=

.PHONY: all
all: build

.PHONY: build
build: go deps
	@go build -tags $(TAGS) -trimpath $(VCS) -o bin/b9 ./cmd/b9

.PHONY: demo
demo: build
	@bin/b9 run examples/debian.star

.PHONY: test
test: go deps-test
	@B9_LONG_TESTS=1 .ci/test -tags $(TAGS) $(TESTFLAGS) $(PKG)

.PHONY: race
race: go deps-test
	@.ci/test -race -timeout 60m -tags $(TAGS) $(TESTFLAGS) $(PKG)

.PHONY: fuzz
fuzz: go deps-test
	@.ci/fuzz $(FUZZTIME)

.PHONY: kills
kills: go deps-test
	@B9_KILLS=$(KILLS) B9_LONG_TESTS=1 .ci/test -count=1 -tags $(TAGS) -run 'Kill|Contract$$/.*/Killed' $(TESTFLAGS) $(PKG)

.PHONY: torture
torture: go deps-test
	@KILLS=$(KILLS) .ci/torture $(TORTURE)

.PHONY: bench
bench: build deps-bench
	@.ci/bench $(FIGURES)

.PHONY: install
install: build
	@.ci/dist install bin/b9 "$(DESTDIR)$(PREFIX)"

.PHONY: deb
deb: build
	@.ci/dist deb bin/b9 "$$(dpkg --print-architecture)" dist

.PHONY: release
release: go deps-release
	@.ci/dist release dist "$(RELEASE_KEY)"

.PHONY: docs
docs: build
	@go run -buildvcs=false ./cmd/b9/internal/site bin/b9 . dist/site

.PHONY: picture
picture: build
	@.ci/picture bin/b9

.PHONY: fmt
fmt: go
	@gofmt -w $$(git ls-files --cached --others --exclude-standard '*.go')

.PHONY: lint
lint: go deps
	@.ci/lint

.PHONY: clean
clean:
	rm -rf bin dist b9-out

# deps makes sure that the packages of a section of .ci/packages are there.
.PHONY: deps deps-test deps-bench deps-release
deps:
	@.ci/install run
deps-test:
	@.ci/install run test
deps-bench:
	@.ci/install run test bench
deps-release:
	@.ci/install run release

# go says in one sentence what to do where the toolchain is absent or too old.
.PHONY: go
go:
	@.ci/need-go
