#!/usr/bin/env python3
"""Pretraining on a GPU against the CPU: the same losses, the same bytes when run again or resumed, and how fast.

    python bench/cuda_training.py [--accrete build-cuda/accrete] [--config bench/native_gpu.toml --data CORPORA] [--out FILE]

A small model of the tree's own data is trained three times on the GPU (through, again, and stopped in between) and once on
the CPU. With --config that model's tokens per second are measured on the GPU as well. Exit status 1: something differs.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

SMALL = """
[model]
width = 64
blocks = 4
heads = 2
[memory]
block = 1
heads = 2
half_keys = 32
query_width = 32
[tokenizer]
source = "{root}/models/SmolLM2-135M-Instruct.Q4_1.gguf"
vocabulary = 2048
[[facts]]
file = "{root}/data/native/known_facts.jsonl"
[training]
steps = 60
sequences = 16
together = 8
context = 64
warm_up = 10
compute = "{compute}"
[evaluation]
every = 30
[background]
tokens = 2000
"""


def run(accrete, *arguments):
    done = subprocess.run([accrete, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))}: {done.stderr}{done.stdout}")
    return done.stdout


def losses(folder):
    lines = [json.loads(line) for line in (pathlib.Path(f"{folder}.run") / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--accrete", default=str(root / "build-cuda" / "accrete"))
    p.add_argument("--config")
    p.add_argument("--data")
    p.add_argument("--seconds", type=float, default=30, help="of the speed measurement")
    p.add_argument("--out")
    a = p.parse_args()
    result, wrong = {"benchmark": "cuda_training"}, False
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for compute in ("float32", "bfloat16"):
            config = folder / f"{compute}.toml"
            config.write_text(SMALL.format(root=root, compute=compute))
            names = {name: folder / f"{compute}-{name}" for name in ("cpu", "cuda", "again", "resumed")}
            for name in ("cpu", "cuda", "again"):
                device = "cpu" if name == "cpu" else "cuda"
                run(a.accrete, "pretrain", config, "--out", names[name], "--device", device)
            run(a.accrete, "pretrain", config, "--out", names["resumed"], "--device", "cuda", "--max-seconds", 0.01)
            run(a.accrete, "pretrain", config, "--out", names["resumed"], "--device", "cuda", "--resume")
            digests = {name: run(a.accrete, "digest", names[name]).strip() for name in names}
            cpu, cuda = losses(names["cpu"]), losses(names["cuda"])
            first = abs(cpu[0] - cuda[0]) / cpu[0]
            worst = max(abs(x - y) / x for x, y in zip(cpu, cuda))
            same = {name: digests[name] == digests["cuda"] for name in ("again", "resumed")}
            # Rounding grows from step to step; a wrong kernel shows at once.
            ok = first < (1e-5 if compute == "float32" else 2e-3) and worst < 0.05 and all(same.values())
            wrong = wrong or not ok
            result[compute] = {"first_step_apart": first, "farthest_apart": worst, "last_loss_cpu": cpu[-1],
                               "last_loss_cuda": cuda[-1], "same_bytes": same, "right": ok}
            print(f"{compute}: losses of 60 steps at most {worst:.2e} apart (first {first:.1e}); "
                  f"again {'the same' if same['again'] else 'OTHER'} bytes, resumed {'the same' if same['resumed'] else 'OTHER'} bytes",
                  flush=True)
        if a.config:
            out = run(a.accrete, "pretrain", a.config, "--data", a.data, "--out", folder / "speed", "--device", "cuda",
                      "--max-seconds", a.seconds, "--json")
            result["tokens_per_second"] = json.loads(out)["tokens_per_second"]
            print(f"{a.config}: {result['tokens_per_second']:,.0f} tokens/s")
    if a.out:
        pathlib.Path(a.out).write_text(json.dumps(result, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
