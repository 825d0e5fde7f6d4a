#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the bundled model, its catalogue, job files, evaluation and golden file from nothing but this repository.
# Needs the packages of requirements.txt in the python named by PYTHON; takes about an hour on two cores.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python=${PYTHON:-python3}
model=$root/examples/models/shop-qwen3
work=${WORK:-$root/build/train}

# Large buffers come and go at every step; keeping them mapped is worth a quarter of the speed.
export MALLOC_MMAP_THRESHOLD_=8000000000 MALLOC_TRIM_THRESHOLD_=16000000000 MALLOC_TOP_PAD_=500000000

# Threads that sleep while they wait lose less to the machine's other work.
export OMP_WAIT_POLICY=PASSIVE

cd "$here"
rm -f "$model/tokenizer.json" "$work/checkpoint.pt"
"$python" train.py --out "$model" --work "$work" "$@"
"$python" make_catalog.py "$root/examples/shop/catalog.jsonl"
"$python" make_jobs.py --count 200 --seed 7 --out "$root/examples/jobs/shop.jsonl"
"$python" make_jobs.py --count 24 --seed 9 --out "$root/examples/jobs/held-out.jsonl"
"$python" evaluate.py --model "$model" --out "$model/eval.json"
"$python" make_golden.py --model "$model" --out "$model/golden.jsonl"
