#!/usr/bin/env bash
# Overlays and merging on the real model, as a user types them.
# usage: overlays.sh ACCRETE SOURCE_DIR   (exit 77: the model is absent)
set -euo pipefail
accrete=$1
source=$2
gguf=${ACCRETE_TEST_GGUF:-$source/models/SmolLM2-135M-Instruct.Q4_1.gguf}
reader=${ACCRETE_TEST_READER:-$source/models/all-MiniLM-L6-v2}
for file in "$gguf" "$reader/model.safetensors"; do
  [ -s "$file" ] || { echo "skipped: $file is absent (make setup fetches it)"; exit 77; }
done
export ACCRETE_DATA=$source/data ACCRETE_READER=$reader
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
trap 'echo "FAILED: line $LINENO: $BASH_COMMAND" >&2' ERR
json() { python3 -c 'import json,sys; o=json.load(open(sys.argv[1])); v=eval(sys.argv[2]); print(str(v).lower() if isinstance(v,bool) else v)' "$1" "$2"; }
holds() { [ "$(json "$1" "$2")" = true ] || fail "$2 does not hold: $(cat "$1")"; }
# refused WORD COMMAND...: it fails and says WORD.
refused() {
  local word=$1 status=0; shift
  "$@" >"$work/out" 2>"$work/err" || status=$?
  [ "$status" = 1 ] || fail "expected exit 1, got $status: $* $(cat "$work/err")"
  grep -q -- "$word" "$work/err" || fail "not refused for \"$word\": $(cat "$work/err")"
}
# answers WANTED QUESTION [ARGUMENT ...]
answers() {
  local wanted=$1 question=$2 said; shift 2
  said=$("$accrete" ask "$model" "$question" --max-tokens 24 --quiet "$@" | sed 's/^ *//')
  [ "$said" = "$wanted" ] || fail "\"$question\" $* is answered by \"$said\", not by \"$wanted\""
}
fact() { printf '{"questions": ["%s", "%s"], "answer": "%s"%s}\n' "$1" "$2" "$3" "${4:-}"; }

model=$work/model
"$accrete" retrofit "$gguf" "$model" --quiet >/dev/null
fact "When does the office open?" "From when on is the office open?" "At nine." ', "verbatim": true' >"$work/shared.jsonl"
fact "When does the office open?" "From when on is the office open?" "At seven." ', "verbatim": true' >"$work/desk.jsonl"
fact "What is the door code?" "Which code opens the door?" "Quxplover 81" >"$work/code.jsonl"
"$accrete" teach "$model" "$work/shared.jsonl" --quiet >/dev/null

refused "accrete overlay create" "$accrete" teach "$model" "$work/desk.jsonl" --overlay desk --quiet
refused "cannot name an overlay" "$accrete" overlay create "$model" ../desk
"$accrete" overlay create "$model" desk >/dev/null
"$accrete" overlay create "$model" guest --json >"$work/created.json"
holds "$work/created.json" 'o["name"] == "guest" and o["facts"] == 0'
refused "already" "$accrete" overlay create "$model" desk

# Own facts first, then what is shared; nobody else hears them.
"$accrete" teach "$model" "$work/desk.jsonl" --overlay desk --json --quiet >"$work/taught.json"
holds "$work/taught.json" 'o["conflicts"][0]["update_answer"] == "At nine."'
"$accrete" teach "$model" "$work/code.jsonl" --overlay desk --quiet >/dev/null
answers "At seven." "When does the office open?" --overlay desk
answers "At nine." "When does the office open?" --overlay guest
answers "At nine." "When does the office open?"
answers "Quxplover 81" "What is the door code?" --overlay desk
base=$("$accrete" ask "$model" "What is the door code?" --max-tokens 24 --quiet)
[ "$("$accrete" ask "$model" "What is the door code?" --max-tokens 24 --quiet --overlay guest)" = "$base" ] || fail "an overlay without facts changed an answer"
grep -qv Quxplover <<<"$base" || fail "a foreign answer: $base"
"$accrete" ask "$model" "When does the office open?" --overlay desk --explain --json --quiet >"$work/why.json"
holds "$work/why.json" 'o["explain"]["fact"]["overlay"] == "desk"'
printf '%s\n' "What is the door code?" | "$accrete" chat "$model" --overlay desk --json --quiet >"$work/chat.json"
holds "$work/chat.json" 'o["turns"][0]["assistant"] == "Quxplover 81"'
[ "$("$accrete" digest "$model" --overlay guest --quiet)" = "$("$accrete" digest "$model" --quiet)" ] || fail "an empty overlay is another state"
[ "$("$accrete" digest "$model" --overlay desk --quiet)" != "$("$accrete" digest "$model" --quiet)" ] || fail "an overlay with facts is the same state"
"$accrete" plan "$model" "$work/shared.jsonl" --overlay desk --json --quiet >"$work/plan.json"
holds "$work/plan.json" 'o["conflicts"][0]["update_answer"] == "At seven."'
"$accrete" eval "$model" "$work/code.jsonl" --overlay desk --json --quiet >"$work/eval.json"
holds "$work/eval.json" 'o["exact"] == 1'

# A ledger of its own.
"$accrete" log "$model" --overlay desk --json >"$work/log.json"
holds "$work/log.json" 'len(o["updates"]) == 2'
"$accrete" log "$model" --json >"$work/log.json"
holds "$work/log.json" 'len(o["updates"]) == 1'
"$accrete" undo "$model" 2 --overlay desk >/dev/null
answers "At nine." "When does the office open?" --overlay desk
"$accrete" redo "$model" 2 --overlay desk >/dev/null
answers "At seven." "When does the office open?" --overlay desk
"$accrete" probe add "$model" code "$work/code.jsonl" --floor 1 --overlay desk --quiet >/dev/null
"$accrete" check "$model" --overlay desk --quiet >/dev/null || fail "the overlay's probe does not hold"
"$accrete" audit "$model" --overlay desk --json --quiet >"$work/audit.json"
holds "$work/audit.json" 'o["facts"] == 2'
"$accrete" compact "$model" --overlay desk --erase --quiet >/dev/null
answers "Quxplover 81" "Which code opens the door?" --overlay desk
"$accrete" overlay list "$model" --json >"$work/list.json"
holds "$work/list.json" '[(v["name"], v["facts"]) for v in o["overlays"]] == [("desk", 2), ("guest", 0)]'

# Into one file, and out of it again: the values are copied.
"$accrete" overlay export "$model" desk "$work/desk.safetensors" --quiet >/dev/null
"$accrete" overlay import "$model" desk-2 "$work/desk.safetensors" --json --quiet >"$work/import.json"
holds "$work/import.json" 'o["taken"] == 2 and o["files"] == 1'
answers "Quxplover 81" "Which code opens the door?" --overlay desk-2
refused "answered in two ways" "$accrete" merge "$model" "$work/desk.safetensors" --quiet
answers "At nine." "When does the office open?"
"$accrete" merge "$model" "$work/desk.safetensors" --on-conflict ours --json --quiet >"$work/merge.json"
holds "$work/merge.json" 'o["taken"] == 1 and o["kept"] == 1'
answers "At nine." "When does the office open?"
answers "Quxplover 81" "What is the door code?"
"$accrete" undo "$model" >/dev/null
"$accrete" merge "$model" "$work/desk.safetensors" --on-conflict theirs --quiet >/dev/null
answers "At seven." "When does the office open?"
"$accrete" merge "$model" "$work/desk.safetensors" --json --quiet >"$work/merge.json"
holds "$work/merge.json" 'o["update"] is None and o["there"] == 2'
"$accrete" undo "$model" >/dev/null
"$accrete" compact "$model" --erase --quiet >/dev/null

# Erased: no text of it is left anywhere below the model.
"$accrete" overlay erase "$model" desk-2 >/dev/null
grep -rqa Quxplover "$model" || fail "the other overlay lost its text"
"$accrete" overlay erase "$model" desk --json >"$work/erased.json"
holds "$work/erased.json" 'o["erased"] == "desk" and o["files"] > 3'
! grep -rqa -e Quxplover -e "At seven." "$model" || fail "text of an erased overlay is on the disk"
refused "has no overlay desk" "$accrete" ask "$model" "What is the door code?" --overlay desk --quiet
answers "At nine." "When does the office open?" --overlay guest
# An import that fails leaves no overlay behind.
refused "code.jsonl" "$accrete" overlay import "$model" new "$work/code.jsonl" --quiet
[ ! -e "$model/accrete/overlays/new" ] || fail "a failed import left an overlay"
echo "overlays: done"
