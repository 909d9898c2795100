#!/usr/bin/env bash
# Completion as a shell does it: sources the script and asks its function.
# usage: completion.sh ACCRETE   (exit 77: passed, but a shell is absent)
set -uo pipefail
accrete=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0 absent=""

"$accrete" completion bash >"$work/accrete.bash" || exit 1
source "$work/accrete.bash" || exit 1
# complete_words WORD... : what the last word may become, sorted, in one line.
complete_words() {
  COMP_WORDS=("$@")
  COMP_CWORD=$(($# - 1))
  COMPREPLY=()
  _accrete
  echo $(printf '%s\n' "${COMPREPLY[@]}" | sort)
}
# is EXPECTED WORD...
is() {
  local expected=$1 got
  shift
  got=$(complete_words "$@")
  [ "$got" = "$expected" ] && return
  echo "FAILED: '$*' gives '$got', not '$expected'" >&2
  failures=$((failures + 1))
}
cd "$work" && mkdir model && touch facts.jsonl "two words.txt"

is "teach" accrete te
is "--ranking --rate --raw" accrete teach --ra
is "--ranking --rate --raw" accrete teach model facts.jsonl --ra
is "--version" accrete --v
is "add discover list remove" accrete probe ""
is "discover" accrete probe di
is "--name" accrete probe discover model --na
is "--resume" accrete pretrain tiny.toml --re
is "model" accrete pretrain facts.jsonl --out m
is "facts" accrete bench fa
is "facts.jsonl" accrete teach model fa
is "two words.txt" accrete teach model two
is "model" accrete teach m
is "facts.jsonl" accrete probe add model known fa
is "tf tfidf" accrete teach model facts.jsonl --ranking tf
is "tf tfidf" accrete teach model facts.jsonl --ranking = tf
is "dev test" accrete bench facts --split ""
is "bfloat16" accrete ask --dtype b
is "facts.jsonl" accrete eval model --few-shot fa
is "" accrete teach model --seed ""
is "bash" accrete completion b
is "" accrete nonsense --ra

# The same verbs and options in every script, and each script is well-formed where its shell is here.
for shell in bash zsh fish; do
  "$accrete" completion "$shell" >"$work/$shell" || failures=$((failures + 1))
  for word in teach discover ranking max-seconds tfidf; do
    grep -q -e "$word" "$work/$shell" || { echo "FAILED: no $word for $shell" >&2; failures=$((failures + 1)); }
  done
  program=$(command -v "$shell") || { absent+=" $shell"; continue; }
  "$program" -n "$work/$shell" || { echo "FAILED: $shell cannot read its script" >&2; failures=$((failures + 1)); }
done
"$accrete" completion csh >/dev/null 2>&1
[ $? = 2 ] || { echo "FAILED: a shell that it does not know" >&2; failures=$((failures + 1)); }
[ "$failures" = 0 ] || exit 1
[ -z "$absent" ] || { echo "skipped: the scripts for$absent, which are absent here"; exit 77; }
echo "completion: passed"
