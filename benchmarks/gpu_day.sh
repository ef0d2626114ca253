#!/usr/bin/env bash
# Nine minutes on one GPU: each step prints a line and leaves OUT/STEP.json; a step whose JSON is there is not done again.
#
#   benchmarks/gpu_day.sh OUT [--data_dir=DATA]     on the GPU; DATA has binarized_mnist, which the last step trains on
#   benchmarks/gpu_day.sh OUT --rehearse            on a CPU, all steps with tiny models: does the script run to its end?
#
# PYTHON names the interpreter (default .venv/bin/python); gpu_day/steps.py says what each step does. After a step that
# fails or runs past its limit the next one starts, and the same call again does what is missing. BUDGET is in seconds,
# for all steps of a call.
set -u
out=${1:?usage: benchmarks/gpu_day.sh OUT [--data_dir=DATA] [--rehearse]}
shift
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
budget=${BUDGET:-540}
started=$(date +%s)
mkdir -p "$out"
# The driver compiles kernels for a chip that TensorFlow has none for; the cache keeps them for the next step and call.
export CUDA_CACHE_PATH=${CUDA_CACHE_PATH:-$out/cuda_cache} CUDA_CACHE_MAXSIZE=4294967296 TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2}
export PYTHONPATH=$root/benchmarks${PYTHONPATH:+:$PYTHONPATH}

# The seconds that a step may take; the last one takes what is left.
while read -r step limit; do
  left=$((budget - $(date +%s) + started))
  if [ -e "$out/$step.json" ]; then
    echo "$step: done before"
    continue
  fi
  if [ "$left" -lt 10 ]; then
    echo "$step: no time left"
    continue
  fi
  [ "$limit" = rest ] || [ "$limit" -gt "$left" ] && limit=$left
  timeout --kill-after=5 $((limit + 5)) "$python" "$root/benchmarks/gpu_day/steps.py" --step="$step" --out="$out" \
    --seconds=$((limit - 5)) "$@" 2>"$out/$step.log" || echo "$step: stopped with status $?; see $out/$step.log"
done <<'STEPS'
devices 30
numerics 50
tests 70
training 170
sampling 90
train rest
STEPS
echo "gpu day: $(($(date +%s) - started)) s; $(ls "$out"/*.json 2>/dev/null | wc -l) of 6 steps have a JSON in $out"
