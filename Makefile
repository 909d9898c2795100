# make demo   set up, build, teach real facts to a real model
# make test   set up, build, run the tests
# make        build (after `make setup`)
BUILD ?= build
JOBS ?= $(shell nproc)

.PHONY: all setup build demo test format tidy sanitize fuzz clean
all: build

setup:
	@scripts/setup.sh

build: setup
	@cmake -S . -B $(BUILD) -G Ninja -DACCRETE_TESTS=OFF > /dev/null
	@cmake --build $(BUILD) -j $(JOBS)

demo: build
	@scripts/demo.sh

test:
	@scripts/setup.sh tests
	@cmake -S . -B $(BUILD) -G Ninja -DACCRETE_TESTS=ON > /dev/null
	@cmake --build $(BUILD) -j $(JOBS)
	@scripts/run_tests.sh --test-dir $(BUILD) -j $(JOBS)

format:
	@$(or $(wildcard .venv/bin/clang-format),clang-format) -i $$(git ls-files '*.cc' '*.h' '*.cu')

# One source at a time (CMakePresets.json): batches would hide the sources from clang-tidy.
tidy: setup
	@cmake --preset files > /dev/null
	@clang-tidy -p build-files --quiet $$(git ls-files 'src/*.cc')

# Tests under AddressSanitizer and UBSan, then under ThreadSanitizer, of the layers without tensors (CMakePresets.json).
sanitize:
	@scripts/setup.sh
	@for preset in asan tsan; do JOBS=$(JOBS) scripts/sanitize.sh $$preset || exit 1; done

# libFuzzer targets of the readers; `scripts/fuzz.sh` runs them.
fuzz:
	@cmake -S . -B build-fuzz -G Ninja -DACCRETE_FUZZ=ON -DCMAKE_CXX_COMPILER=clang++ > /dev/null
	@cmake --build build-fuzz -j $(JOBS)
	@cmake --build build-fuzz --target fuzz_seeds > /dev/null

clean:
	rm -rf build build-*
