#!/usr/bin/env bash
# Installs what prepare.py fetched beside this machine's own PyTorch, and runs the checks: bash bench/gpu/run.sh OUT [...]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
site=$(mktemp -d)
python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" "$here"/wheels/*.whl
export PYTHONPATH="$here/../..:$site"
exec python3 "$here/run.py" "$@"
