#!/usr/bin/env bash
# Fills a virtual environment with the engines that Darkroom is compared with: setup.sh [FOLDER]
# (default: bench-venv beside the repository's build folders; about 8 GB). Weights are random: no model is downloaded.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
venv="${1:-$here/../../build/bench-venv}"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "setup.sh: wants Python 3.10 or newer" >&2; exit 2; }
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --upgrade -r "$here/requirements.txt"
echo "$venv is ready: bench/picture/run.py --venv $venv ..."
