#!/bin/sh
# Measures eqcrl on this machine's accelerator in under ten minutes.
#   benchmarks/gpu.sh [--smoke] [--budget SECONDS] [--part NAME]     results: ${OUT:-benchmarks/results}/gpu.json
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
export PYTHONUNBUFFERED=1

nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv 2>/dev/null || echo "no NVIDIA card found"
if ! "$PYTHON" -c 'from importlib.metadata import version; version("eqcrl"); import eqcrl, jax, equinox, optax' ; then
    echo "eqcrl is not installed for $PYTHON: run \`$PYTHON -m pip install -e '.[cuda]'\` first." >&2
    exit 2
fi
exec "$PYTHON" -m benchmarks.gpu --out "${OUT:-benchmarks/results}" "$@"
