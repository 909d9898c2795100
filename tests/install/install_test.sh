#!/usr/bin/env bash
# Installs the build into a prefix of its own, moves the prefix, and uses what is there: the program
# with its data, and the library from another project through find_package.
# usage: install_test.sh CMAKE BUILD_DIR LIBTORCH_PREFIX CONSUMER_DIR [CXX]
# With ACCRETE_TEST_MODEL, a retrofitted model's folder, a copy of it is taught through the library.
set -euo pipefail
cmake=$1 build=$2 torch=$3 consumer=$4 cxx=${5:-c++}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

"$cmake" --install "$build" --prefix "$work/first" >"$work/install.log"
mv "$work/first" "$work/prefix"
prefix=$work/prefix
unset ACCRETE_DATA LD_LIBRARY_PATH

[[ $("$prefix/bin/accrete" --version) == "accrete "[0-9]* ]] || fail "--version"
for file in share/accrete/background.txt.zst share/doc/accrete/LICENSE include/accrete/accrete.h \
    include/accrete/error.h include/accrete/model.h include/accrete/types.h include/accrete/ledger_types.h share/bash-completion/completions/accrete \
    share/zsh/site-functions/_accrete share/fish/vendor_completions.d/accrete.fish; do
  [ -s "$prefix/$file" ] || fail "$file is not installed"
done
# The headers stand alone: nothing of the source tree, no tensors.
! grep -rEn '#include "(base|io|model|learn|workspace)/|ATen|torch/' "$prefix/include" || fail "a header needs the sources"
# No file of the package names a place of this machine's.
! grep -rn "$torch\|$build" "$prefix"/lib*/cmake "$prefix"/lib/*/cmake 2>/dev/null || fail "the package names a machine's path"

# The program finds the reader beside its data, not that of the source tree.
if [ -d "$prefix/share/accrete/reader" ]; then mv "$prefix/share/accrete/reader" "$work/reader"; fi
unset ACCRETE_READER
"$prefix/bin/accrete" retrofit "$work/absent" "$work/model" --quiet 2>"$work/err" && fail "a retrofit without a reader"
grep -q "$prefix/share/accrete/reader" "$work/err" || fail "a reader from elsewhere: $(cat "$work/err")"
mkdir "$prefix/share/accrete/reader"
echo '{' >"$prefix/share/accrete/reader/config.json"
"$prefix/bin/accrete" retrofit "$work/absent" "$work/model" --quiet 2>"$work/err" && fail "a damaged reader was read"
grep -q "$prefix/share/accrete/reader/config.json" "$work/err" || fail "a reader from elsewhere: $(cat "$work/err")"
rm -r "$prefix/share/accrete/reader"
[ ! -d "$work/reader" ] || mv "$work/reader" "$prefix/share/accrete/reader"

"$cmake" -S "$consumer" -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER="$cxx" \
    -DCMAKE_PREFIX_PATH="$prefix;$torch" >"$work/configure.log" 2>&1 || { cat "$work/configure.log"; fail "configure"; }
"$cmake" --build "$work/build" >"$work/build.log" 2>&1 || { cat "$work/build.log"; fail "build"; }

status=0
"$work/build/consumer" "$work/absent" >"$work/out" 2>"$work/err" || status=$?
[ "$status" = 1 ] || fail "a model that does not exist was opened (exit $status): $(cat "$work/err")"
grep -q '^not_found: ' "$work/err" || fail "not the code of a missing model: $(cat "$work/err")"
grep -q 'accrete retrofit' "$work/err" || fail "no hint: $(cat "$work/err")"

if [ -n "${ACCRETE_TEST_MODEL:-}" ]; then
  cp -r "$ACCRETE_TEST_MODEL" "$work/model"
  OMP_WAIT_POLICY=passive "$work/build/consumer" "$work/model" | tee "$work/out"
  grep -q 'Ottoline Marsh' "$work/out" || fail "it was not learned"
  grep -q 'undone, exactly' "$work/out" || fail "undo is not exact"
fi
echo "install: passed"
