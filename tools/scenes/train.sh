#!/bin/sh
# Runs whatever is due of the training, each stage from its last checkpoint: autoencoder, latents, UNet with text encoder,
# export as a diffusers folder.   usage: train.sh RUN_FOLDER [PYTHON]
set -eu
run=${1:?usage: train.sh RUN_FOLDER [PYTHON]}
python=${2:-python3}
here=$(dirname "$0")
mkdir -p "$run"
"$python" "$here/train_ae.py" "$run"
"$python" "$here/train_unet.py" "$run"
"$python" "$here/export.py" "$run" "$run/scenes"
