#!/usr/bin/env bash
# `accrete pretrain` from end to end on a model of seconds: trained, killed and resumed to the same digest, then used as any other.
# usage: pretrain.sh ACCRETE SOURCE_DIR   (exit 77: passed, but TensorBoard is absent)
set -euo pipefail
accrete=$1 source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() { echo "FAILED: $*" >&2; exit 1; }
json() { python3 -c 'import json,sys; d=json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }

# A tokenizer of bytes, a corpus and facts of our own: nothing is fetched.
python3 - "$source" <<'PY'
import json, os, sys
symbols, n = [], 256
for b in range(256):
    printable = 33 <= b <= 126 or 161 <= b <= 172 or b >= 174
    symbols.append(chr(b if printable else n))
    n += not printable
level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
vocabulary = {s: i for i, s in enumerate(symbols)}
token = {"id": 256, "content": "<|endoftext|>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
os.mkdir("tokenizer")
json.dump({"version": "1.0", "added_tokens": [token], "normalizer": None, "pre_tokenizer": level, "post_processor": None, "decoder": level,
           "model": {"type": "BPE", "vocab": vocabulary, "merges": []}}, open("tokenizer/tokenizer.json", "w"))
people = ["Ada Lunt", "Bo Karr", "Cy Dole", "Dee Fox", "Eli Marsh", "Flo Ray", "Gus Holm", "Hana Ito", "Ian Coe", "Jo Vance"]
places = ["Oslo", "Rome", "Lima"]
with open("text.txt", "w") as f:
    for i in range(40):
        for j in range(6):
            f.write(f"Everybody says that {people[(i + j) % 10]} often flies to {places[(i * j) % 3]}. ")
        f.write("\n<|endoftext|>\n")
with open("facts.jsonl", "w") as f:
    for i, p in enumerate(people):
        f.write(json.dumps({"prompts": [f"{p} lives in", f"The home of {p} is"], "asked": [f"{p} dwells in"], "completion": places[i % 3], "subject": p}) + "\n")
json.dump({"prompts": ["Zoe Quint lives in", "The home of Zoe Quint is"], "asked": ["Zoe Quint dwells in"], "completion": "Lima", "subject": "Zoe Quint"}, open("new.jsonl", "w"))
PY
cat >tiny.toml <<'END'
[model]
width = 32
blocks = 4
heads = 2
ffn_width = 48
positions = 128
[memory]
block = 1
heads = 2
half_keys = 24
top_k = 4
query_width = 16
[tokenizer]
source = "tokenizer"
vocabulary = 257
[[text]]
file = "text.txt"
[[facts]]
file = "facts.jsonl"
[training]
steps = 240
sequences = 8
together = 4
context = 64
rate = 1e-2
value_rate = 1e-2
query_rate = 3e-3
warm_up = 5
[evaluation]
every = 50
[checkpoint]
every = 10
[background]
tokens = 2000
END
one=(--threads 1 --quiet)

"$accrete" pretrain tiny.toml --out whole --json "${one[@]}" >whole.json || fail "pretrain"
[ "$(json 'd["finished"] and d["step"] == 240 and d["slots"] == 1152 and d["tokens"] == 122880' <whole.json)" = True ] || fail "$(cat whole.json)"
expected=$("$accrete" digest whole --json | json 'd["base"] + d["state"]')

# Killed when the log has a few checkpoints' steps, wherever it then is; resumed.
"$accrete" pretrain tiny.toml --out part "${one[@]}" 2>/dev/null &
process=$!
for _ in $(seq 1000); do
  [ -s part.run/checkpoint.safetensors ] && break
  sleep 0.01
done
kill -9 "$process" 2>/dev/null || true
wait "$process" 2>/dev/null || true
if [ ! -d part ]; then
  "$accrete" pretrain tiny.toml --out part "${one[@]}" 2>/dev/null && fail "a run that was begun is begun again"
  "$accrete" pretrain tiny.toml --out part --resume "${one[@]}" >/dev/null || fail "resume"
fi
[ "$("$accrete" digest part --json | json 'd["base"] + d["state"]')" = "$expected" ] || fail "killed and resumed is not the same"
cmp whole/model.safetensors part/model.safetensors && cmp whole/accrete/memory.json part/accrete/memory.json &&
  cmp whole/accrete/background.safetensors part/accrete/background.safetensors || fail "the folders differ"
# TensorBoard's own reader.
absent=""
if "$source/.venv/bin/python" -c 'import tensorboard' 2>/dev/null; then
  "$source/.venv/bin/python" - <<'PY' || fail "TensorBoard cannot read the events"
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator("part.run"); events.Reload()
losses = events.Scalars("loss")
assert [e.step for e in losses] == list(range(1, 241)), len(losses)
assert losses[-1].value < losses[0].value
PY
else
  absent=TensorBoard
fi

# Every verb opens it.
"$accrete" ask whole "Ada Lunt lives in" --max-tokens 4 --quiet >/dev/null || fail "ask"
"$accrete" eval whole facts.jsonl --json --quiet >/dev/null || fail "eval"
"$accrete" probe add whole known facts.jsonl --quiet >/dev/null || fail "probe add"
"$accrete" teach whole new.jsonl --slots 30 --steps 150 --json --quiet >teach.json || fail "teach"
[ "$(json 'd["learned"]["after"] >= 0.5 and 0 < d["rows"] <= 30' <teach.json)" = True ] || fail "$(cat teach.json)"
said=$(for prompt in "Zoe Quint lives in" "The home of Zoe Quint is"; do "$accrete" ask whole "$prompt" --max-tokens 5 --quiet; done)
case "$said" in *" Lima"*) ;; *) fail "what was taught is not said: $said" ;; esac
"$accrete" check whole --quiet >/dev/null || fail "check"
"$accrete" audit whole --quiet >/dev/null || fail "audit"
"$accrete" undo whole --quiet >/dev/null || fail "undo"
[ "$("$accrete" digest whole --json | json 'd["base"] + d["state"]')" = "$expected" ] || fail "undo is not exact"
"$accrete" export whole out --quiet 2>message && fail "export"
grep -q "memory in place of its FFN" message || fail "$(cat message)"

# What is wrong is said with its place.
sed 's/width = 32/widht = 32/' tiny.toml >wrong.toml
"$accrete" pretrain wrong.toml --out wrong 2>message && fail "an unknown key"
grep -q 'wrong.toml:2: \[model\]: there is no key `widht`' message || fail "$(cat message)"
"$accrete" pretrain tiny.toml --out whole 2>message && fail "over a model"
grep -q "exists already" message || fail "$(cat message)"
"$accrete" pretrain tiny.toml 2>/dev/null && fail "without --out"
"$accrete" pretrain tiny.toml --out other --dtype bfloat16 2>/dev/null && fail "with --dtype"
[ ! -e wrong ] && [ ! -e other ] || fail "something is left"
[ -z "$absent" ] || { echo "skipped: the events, as $absent is absent (make test installs it)"; exit 77; }
echo "pretrain: passed"
