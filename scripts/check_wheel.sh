#!/usr/bin/env bash
# Builds the wheel and runs the installed command in an environment of its own: what an editable
# install hides (a missing file, a missing package) shows here.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder" "$root/build"' EXIT
"$root/.venv/bin/python" -m pip wheel --quiet --no-deps --wheel-dir "$folder" "$root"
"$root/.venv/bin/python" -m venv --system-site-packages "$folder/venv"
# The dependencies are those of .venv, by a path file: only the wheel itself is installed anew.
"$root/.venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' >"$folder/deps"
"$folder/venv/bin/python" -m pip install --quiet --no-deps --no-index "$folder"/qtrace-*.whl
cd "$folder"
PYTHONPATH=$(cat "$folder/deps") "$folder/venv/bin/python" - <<'PY'
import pathlib, sys
import qtrace
where = pathlib.Path(qtrace.__file__).resolve()
assert "venv" in where.parts and sys.prefix in str(where), where
PY
PYTHONPATH=$(cat "$folder/deps") "$folder/venv/bin/qtrace" --help >/dev/null
PYTHONPATH=$(cat "$folder/deps") "$folder/venv/bin/python" - <<'PY'
import shutil
from qtrace.capture.hot_stops import library
assert (library() is not None) == bool(shutil.which("gcc")), "the library of hot stops comes with the wheel"
PY
# Without a compiler it is installed too, and records without that library.
rm -rf "$root/build"
CC=false "$root/.venv/bin/python" -m pip wheel --quiet --no-deps --wheel-dir "$folder/without" "$root"
"$folder/venv/bin/python" -m pip install --quiet --no-deps --no-index --force-reinstall "$folder"/without/qtrace-*.whl
PYTHONPATH=$(cat "$folder/deps") "$folder/venv/bin/python" - <<'PY'
from qtrace.capture.hot_stops import library
assert library() is None
PY
PYTHONPATH=$(cat "$folder/deps") "$folder/venv/bin/qtrace" record -q -o without.qtrace --engine ptrace -- true
echo "wheel: installs and runs"
