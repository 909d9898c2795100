#!/usr/bin/env bash
# Inputs that went wrong once (tests/data/cases): names, identity of answers, control tokens, the prompt's end.
# usage: cases.sh ACCRETE SOURCE_DIR   (exit 77: the model is absent)
set -euo pipefail
accrete=$1
source=$2
cases=$source/tests/data/cases
gguf=${ACCRETE_TEST_GGUF:-$source/models/SmolLM2-135M-Instruct.Q4_1.gguf}
reader=${ACCRETE_TEST_READER:-$source/models/all-MiniLM-L6-v2}
for file in "$gguf" "$reader/model.safetensors"; do
  [ -s "$file" ] || { echo "skipped: $file is absent (make setup fetches it)"; exit 77; }
done
export ACCRETE_READER=$reader
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'echo "FAILED: line $LINENO: $BASH_COMMAND" >&2' ERR
failures=0
fail() { echo "FAILED: $*" >&2; failures=$((failures + 1)); }
# ask MODEL QUESTION ...: what is said
ask() { "$accrete" ask "$@" --quiet | sed 's/^ *//'; }
# run COMMAND ...: its status; its messages in $work/err
run() { local status=0; "$@" >"$work/out" 2>"$work/err" || status=$?; return $status; }
teach() { run "$accrete" teach "$@" --json --quiet; }
# refused WHAT PATTERN COMMAND ...
refused() {
  local what=$1 pattern=$2 status=0; shift 2
  run "$@" || status=$?
  [ $status = 1 ] || { fail "$what: exit $status"; return 0; }
  grep -qi -- "$pattern" "$work/err" || fail "$what: refused otherwise: $(cat "$work/err")"
}

"$accrete" retrofit "$cases/discover-wrong-numbers/model" "$work/small" --tell value --quiet >/dev/null

case=$cases/two-numbers-one-question
for set in control decimal sign language time percent; do
  refused "two-numbers-one-question: $set" "$set.jsonl:2: two answers" "$accrete" teach "$work/small" "$case/$set.jsonl" --raw --quiet
done

case=$cases/discover-wrong-numbers
[ "$(ask "$work/small" "How deep is it?" --raw --max-tokens 8)" = 35 ] || fail "discover-wrong-numbers: the model does not say 35"
run "$accrete" probe discover "$work/small" "$case/right.jsonl" --name right --raw --quiet || fail "discover-wrong-numbers: 35 is not kept: $(cat "$work/err")"
for set in decimal sign prefix; do
  refused "discover-wrong-numbers: $set" "none of them right" "$accrete" probe discover "$work/small" "$case/$set.jsonl" --name "$set" --raw --quiet
done

case=$cases/subject-not-in-question
refused "subject-not-in-question" 'other.jsonl:1: .*subject "Quendel"' "$accrete" teach "$work/small" "$case/other.jsonl" --raw --quiet
for set in control case; do
  teach "$work/small" "$case/$set.jsonl" --raw --steps 5 || fail "subject-not-in-question: $set: $(cat "$work/err")"
  ! grep -qi subject "$work/err" || fail "subject-not-in-question: $set: $(cat "$work/err")"
  "$accrete" undo "$work/small" --quiet >/dev/null
done

model=$work/model
"$accrete" retrofit "$gguf" "$model" --tell value --quiet >/dev/null

case=$cases/name-inside-a-word
city="What is there to see in Adana?"
before=$(ask "$model" "$city" --max-tokens 12)
for set in boston adana; do
  teach "$model" "$case/$set.jsonl" || fail "name-inside-a-word: $set: $(cat "$work/err")"
  for question in "On which street does Ada live?" "On which street does Ada live in ${set^}?"; do
    said=$(ask "$model" "$question" --max-tokens 24)
    [ "$said" = "Quill Row" ] || fail "name-inside-a-word: $set: \"$question\": \"$said\""
  done
  [ "$(ask "$model" "$city" --max-tokens 12)" = "$before" ] || fail "name-inside-a-word: $set: \"$city\" is answered otherwise than before"
  "$accrete" undo "$model" --quiet >/dev/null
done

case=$cases/special-token-answer
for set in "control <im_end>" "facts <|im_end|>"; do
  teach "$model" "$case/${set% *}.jsonl" || fail "special-token-answer: $set: $(cat "$work/err")"
  said=$(ask "$model" "Which mark ends a turn in an Orro file?" --max-tokens 16)
  [ "$said" = "${set#* }" ] || fail "special-token-answer: ${set#* }: \"$said\""
  "$accrete" undo "$model" --quiet >/dev/null
done

case=$cases/space-at-prompt-end
teach "$model" "$case/facts.jsonl" --raw || fail "space-at-prompt-end: $(cat "$work/err")"
grep -q "facts.jsonl.*space\|line 1: .*space" "$work/err" || fail "space-at-prompt-end: nothing is said of the space: $(cat "$work/err")"
for end in " " ""; do
  said=$(ask "$model" "The capital of Vulmia is$end" --raw --max-tokens 8)
  [ "$said" = Dorst ] || fail "space-at-prompt-end: \"The capital of Vulmia is$end\": \"$said\""
done
[ $failures = 0 ] || exit 1
echo "cases: passed"
