"""Tunes the reader to tell which fact a question asks for, and whether it asks for one that was taught.

usage: tune_reader.py [--minutes 26] [--seed 0] [--threads 2] [--check]

From models/all-MiniLM-L6-v2 and the first part of data/reader/questions.jsonl (facts in seven wordings, about a hundred things and
offices; none of the benchmark's; what was written later is for tune_cross_encoder.py) and half of CLINC150's intents it makes data/reader/adapter, a LoRA of the encoder's linear layers as peft saves it.
An episode is what a teach is: some facts of one thing with one to three wordings each are taught, others of the same thing are not; a
question is asked in a wording that was not taught. The score is that of src/memory/fact_store.cc and acceptance.h, so the loss is of
the very decision: which fact (cross-entropy), accepted or not (logistic), and not far from the published encoder (cosine).
It stops by the clock, so two runs differ; the files in the tree are one run's. --check tells how the encoder does on the development
half of data/desk, which nothing is learned from. fit_acceptance.py then fits data/reader/acceptance.json to it.
"""

import argparse
import json
import math
import os
import pathlib
import random
import re
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel, AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "python"))
from modeling_accrete_facts import SHRINK, Contrasts, mask_name, plain_question  # noqa: E402: the rules of src/text and fact_store.cc

DATA, BASE = ROOT / "data", ROOT / "models" / "all-MiniLM-L6-v2"
ADAPTER = DATA / "reader" / "adapter"
RANK, RATE, PULL, MOST_TOKENS = 16, 1.5e-3, 0.7, 64
FIRST = 3894  # lines of questions.jsonl
LAYERS = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense", "intermediate.dense", "output.dense"]
START = [4.520, 5.214, 3.732, 1.742, -8, -6.938]  # acceptance_rule() of acceptance.cc: centred, whole, answer, nearest, contrast, bias


def lines(path):
    with open(DATA / path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


CONTRASTS = Contrasts((ROOT / "src" / "text" / "contrast_classes.inc").read_text(encoding="utf-8").split('R"(')[1].split(')"')[0])


class Lora(nn.Module):
    """A linear layer and what the adapter adds to it."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.on = layer, True
        self.a = nn.Parameter(torch.randn(RANK, layer.in_features) / math.sqrt(layer.in_features))
        self.b = nn.Parameter(torch.zeros(layer.out_features, RANK))

    def forward(self, x):
        y = self.layer(x)
        return y + F.linear(F.linear(x, self.a), self.b) if self.on else y


class Encoder:
    """The reader: the mean over a text's tokens without [CLS] and [SEP], unit length."""

    def __init__(self):
        self.tokenizer = AutoTokenizer.from_pretrained(BASE)
        self.network = AutoModel.from_pretrained(BASE).eval()
        self.ids, self.loras = {}, {}
        for p in self.network.parameters():
            p.requires_grad_(False)
        for i, block in enumerate(self.network.encoder.layer):
            for name in LAYERS:
                parent = block.get_submodule(name.rpartition(".")[0])
                lora = Lora(block.get_submodule(name))
                setattr(parent, name.rpartition(".")[2], lora)
                self.loras[f"base_model.model.encoder.layer.{i}.{name}"] = lora

    def parameters(self):
        return [p for lora in self.loras.values() for p in (lora.a, lora.b)]

    def __call__(self, texts):
        for text in texts:
            if text not in self.ids:
                self.ids[text] = self.tokenizer(text, truncation=True, max_length=MOST_TOKENS)["input_ids"]
        order, out = sorted(range(len(texts)), key=lambda i: len(self.ids[texts[i]])), [None] * len(texts)
        for begin in range(0, len(order), 96):  # of about one length
            part = order[begin : begin + 96]
            ids = [torch.tensor(self.ids[texts[i]]) for i in part]
            padded = nn.utils.rnn.pad_sequence(ids, batch_first=True)
            place = torch.arange(padded.shape[1])
            length = torch.tensor([len(i) for i in ids])[:, None]
            words = torch.where(length > 2, (place >= 1) & (place < length - 1), place == 0).float()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=torch.is_grad_enabled()):  # a step is twice as fast so
                h = self.network(input_ids=padded, attention_mask=(place < length).long()).last_hidden_state.float()
            vectors = F.normalize((h * words[:, :, None]).sum(1), dim=-1)
            for row, i in enumerate(part):
                out[i] = vectors[row]
        return torch.stack(out)

    def published(self, texts):
        for lora in self.loras.values():
            lora.on = False
        with torch.no_grad():
            out = self(texts)
        for lora in self.loras.values():
            lora.on = True
        return out

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        factors = {}
        for name, lora in self.loras.items():
            factors[name + ".lora_A.weight"] = lora.a.data.to(torch.bfloat16).contiguous()
            factors[name + ".lora_B.weight"] = lora.b.data.to(torch.bfloat16).contiguous()
        save_file(factors, folder / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "bias": "none", "target_modules": ["query", "key", "value", "dense"],
                  "base_model_name_or_path": "sentence-transformers/all-MiniLM-L6-v2", "task_type": "FEATURE_EXTRACTION"}
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")

    def load(self, folder):
        factors = load_file(folder / "adapter_model.safetensors")
        for name, lora in self.loras.items():
            lora.a.data, lora.b.data = (factors[f"{name}.lora_{x}.weight"].float() for x in "AB")


def mask(text, subject):
    return mask_name(text, subject) if subject else text


def unit(x):
    return F.normalize(x, dim=-1, eps=1e-9)


def evidence(subject, taught, answers, questions, encode):
    """[5, questions, facts]: what the decision weighs (src/memory/acceptance.h), four cosines and whether the question holds a contrasting
    word. `taught` [facts] lists of wordings."""
    n = len(taught)
    wordings, asked = [plain_question(w) for t in taught for w in t], [plain_question(q) for q in questions]
    texts = wordings + asked + [mask(plain_question(a), subject) for a in answers]
    if subject:
        texts += [mask(t, subject) for t in wordings + asked]
    vectors = encode(texts)
    k, q = len(wordings), len(asked)
    whole, whole_asked, answer = vectors[:k], vectors[k : k + q], vectors[k + q : k + q + n]
    masked, masked_asked = (vectors[k + q + n :][:k], vectors[k + q + n :][k:]) if subject else (whole, whole_asked)
    count = torch.tensor([len(t) for t in taught])
    fact = torch.repeat_interleave(torch.arange(n), count)
    mean = torch.zeros(n, k).index_put_((fact, torch.arange(k)), (1 / count)[fact])
    share = (n - 1) / (n - 1 + SHRINK) if n > 1 else 0.0
    c_masked, c_whole = mean @ masked, mean @ whole
    m_masked, m_whole, m_answer = share * c_masked.mean(0), share * c_whole.mean(0), share * answer.mean(0)
    at = unit(masked_asked - m_masked)
    near = torch.full((q, n), -1.0).scatter_reduce(1, fact[None].expand(q, -1), masked_asked @ masked.T, "amax")
    words = [CONTRASTS.taught([mask(plain_question(w), subject) for w in t]) for t in taught]
    of_asked = [CONTRASTS.asked(mask(a, subject)) for a in asked]
    contrast = torch.tensor([[float(CONTRASTS.contrast(a, t)) for t in words] for a in of_asked])
    out = torch.stack([at @ unit(c_masked - m_masked).T, unit(whole_asked - m_whole) @ unit(c_whole - m_whole).T,
                       at @ unit(answer - m_answer).T, near, contrast])
    return out, vectors, texts


def log_odds(weights, cosines):
    return torch.einsum("f,fqn->qn", weights[:5], cosines) + weights[5]


def clinc_intents():
    """intent -> (answer, wordings of people)"""
    out = {row["intent"]: (row["answer"], []) for row in lines("desk/clinc_answers.jsonl")}
    for row in lines("desk/clinc_train.jsonl"):
        out[row["intent"]][1].append(row["q"])
    return out


def episode_groups():
    """(subject or "", [(answer, wordings)]); every other intent of CLINC150, the others being for trial."""
    groups = {}
    for row in lines("reader/questions.jsonl")[:FIRST]:
        groups.setdefault(row["group"], (row["subject"], []))[1].append((row["answer"], row["wordings"]))
    intents = clinc_intents()
    return [*groups.values(), ("", [intents[i] for i in sorted(intents)[::2]])]


def episode(group, groups, unrelated, rng):
    """-> subject, taught wordings, answers, questions, the fact of each question (-1: none)."""
    subject, facts = group
    n = min(len(facts) - 4, rng.choice([6, 12, 18, 24, 30, 36]))
    facts = rng.sample(facts, len(facts))
    taught, questions, of = [], [], []
    for i, (_, wordings) in enumerate(facts[:n]):
        known = rng.sample(wordings, len(wordings))
        if len(wordings) <= 10 and rng.random() < 0.5:  # the plain ones are taught, the others asked
            known = rng.sample(wordings[:3], 3) + rng.sample(wordings[3:], len(wordings) - 3)
        k = rng.choice([1, 2, 3, 3])
        taught.append(known[:k])
        questions.append(rng.choice(known[k:]))
        of.append(i)
    for _, wordings in facts[n : n + max(4, n // 2)]:
        questions.append(rng.choice(wordings))
        of.append(-1)
    named = [g for g in groups if g[0]]
    if not subject:
        for _ in range(max(4, n // 4)):
            other = rng.choice(rng.choice(rng.choice(named)[1])[1])
            questions.append(rng.choice(unrelated) if rng.random() < 0.5 else other)
            of.append(-1)
    elif rng.random() < 0.5:  # another name in its place
        name = rng.choice(named)[0]
        put = lambda text: re.sub(re.escape(subject), lambda _: name, text, flags=re.I)
        taught, questions, subject = [[put(w) for w in t] for t in taught], [put(q) for q in questions], name
    return subject, taught, [a for a, _ in facts[:n]], questions, torch.tensor(of)


def tune(encoder, minutes, seed):
    rng = random.Random(seed)
    groups = [(s, [f for f in facts if len(f[1]) >= 5]) for s, facts in episode_groups()]
    unrelated = [row["question"] for row in lines("questions/dev.jsonl")]
    weights = nn.Parameter(torch.tensor(START))
    optimizer = torch.optim.AdamW([{"params": encoder.parameters(), "most": RATE}, {"params": [weights], "most": 2e-2}], betas=(0.9, 0.98), weight_decay=0)
    begin, step, order, seen = time.time(), 0, [], []
    while (share := (time.time() - begin) / 60 / minutes) < 1:
        for group in optimizer.param_groups:
            group["lr"] = group["most"] * min(1, step / 20) * (1 - share)
        optimizer.zero_grad()
        for _ in range(2):
            order = order or rng.sample(groups, len(groups))
            subject, taught, answers, questions, of = episode(order.pop(), groups, unrelated, rng)
            cosines, vectors, texts = evidence(subject, taught, answers, questions, encoder)
            z, known = log_odds(weights, cosines), of >= 0
            which = F.cross_entropy(z[known], of[known])
            accepted = F.softplus(-z[known].gather(1, of[known][:, None])).mean() + F.softplus(z[~known].max(1).values).mean()
            some = rng.sample(range(len(texts)), min(64, len(texts)))
            pull = (1 - (vectors[some] * encoder.published([texts[i] for i in some])).sum(-1)).mean()
            ((which + accepted + PULL * pull) / 2).backward()
            seen.append([x.item() for x in (which, accepted, pull, (z[known].argmax(1) == of[known]).float().mean())])
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 25 == 0:
            print(step, f"{time.time() - begin:.0f} s", np.mean(seen[-50:], 0).round(3), flush=True)
    return weights.detach()


def area(right, wrong):
    ranks = np.argsort(np.argsort(np.concatenate([right, wrong]), kind="stable"), kind="stable")
    return (ranks[: len(right)].sum() - len(right) * (len(right) - 1) / 2) / (len(right) * len(wrong))


def trial(subject, taught, answers, asked, left, unrelated, encode):
    """(evidence [5, q, n], fact of each question (-1 untaught, -2 unrelated), texts)"""
    questions = [q for _, q in asked] + left + list(unrelated)
    of = np.array([i for i, _ in asked] + [-1] * len(left) + [-2] * len(unrelated))
    return evidence(subject, taught, answers, questions, encode)[0], of, (subject, taught, answers, questions)


def blind_trials(encode):
    """What was written when everything had been fitted, and nothing is fitted to: as trials()."""
    out = {}
    for desk in lines("desk/blind.jsonl"):
        facts, subject = desk["facts"], desk.get("subject", "")
        styles = {"near": [0, 1], "far": [2, 3]} if subject else {"near": [0], "in haste": [1], "far": [2]}
        for style, which in styles.items():
            asked = [(i, f["asked"][k]) for i, f in enumerate(facts) for k in which]
            name = f"blind, {'one thing' if subject else 'no name'}, {style}"
            out.setdefault(name, []).append(
                trial(subject, [f["questions"] for f in facts], [f["answer"] for f in facts], asked, desk["contrast"], (), encode))
    return out


def trials(half, encode, draws=6):
    """name -> list of trial(): what the decision is tried on."""
    if half == "blind":
        return blind_trials(encode)
    out = {}

    def add(name, subject, taught, answers, asked, left, unrelated=()):
        out.setdefault(name, []).append(trial(subject, taught, answers, asked, left, unrelated, encode))

    things = {}
    for row in lines(f"desk/things_{half}.jsonl"):
        things.setdefault(row["subject"], []).append(row)
    for n in (12, 36):
        for style in ("asked", "far"):
            for subject, facts in things.items():
                rng = random.Random(11)
                for _ in range(draws):
                    some = rng.sample(facts, len(facts))
                    left = [q for f in some[n : n + 12] for q in (f["far"] if style == "far" else f["questions"] + f["asked"])]
                    asked = [(i, q) for i, f in enumerate(some[:n]) for q in f[style]]
                    add(f"{n} facts, {style}", subject, [f["questions"] for f in some[:n]], [f["answer"] for f in some[:n]], asked, left)
    shop = lines(f"desk/shop_{half}.jsonl")
    left = [row["question"] for row in lines(f"desk/shop_left_{half}.jsonl")]
    unrelated = [row["question"] for row in lines("desk/unrelated.jsonl")][:: 3 if half == "dev" else 1]
    for style in ("asked", "far"):
        asked = [(i, q) for i, f in enumerate(shop) for q in f[style]]
        add(f"office, {style}", "", [f["questions"] for f in shop], [f["answer"] for f in shop], asked, left, unrelated)
    for name in ("near", "contrast"):
        for desk in lines(f"desk/{name}_{half}.jsonl"):
            facts, subject = desk["facts"], desk.get("subject", "")
            asked = [(i, q) for i, f in enumerate(facts) for q in f["asked"]]
            add(f"{name}, {'one thing' if subject else 'no name'}", subject, [f["questions"] for f in facts], [f["answer"] for f in facts], asked, desk["contrast"])
    intents = clinc_intents()
    part = "val" if half == "dev" else "test"
    every, scope = sorted(intents), [row["q"] for row in lines(f"desk/clinc_oos_{part}.jsonl")]
    for name, names in (("150 intents", every), ("75 intents never tuned on", every[1::2])):
        asked = [(names.index(row["intent"]), row["q"]) for row in lines(f"desk/clinc_{part}.jsonl") if row["intent"] in names]
        asked = asked[:: 3 if half == "dev" else 1]
        for k in (5, 10):
            rng = random.Random(k)
            add(f"{name}, {k} wordings", "", [rng.sample(intents[i][1], k) for i in names], [intents[i][0] for i in names], asked, scope, unrelated)
    return out


def measures(weights, cosines, of, odds=log_odds):
    z = odds(weights, cosines).numpy()
    best, score = z.argmax(1), z.max(1)
    known, left, unrelated = of >= 0, of == -1, of == -2
    right = best[known] == of[known]
    tenth = np.quantile(score[left], 0.9)
    return {"first": right.mean(), "area": area(score[known], score[left]), "at a tenth": (right & (score[known] > tenth)).mean(),
            "right": right, "score": score[known], "left": score[left], "unrelated": score[unrelated]}


def caching(encoder):
    known = {}

    @torch.no_grad()
    def encode(texts):
        new = [t for t in dict.fromkeys(texts) if t not in known]
        for begin in range(0, len(new), 384):
            known.update(zip(new[begin : begin + 384], encoder(new[begin : begin + 384])))
        return torch.stack([known[t] for t in texts])

    return encode


def show(weights, sets):
    for name, draws in sets.items():
        rows = [measures(weights, *draw[:2]) for draw in draws]
        print(f"{name:34}", "  ".join(f"{k} {np.mean([r[k] for r in rows]):.3f}" for k in ("first", "area", "at a tenth")), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=26)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--check", action="store_true", help="only measure the adapter that is there")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    encoder = Encoder()
    weights = torch.tensor(START)
    if not given.check:
        weights = tune(encoder, given.minutes, given.seed)
        encoder.save(ADAPTER)
        print("weights of the decision while tuning:", weights.numpy().round(2))
    encoder.load(ADAPTER)
    show(weights, trials("dev", caching(encoder)))


if __name__ == "__main__":
    main()
