"""The finetuning baselines against transformers and peft: the same model, batches, order and hyper-parameters.

usage: check_baselines.py TRACE MODEL [--facts N] [--passes N] [--out FILE]
  TRACE  build/bench/finetune_trace (cmake -DACCRETE_BENCH=ON)
  MODEL  a model folder: its config.json and model.safetensors are what transformers loads

Needs torch, transformers, peft. The trace tool trains in C++ and writes down every batch; here the same batches train the same model in Python.
LoRA runs twice: with the C++ run's first factors (only rounding may differ), and with peft's own random ones (seed noise, for scale).
Exit status 1 when a loss curve or a final score differs by more than noise.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RUNS = [("full", 3e-5), ("full", 1e-5), ("sgd", 0.1), ("lora", 3e-4)]


def batch_tensors(examples):
    n = max(len(e["tokens"]) for e in examples)
    ids = torch.zeros(len(examples), n, dtype=torch.long)
    mask = torch.zeros(len(examples), n, dtype=torch.long)
    labels = torch.full((len(examples), n), -100)
    for i, e in enumerate(examples):
        tokens = torch.tensor(e["tokens"])
        ids[i, :len(tokens)], mask[i, :len(tokens)] = tokens, 1
        labels[i, :len(tokens)] = torch.where(torch.tensor(e["label"]) > 0, tokens, -100)
    return ids, mask, labels


def example_losses(model, examples):
    """Mean negative log-likelihood of each example's labels, and whether all of them are the argmax."""
    ids, mask, labels = batch_tensors(examples)
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    labels = labels[:, 1:]
    nll = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), reduction="none").view(labels.shape)
    counts = (labels != -100).sum(1)
    exact = ((logits.argmax(-1) == labels) | (labels == -100)).all(1)
    return nll.sum(1) / counts, exact


@torch.no_grad()
def scores(model, examples):
    nll, exact = [], []
    for at in range(0, len(examples), 32):
        a, b = example_losses(model, examples[at:at + 32])
        nll += a.tolist()
        exact += b.tolist()
    return {"nll": nll, "exact": exact}


def train(trace, folder, factors):
    torch.manual_seed(trace["seed"])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if trace["rank"] > 0:
        model = get_peft_model(model, LoraConfig(r=trace["rank"], lora_alpha=trace["alpha"], lora_dropout=0.0, target_modules=MODULES))
        if factors is not None:
            own = dict(model.named_parameters())
            for name, value in factors.items():
                with torch.no_grad():
                    own[f"base_model.model.{name}.default.weight"].copy_(value)
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    if trace["method"] == "sgd":
        optimizer = torch.optim.SGD(parameters, trace["rate"])
    else:
        optimizer = torch.optim.AdamW(parameters, trace["rate"], weight_decay=0.0)
    losses = []
    for batch in trace["steps"]:
        loss = example_losses(model, batch)[0].mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, trace["clip"])
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses, {key: scores(model, trace[key]) for key in ("taught", "asked")}


def compare(trace, losses, after):
    def mean(values):
        return sum(values) / len(values)
    return {
        "loss_difference_max": max(abs(a - b) for a, b in zip(losses, trace["losses"])),
        "loss_difference_mean": mean([abs(a - b) for a, b in zip(losses, trace["losses"])]),
        "final": {key: {"cpp_nll": mean(trace["after"][key]["nll"]), "python_nll": mean(after[key]["nll"]),
                        "cpp_exact": mean(trace["after"][key]["exact"]), "python_exact": mean(after[key]["exact"]),
                        "same_answers": mean([a == b for a, b in zip(trace["after"][key]["exact"], after[key]["exact"])])}
                  for key in ("taught", "asked")},
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("trace")
    parser.add_argument("model")
    parser.add_argument("--facts", type=int, default=48)
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--out")
    a = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    result, failed = {"benchmark": "check_baselines", "facts": a.facts, "passes": a.passes, "torch": torch.__version__, "runs": []}, []
    facts = os.path.join(ROOT, "data", "facts", "dev.jsonl")
    for method, rate in RUNS:
        with tempfile.TemporaryDirectory() as work:
            out = os.path.join(work, "trace")
            subprocess.run([a.trace, a.model, facts, out, method, str(rate), str(a.passes), str(a.facts)], check=True)
            with open(out + ".json", encoding="utf-8") as f:
                trace = json.load(f)
            factors = load_file(out + ".safetensors") if method == "lora" else None
        for init in (["same"] if factors is None else ["same", "peft"]):
            losses, after = train(trace, a.model, factors if init == "same" else None)
            run = {"method": method, "rate": rate, "steps": len(losses), "first_factors": init if factors is not None else None,
                   "first_loss": trace["losses"][0], "last_loss": trace["losses"][-1], **compare(trace, losses, after),
                   "cpp_losses": [round(v, 5) for v in trace["losses"]], "python_losses": [round(v, 5) for v in losses]}
            result["runs"].append(run)
            print(json.dumps({k: v for k, v in run.items() if not k.endswith("losses")}), flush=True)
            # The same arithmetic in another order: rounding grows over the steps, but no further than this.
            bound, answers = (0.02, 0.97) if init == "same" else (0.5, 0.0)
            if run["loss_difference_max"] > bound or any(v["same_answers"] < answers for v in run["final"].values()):
                failed.append(f"{method} {rate} ({init}): {run['loss_difference_max']:.4f}")
    if a.out:
        with open(a.out, "w", encoding="utf-8") as f:
            f.write(json.dumps(result, indent=1) + "\n")
    if failed:
        sys.exit("differs by more than noise: " + "; ".join(failed))
    print("baselines agree with transformers and peft")


main()
