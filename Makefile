# The short way in; meson does the work. `make help` lists the targets.

BUILD ?= build
# As root, compile as the owner of the tree, so that `make` without root goes on working afterwards.
OWNER := $(filter-out root UNKNOWN,$(shell stat -c %U .))
ifeq ($(shell id -u),0)
AS_OWNER := $(if $(OWNER),runuser -u $(OWNER) --)
GIVE_BACK := $(if $(OWNER),chown -R $(OWNER): $(BUILD);)
endif

# Without root the demo is one line and exit status 1. A recipe that fails makes make add a line and
# exit with 2; in question mode (-q) it runs nothing, says nothing, and exits with 1.
ifneq ($(filter demo,$(MAKECMDGOALS)),)
ifneq ($(shell id -u),0)
$(shell echo "haul: make demo needs root (namespaces and TAP interfaces): sudo make demo" >&2)
MAKEFLAGS += q
endif
endif

.PHONY: all demo check bench install fuzz clang clean help packages

all: packages $(BUILD)/build.ninja ## build everything into build/
	@$(AS_OWNER) ninja -C $(BUILD)

demo: ## bring up a vehicle network on this machine and report how it carried traffic (root)
	@tools/deps.sh build run
	@$(MAKE) --no-print-directory all
	$(BUILD)/src/cli/haul sim examples/crossroads.yaml

check: ## run all tests; those that need root are skipped without it
	@tools/deps.sh build run test
	@$(MAKE) --no-print-directory all
	@status=0; meson test -C $(BUILD) --no-rebuild --print-errorlogs || status=$$?; \
		$(GIVE_BACK) exit $$status

bench: ## measure: batched against one at a time
	@tools/deps.sh build run test
	@$(MAKE) --no-print-directory all
	$(BUILD)/src/cli/haul bench

install: all ## install the program, the library and its headers (DESTDIR is honoured)
	meson install -C $(BUILD) --no-rebuild

fuzz: ## run each fuzz target for a minute
	@tools/deps.sh build clang
	@tools/fuzz.sh 60

clang: ## build and test with the second compiler, in build-clang/
	@tools/deps.sh build clang
	@[ -f build-clang/build.ninja ] || CC=clang $(AS_OWNER) meson setup build-clang
	@$(MAKE) --no-print-directory check BUILD=build-clang

clean: ## remove all build folders
	rm -rf build build-san build-clang build-fuzz

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

packages:
	@tools/deps.sh build

$(BUILD)/build.ninja:
	@$(AS_OWNER) meson setup $(BUILD)
