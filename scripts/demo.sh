#!/usr/bin/env bash
# Teaches 50 answers of a shop and of one of its products to a real model: ask (wrong), teach, ask in other words (right),
# check what was known before, chat, undo.
set -euo pipefail
cd "$(dirname "$0")/.."
accrete=build/accrete
model=models/demo
facts=data/demo/desk.jsonl
start=$SECONDS

if [ ! -d "$model" ]; then
  # Under its own name only when it is complete, so that a demo that was stopped begins again.
  new=models/demo-new
  rm -rf "$new"
  echo "== retrofit: a memory for SmolLM2-135M-Instruct"
  $accrete retrofit models/SmolLM2-135M-Instruct.Q4_1.gguf "$new"
  echo "== what the model knows, to be preserved"
  $accrete probe discover "$new" data/demo/known.jsonl --name questions --few-shot data/known/fewshot.jsonl --floor 0.97
  mv "$new" "$model"
fi
# A demo that was stopped half-way leaves its update: begin at the base.
while $accrete undo "$model" --quiet >/dev/null 2>&1; do :; done
before=$($accrete digest "$model" --json | sed 's/.*"state":"\([0-9a-f]*\)".*/\1/')

echo "== before: the model has never heard of these things"
$accrete ask "$model" "How much does the Corvane 5 weigh?" --max-tokens 24 --quiet
echo "== teach 50 answers; \"other wording\" are questions that were not taught"
$accrete teach "$model" "$facts"
echo "== after"
$accrete ask "$model" "How much does the Corvane 5 weigh?" --explain --quiet
echo "== what was known before"
$accrete check "$model"
echo "== a chat: what was taught, what was not, and the model itself"
printf '%s\n' "Hi, what does the Corvane 5 cost?" "What is the capital of France?" | $accrete chat "$model" --quiet
echo "== undo"
$accrete undo "$model"
after=$($accrete digest "$model" --json | sed 's/.*"state":"\([0-9a-f]*\)".*/\1/')
if [ "$before" != "$after" ]; then
  echo "demo: undo did not restore the model: $before, now $after" >&2
  exit 1
fi
echo "the model is exactly the former one (SHA-256 $after); $((SECONDS - start)) s in all"
