#!/usr/bin/env bash
# Builds and runs the tests of layers without libtorch under a sanitizer preset (CMakePresets.json).
# usage: scripts/sanitize.sh asan|tsan [LAYER...]     default: base io text ledger
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:?usage: scripts/sanitize.sh asan|tsan [LAYER...]}
shift
layers=("$@")
((${#layers[@]})) || layers=(base io text ledger)
jobs=${JOBS:-$(nproc)}
cmake --preset "$preset" >/dev/null
cmake --build "build-$preset" -j "$jobs" --target "${layers[@]/%/_tests}"
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1
# A program under ThreadSanitizer has a thread of the sanitizer's beside its own: it cannot enter the namespace that a small
# disk is mounted in, and its children are killed before they have begun. Both are tested under the other sanitizer.
leave_out=()
[ "$preset" != tsan ] || leave_out=(-E 'Storage\.FullDisk|LedgerCrash\.Killed')
scripts/run_tests.sh --test-dir "build-$preset" -j "$jobs" -R "^($(IFS='|'; echo "${layers[*]}"))/[A-Z]" "${leave_out[@]}"
