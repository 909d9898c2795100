"""The same facts in the same model folder: accrete teach against LoRA and full finetuning with transformers and peft.

usage: compare_peft.py ACCRETE MODEL [--facts N] [--seed S] [--threads T] [--out FILE]

MODEL is a folder made by `accrete retrofit`: transformers reads its base. Each method is a process of its own with T threads, one after the
other. Recall is the share of facts whose first untaught phrasing is answered with every token the most likely one; kept is the share of what
the base answers so of data/known. Both are measured by the same code for all: what accrete taught is exported and read back with transformers.
Seconds are those of training; measuring is not counted, but for what `accrete teach` measures itself, before and after. The rates of LoRA and full finetuning are swept on development facts first: the best
is the one that reaches the target in the fewest epochs, or failing that the highest recall. lora-bf16 and full-bf16 are the same with products in
bfloat16 (torch.autocast), which processors with instructions for it are faster at: there, accrete's solver takes them as well.
"""
import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = 0.9
RATES = {"lora": [3e-4, 1e-3, 2e-3], "full": [1e-5, 3e-5, 1e-4]}
BATCH = 32


def read_jsonl(*path):
    with open(os.path.join(ROOT, "data", *path), encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.strip()]


def draw_facts(split, count, seed):
    facts = [f for f in read_jsonl("facts", split + ".jsonl") if f.get("asked")]
    random.Random(seed).shuffle(facts)
    return facts[:count]


def few_shot():
    text = ""
    for item in read_jsonl("known", "fewshot.jsonl"):
        question = item.get("question") or item.get("prompt") or item["prompts"][0]
        answer = item.get("answer") or item.get("completion") or item["answers"][0]
        text += f"Question: {question}{'' if question.endswith('?') else '?'}\nAnswer: {answer}\n\n"
    return text


def known():
    """(prompt, answers) of what a model may know, as raw text."""
    head, out = few_shot(), []
    for name in ("clozes_test.jsonl", "questions_test.jsonl"):
        for item in read_jsonl("known", name):
            prompts = item.get("prompts") or item.get("questions") or [item.get("prompt") or item.get("question")]
            answers = item.get("answers") or [item.get("answer") or item.get("completion")]
            prompt = prompts[0]
            if name.startswith("questions"):
                prompt = f"{head}Question: {prompt}{'' if prompt.endswith('?') else '?'}\nAnswer:"
            out.append((prompt, answers[0]))
    return out


class Tools:
    """A model in transformers, and how it is asked and trained."""

    def __init__(self, folder, threads):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.torch = torch
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=True)

    def encode(self, prompt, completion):
        a = self.tokenizer(prompt, add_special_tokens=False).input_ids
        b = self.tokenizer(" " + completion, add_special_tokens=False).input_ids
        return a + b, len(a)

    def batches(self, examples, size):
        order = sorted(range(len(examples)), key=lambda i: len(examples[i][0]))
        for at in range(0, len(order), size):
            yield order[at : at + size]

    def pad(self, examples):
        torch, longest = self.torch, max(len(ids) for ids, _ in examples)
        ids = torch.zeros(len(examples), longest, dtype=torch.long)
        mask = torch.zeros(len(examples), longest, dtype=torch.long)
        labels = torch.full((len(examples), longest), -100, dtype=torch.long)
        for i, (tokens, prompt) in enumerate(examples):
            ids[i, : len(tokens)] = torch.tensor(tokens)
            mask[i, : len(tokens)] = 1
            labels[i, prompt : len(tokens)] = torch.tensor(tokens[prompt:])
        return ids, mask, labels

    def exact(self, pairs):
        """For each (prompt, completion): is every token of the completion the most likely one?"""
        torch, examples = self.torch, [self.encode(*p) for p in pairs]
        out = [False] * len(pairs)
        self.model.eval()
        with torch.no_grad():
            for which in self.batches(examples, 16):
                ids, mask, labels = self.pad([examples[i] for i in which])
                guess = self.model(input_ids=ids, attention_mask=mask).logits[:, :-1].argmax(-1)
                right = ((guess == labels[:, 1:]) | (labels[:, 1:] == -100)).all(1)
                for i, r in zip(which, right.tolist()):
                    out[i] = r
        self.model.train()
        return out

    def recall(self, facts):
        right = self.exact([(f["asked"][0], f["completion"]) for f in facts])
        return sum(right) / len(right)


def with_lora(model):
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, task_type="CAUSAL_LM",
                                            target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]))


def finetune(tools, method, facts, rate, epochs, max_seconds, ask):
    """Trains until the target or a limit; one record an epoch."""
    torch = tools.torch
    if method.startswith("lora"):
        tools.model = with_lora(tools.model)
    parameters = [p for p in tools.model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    examples = [tools.encode(p, f["completion"]) for f in facts for p in f["prompts"]]
    records, seconds, steps = [], 0.0, 0
    tools.model.train()
    for epoch in range(epochs):
        groups = list(tools.batches(examples, BATCH))
        random.Random(epoch).shuffle(groups)
        for which in groups:
            ids, mask, labels = tools.pad([examples[i] for i in which])
            start = time.perf_counter()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=method.endswith("-bf16")):
                loss = tools.model(input_ids=ids, attention_mask=mask, labels=labels).loss
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            seconds += time.perf_counter() - start
            steps += 1
            if seconds > max_seconds:
                break
        recall = tools.recall(facts) if ask else 0.0
        records.append({"epoch": epoch + 1, "recall": recall, "seconds": round(seconds, 1)})
        print(f"{method} {rate:g}: {records[-1]}", file=sys.stderr, flush=True)
        if recall >= TARGET or seconds > max_seconds:
            break
    return {"epochs": records, "steps": steps, "examples_a_step": BATCH,
            "seconds_per_example": seconds / max(1, steps * BATCH),
            "parameters": sum(p.numel() for p in parameters)}


def worker(job):
    """One method in this process; prints its result."""
    tools = Tools(job["folder"], job["threads"])
    facts = draw_facts(job["split"], job["facts"], job["seed"])
    result = {}
    if job["task"] == "finetune":
        result = finetune(tools, job["method"], facts, job["rate"], job["epochs"], job["max_seconds"], True)
    if job["task"] == "inference":
        tools.recall(facts[:16])
    result["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if job["task"] in ("finetune", "measure") and job.get("known"):
        pairs = [tuple(p) for p in job["known"]]
        right = tools.exact(pairs)
        result["recall"] = tools.recall(facts)
        result["kept"] = sum(right) / max(1, len(right))
    if job["task"] == "base":
        pairs = known()
        result["known"] = [p for p, r in zip(pairs, tools.exact(pairs)) if r]
        result["recall"] = tools.recall(facts)
    print(json.dumps(result))


def run_worker(**job):
    done = subprocess.run([sys.executable, os.path.abspath(__file__), "--worker", json.dumps(job)], stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def peak_of(command):
    """Runs a command; its output and its peak memory."""
    code = ("import resource, subprocess, sys, json; p = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True);"
            "print(json.dumps([p.returncode, p.stdout, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024]))")
    out = subprocess.run([sys.executable, "-c", code, *command], stdout=subprocess.PIPE, check=True, text=True).stdout
    status, text, peak = json.loads(out)
    if status != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    return text, peak


def accrete(args, facts, pairs):
    with tempfile.TemporaryDirectory() as work:
        model = os.path.join(work, "model")
        shutil.copytree(args.model, model)
        data = os.path.join(work, "facts.jsonl")
        with open(data, "w", encoding="utf-8") as f:
            for fact in facts:  # what is asked is not given: the tool measures nothing that is not taught
                f.write(json.dumps({k: fact[k] for k in ("prompts", "completion", "subject")}) + "\n")
        common = ["--threads", str(args.threads), "--quiet", "--json"]
        _, inference = peak_of([args.accrete, "ask", model, facts[0]["prompts"][0], "--raw", "--max-tokens", "16", *common])
        text, peak = peak_of([args.accrete, "teach", model, data, "--raw", *common])
        taught = json.loads(text)
        print(f"accrete: {taught}", file=sys.stderr, flush=True)
        exported = os.path.join(work, "exported")
        subprocess.run([args.accrete, "export", model, exported, "--quiet"], check=True, stdout=subprocess.DEVNULL)
        measured = run_worker(task="measure", folder=exported, threads=args.threads, split=args.split, facts=args.facts, seed=args.seed, known=pairs)
        return {"seconds": round(taught["seconds"], 1), "measuring_seconds": round(taught["measuring_seconds"], 1), "recall": measured["recall"], "kept": measured["kept"],
                "parameters": taught["parameters"], "peak_bytes": peak, "inference_peak_bytes": inference,
                "peak_over_inference": round(peak / inference, 3)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("accrete")
    parser.add_argument("model")
    parser.add_argument("--facts", type=int, default=200)
    parser.add_argument("--split", default="test", choices=["dev", "test"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--max-seconds", type=float, default=1800, help="of training, for each method")
    parser.add_argument("--sweep-facts", type=int, default=32)
    parser.add_argument("--sweep-epochs", type=int, default=6)
    parser.add_argument("--methods", default="accrete,lora,full,lora-bf16,full-bf16")
    parser.add_argument("--out", help="results so far are read from here, and what is missing is run")
    args = parser.parse_args()

    result = {"benchmark": "compare_peft", "facts": args.facts, "split": args.split, "seed": args.seed, "threads": args.threads,
              "target": TARGET, "batch": BATCH, "methods": {}}
    if args.out and os.path.exists(args.out):
        with open(args.out, encoding="utf-8") as f:
            old = json.load(f)
        if all(old.get(k) == result[k] for k in ("facts", "split", "seed", "threads")):
            result["methods"] = old["methods"]

    def save():
        if args.out:
            with open(args.out, "w", encoding="utf-8") as f:
                f.write(json.dumps(result, indent=2) + "\n")

    base = run_worker(task="base", folder=args.model, threads=args.threads, split=args.split, facts=args.facts, seed=args.seed)
    pairs = base["known"]
    result["known"], result["recall_before"] = len(pairs), base["recall"]
    facts = draw_facts(args.split, args.facts, args.seed)
    for method in args.methods.split(","):
        if method in result["methods"]:
            continue
        if method == "accrete":
            result["methods"][method] = accrete(args, facts, pairs)
            save()
            continue
        sweep = []
        for rate in RATES[method.removesuffix("-bf16")]:
            tried = run_worker(task="finetune", method=method, folder=args.model, threads=args.threads, split="dev", facts=args.sweep_facts,
                               seed=args.seed, rate=rate, epochs=args.sweep_epochs, max_seconds=args.max_seconds)
            best = max(e["recall"] for e in tried["epochs"])
            reached = [e["epoch"] for e in tried["epochs"] if e["recall"] >= TARGET]
            sweep.append({"rate": rate, "recall": best, "epochs": reached[0] if reached else None})
        rate = min(sweep, key=lambda s: (s["epochs"] or 10**6, -s["recall"]))["rate"]
        run = run_worker(task="finetune", method=method, folder=args.model, threads=args.threads, split=args.split, facts=args.facts,
                         seed=args.seed, rate=rate, epochs=args.epochs, max_seconds=args.max_seconds, known=pairs)
        best = max(run["epochs"], key=lambda e: (min(e["recall"], TARGET), -e["seconds"]))
        result["methods"][method] = {"rate": rate, "sweep": sweep, "seconds": run["epochs"][-1]["seconds"], "best": best,
                                     "recall": run["recall"], "kept": run["kept"], "parameters": run["parameters"],
                                     "seconds_per_example": run["seconds_per_example"], "epochs": run["epochs"],
                                     "peak_bytes": run["peak_bytes"]}
        save()
    if "inference_peak_bytes" not in result:
        result["inference_peak_bytes"] = run_worker(task="inference", folder=args.model, threads=args.threads, split=args.split, facts=16,
                                                    seed=args.seed)["peak_bytes"]
    if "accrete" in result["methods"]:
        for name, method in result["methods"].items():
            method["times_accrete"] = round(method["seconds"] / result["methods"]["accrete"]["seconds"], 2)
    save()
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--worker":
        worker(json.loads(sys.argv[2]))
    else:
        main()
