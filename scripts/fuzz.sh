#!/usr/bin/env bash
# Runs every fuzz target until it has done RUNS executions in all (10^7 by default), one after another; what was done is
# counted beside the targets, so that a run that was stopped goes on. A finding ends it with its input's path.
# usage: scripts/fuzz.sh [RUNS|SECONDSs] [TARGET...]     (`make fuzz` builds the targets; FUZZ_BUILD names another build of
#        them, for example one without sanitizers, which is several times as fast and grows the same corpus)
# With seconds ("30s") each target runs for so long from its corpus, whatever was done before.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-10000000}
shift || true
folder=${FUZZ_BUILD:-build-fuzz}
[ -d "$folder/tests/fuzz/seeds" ] || { echo "fuzz: the targets are not built; try: make fuzz" >&2; exit 1; }
targets=("$@")
((${#targets[@]})) || for source in tests/fuzz/fuzz_*.cc; do targets+=("$(basename "$source" .cc | sed 's/^fuzz_//')"); done
piece=500000
# No stack for every allocation: twice as fast.
export ASAN_OPTIONS=malloc_context_size=1:quarantine_size_mb=8
# Every byte of a text costs several tokenizers their work; the readers' headers need more room.
most() { case $1 in tokenizer | wordpiece | dataset) echo 256 ;; *) echo 1024 ;; esac; }
# fuzz TARGET OPTION: one run of it
fuzz() {
  "$folder/tests/fuzz/fuzz_$1" "$2" -max_len="$(most "$1")" -timeout=20 -entropic=0 -verbosity=0 -print_final_stats=1 \
    -artifact_prefix="$state/" "$corpus" "$folder/tests/fuzz/seeds/$1" >"$state/log" 2>&1 ||
    { tail -30 "$state/log" >&2; echo "fuzz: $1: a finding in $state" >&2; exit 1; }
}
for target in "${targets[@]}"; do
  state=$folder/state/$target
  corpus=build-fuzz/corpus/$target
  mkdir -p "$state" "$corpus"
  [ -n "$(ls -A "$folder/tests/fuzz/seeds/$target")" ] || { echo "fuzz: $target has no seeds" >&2; exit 1; }
  if [[ $runs == *s ]]; then
    fuzz "$target" -max_total_time="${runs%s}"
    echo "$target: ${runs%s} seconds, $(sed -n 's/^stat::number_of_executed_units: *//p' "$state/log") executions, no finding"
    continue
  fi
  done=$(cat "$state/runs" 2>/dev/null || echo 0)
  while ((done < runs)); do
    now=$((runs - done < piece ? runs - done : piece))
    fuzz "$target" -runs="$now"
    done=$((done + now))
    echo "$done" >"$state/runs"
  done
  echo "$target: $done executions, $(find "$corpus" -type f | wc -l) inputs in the corpus, no finding"
done
