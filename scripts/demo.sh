#!/usr/bin/env bash
# Teaches 50 real facts to a real model: ask (wrong), teach, ask in other words (right), check, chat, undo.
set -euo pipefail
cd "$(dirname "$0")/.."
accrete=build/accrete
model=models/demo
facts=data/demo/facts.jsonl
start=$SECONDS

if [ ! -d "$model" ]; then
  # Under its own name only when it is complete, so that a demo that was stopped begins again.
  new=models/demo-new
  rm -rf "$new"
  echo "== retrofit: memory layers for SmolLM2-135M-Instruct"
  $accrete retrofit models/SmolLM2-135M-Instruct.Q4_1.gguf "$new"
  echo "== what the model knows, to be preserved"
  $accrete probe discover "$new" data/demo/known.jsonl --name questions --few-shot data/known/fewshot.jsonl --floor 0.97
  head -c 20000 data/text/wikitext2_test_sample.txt > models/demo-text.txt
  $accrete probe add "$new" text models/demo-text.txt --floor 0.99
  mv "$new" "$model"
fi
# A demo that was stopped half-way leaves its update: begin at the base.
while $accrete undo "$model" --quiet >/dev/null 2>&1; do :; done
before=$($accrete digest "$model" --json | sed 's/.*"state":"\([0-9a-f]*\)".*/\1/')

echo "== teach 50 facts that it gets wrong, ask them in other words, check what was known before"
$accrete teach "$model" "$facts" --raw
echo "== one turn of chat: still itself?"
echo "What is the capital of France?" | $accrete chat "$model" --quiet
echo "== undo"
$accrete undo "$model"
after=$($accrete digest "$model" --json | sed 's/.*"state":"\([0-9a-f]*\)".*/\1/')
if [ "$before" != "$after" ]; then
  echo "demo: undo did not restore the model: $before, now $after" >&2
  exit 1
fi
echo "the model is exactly the former one (SHA-256 $after); $((SECONDS - start)) s in all"
