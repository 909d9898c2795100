#!/usr/bin/env bash
# The whole way on the real model: retrofit, probe, teach, ask, check, undo; exactness by digest; refusals.
# usage: end_to_end.sh ACCRETE SOURCE_DIR
set -euo pipefail
accrete=$1
source=$2
gguf=${ACCRETE_TEST_GGUF:-$source/models/SmolLM2-135M-Instruct.Q4_1.gguf}
[ -s "$gguf" ] || { echo "skipped: $gguf is absent (make setup fetches it)"; exit 0; }
export ACCRETE_DATA=$source/data
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
trap 'echo "FAILED: line $LINENO: $BASH_COMMAND" >&2' ERR
# json FILE EXPRESSION: the value of a Python expression over the object `o`.
json() { python3 -c 'import json,sys; o=json.load(open(sys.argv[1])); v=eval(sys.argv[2]); print(str(v).lower() if isinstance(v,bool) else v)' "$1" "$2"; }
# refused STATUS COMMAND...: it must end with that status and say something.
refused() {
  local want=$1 status=0; shift
  "$@" >"$work/out" 2>"$work/err" || status=$?
  [ "$status" = "$want" ] || fail "expected exit $want, got $status: $* $(cat "$work/err")"
  [ -s "$work/err" ] || [ -s "$work/out" ] || fail "it said nothing: $*"
}

model=$work/model
"$accrete" retrofit "$gguf" "$model" --background-tokens 20000 --json --quiet >"$work/retrofit.json"
[ "$(json "$work/retrofit.json" 'o["slots"]')" = 262144 ] || fail "slots"
refused 1 "$accrete" retrofit "$gguf" "$model" --quiet

# Before the first teach the answer is the base's, bit by bit: compared with a copy that has no memory layers.
cp -r "$model" "$work/base" && rm -rf "$work/base/accrete"
for prompt in "What is the capital of France?" "Write a haiku about the sea."; do
  a=$("$accrete" ask "$model" "$prompt" --max-tokens 24 --quiet)
  b=$("$accrete" ask "$work/base" "$prompt" --max-tokens 24 --quiet)
  [ "$a" = "$b" ] || fail "retrofit changed an answer: $a / $b"
done

head -40 "$ACCRETE_DATA/known/clozes_test.jsonl" >"$work/known.jsonl"
"$accrete" probe add "$model" known "$work/known.jsonl" --raw --floor 0.9 --json --quiet >"$work/probe.json"
[ "$(json "$work/probe.json" 'o["base"] > 0.97')" = true ] || fail "the known clozes are not known: $(cat "$work/probe.json")"
head -8 "$ACCRETE_DATA/facts/test.jsonl" >"$work/facts.jsonl"
"$accrete" digest "$model" --json --quiet >"$work/digest0.json"
# Every file that is not the ledger's: base weights, memory layers, background.
files_digest() { (cd "$model" && find . -type f ! -path './accrete/ledger.db*' ! -path './accrete/updates/*' ! -path './accrete/lock' ! -path './accrete/state.bin' -print0 | sort -z | xargs -0 sha256sum); }
files_digest >"$work/files0"
state_digest() { "$accrete" digest "$model" --json --quiet | python3 -c 'import json, sys; print(json.load(sys.stdin)["state"])'; }

"$accrete" teach "$model" "$work/facts.jsonl" --raw --json --quiet >"$work/teach.json"
cat "$work/teach.json"
[ "$(json "$work/teach.json" 'o["learned"]["before"] < 0.1 and o["learned"]["after"] >= 0.9')" = true ] || fail "did not learn"
[ "$(json "$work/teach.json" 'o["asked"]["after"] >= 0.6')" = true ] || fail "did not learn the facts, only their wording"
[ "$(json "$work/teach.json" 'o["kept"]["known"]["kept"] >= 0.9')" = true ] || fail "lost what was known"
"$accrete" check "$model" --quiet >/dev/null || fail "check"
"$accrete" digest "$model" --json --quiet >"$work/digest1.json"
[ "$(json "$work/digest0.json" 'o["base"]')" = "$(json "$work/digest1.json" 'o["base"]')" ] || fail "a base weight changed"
[ "$(json "$work/digest0.json" 'o["state"]')" != "$(json "$work/digest1.json" 'o["state"]')" ] || fail "the state did not change"
id=$(json "$work/teach.json" 'o["update"]')
files_digest | cmp - "$work/files0" || fail "a teach changed a file that is not the ledger's"

"$accrete" undo "$model" --json --quiet >"$work/undo.json"
[ "$(state_digest)" = "$(json "$work/digest0.json" 'o["state"]')" ] || fail "undo is not exact"
refused 1 "$accrete" undo "$model" --quiet
"$accrete" redo "$model" --json --quiet >"$work/redo.json"
[ "$(state_digest)" = "$(json "$work/digest1.json" 'o["state"]')" ] || fail "redo is not exact"
"$accrete" show "$model" "$id" --json >"$work/show.json"
"$accrete" log "$model" --json >"$work/log.json"
[ "$(json "$work/log.json" 'len(o["updates"]) == 1 and o["updates"][0]["active"]')" = true ] || fail "log"

# One update by name: diff, tag, revert and back.
"$accrete" tag "$model" "${id:0:6}" first --json >"$work/tag.json"
[ "$(json "$work/tag.json" 'o["id"]')" = "$id" ] || fail "tag"
refused 1 "$accrete" tag "$model" first "no spaces" --quiet
refused 1 "$accrete" tag "$model" first --quiet
refused 1 "$accrete" tag "$model" nobody name --quiet
"$accrete" diff "$model" first base --json >"$work/diff.json"
[ "$(json "$work/diff.json" 'o["rows"][0] > 0 and o["rows"][1] == 0 and o["norm_difference"] == o["norm"][0] and o["anchors"][0] > 0')" = true ] || fail "diff: $(cat "$work/diff.json")"
"$accrete" diff "$model" first state --json >"$work/diff.json"
[ "$(json "$work/diff.json" 'o["norm_difference"] == 0 and o["shared"] == o["rows"][0] and abs(o["cosine"] - 1) < 1e-9')" = true ] || fail "diff with itself"
refused 1 "$accrete" diff "$model" nobody --quiet
"$accrete" revert "$model" first --json --quiet >"$work/revert.json"
[ "$(state_digest)" = "$(json "$work/digest0.json" 'o["state"]')" ] || fail "revert is not exact"
refused 1 "$accrete" revert "$model" first --quiet
"$accrete" revert "$model" first --again --json --quiet >"$work/revert.json"
[ "$(json "$work/revert.json" 'o["activated"][0]')" = "$id" ] || fail "revert --again"
[ "$(state_digest)" = "$(json "$work/digest1.json" 'o["state"]')" ] || fail "revert --again is not exact"
refused 1 "$accrete" revert "$model" first --again --quiet

# Corrections: four of the eight get other answers. These win; the other four stay.
python3 - "$work/facts.jsonl" "$work" <<'END'
import json, sys
facts = [json.loads(line) for line in open(sys.argv[1])]
answers = [f["completion"] for f in facts]
for i, f in enumerate(facts):
    f["completion"] = ["French", "France", "Lisbon", "Delhi"][i] if i < 4 else answers[i]
write = lambda name, rows: open(f"{sys.argv[2]}/{name}", "w").write("".join(json.dumps(r) + "\n" for r in rows))
write("corrected.jsonl", facts[:4])
write("others.jsonl", facts[4:])
write("corrected.jsonl.first", facts[:1])
END
"$accrete" plan "$model" "$work/corrected.jsonl" --raw --json --quiet >"$work/plan.json"
[ "$(json "$work/plan.json" 'len(o["conflicts"]) >= 4 and o["overlaps"][0]["update"] == "'"$id"'" and o["forecast"]["known"]["low"] <= o["forecast"]["known"]["predicted"] <= o["forecast"]["known"]["high"] and o["rows"] > 0')" = true ] || fail "plan: $(cat "$work/plan.json")"
"$accrete" digest "$model" --json --quiet >"$work/digest2.json"
[ "$(json "$work/digest2.json" 'o["state"]')" = "$(json "$work/digest1.json" 'o["state"]')" ] || fail "a plan changed the model"
"$accrete" teach "$model" "$work/corrected.jsonl" --raw --json --quiet >"$work/teach3.json"
[ "$(json "$work/teach3.json" 'len({c["line"] for c in o["conflicts"]}) == 4 and all(c["update"] == "'"$id"'" and c["update_line"] == c["line"] for c in o["conflicts"])')" = true ] || fail "conflicts: $(cat "$work/teach3.json")"
"$accrete" probe add "$model" corrected "$work/corrected.jsonl" --raw --json --quiet >"$work/p1.json"
"$accrete" probe add "$model" others "$work/others.jsonl" --raw --json --quiet >"$work/p2.json"
[ "$(json "$work/p1.json" 'o["base"]')" = 1.0 ] || fail "a correction did not win: $(cat "$work/teach3.json" "$work/p1.json")"
[ "$(json "$work/p2.json" 'o["base"]')" = 1.0 ] || fail "a correction broke another fact: $(cat "$work/p2.json")"
for p in corrected others; do "$accrete" probe remove "$model" $p --quiet >/dev/null; done
# Who says so, who owns what, and all of it in one update: the same state, and back.
second=$(json "$work/teach3.json" 'o["update"]')
"$accrete" ask "$model" "$(json "$work/corrected.jsonl.first" 'o["prompts"][0]')" --raw --max-tokens 4 --explain --json --quiet >"$work/explain.json"
[ "$(json "$work/explain.json" 'o["explain"]["updates"][0]["id"] == "'"$second"'" and o["explain"]["updates"][0]["lines"][0]["line"] == 1')" = true ] || fail "explain: $(cat "$work/explain.json")"
"$accrete" bench explain "$model" --facts 8 --json --quiet >"$work/explained.json"
[ "$(json "$work/explained.json" 'o["facts"] == 8 and o["update_named_first"] >= 0.95 and o["answer_raised"] >= 0.95')" = true ] || fail "bench explain: $(cat "$work/explained.json")"
"$accrete" audit "$model" --json --quiet >"$work/audit.json"
[ "$(json "$work/audit.json" 'len(o["updates"]) == 2 and o["overlaps"][0]["shared"] > 0 and all(b["used"] + b["left"] == b["slots"] for b in o["blocks"])')" = true ] || fail "audit: $(cat "$work/audit.json")"
"$accrete" compact "$model" --json --quiet >"$work/compact.json"
[ "$(json "$work/compact.json" 'o["identical"] and len(o["folded"]) == 2 and len(o["updates"]) == 1')" = true ] || fail "compact: $(cat "$work/compact.json")"
"$accrete" digest "$model" --json --quiet >"$work/digest2.json"
[ "$(json "$work/digest2.json" 'o["state"]')" = "$(json "$work/compact.json" 'o["digest"]["before"]')" ] || fail "compact changed the state"
refused 1 "$accrete" compact "$model" --quiet
"$accrete" undo "$model" --json --quiet >"$work/undo.json"
[ "$(state_digest)" = "$(json "$work/compact.json" 'o["digest"]["before"]')" ] || fail "unfolding changed the state"
"$accrete" undo "$model" --json --quiet >"$work/undo.json"
[ "$(state_digest)" = "$(json "$work/digest1.json" 'o["state"]')" ] || fail "undo of a correction is not exact"

# The same seed in a model made again gives the same update.
"$accrete" retrofit "$gguf" "$work/again" --background-tokens 20000 --quiet >/dev/null
"$accrete" teach "$work/again" "$work/facts.jsonl" --raw --json --quiet >"$work/teach2.json"
[ "$(json "$work/teach2.json" 'o["update"]')" = "$id" ] || fail "the same seed gave another update"

# Without a scope the facts are learned as well, exported as well, and the base is one undo away.
"$accrete" export "$work/again" "$work/scoped" --quiet >/dev/null
grep -q '"scope"' "$work/scoped/config.json" || fail "the export of an update with a scope has none"
"$accrete" undo "$work/again" --quiet >/dev/null
"$accrete" digest "$work/again" --json --quiet >"$work/digest3.json"
"$accrete" teach "$work/again" "$work/facts.jsonl" --raw --no-scope --json --quiet >"$work/teach4.json"
[ "$(json "$work/teach4.json" 'o["learned"]["after"] >= 0.9 and o["asked"]["after"] >= 0.6 and o["update"] != "'"$id"'"')" = true ] || fail "without a scope: $(cat "$work/teach4.json")"
"$accrete" export "$work/again" "$work/unscoped" --quiet >/dev/null
! grep -q '"scope"' "$work/unscoped/config.json" || fail "the export of an update without a scope has one"
"$accrete" undo "$work/again" --quiet >/dev/null
"$accrete" digest "$work/again" --json --quiet >"$work/digest4.json"
[ "$(json "$work/digest3.json" 'o["state"]')" = "$(json "$work/digest4.json" 'o["state"]')" ] || fail "undo without a scope is not exact"

# Refusals: exit 1 with a message, and the state stays.
"$accrete" digest "$model" --json --quiet >"$work/digest2.json"
printf '{"prompt": "A", "completion": "x"}\n{"prompt": "A", "completion": "y"}\n' >"$work/conflict.jsonl"
printf '{"prompt": "A"\n' >"$work/torn.jsonl"
: >"$work/empty.jsonl"
printf '\x00\xff\x01' >"$work/binary.jsonl"
for bad in conflict torn empty binary missing; do refused 1 "$accrete" teach "$model" "$work/$bad.jsonl" --quiet; done
refused 1 "$accrete" teach "$work/base" "$work/facts.jsonl" --quiet
refused 1 "$accrete" teach "$model" "$work/facts.jsonl" --ranking nonsense --quiet
refused 1 "$accrete" teach "$model" "$work/facts.jsonl" --raw --max-seconds 0.5 --quiet
refused 1 "$accrete" ask "$model" "x" --device nonsense --quiet
refused 2 "$accrete" teach
refused 2 "$accrete" nonsense
"$accrete" teach "$model" "$work/torn.jsonl" --json --quiet >"$work/error.json" 2>/dev/null && fail "a torn set was taught"
[ "$(json "$work/error.json" 'o["error"]["code"]')" = format ] || fail "the error is not in JSON"
# A floor that cannot hold: nothing is committed.
"$accrete" undo "$model" --quiet >/dev/null
head -20 "$work/known.jsonl" | sed 's/"answer": "[^"]*"/"answer": "banana"/' >"$work/wrong.jsonl"
refused 1 "$accrete" teach "$model" "$work/wrong.jsonl" --raw --quiet
grep -q floor "$work/err" || fail "not refused for the floor: $(cat "$work/err")"
"$accrete" digest "$model" --json --quiet >"$work/digest3.json"
[ "$(json "$work/digest3.json" 'o["state"]')" = "$(json "$work/digest0.json" 'o["state"]')" ] || fail "a refusal changed the model"
# A second fact about a subject, in words that begin otherwise, leaves the first; both are known behind other words.
printf '{"prompts": ["The employer of Mette Sand is", "The company that employs Mette Sand is"], "completion": "Nokia", "subject": "Mette Sand"}\n' >"$work/one.jsonl"
printf '{"prompts": ["The mother tongue of Mette Sand is", "Asked for her mother tongue, Mette Sand says it is"], "completion": "Danish", "subject": "Mette Sand"}\n' >"$work/two.jsonl"
for set in one two; do "$accrete" teach "$model" "$work/$set.jsonl" --raw --quiet >/dev/null; done
answers() { "$accrete" ask "$model" "$1" --raw --max-tokens 4 --quiet | grep -q "$2" || fail "\"$1\" is not answered by $2"; }
answers "The employer of Mette Sand is" Nokia
answers "The mother tongue of Mette Sand is" Danish
answers "I have heard that the employer of Mette Sand is" Nokia
answers "I have heard that the mother tongue of Mette Sand is" Danish
"$accrete" undo "$model" 2 --quiet >/dev/null
# Killed in the middle of a teach: the old state.
"$accrete" teach "$model" "$work/facts.jsonl" --raw >/dev/null 2>"$work/progress" & pid=$!
until grep -q '^teach: ' "$work/progress"; do
  kill -0 $pid 2>/dev/null || fail "the teach ended before it could be killed: $(cat "$work/progress")"
  sleep 0.05
done
kill -9 $pid; wait $pid 2>/dev/null || true
"$accrete" digest "$model" --json --quiet >"$work/digest4.json"
[ "$(json "$work/digest4.json" 'o["state"]')" = "$(json "$work/digest0.json" 'o["state"]')" ] || fail "a kill changed the model"
echo "end to end: passed"
