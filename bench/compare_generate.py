"""Generation beside transformers on the same CPU: the same folder, float32, the same number of threads, prefill and decoding apart.

usage: compare_generate.py GENERATE_BENCH MODEL [--threads T] [--out FILE]

GENERATE_BENCH is build/bench/generate_bench (cmake -DACCRETE_BENCH=ON). Both read 128 tokens and decode 64 greedily at batch 1 and 8, the
best of four runs; transformers decodes by its forward pass with its own cache, without generate()'s Python around it. The two take turns,
ROUNDS times, so that a change of the machine's speed meets both.
"""
import argparse
import json
import subprocess
import time

import machine

ROUNDS, PROMPT, DECODED = 2, 128, 64

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("generate_bench")
parser.add_argument("model")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--out")
args = parser.parse_args()

import torch
from transformers import AutoModelForCausalLM, DynamicCache

torch.set_num_threads(args.threads)
model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
model.eval()


def transformers_speed(batch):
    torch.manual_seed(0)
    ids = torch.randint(10, model.config.vocab_size - 10, (batch, PROMPT))
    prefill = step = float("inf")
    with torch.inference_mode():
        for _ in range(4):
            cache = DynamicCache()
            start = time.perf_counter()
            out = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            prefill = min(prefill, time.perf_counter() - start)
            following = out.logits[:, -1:].argmax(-1)
            start = time.perf_counter()
            for _ in range(DECODED):
                out = model(input_ids=following, past_key_values=cache, use_cache=True, logits_to_keep=1)
                following = out.logits[:, -1:].argmax(-1)
            step = min(step, (time.perf_counter() - start) / DECODED)
    return {"prefill_tokens_per_second": batch * PROMPT / prefill, "decode_tokens_per_second": batch / step}


theirs, ours = {}, {}
for _ in range(ROUNDS):
    for batch in (1, 8):
        for key, value in transformers_speed(batch).items():
            best = theirs.setdefault(f"batch_{batch}", {})
            best[key] = max(best.get(key, 0), value)
    out = json.loads(subprocess.run([args.generate_bench, args.model, str(args.threads)], capture_output=True, check=True, text=True).stdout)
    for key, value in out.items():
        if key.startswith("batch_"):
            best = ours.setdefault(key, {})
            for name, v in value.items():
                best[name] = max(best.get(name, 0), v)  # of what an overlay adds, the worse round
        elif key == "open_seconds":
            ours[key] = min(ours.get(key, float("inf")), value)
        else:
            ours[key] = value
result = {"benchmark": "generate", "machine": machine.describe(), "threads": args.threads, "accrete": ours, "transformers": theirs,
          "ratio": {batch: {key: ours[batch][key] / theirs[batch][key] for key in theirs[batch]} for batch in theirs}}
text = json.dumps(result, indent=2)
print(text)
if args.out:
    with open(args.out, "w", encoding="utf-8") as f:
        f.write(text + "\n")
