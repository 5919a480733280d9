#!/usr/bin/env bash
# Fetches CLIP's tokenizer, which single-file checkpoints do not carry, with pip: it lies in the wheel of open_clip_torch.
# Leaves it where sdrun and sdconvert look for it.   usage: get_tokenizer.sh [FILE]
set -euo pipefail
target=${1:-${XDG_DATA_HOME:-$HOME/.local/share}/darkroom/tokenizer.txt.gz}
if [ -e "$target" ]; then
  echo "$target is there already"
  exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$folder" open_clip_torch
mkdir -p "$(dirname "$target")"
python3 - "$folder" "$target" <<'PYTHON'
import glob, sys, zipfile
wheel = zipfile.ZipFile(glob.glob(sys.argv[1] + "/*.whl")[0])
name = next(n for n in wheel.namelist() if n.endswith("bpe_simple_vocab_16e6.txt.gz"))
with open(sys.argv[2], "wb") as out:
    out.write(wheel.read(name))
PYTHON
echo "$target"
