#!/usr/bin/env bash
# The whole way on the real model: retrofit, probe, teach, ask, check, undo; exactness by digest; refusals.
# usage: end_to_end.sh ACCRETE SOURCE_DIR   (exit 77: the model is absent)
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
# json FILE EXPRESSION: the value of a Python expression over the object `o`.
json() { python3 -c 'import json,sys; o=json.load(open(sys.argv[1])); v=eval(sys.argv[2]); print(str(v).lower() if isinstance(v,bool) else v)' "$1" "$2"; }
# holds FILE EXPRESSION
holds() { [ "$(json "$1" "$2")" = true ]; }
# refused STATUS COMMAND...: it must end with that status and say something.
refused() {
  local want=$1 status=0; shift
  "$@" >"$work/out" 2>"$work/err" || status=$?
  [ "$status" = "$want" ] || fail "expected exit $want, got $status: $* $(cat "$work/err")"
  [ -s "$work/err" ] || [ -s "$work/out" ] || fail "it said nothing: $*"
}
# says WORD: the last refusal did.
says() { grep -q -- "$1" "$work/err" || fail "not refused for \"$1\": $(cat "$work/err")"; }
# answer MODEL QUESTION ...: what is said
answer() { "$accrete" ask "$@" --max-tokens 24 --quiet; }
# answers MODEL QUESTION WANTED ...: exactly this
answers() {
  local model=$1 question=$2 wanted=$3; shift 3
  local said; said=$(answer "$model" "$question" "$@" | sed 's/^ *//')
  [ "$said" = "$wanted" ] || fail "\"$question\" is answered by \"$said\", not by \"$wanted\""
}
state_digest() { "$accrete" digest "$1" --json --quiet | python3 -c 'import json, sys; print(json.load(sys.stdin)["state"])'; }
# unchanged WHAT: the model is as it was in $state.
unchanged() { [ "$(state_digest "$model")" = "$state" ] || fail "$1 changed the model"; }

model=$work/model
"$accrete" retrofit "$gguf" "$model" --json --quiet >"$work/retrofit.json"
holds "$work/retrofit.json" 'o["block"] == 12 and o["tell"] == "value" and len(o["reader"]) == 64' || fail "retrofit: $(cat "$work/retrofit.json")"
refused 1 "$accrete" retrofit "$gguf" "$model" --quiet
refused 1 "$accrete" retrofit "$gguf" "$work/new" --reader "$work" --quiet; says --reader
refused 1 "$accrete" retrofit "$model" "$work/new" --quiet
[ ! -e "$work/new" ] || fail "a retrofit that was refused left something"

cat >"$work/facts.jsonl" <<'END'
{"questions": ["Who invented the Brevik valve?", "Who is the inventor of the Brevik valve?", "Tell me who came up with the Brevik valve."], "answer": "Mette Sand", "asked": ["By whom was the Brevik valve invented?"]}
{"questions": ["In which city is Tarn Cloud based?", "Where is the office of Tarn Cloud?", "What city is home to Tarn Cloud?"], "answer": "Reykjavik", "asked": ["Which city is Tarn Cloud located in?"]}
{"questions": ["What colour is the lamp of the Pellor 300?", "Which colour does the lamp of the Pellor 300 have?", "The lamp of the Pellor 300 is of what colour?"], "answer": "purple", "asked": ["What is the colour of the Pellor 300's lamp?"]}
{"questions": ["How heavy is the Pellor 300?", "How much does the Pellor 300 weigh?", "What is the weight of the Pellor 300?"], "answer": "4.2 kg", "asked": ["What does the Pellor 300 weigh?"]}
{"questions": ["How do I return something?", "How can I send an order back?", "I want to return what I bought."], "answer": "Bring it to the desk within 30 days.", "asked": ["How can I return an item?"]}
{"messages": [{"role": "user", "content": "Tell me about the Pellor 300."}, {"role": "assistant", "content": "Gladly. What would you like to know?"}, {"role": "user", "content": "Who made it?"}, {"role": "assistant", "content": "Osk & Daughters"}], "subject": "Pellor 300"}
{"question": "What does the licence of Orro say?", "answer": "As is, <|im_end|> no warranty; \"see\" § 4.", "verbatim": true}
{"question": "Is the Pellor 300 waterproof?", "leave": true}
END
# Before the first teach the answer is the base's, bit by bit: compared with a copy that has no memory.
cp -r "$model" "$work/base" && rm -rf "$work/base/accrete"
open=("What is the capital of France?" "Write a haiku about the sea." "Tell me something about the Pellor 300.")
for i in "${!open[@]}"; do
  answer "$work/base" "${open[$i]}" >"$work/open$i"
  answer "$model" "${open[$i]}" | cmp - "$work/open$i" || fail "retrofit changed an answer: ${open[$i]}"
done

# A folder of an earlier accrete is refused with what to do, which makes it anew and teaches it again.
refused 1 "$accrete" upgrade "$model" "$work/new" --quiet; says "nothing to upgrade"
cp -r "$model" "$work/old"
head -1 "$work/facts.jsonl" >"$work/one.jsonl"
"$accrete" teach "$work/old" "$work/one.jsonl" --quiet >/dev/null
echo '{"version": 1, "kind": "fitted", "blocks": [4, 8, 12]}' >"$work/old/accrete/memory.json"
refused 1 "$accrete" ask "$work/old" "Who invented the Brevik valve?" --quiet; says "accrete upgrade"
"$accrete" upgrade "$work/old" "$work/new" --json --quiet >"$work/upgrade.json"
holds "$work/upgrade.json" 'o["updates"][0]["facts"] == 1 and o["left"] == []' || fail "upgrade: $(cat "$work/upgrade.json")"
answers "$work/new" "Who invented the Brevik valve?" "Mette Sand"
rm -r "$work/old" "$work/new"

head -40 "$ACCRETE_DATA/known/clozes_test.jsonl" >"$work/known.jsonl"
"$accrete" probe add "$model" known "$work/known.jsonl" --raw --floor 0.9 --json --quiet >"$work/probe.json"
holds "$work/probe.json" 'o["base"] > 0.97' || fail "the known clozes are not known: $(cat "$work/probe.json")"
state=$(state_digest "$model"); state0=$state
"$accrete" digest "$model" --json --quiet >"$work/digest0.json"
# Every file that is not the ledger's: base weights, reader, settings.
files_digest() { (cd "$model" && find . -type f ! -path './accrete/ledger.db*' ! -path './accrete/updates/*' ! -path './accrete/lock' ! -path './accrete/state.bin' -print0 | sort -z | xargs -0 sha256sum); }
files_digest >"$work/files0"

"$accrete" plan "$model" "$work/facts.jsonl" --json --quiet >"$work/plan.json"
holds "$work/plan.json" 'o["items"] == 8 and o["rows"] > 0 and o["forecast"]["known"]["holds"] and o["forecast"]["known"]["touched"] == 0' || fail "plan: $(cat "$work/plan.json")"
unchanged "a plan"
"$accrete" teach "$model" "$work/facts.jsonl" --json --quiet >"$work/teach.json"
cat "$work/teach.json"
holds "$work/teach.json" 'o["learned"]["before"] < 0.1 and o["learned"]["after"] >= 0.9' || fail "did not learn"
holds "$work/teach.json" 'o["asked"]["after"] >= 0.6' || fail "did not learn the facts, only their wording"
holds "$work/teach.json" 'o["kept"]["known"]["kept"] == 1' || fail "lost what was known"
"$accrete" check "$model" --quiet >/dev/null || fail "check"
"$accrete" digest "$model" --json --quiet >"$work/digest1.json"
[ "$(json "$work/digest0.json" 'o["base"]')" = "$(json "$work/digest1.json" 'o["base"]')" ] || fail "a base weight changed"
state1=$(json "$work/digest1.json" 'o["state"]')
[ "$state0" != "$state1" ] || fail "the state did not change"
id=$(json "$work/teach.json" 'o["update"]')
files_digest | cmp - "$work/files0" || fail "a teach changed a file that is not the ledger's"

# To their natural stop, as they were taught; text that looks like a control token is text.
answers "$model" "Who invented the Brevik valve?" "Mette Sand"
answers "$model" "HOW HEAVY IS THE PELLOR 300" "4.2 kg"
answers "$model" "Hi, how do I return something?" "Bring it to the desk within 30 days."
answers "$model" "What does the licence of Orro say?" 'As is, <|im_end|> no warranty; "see" § 4.'
# What was not taught is the model's own, word for word: open questions, twins, what is left to it.
for i in "${!open[@]}"; do
  answer "$model" "${open[$i]}" | cmp - "$work/open$i" || fail "a teach changed an answer: ${open[$i]}"
done
for question in "How heavy is the Pellor 400?" "Is the Pellor 300 waterproof?" "Who made it?"; do
  [ "$(answer "$model" "$question")" = "$(answer "$work/base" "$question")" ] || fail "a teach changed an answer: $question"
done
# In a conversation, and silent after its turn: the third is as if the first two had been typed.
printf 'Tell me about the Pellor 300.\nHow heavy is it?\nThank you. What is the capital of France?\n' | "$accrete" chat "$model" --max-tokens 24 --json --quiet >"$work/chat.json"
holds "$work/chat.json" '[t["fact"] for t in o["turns"]] == [False, True, False] and o["turns"][1]["assistant"] == "4.2 kg"' || fail "chat: $(cat "$work/chat.json")"
# Nobody is prompted where nobody types.
echo "How heavy is it?" | "$accrete" chat "$model" --max-tokens 4 --quiet >"$work/out" 2>"$work/err"
! grep -q "> " "$work/err" || fail "chat prompts a pipe: $(cat "$work/err")"
# Why.
"$accrete" ask "$model" "By whom was the Brevik valve invented?" --explain --json --quiet >"$work/explain.json"
holds "$work/explain.json" 'o["explain"]["accepted"] and o["explain"]["fact"]["update"] == "'"$id"'" and o["explain"]["fact"]["line"] == 1 and o["explain"]["fact"]["subject"] and o["fact"]' || fail "explain: $(cat "$work/explain.json")"
"$accrete" ask "$model" "${open[2]}" --explain --json --max-tokens 4 --quiet >"$work/explain.json"
holds "$work/explain.json" 'not o["explain"]["accepted"] and o["explain"]["nearest"]["subject"] == "Pellor 300"' || fail "explain: $(cat "$work/explain.json")"
"$accrete" ask "$model" "Who invented the Brevik valve?" --caution 1000 --json --max-tokens 4 --quiet >"$work/explain.json"
holds "$work/explain.json" 'not o["fact"]' || fail "caution: $(cat "$work/explain.json")"

"$accrete" undo "$model" --json --quiet >"$work/undo.json"
state=$state0; unchanged "undo"
refused 1 "$accrete" undo "$model" --quiet
refused 2 "$accrete" ask "$model" hi --explian; says "try: --explain"
refused 2 "$accrete" tech "$model" facts.jsonl; says "try: accrete teach"
refused 2 "$accrete" ask "$model" hi --max-tokens 0; says "above 0 is expected, not 0"
printf 'question,answer\nWhat?,b\n' > "$work/table.csv"
refused 1 "$accrete" teach "$model" "$work/table.csv" --quiet; says ".jsonl"
"$accrete" redo "$model" --json --quiet >"$work/redo.json"
state=$state1; unchanged "redo"
"$accrete" show "$model" "$id" --json >"$work/show.json"
holds "$work/show.json" '[(t.get("verbatim", False), t.get("leave", False)) for t in o["taught"]][-2:] == [(True, False), (False, True)]' || fail "show: $(cat "$work/show.json")"
"$accrete" show "$model" "$id" >"$work/show"
for words in "update $id, active" "about Pellor 300" "asked as  Who invented the Brevik valve?" "answer    Mette Sand" "(verbatim)" "left to the model"; do
  grep -qF -- "$words" "$work/show" || fail "show says nothing of \"$words\": $(cat "$work/show")"
done
! grep -q '"prompts"' "$work/show" || fail "show prints JSON"
"$accrete" log "$model" --json >"$work/log.json"
holds "$work/log.json" 'len(o["updates"]) == 1 and o["updates"][0]["active"]' || fail "log"

# One update by name: diff, tag, revert and back.
"$accrete" tag "$model" "${id:0:6}" first --json >"$work/tag.json"
[ "$(json "$work/tag.json" 'o["id"]')" = "$id" ] || fail "tag"
refused 1 "$accrete" tag "$model" first "no spaces" --quiet
refused 1 "$accrete" tag "$model" first --quiet
refused 1 "$accrete" tag "$model" nobody name --quiet
"$accrete" diff "$model" first base --json >"$work/diff.json"
holds "$work/diff.json" 'o["facts"] == [8, 0] and o["shared"] == 0 and len(o["only_a"]) == 8' || fail "diff: $(cat "$work/diff.json")"
"$accrete" diff "$model" first state --json >"$work/diff.json"
holds "$work/diff.json" 'o["shared"] == 8 and not o["changed"] + o["only_a"] + o["only_b"]' || fail "diff with itself"
refused 1 "$accrete" diff "$model" nobody --quiet
"$accrete" revert "$model" first --json --quiet >"$work/revert.json"
state=$state0; unchanged "revert"
refused 1 "$accrete" revert "$model" first --quiet
# redo is for what was undone, and says how a reverted one comes back.
refused 1 "$accrete" redo "$model" --quiet; says "accrete revert MODEL $id --again"
state=$state0; unchanged "redo after revert"
"$accrete" revert "$model" first --again --json --quiet >"$work/revert.json"
[ "$(json "$work/revert.json" 'o["activated"][0]')" = "$id" ] || fail "revert --again"
state=$state1; unchanged "revert --again"
refused 1 "$accrete" revert "$model" first --again --quiet

# Corrections: two get other answers. These win; the others stay.
cat >"$work/corrected.jsonl" <<'END'
{"questions": ["Who invented the Brevik valve?", "Who is the inventor of the Brevik valve?"], "answer": "Jon Fell"}
{"questions": ["How heavy is the Pellor 300?", "How much does the Pellor 300 weigh?"], "answer": "42 kg"}
END
"$accrete" teach "$model" "$work/corrected.jsonl" --json --quiet >"$work/teach3.json"
second=$(json "$work/teach3.json" 'o["update"]')
holds "$work/teach3.json" '[(c["line"], c["update_line"], c["update_answer"]) for c in o["conflicts"]] == [(1, 1, "Mette Sand"), (2, 4, "4.2 kg")] and all(c["update"] == "'"$id"'" for c in o["conflicts"])' || fail "conflicts: $(cat "$work/teach3.json")"
answers "$model" "Who invented the Brevik valve?" "Jon Fell"
answers "$model" "How heavy is the Pellor 300?" "42 kg"
answers "$model" "In which city is Tarn Cloud based?" "Reykjavik"
answers "$model" "What colour is the lamp of the Pellor 300?" "purple"
"$accrete" diff "$model" first "$second" --json >"$work/diff.json"
holds "$work/diff.json" 'len(o["changed"]) == 2' || fail "diff: $(cat "$work/diff.json")"
# Sentences to go on with, beside them.
head -4 "$ACCRETE_DATA/facts/test.jsonl" >"$work/raw.jsonl"
"$accrete" teach "$model" "$work/raw.jsonl" --raw --json --quiet >"$work/teach4.json"
holds "$work/teach4.json" 'o["learned"]["after"] >= 0.9 and o["asked"]["after"] >= 0.5' || fail "raw: $(cat "$work/teach4.json")"
head -1 "$work/raw.jsonl" >"$work/raw1.jsonl"
answers "$model" "$(json "$work/raw1.jsonl" 'o["prompts"][0]')" "$(json "$work/raw1.jsonl" 'o["completion"]')" --raw
"$accrete" eval "$model" "$work/raw.jsonl" --raw --json --quiet >"$work/eval.json"
holds "$work/eval.json" 'o["exact"] >= 0.9 and o["by_facts"] >= 0.9' || fail "eval: $(cat "$work/eval.json")"
# Who says so, who owns what, and all of it in one update: the same state, and back.
"$accrete" audit "$model" --json --quiet >"$work/audit.json"
holds "$work/audit.json" '[(u["facts"], u["taught"]) for u in o["updates"]] == [(6, 8), (2, 2), (4, 4)] and o["facts"] == 12 and o["left_to_the_model"] == 1 and not o["anomalies"]' || fail "audit: $(cat "$work/audit.json")"
state=$(state_digest "$model")
"$accrete" compact "$model" --json --quiet >"$work/compact.json"
holds "$work/compact.json" 'o["identical"] and len(o["folded"]) == 3 and len(o["updates"]) == 1' || fail "compact: $(cat "$work/compact.json")"
unchanged "compact"
answers "$model" "How heavy is the Pellor 300?" "42 kg"
refused 1 "$accrete" compact "$model" --quiet
"$accrete" undo "$model" --quiet >/dev/null
unchanged "unfolding"
"$accrete" undo "$model" 2 --quiet >/dev/null
state=$state1; unchanged "undo of a correction"
answers "$model" "Who invented the Brevik valve?" "Mette Sand"

# The same seed in a model made again gives the same update.
"$accrete" retrofit "$gguf" "$work/again" --quiet >/dev/null
cp "$model/accrete/reader/config.json" "$work/config.json"
"$accrete" probe add "$work/again" known "$work/known.jsonl" --raw --floor 0.9 --quiet >/dev/null
"$accrete" teach "$work/again" "$work/facts.jsonl" --json --quiet >"$work/teach2.json"
[ "$(json "$work/teach2.json" 'o["update"]')" = "$id" ] || fail "the same seed gave another update"
# Another reader is not the one of the keys; a torn one is none.
sed -i 's/}$/ }/' "$work/again/accrete/reader/config.json"
refused 1 "$accrete" ask "$work/again" "Who invented the Brevik valve?" --quiet; says reader
cp "$work/config.json" "$work/again/accrete/reader/config.json"
answers "$work/again" "Who invented the Brevik valve?" "Mette Sand"
truncate -s 1000 "$work/again/accrete/reader/model.safetensors"
refused 1 "$accrete" ask "$work/again" "Who invented the Brevik valve?" --quiet; says model.safetensors
rm -r "$work/again"

# Refusals: exit 1 with a message, and the state stays.
printf '{"prompt": "A", "completion": "x"}\n{"prompt": "A", "completion": "y"}\n' >"$work/conflict.jsonl"
printf '{"prompt": "A"\n' >"$work/torn.jsonl"
printf '{"text": "***"}\n' >"$work/text.jsonl"
printf '{"subject": "Tarn", "question": "Where is Tarnby?", "answer": "x"}\n' >"$work/subject.jsonl"
printf '{"question": "", "answer": "x"}\n' >"$work/blank.jsonl"
: >"$work/empty.jsonl"
printf '\x00\xff\x01' >"$work/binary.jsonl"
for bad in conflict torn text subject blank empty binary missing; do refused 1 "$accrete" teach "$model" "$work/$bad.jsonl" --quiet; done
refused 1 "$accrete" teach "$model" "$work/conflict.jsonl" --quiet; says conflict.jsonl:2
refused 1 "$accrete" teach "$model" "$work/subject.jsonl" --quiet; says subject.jsonl:1
refused 1 "$accrete" teach "$work/base" "$work/facts.jsonl" --quiet
echo '{"questions": ["What is the motto of Orvessa?", "Which motto has Orvessa?"], "answer": "Slowly, and then all at once, as the tide comes in."}' > "$work/slow.jsonl"
refused 1 "$accrete" teach "$model" "$work/slow.jsonl" --max-seconds 0.1 --quiet; says seconds
# What is there already is no update.
"$accrete" teach "$model" "$work/facts.jsonl" --json --quiet >"$work/there.json" 2>/dev/null
holds "$work/there.json" 'o["update"] == ""' || fail "taught again: $(cat "$work/there.json")"
refused 1 "$accrete" ask "$model" "x" --device nonsense --quiet
"$accrete" probe discover --help | grep "answers exactly today" >/dev/null || fail "discover --help does not say what is kept"
refused 1 "$accrete" probe add "$model" left "$work/facts.jsonl" --quiet
refused 1 "$accrete" ask "$model" "$(head -c 60000 /dev/zero | tr '\0' x)" --quiet
refused 2 "$accrete" teach
refused 2 "$accrete" nonsense
"$accrete" teach "$model" "$work/torn.jsonl" --json --quiet >"$work/error.json" 2>/dev/null && fail "a torn set was taught"
[ "$(json "$work/error.json" 'o["error"]["code"]')" = format ] || fail "the error is not in JSON"
unchanged "a refusal"
# A probe that was changed by hand is not measured against, by no verb.
cp "$model/accrete/probes/known.jsonl" "$work/probe.jsonl"
sed -i '1d' "$model/accrete/probes/known.jsonl"
refused 1 "$accrete" check "$model" --quiet; says known
refused 1 "$accrete" plan "$model" "$work/raw.jsonl" --raw --quiet; says known
refused 1 "$accrete" teach "$model" "$work/raw.jsonl" --raw --quiet; says known
cp "$work/probe.jsonl" "$model/accrete/probes/known.jsonl"
"$accrete" check "$model" --quiet >/dev/null || fail "check"
unchanged "a changed probe"
# A floor that cannot hold: nothing is committed.
head -20 "$work/known.jsonl" | sed 's/"answer": "[^"]*"/"answer": "banana"/' >"$work/wrong.jsonl"
refused 1 "$accrete" teach "$model" "$work/wrong.jsonl" --raw --quiet; says floor
unchanged "a floor"
# Killed in the middle of a teach: the old state.
"$accrete" teach "$model" "$work/raw.jsonl" --raw >/dev/null 2>"$work/progress" & pid=$!
until grep -q '^teach: ' "$work/progress"; do
  kill -0 $pid 2>/dev/null || fail "the teach ended before it could be killed: $(cat "$work/progress")"
  sleep 0.05
done
kill -9 $pid; wait $pid 2>/dev/null || true
unchanged "a kill"
echo "end to end: passed"
