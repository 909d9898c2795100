"""Generation beside transformers on the same CPU: the same folder, float32, the same number of threads, prefill and decoding apart.

usage: compare_generate.py GENERATE_BENCH MODEL [--gguf FILE] [--threads T] [--out FILE]

GENERATE_BENCH is build/bench/generate_bench (cmake -DACCRETE_BENCH=ON). Both read 128 tokens and decode 64 greedily at batch 1 and 8, the
best of four runs; transformers decodes by its forward pass with its own cache, without generate()'s Python around it. The two take turns,
ROUNDS times, so that a change of the machine's speed meets both. With --gguf, the file that MODEL was made of, llama.cpp (pip install
llama-cpp-python) takes its turn too: it computes with the activations in 8 bits.
"""
import argparse
import ctypes
import json
import random
import subprocess
import time

import machine

ROUNDS, PROMPT, DECODED = 2, 128, 64

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("generate_bench")
parser.add_argument("model")
parser.add_argument("--gguf")
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


class LlamaCpp:
    """A GGUF in llama.cpp, by its C interface."""

    def __init__(self, path):
        import llama_cpp

        self.c = llama_cpp
        self.silent = llama_cpp.llama_log_callback(lambda level, text, data: None)  # kept: the library holds its address
        llama_cpp.llama_log_set(self.silent, None)
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())

    def speed(self, batch):
        c, generator = self.c, random.Random(0)
        how = c.llama_context_default_params()
        how.n_ctx, how.n_batch, how.n_ubatch, how.n_seq_max = batch * (PROMPT + DECODED), batch * PROMPT, 512, batch
        how.n_threads = how.n_threads_batch = args.threads
        vocabulary = c.llama_vocab_n_tokens(c.llama_model_get_vocab(self.model))
        prompts = [[generator.randrange(10, vocabulary - 10) for _ in range(PROMPT)] for _ in range(batch)]
        room = c.llama_batch_init(batch * PROMPT, 0, 1)
        prefill = step = float("inf")
        for _ in range(4):
            context = c.llama_init_from_model(self.model, how)

            def decode(tokens, position):
                """The most likely token of each sequence behind tokens[sequence]."""
                at, last = 0, []
                for s, own in enumerate(tokens):
                    for t, token in enumerate(own):
                        room.token[at], room.pos[at], room.n_seq_id[at], room.seq_id[at][0] = token, position + t, 1, s
                        room.logits[at] = t + 1 == len(own)
                        at += 1
                    last.append(at - 1)
                room.n_tokens = at
                if c.llama_decode(context, room) != 0:
                    raise SystemExit("compare_generate: llama_decode failed")
                rows = [torch.frombuffer((ctypes.c_float * vocabulary).from_address(ctypes.addressof(c.llama_get_logits_ith(context, i).contents)), dtype=torch.float32)
                        for i in last]
                return [[int(row.argmax())] for row in rows]

            start = time.perf_counter()
            following = decode(prompts, 0)
            prefill = min(prefill, time.perf_counter() - start)
            start = time.perf_counter()
            for t in range(DECODED):
                following = decode(following, PROMPT + t)
            step = min(step, (time.perf_counter() - start) / DECODED)
            c.llama_free(context)
        c.llama_batch_free(room)
        return {"prefill_tokens_per_second": batch * PROMPT / prefill, "decode_tokens_per_second": batch / step}


def take(best, speed):
    for key, value in speed.items():
        best[key] = max(best.get(key, 0), value)


llama = LlamaCpp(args.gguf) if args.gguf else None
theirs, ours, also = {}, {}, {}
for _ in range(ROUNDS):
    for batch in (1, 8):
        take(theirs.setdefault(f"batch_{batch}", {}), transformers_speed(batch))
        if llama:
            take(also.setdefault(f"batch_{batch}", {}), llama.speed(batch))
    out = json.loads(subprocess.run([args.generate_bench, args.model, str(args.threads)], capture_output=True, check=True, text=True).stdout)
    for key, value in out.items():
        if key.startswith("batch_"):
            take(ours.setdefault(key, {}), value)  # of what an overlay adds, the worse round
        elif key == "open_seconds":
            ours[key] = min(ours.get(key, float("inf")), value)
        else:
            ours[key] = value
result = {"benchmark": "generate", "machine": machine.describe(), "threads": args.threads, "accrete": ours, "transformers": theirs,
          "ratio": {batch: {key: ours[batch][key] / theirs[batch][key] for key in theirs[batch]} for batch in theirs}}
if also:
    result["llama.cpp"] = {**also, "version": llama.c.__version__}
text = json.dumps(result, indent=2)
print(text)
if args.out:
    with open(args.out, "w", encoding="utf-8") as f:
        f.write(text + "\n")
