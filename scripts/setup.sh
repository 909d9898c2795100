#!/usr/bin/env bash
# Installs what building and testing need: system packages, and libtorch as a Python wheel in .venv. Idempotent; says what it does.
# usage: scripts/setup.sh [tests|ci]     tests: also what the tests need; ci: also what .ci/run needs beyond them
#
# A Torch_DIR or CMAKE_PREFIX_PATH in the environment wins over the wheel. ACCRETE_TORCH_INDEX names another
# package index for it (for example PyTorch's own CPU index, whose wheels are small).
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n  try: %s\n' "$1" "$2" >&2; exit 1; }

packages=(g++ cmake ninja-build pkg-config ccache unzip xz-utils python3 python3-venv libcli11-dev nlohmann-json3-dev
  libfmt-dev libsqlite3-dev libpcre2-dev libzstd-dev libutf8proc-dev libxml2-dev libsodium-dev libhwy-dev libtomlplusplus-dev libboost-dev libgtest-dev libgmock-dev)
# What only tests need: zstd looks into packed data, pdftotext reads PDF, curl asks the server, the shells read their completion scripts. What only CI needs: clang has the fuzzer, the server's page is used in Chromium.
case "${1:-}" in
  tests) packages+=(zstd zsh fish curl poppler-utils) ;;
  ci) packages+=(zstd zsh fish curl poppler-utils clang libclang-rt-dev chromium) ;;
esac
missing=()
if command -v dpkg-query >/dev/null; then
  for package in "${packages[@]}"; do
    [[ $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) == *'ok installed' ]] || missing+=("$package")
  done
fi
# A compiler, cmake or python that is not from a package serves as well.
keep=()
for package in "${missing[@]}"; do
  case "$package" in
    g++) command -v g++ >/dev/null && continue ;;
    cmake) command -v cmake >/dev/null && continue ;;
    ninja-build) command -v ninja >/dev/null && continue ;;
    python3 | python3-venv) python3 -c 'import venv, ensurepip' 2>/dev/null && continue ;;
  esac
  keep+=("$package")
done
if ((${#keep[@]})); then
  command -v apt-get >/dev/null || die "missing: ${keep[*]}" "install these with your package manager (names are Debian's)"
  sudo=""
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "missing: ${keep[*]}" "run as root: apt-get install ${keep[*]}"
    sudo=sudo
  fi
  say "installing ${keep[*]}"
  log=$(mktemp)
  { $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${keep[@]}"; } \
    >"$log" 2>&1 || { tail -5 "$log" >&2; die "apt-get failed" "read $log"; }
fi

[ -x .venv/bin/python ] || { say "making .venv"; python3 -m venv .venv || die "cannot make a virtual environment" "install python3-venv"; }
pip() { PIP_ROOT_USER_ACTION=ignore .venv/bin/python -m pip --disable-pip-version-check -q "$@"; }

if [ -z "${Torch_DIR:-}${CMAKE_PREFIX_PATH:-}" ] && ! compgen -G '.venv/lib/python3*/site-packages/torch/share/cmake/Torch' >/dev/null; then
  say "installing torch 2.13.0 (CPU) into .venv"
  index=()
  [ -z "${ACCRETE_TORCH_INDEX:-}" ] || index=(--index-url "$ACCRETE_TORCH_INDEX")
  # The CPU build where there is one; else what the index has.
  pip install --no-warn-conflicts --no-deps "${index[@]}" 'torch==2.13.0+cpu' 2>/dev/null || pip install --no-warn-conflicts --no-deps "${index[@]}" 'torch==2.13.0' ||
    die "torch 2.13.0 cannot be installed" "give a libtorch with Torch_DIR=.../share/cmake/Torch, or set ACCRETE_TORCH_INDEX"
fi

if [ -n "${1:-}" ] && ! .venv/bin/python -c 'import torch, transformers, gguf, tokenizers, safetensors, accelerate, tensorboard, openai' 2>/dev/null; then
  say "installing the Python packages of the parity tests"
  pip install --no-warn-conflicts 'filelock' 'typing-extensions' 'sympy' 'networkx' 'jinja2' 'fsspec' numpy transformers==5.23.0 tokenizers==0.23.3 safetensors gguf==0.19.0 psutil tensorboard==2.20.0 openai==3.57.0 &&
    pip install --no-warn-conflicts --no-deps accelerate==1.15.0 ||
    die "the Python packages of the parity tests cannot be installed" "check the network"
fi

# lm-evaluation-harness asks the server. Without --no-deps it brings scikit-learn, nltk and others that it imports only for scores that no test uses.
if [ -n "${1:-}" ] && ! .venv/bin/python -c 'import lm_eval.evaluator, lm_eval.models.openai_completions' 2>/dev/null; then
  say "installing lm-evaluation-harness (350 MB)"
  pip install --no-warn-conflicts --no-deps lm-eval==0.4.13 datasets==5.2.0 pyarrow==26.0.1 pandas==3.1.1 python-dateutil==2.9.0.post0 six==1.17.0 dill==0.4.1 multiprocess==0.70.19 xxhash==4.1.0 \
    evaluate==0.4.6 sacrebleu==2.6.0 portalocker==4.4.2 tabulate==0.10.0 colorama==0.4.6 lxml==6.1.3 more-itertools==11.2.1 sqlitedict==2.1.0 word2number==1.1 tenacity==9.2.1 \
    aiohttp==3.14.5 aiosignal==1.4.0 aiohappyeyeballs==2.7.1 attrs==26.1.0 frozenlist==1.8.0 multidict==7.2.1 yarl==1.25.1 propcache==0.5.4 ||
    die "lm-evaluation-harness cannot be installed" "check the network"
fi

if [ "${1:-}" = ci ] && ! .venv/bin/clang-format --version 2>/dev/null | grep -q ' 23\.1\.5'; then
  say "installing clang-format 23.1.5"
  pip install clang-format==23.1.5 || die "clang-format 23.1.5 cannot be installed" "check the network"
fi

scripts/fetch_model.sh
scripts/fetch_reader.sh
say "done"
