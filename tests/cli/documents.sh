#!/usr/bin/env bash
# Documents taught, asked, changed, forgotten, by the command line on the real model.
# usage: documents.sh ACCRETE SOURCE
set -euo pipefail
accrete=$1 source=$2
model=$source/models/SmolLM2-135M-Instruct.Q4_1.gguf
[ -e "$model" ] || { echo "no model: run make setup" >&2; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() { echo "FAILED: $*" >&2; exit 1; }
field() { python3 -c 'import json,sys
value = json.load(sys.stdin)
for key in sys.argv[1].split("."):
    value = value[int(key)] if isinstance(value, list) else value[key]
print(value)' "$1"; }
ask() { "$accrete" ask m "$1" --json --quiet --max-tokens 40; }

mkdir shop
cp "$source"/data/examples/shop/* shop/
"$accrete" retrofit "$model" m --quiet >/dev/null
plain=$("$accrete" ask m "What is the capital of France?" --quiet --max-tokens 40)
base=$("$accrete" digest m --json | field state)

"$accrete" plan m shop --json --quiet >plan.json
[ "$(field documents.taught <plan.json)" = 3 ] || fail "plan counts the documents"
[ "$("$accrete" digest m --json | field state)" = "$base" ] || fail "plan changed the model"
"$accrete" teach m shop --json --quiet >teach.json
[ "$(field documents.taught <teach.json)" = 3 ] || fail "three documents"
taught=$("$accrete" digest m --json | field state)

# The answer and where it comes from; what is not in them is answered as before, word for word.
ask "What does a new sole cost?" >answer.json
grep -q "35 euros" answer.json || fail "$(cat answer.json)"
[ "$(field sources.0.source <answer.json)" = shop/repairs.txt ] || fail "its source: $(cat answer.json)"
field sources.0.quote <answer.json | grep -q "A new sole costs 35 euros" || fail "its quote"
"$accrete" ask m "What does a new sole cost?" --explain --quiet --max-tokens 40 | grep -q "shop/repairs.txt" || fail "--explain names it"
[ "$("$accrete" ask m "What is the capital of France?" --quiet --max-tokens 40)" = "$plain" ] || fail "another answer changed"
"$accrete" ask m "What is the capital of France?" --json --quiet | grep -q '"sources"' && fail "a source without a passage"
[ "$("$accrete" ask m "Who painted the Mona Lisa?" --otherwise "I do not know." --quiet)" = "I do not know." ] || fail "--otherwise"

# The same again is nothing; another version replaces the one that was there; undo brings it back.
"$accrete" teach m shop --quiet | grep -q "nothing is new" || fail "unchanged documents are skipped"
sed -i 's/35 euros/39 euros/' shop/repairs.txt
"$accrete" teach m shop --json --quiet >again.json
[ "$(field documents.replaced <again.json)" = 1 ] || fail "one is replaced"
[ "$(field documents.unchanged <again.json)" = 2 ] || fail "two are unchanged"
ask "What does a new sole cost?" | grep -q "39 euros" || fail "the new version"
"$accrete" undo m --quiet >/dev/null
[ "$("$accrete" digest m --json | field state)" = "$taught" ] || fail "undo"
ask "What does a new sole cost?" | grep -q "35 euros" || fail "the version before"

# The same page by another path is taught once; "./" is the same path.
"$accrete" teach m "$PWD/shop/returns.md" --quiet 2>err | grep -q "nothing is new" || fail "by another path"
grep -q "is the same as shop/returns.md" err || fail "$(cat err)"
"$accrete" forget m --source ./shop/returns.md >/dev/null && "$accrete" undo m --quiet >/dev/null

# A fact comes before passages.
echo '{"questions": ["What does a new sole cost?", "What do you charge for a new sole?"], "answer": "41 euros"}' >fact.jsonl
"$accrete" teach m fact.jsonl --quiet >/dev/null
ask "What does a new sole cost?" >answer.json
grep -q "41 euros" answer.json || fail "the fact: $(cat answer.json)"
[ "$(field fact <answer.json)" = True ] || fail "by a fact"
"$accrete" audit m >audit.txt
grep -q "passages of 3 documents" audit.txt && grep -q "^shop/hours.html " audit.txt || fail "audit: $(cat audit.txt)"
"$accrete" show m "$(field update <teach.json)" | grep -q "shop/returns.md, Returns > Refunds" || fail "show"
"$accrete" compact m --json --quiet | grep -q '"identical":true' || fail "compact"

# Forgotten by its source, by its folder; undo brings it back; an unknown source is refused.
"$accrete" forget m --source shop/hours.html >/dev/null
"$accrete" audit m | grep -q "passages of 2 documents" || fail "forget"
"$accrete" undo m --quiet >/dev/null
"$accrete" forget m --source shop --json | field documents.2 >/dev/null || fail "forget a folder"
"$accrete" ask m "When will I get my money back?" --json --quiet | grep -q '"sources"' && fail "a forgotten passage is told"
if "$accrete" forget m --source nowhere.md 2>err; then fail "an unknown source"; fi
grep -q "no document was taught from nowhere.md" err || fail "$(cat err)"
"$accrete" undo m --quiet >/dev/null

# What was forgotten is gone from the disk after compact --erase, and nothing else is.
"$accrete" forget m --source shop/repairs.txt >/dev/null
grep -rqa "A new sole costs 35 euros" m || fail "it is still there before"
state=$("$accrete" digest m --json | field state)
"$accrete" compact m --erase --json --quiet >erase.json
[ "$(field erased.bytes <erase.json)" -gt 0 ] || fail "erased: $(cat erase.json)"
if grep -rqa "A new sole costs" m; then fail "forgotten text is on the disk: $(grep -rla "A new sole costs" m)"; fi
[ "$("$accrete" digest m --json | field state)" = "$state" ] || fail "erasing changed the state"
if "$accrete" undo m 2>err; then fail "an update that stands for erased ones was undone"; fi
grep -q "cannot be taken back" err || fail "$(cat err)"
if "$accrete" revert m "$(field update <teach.json)" --again 2>err; then fail "an erased update came back"; fi
grep -q "erased" err || fail "$(cat err)"
ask "What does a new sole cost?" | grep -q "41 euros" || fail "the fact after erasing"
"$accrete" ask m "What does a new sole cost?" --explain --quiet | grep -q "by the fact of" || fail "explain after erasing"

# What is no document is refused before anything changes.
before=$("$accrete" digest m --json | field state)
for bad in "$(printf 'caf\xe9')" "" "***"; do
  printf '%s\n' "$bad" >bad.md
  if "$accrete" teach m bad.md --quiet 2>err; then fail "taught: $bad"; fi
  grep -q "bad.md" err || fail "it is not named: $(cat err)"
done
head -c 3000 /dev/urandom >picture.png
if "$accrete" teach m picture.png --quiet 2>err; then fail "taught a picture"; fi
mkdir empty
if "$accrete" teach m empty --quiet 2>err; then fail "taught an empty folder"; fi
[ "$("$accrete" digest m --json | field state)" = "$before" ] || fail "a refusal changed the model"
echo passed

# Facts of documents need a model that reads; a file of them that a person made is taught with the documents.
if "$accrete" teach m shop --facts made.jsonl 2>err; then fail "facts of a model that does not read"; fi
grep -q "this model does not read" err || fail "$(cat err)"
[ ! -e made.jsonl ] || fail "a file was left"
echo '{"questions": ["Who owns the shop?", "Whose shop is it?"], "answer": "Kessler and Daughters"}' >made.jsonl
"$accrete" teach m shop --facts made.jsonl --quiet >/dev/null
ask "Whose shop is it?" | grep -q "Kessler and Daughters" || fail "a fact of the file"
