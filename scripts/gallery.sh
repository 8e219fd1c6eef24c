#!/usr/bin/env bash
# Makes the recordings and reports of the gallery, and their pictures: reports/README.md shows them.
set -u
cd "$(dirname "$0")/.."
q=(.venv/bin/python -m qtrace)
mkdir -p reports
for name in join_before_get cancel_join_thread pipe_size resize_pipe slow_consumer; do
    "${q[@]}" record -q -f -o "reports/$name.qtrace" "examples/$name.py" </dev/null >/dev/null
    "${q[@]}" report "reports/$name.qtrace" -o "reports/$name.html" >/dev/null 2>&1 || exit 1
done
.venv/bin/python scripts/screenshots.py --out reports/pictures "$@" reports/{join_before_get,cancel_join_thread,pipe_size,resize_pipe,slow_consumer}.html
