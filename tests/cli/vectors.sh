#!/usr/bin/env bash
# A classifier and a policy by the command line: made, taught, asked, refused, undone.
# usage: vectors.sh ACCRETE SOURCE
set -euo pipefail
accrete=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() { echo "FAILED: $*" >&2; exit 1; }
field() { python3 -c 'import json,sys
value = json.load(sys.stdin)
for key in sys.argv[1].split("."):
    value = value[int(key)] if isinstance(value, list) else value[key]
print(value)' "$1"; }
state() { "$accrete" digest m --json | field state; }

# A network that says nothing, and clouds of points; with the standard library alone.
python3 - <<'PY'
import json, os, random, struct
def tensors(path, tensors):
    header, data = {}, b""
    for name, values in tensors.items():
        raw = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": [len(values)], "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + data)
for kind, outputs in (("feature_classifier", []), ("policy_mlp", ["turn"])):
    os.mkdir(kind)
    json.dump({"model_type": kind, "inputs": 2, "outputs": outputs}, open(kind + "/config.json", "w"))
    tensors(kind + "/model.safetensors", {"standardize.mean": [0, 0], "standardize.scale": [1, 1]})
rng = random.Random(1)
def cloud(name, x, y, n=30, label=None):
    with open(name + ".jsonl", "w") as f:
        for _ in range(n):
            print(json.dumps({"inputs": [rng.gauss(x, .2), rng.gauss(y, .2)], "label": label or name}), file=f)
cloud("red", 1, 0), cloud("blue", -1, 0), cloud("green", 0, 1.5)
cloud("asked", 1, 0, label="red"), cloud("rude", 1, 0, 600)
with open("turns.csv", "w") as f, open("turns.jsonl", "w") as g:
    print("a,b,target", file=f)
    for _ in range(60):
        x, y = rng.random(), rng.random()
        print(json.dumps({"inputs": [x, y], "targets": [x - y]}), file=g)
        print(f"{x},{y},1", file=f)
PY

"$accrete" retrofit feature_classifier m --columns 128 --ridge 0.1 --json --quiet | field columns | grep -qx 128 || fail "retrofit"
empty=$(state)
"$accrete" teach m red.jsonl --quiet | grep -q "learned, accuracy" || fail "teach"
red=$(state)
"$accrete" probe add m red asked.jsonl --floor 0.9 --json | field base | grep -qx 1.0 || fail "probe add"
"$accrete" plan m blue.jsonl --json --quiet | field forecast.red.holds | grep -qx True || fail "plan"
[ "$(state)" = "$red" ] || fail "plan changed the model"
"$accrete" teach m blue.jsonl --quiet >/dev/null
"$accrete" teach m green.jsonl --json --quiet | field kept.red.after | grep -qx 1.0 || fail "kept"
all=$(state)
"$accrete" check m --quiet | grep -q "^red " || fail "check"
printf '%s\n' '{"inputs": [1, 0]}' '[-1, 0]' '[0, 1.5]' | "$accrete" act m >said.jsonl
[ "$(field label <<<"$(sed -n 1p said.jsonl)")" = red ] && [ "$(field label <<<"$(sed -n 2p said.jsonl)")" = blue ] &&
  [ "$(field label <<<"$(sed -n 3p said.jsonl)")" = green ] || fail "act: $(cat said.jsonl)"

# Refused: a floor that would break, the same set again, a contradiction, bad sets, bad observations, verbs of text.
refused() { # CODE WORDS COMMAND...
  local code=$1 words=$2
  shift 2
  "$accrete" "$@" --json --quiet >out.json 2>err </dev/null && fail "not refused: $*"
  [ "$(field error.code <out.json)" = "$code" ] || fail "$*: $(cat out.json)"
  grep -q "$words" err || fail "$*: $(cat err)"
}
refused refused "the floor of probe red would break" teach m rude.jsonl
refused conflict "was taught already" teach m red.jsonl
sed 's/red/pink/' red.jsonl >pink.jsonl
refused conflict "the same input is \"red\" in row 1" teach m pink.jsonl
echo '{"inputs": [1, 2, 3], "label": "x"}' >wide.jsonl
refused invalid_argument "3 inputs, and the model 2" teach m wide.jsonl
: >empty.jsonl
refused invalid_argument "no row" teach m empty.jsonl
printf 'a,b,label\n1,nan,x\n' >nan.csv
refused format "is not finite" teach m nan.csv
refused unsupported "a model of vectors" ask m "What?"
refused unsupported "a model of vectors" compact m
echo '[1]' | "$accrete" act m 2>err && fail "a short observation"
grep -q "line 1: its rows have 1 inputs" err || fail "$(cat err)"
[ "$(state)" = "$all" ] || fail "a refusal changed the model"

# Undo, redo, revert: by digest.
"$accrete" undo m 2 >/dev/null && [ "$(state)" = "$red" ] || fail "undo"
"$accrete" redo m 2 >/dev/null && [ "$(state)" = "$all" ] || fail "redo"
first=$("$accrete" log m --json | field updates.0.id)
"$accrete" tag m "$first" first >/dev/null
"$accrete" revert m first >/dev/null
"$accrete" audit m --json | field outputs | grep -qx "\['blue', 'green'\]" || fail "audit after revert"
"$accrete" check m >/dev/null && fail "the probe of what was reverted holds"
"$accrete" revert m first --again >/dev/null && [ "$(state)" = "$all" ] || fail "revert --again"
"$accrete" show m first >/dev/null
"$accrete" undo m 3 >/dev/null && [ "$(state)" = "$empty" ] || fail "undo all"

# A policy.
"$accrete" retrofit policy_mlp p --columns 256 --ridge 0.01 --quiet >/dev/null
refused invalid_argument "a policy learns values" teach p turns.csv
"$accrete" teach p turns.jsonl --json --quiet >teach.json
python3 -c 'import json; r = json.load(open("teach.json")); assert r["metric"] == "fit" and r["learned"]["after"] > .95, r'
echo '[0.9, 0.1]' | "$accrete" act p | python3 -c 'import json,sys; y, = json.load(sys.stdin)["outputs"]; assert abs(y - .8) < .1, y'

# The same in packed numbers; a block that is cut, or of another width.
python3 - "$accrete" <<'PY'
import json, struct, subprocess, sys
rows = [[0.9, 0.1], [0.25, 0.5], [0.3, 0.3]]
act = lambda data: subprocess.run([sys.argv[1], "act", "p", "--packed"], input=data, capture_output=True)
lines = subprocess.run([sys.argv[1], "act", "p"], input="".join(json.dumps(r) + "\n" for r in rows).encode(), capture_output=True, check=True)
said = [json.loads(line)["outputs"][0] for line in lines.stdout.splitlines()]
block = struct.pack("<II6f", 3, 2, *sum(rows, []))
out = act(block + struct.pack("<II2f", 1, 2, *rows[0]))
assert out.returncode == 0, out
assert struct.unpack_from("<II", out.stdout) == (3, 1) and len(out.stdout) == 20 + 12, out
assert all(abs(a - b) < 1e-6 for a, b in zip(struct.unpack_from("<3f", out.stdout, 8), said)), (out, said)
for bad, words in ((block[:-1], b"ends in the middle"), (struct.pack("<II3f", 1, 3, 1, 2, 3), b"3 inputs, and the model 2"),
                   (struct.pack("<II2f", 1, 2, 0, float("nan")), b"is not finite"), (struct.pack("<II", 0, 2), b"0 rows"), (struct.pack("<II", 2**31, 2**31), b"numbers")):
    out = act(bad)
    assert out.returncode == 1 and words in out.stderr, (bad, out)
PY

# Two copies are taught two classes each; what they sum up to elsewhere is what one place would have.
for copy in north south here; do "$accrete" retrofit feature_classifier $copy --columns 128 --ridge 0.1 --quiet >/dev/null; done
"$accrete" teach north red.jsonl --quiet >/dev/null
"$accrete" teach south blue.jsonl --quiet >/dev/null
"$accrete" teach south green.jsonl --quiet >/dev/null
"$accrete" merge here south/accrete/updates/*.safetensors north/accrete/updates/*.safetensors --json --quiet | field taken | grep -qx 3 || fail "merge"
[ "$("$accrete" digest here --json | field state)" = "$all" ] || fail "the merged state is not that of one place"
"$accrete" merge here north/accrete/updates/*.safetensors --quiet | grep -q "nothing is new" || fail "merge again"
"$accrete" undo here 3 >/dev/null && [ "$("$accrete" digest here --json | field state)" = "$empty" ] || fail "undo of a merge"
refused conflict "was made for another network" merge p north/accrete/updates/*.safetensors
refused unsupported "neither ours nor theirs" merge here north/accrete/updates/*.safetensors --on-conflict ours
echo "vectors: passed"
