#!/usr/bin/env bash
# Runs CTest. Where CI=true, a test that was skipped (exit status 77, gtest's SKIPPED) or that did not run is a failure:
# what a test needs is there, or the run says so.
# usage: scripts/run_tests.sh CTEST_OPTION...     for example --test-dir build -j 2
set -euo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
ctest --no-tests=error --output-on-failure "$@" | tee "$log" || status=$?
if [ "${CI:-}" = true ] && grep -q '^The following tests did not run:' "$log"; then
  sed -n 's/^[[:space:]]*[0-9]* - \(.*\) (\(.*\))$/FAILED: \1: \2, and in CI every test runs/p' \
    <(sed -n '/^The following tests did not run:/,/^The following tests FAILED:/p' "$log") >&2
  status=1
fi
exit "$status"
