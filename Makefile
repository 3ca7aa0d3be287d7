# The checks of this project. Continuous integration (.ci/run) calls the same
# targets, so what passes here passes there.

.DEFAULT_GOAL := help
.PHONY: browser help build test race purego cross arm64 fuzz demo consumer modules lint ci large powercut blocklog dax dax-arm64 dax-long crash crash-full crash-long crash-night mutants powercut-short

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## compile all packages
	go build ./...

# go vet is make lint's. table comes first: its tests take longest, so that the others go
# on beside them.
test: ## all tests
	go test -vet=off -timeout 30m ./table ./...

# Not the house rules, which are of no running program. Without GORACE every process that
# a test starts waits for a second at its end.
race: ## the short tests under the race detector, on a pool it can see
	GORACE=atexit_sleep_ms=0 RAPID_CHECKS=15 go test -vet=off -race -short -timeout 30m ./table $$(go list ./... | grep -v /internal/lint)

purego: ## the short tests of the library without assembly
	go test -vet=off -tags purego -short -timeout 20m ./table $$(go list ./... | grep -vE '/(cmd|internal/lint)(/|$$)')

cross: ## build and vet for every platform (PLATFORMS="os/arch ...")
	.ci/cross

arm64: ## the short tests on emulated arm64; without DC CVAP, those of stores (PKGS=...)
	.ci/arm64

fuzz: ## every fuzz target for FUZZTIME (10s) (PKGS=...)
	.ci/fuzz

crash: ## the crash suite with its figures
	.ci/crash

crash-long: ## 10,500 crashed histories (crash-full, crash-night: more programs)
	.ci/crash long

crash-full:
	.ci/crash full

crash-night:
	.ci/crash night

mutants: ## the mutation gate of the crash suite
	.ci/crash mutants

demo: ## pmemctl's demonstration
	go run ./cmd/pmemctl demo

browser: ## pmemctl's map page in a headless Chromium, which must be installed
	go test -count=1 -tags browser ./cmd/pmemctl/internal/picture

consumer: ## a module outside of this one that uses it
	.ci/consumer

modules: ## vet and test the modules below: bench, contrib, examples
	.ci/modules

.PHONY: fresh
fresh: ## how long the tests of contrib and examples take with an empty build cache
	.ci/fresh

lint: ## gofmt and vet; the house rules are a test in internal/lint
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "not formatted by gofmt:"; echo "$$unformatted"; exit 1; }
	go vet ./...

ci: ## everything (.ci/run; STAGES="lint test ..." for some)
	.ci/run

large: ## 10 million entries: space, kill -9, reuse, GC (2 minutes, 2 GiB of disk)
	cd bench && go run ./large

.PHONY: limits
limits: ## N=100000000 small entries: space, lookups, reopening (some 6 GiB of disk)
	cd bench && go run ./limits -n $(or $(N),100000000)

powercut: ## kill virtual machines that write, CUTS=20 (docs/guest.md)
	.ci/guest powercut -cuts $(or $(CUTS),20) $(GUESTFLAGS)

powercut-short: ## the same with two kills
	.ci/guest powercut -cuts 2 $(GUESTFLAGS)

blocklog: ## STATES=100 legal disk states from the log of a guest's disk
	.ci/guest blocklog -states $(or $(STATES),100) $(GUESTFLAGS)

dax: ## the core tests in a guest with an NVDIMM and ext4 -o dax
	.ci/guest dax $(GUESTFLAGS)

dax-arm64: ## the core tests on arm64, where DC CVADP writes back to the NVDIMM
	.ci/guest dax -arm64 $(GUESTFLAGS)

dax-long: ## all tests there (long)
	.ci/guest dax -long $(GUESTFLAGS)

# The peers Pebble and Badger take minutes to compile, so they have a build tag;
# LMDB needs cgo. Plots go to the directory PLOTS.
.PHONY: bench-short bench bench-goroutines bench-shapes bench-disk bench-commit bench-cuts bench-fixed
PLOTS ?= $(or $(TMPDIR),/tmp)/pmemtable-plots
PEERS = -tags peers$(shell test "$$(go env CGO_ENABLED)" = 1 && echo ,lmdb)

bench-short: ## beside the floor and the peers, small (3 minutes once the peers are compiled)
	cd bench && go run $(PEERS) ./peers -n 500000 -ops 200000 -rounds 3 -limit 150ms -plots $(PLOTS)

bench: ## the same with 1 and with 10 million entries (half an hour, 16 GB of memory)
	cd bench && go run $(PEERS) ./peers -n 1000000 -plots $(PLOTS)/1m
	cd bench && go run $(PEERS) ./peers -n 10000000 -rounds 3 -plots $(PLOTS)/10m

bench-goroutines: ## 1, 2, 8 and 64 goroutines beside Go's maps, 1 million entries (5 minutes)
	cd bench && go run ./peers -goroutines 1,2,8,64 -peers xsync,sync.Map,sharded,map+RWMutex -ops 200000 -rounds 3 -limit 200ms -plots $(PLOTS)/goroutines

bench-shapes: ## keys and values of 8 and 8 bytes, and of 32 and 1024, beside Go's maps, 1 million entries (5 minutes)
	cd bench && go run ./peers -key 8 -value 8 -peers xsync,sync.Map -ops 200000 -rounds 2 -limit 200ms -plots $(PLOTS)/8-8
	cd bench && go run ./peers -key 32 -value 1024 -peers xsync,sync.Map -ops 200000 -rounds 2 -limit 200ms -plots $(PLOTS)/32-1024

bench-disk: ## a file on the disk of DISK (by default that of temporary files), beside the persistent peers, none of which syncs (4 minutes once they are compiled)
	cd bench && go run $(PEERS) ./peers -dir $(or $(DISK),$${TMPDIR:-/tmp}) -media pagecache -n 200000 -ops 100000 -rounds 2 -limit 150ms -peers bbolt,Pebble,Badger,pogreb,LMDB -plots $(PLOTS)/disk

bench-commit: ## the cost of durability on this disk, beside bbolt, Pebble, LMDB (8 minutes)
	cd bench && go run $(PEERS) ./commit

bench-fixed: ## N=10000000 fixed-size entries beside the floor (2 minutes, 3 GB of shared memory)
	cd bench && go run ./fixed -n $(or $(N),10000000)

bench-cuts: ## how long commits and snapshots hold up writers, at 10 million entries (1 minute)
	cd bench && go run ./cuts
