#!/usr/bin/env bash
# Shows that the checks of .ci/run can fail: breaks one thing at a time in a copy, and wants green before and red after.
# usage: scripts/ci_can_fail.sh [BUILD] [--quick]     BUILD: a folder that `make test` built, default build
# --quick leaves out what builds the core anew, under two sanitizers and the fuzzer: seconds instead of some ten minutes.
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD build=build quick=
for argument in "$@"; do [ "$argument" = --quick ] && quick=1 || build=$argument; done
build=$(cd "$build" && pwd) && [ -x "$build/accrete" ] && [ -f "$build/CTestTestfile.cmake" ] ||
  { echo "ci_can_fail: build first: make test" >&2; exit 2; }
export CI=true
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
copy=$work/copy
# What is committed and what is not yet.
git clone -q --no-hardlinks . "$copy"
git diff HEAD --binary | (cd "$copy" && git apply --index --allow-empty 2>/dev/null)
ln -s "$root/.venv" "$copy/.venv"
ln -s "$root/models" "$copy/models"
cd "$copy" && git -c user.name=x -c user.email=x@example.org commit -qam "as it is" >/dev/null 2>&1
missed=0

# breaks WHAT CHECK BREAK: CHECK is green, then BREAK is run in the copy, then CHECK is red for the reason that WANTED says.
breaks() {
  local what=$1 check=$2 change=$3 wanted=$4 began=$SECONDS verdict
  if ! eval "$check" >"$work/log" 2>&1; then
    verdict="NOT GREEN BEFORE: $(tail -3 "$work/log")"
  else
    eval "$change"
    if eval "$check" >"$work/log" 2>&1; then
      verdict="NOT FOUND"
    elif grep -q -e "$wanted" "$work/log"; then
      verdict=found
    else
      verdict="RED FOR ANOTHER REASON: $(tail -3 "$work/log")"
    fi
  fi
  echo "$what: $verdict ($((SECONDS - began)) s)"
  [ "$verdict" = found ] || missed=$((missed + 1))
  git checkout -q . && git clean -fdq -e models -e .venv -e 'build*'
}

breaks "an upward include" ".ci/run layers" "echo '#include \"learn/teach.h\"' >>src/io/tensor.cc" "must not use src/learn"
breaks "a verb that goes around the workspace" ".ci/run layers" "echo '#include \"model/ask.h\"' >>src/cli/ask.cc" "to the layers between"
breaks "a circle of files" ".ci/run layers" "sed -i 's|^#pragma once|&\n#include \"io/gguf_to_hf.h\"|' src/io/gguf.h" "a circle of files"
breaks "libtorch in a layer without it" ".ci/run layers" "echo '#include <ATen/ATen.h>' >>src/text/bpe.cc" "does without libtorch"
breaks "an exception that nobody needs" ".ci/run layers" "sed -i '/#include \"eval\/score.h\"/d' src/learn/teach.cc" "not needed any more"
breaks "an unformatted line" ".ci/run format" "echo 'int   x ;' >>src/io/tensor.cc" "clang-format-violations"
breaks "a wrong cell in a table" "python3 -B bench/make_tables.py --check" \
  "sed -i '/<!-- table desk/,/<!-- end -->/s/100\.0 %/99.9 %/' README.md" "README.md"
breaks "a wrong speed" "python3 -B bench/speed_tables.py --check" \
  "sed -i '/<!-- table/,/<!-- end -->/s/1\.\([0-9]\)/2.\1/' docs/speed.md" "speed.md"
object=CMakeFiles/accrete_core.dir/src/base/error.cc.o
breaks "a warning" "cmake -S . -B build-one -G Ninja -DACCRETE_TESTS=OFF && cmake --build build-one --target $object" \
  "echo 'static int unused_function() { return 1; }' >>src/base/error.cc" "Werror=unused-function"
for file in GGUF READER; do
  breaks "a model that is absent ($file)" "$root/scripts/run_tests.sh --test-dir $build -R '^layers$'" \
    "check='ACCRETE_TEST_$file=/absent $root/scripts/run_tests.sh --test-dir $build -R ^cli/end_to_end'" "FAILED: cli/end_to_end: Skipped"
done
breaks "a made-up difference between two builds" true "check='$root/scripts/identity.sh --self-test $build && false'" "0 not found"

if [ -z "$quick" ]; then
  breaks "a read past a buffer" "scripts/sanitize.sh asan base" \
    "sed -i '0,/^TEST(/s//TEST(Broken, ReadsPastABuffer) {\n  const std::unique_ptr<char[]> p(new char[8]);\n  volatile size_t n = 8;\n  EXPECT_NE(p[n], 1);\n}\n\nTEST(/' tests/base/sha256_test.cc" \
    "heap-buffer-overflow"
  breaks "a data race" "scripts/sanitize.sh tsan base" \
    "sed -i '0,/^TEST(/s//TEST(Broken, Races) {\n  int count = 0;\n  auto other = beside([\&] { for (int i = 0; i < 100000; ++i) ++count; });\n  for (int i = 0; i < 100000; ++i) ++count;\n  other.get();\n}\n\nTEST(/' tests/base/threads_test.cc" \
    "data race"
  breaks "a reader that trusts a length" "make -s fuzz && scripts/fuzz.sh 30s wordpiece" \
    "sed -i 's|^extern \"C\" int LLVMFuzzerTestOneInput(.*|&\n  if (size > 4 \&\& data[2] == 66) __builtin_trap();|' tests/fuzz/fuzz_wordpiece.cc" "a finding"
fi
echo "ci_can_fail: $missed not found"
[ "$missed" = 0 ]
