"""Tunes the reader's cross-encoder: whether a question asks for a fact, the two read as one text.

usage: tune_cross_encoder.py [--minutes 40] [--seed 0] [--threads 2] [--go-on] [--check]

From models/all-MiniLM-L6-v2, the adapter of data/reader (tune_reader.py), data/reader/questions.jsonl and half of CLINC150's intents it
makes data/reader/cross_encoder: another LoRA of the encoder's linear layers, and a head over the means of the question's and of the
fact's words (src/model/reader.h). A step shows pairs: a question with its own fact, in one to three wordings that are not the question,
and with a neighbour: a fact of the same thing that lies near or stands beside it in the file. Some questions are asked with a word
changed for another of its class ("Sunday" for "Saturday", src/text/contrast_classes.inc), which the fact then does not answer. A fact of
no thing in particular is also read with questions from elsewhere that lie near it: of other groups, and what people ask of the world
(data/questions, data/known). It stops by the clock, so two runs differ. --check tells how well what is there tells the asked from their neighbours, on the development half
of data/desk. fit_acceptance.py then weighs it beside the cosines.
"""

import argparse
import json
import os
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from tune_reader import ADAPTER, CONTRASTS, DATA, Encoder, area, clinc_intents, evidence, lines, log_odds, mask
from modeling_accrete_facts import plain_question, words_of

FOLDER = DATA / "reader" / "cross_encoder"
RATE, BATCH = 1e-3, 16
QUESTION, WORDING, ANSWER, MOST = 40, 32, 16, 128  # tokens, as Reader::judge of src/model/reader.cc
SAME = 0.65


def mean_of(h, which):
    return (h * which.float()[:, :, None]).sum(1) / which.float().sum(1, keepdim=True).clamp(min=1)


class CrossEncoder:
    """Reads a question and a fact as one text."""

    def __init__(self, start=None):
        self.encoder = Encoder()
        self.network, self.ids = self.encoder.network, {}
        self.head = nn.Linear(2 * self.network.config.hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        if start:
            self.load(start)
        tokenizer = self.encoder.tokenizer
        self.first, self.end = tokenizer.cls_token_id, tokenizer.sep_token_id

    def tokens(self, text):
        if text not in self.ids:
            self.ids[text] = self.encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
        return self.ids[text]

    def pair(self, question, wordings, answer):
        """(ids, where the fact begins)"""
        asked, fact = self.tokens(question)[:QUESTION], []
        for wording in wordings:
            fact += (self.tokens("/") if fact else []) + self.tokens(wording)[:WORDING]
        ids = [self.first, *asked, self.end, *fact, self.end, *self.tokens(answer)[:ANSWER]][: MOST - 1] + [self.end]
        return ids, len(asked) + 2

    def passes(self, pairs, at_once):
        """Of pairs (ids, where the second text begins, ...) of about one length together: their indices, the last hidden states, and masks of
        the first text's and the second's tokens."""
        order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]))
        for begin in range(0, len(order), at_once):
            part = order[begin : begin + at_once]
            ids = nn.utils.rnn.pad_sequence([torch.tensor(pairs[i][0]) for i in part], batch_first=True)
            length = torch.tensor([len(pairs[i][0]) for i in part])[:, None]
            second = torch.tensor([pairs[i][1] for i in part])[:, None]
            place = torch.arange(ids.shape[1])
            inside = place < length
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=torch.is_grad_enabled()):
                h = self.network(input_ids=ids, attention_mask=inside.long(), token_type_ids=((place >= second) & inside).long())
            yield part, h.last_hidden_state.float(), (place >= 1) & (place < second - 1), (place >= second) & (place < length - 1)

    def __call__(self, pairs):
        """Log-odds, one a pair."""
        out = [None] * len(pairs)
        for part, h, asked, fact in self.passes(pairs, 48):
            both = torch.cat([mean_of(h, asked), mean_of(h, fact)], -1)
            for row, i in enumerate(part):
                out[i] = self.head(both[row])[0]
        return torch.stack(out)

    @torch.no_grad()
    def score(self, pairs):
        return torch.cat([self(pairs[i : i + 192]) for i in range(0, len(pairs), 192)]).numpy() if pairs else np.zeros(0, np.float32)

    def parameters(self):
        return [*self.encoder.parameters(), *self.head.parameters()]

    def save(self, folder):
        self.encoder.save(folder)
        file = folder / "adapter_model.safetensors"
        save_file({**load_file(file), "head.weight": self.head.weight.data.contiguous(), "head.bias": self.head.bias.data.contiguous()}, file)

    def load(self, folder):
        self.encoder.load(folder)
        factors = load_file(folder / "adapter_model.safetensors")
        if "head.weight" in factors:
            self.head.load_state_dict({"weight": factors["head.weight"].float(), "bias": factors["head.bias"].float()})


def groups_of_facts():
    """[(subject or "", [(answer, plain wordings)])]; every other intent of CLINC150, as tune_reader.py."""
    groups = {}
    for row in lines("reader/questions.jsonl"):
        groups.setdefault(row["group"], (row["subject"], []))[1].append((row["answer"], row["wordings"]))
    intents = clinc_intents()
    out = [*groups.values(), ("", [intents[i] for i in sorted(intents)[::2]])]
    return [(s, [(a, [plain_question(w) for w in ws]) for a, ws in facts if len(ws) >= 4]) for s, facts in out]


@torch.no_grad()
def elsewhere(groups, encoder, most=12):
    """Of each fact of each group without a subject the questions from elsewhere that lie nearest it; of other groups not those that may
    ask the same (cosine above SAME)."""
    world = [row["question"] for file in ("questions/dev.jsonl", "known/questions_dev.jsonl") for row in lines(file)]
    pool = [(plain_question(q), -1) for q in world] + [(w, g) for g, (_, facts) in enumerate(groups) for _, ws in facts for w in (ws[0], ws[3])]
    encode = lambda texts: torch.cat([encoder(texts[i : i + 384]) for i in range(0, len(texts), 384)])
    there, of = encode([q for q, _ in pool]), torch.tensor([g for _, g in pool])
    out = []
    for g, (subject, facts) in enumerate(groups):
        if subject:
            out.append(None)
            continue
        vectors = F.normalize(encode([w for _, ws in facts for w in ws[:2]]).view(len(facts), 2, -1).mean(1), dim=-1)
        cosines = vectors @ there.T
        cosines[:, of == g] = -1
        cosines[(cosines > SAME) & (of >= 0)] = -1
        out.append([[pool[i][0] for i in row] for row in cosines.topk(most).indices.tolist()])
    return out


@torch.no_grad()
def neighbours(groups, encoder, most=6):
    """Of each fact of each group those of its group that lie nearest."""
    out = []
    for subject, facts in groups:
        texts = [mask(w, subject) for _, wordings in facts for w in wordings[:2]]
        vectors = encoder(texts).view(len(facts), 2, -1).mean(1)
        cosines = F.normalize(vectors, dim=-1) @ F.normalize(vectors, dim=-1).T
        cosines.fill_diagonal_(-1)
        out.append(cosines.topk(min(most, len(facts) - 1)).indices.tolist())
    return out


def changed_word(question, wordings, rng):
    """The question with a word changed for another of its class that all wordings share the first of; None: it has no such word."""
    words = words_of(question)
    held = [CONTRASTS.of(w) for w in wordings]
    places = [(f, l, c, m) for f, l, c, m in CONTRASTS.members([w.form for w in words])
              if not str(c).startswith("#") and l == f + 1 and all(m in h.get(c, ()) for h in held)]
    if not places:
        return None
    f, _, c, m = rng.choice(places)
    others = [w for w, of in CONTRASTS.words.items() if any(x == c and y != m for x, y, _ in of) and not any(x == c and y == m for x, y, _ in of)]
    return question[: words[f].begin] + rng.choice(others) + question[words[f].end :] if others else None


def examples(groups, near, far, rng):
    """Pairs of (question, wordings, answer): one that asks for the fact and one that does not."""
    while True:
        for g in rng.sample(range(len(groups)), len(groups)):
            subject, facts = groups[g]
            hide = lambda texts: [mask(t, subject) for t in texts]
            for f in rng.sample(range(len(facts)), min(8, len(facts))):
                answer, wordings = facts[f]
                people = len(wordings) > 10  # of CLINC150: not the plain ones first
                known = rng.sample(wordings, len(wordings))
                question = known[0] if people or rng.random() < 0.5 else rng.choice(wordings[3:])
                known = [w for w in (known if people or rng.random() < 0.5 else wordings[:3]) if w != question][: rng.choice([1, 2, 3, 3])]
                right = (mask(question, subject), hide(known), mask(answer, subject))
                if far[g] and rng.random() < 0.4:
                    yield right, (rng.choice(far[g][f]), *right[1:])
                    continue
                changed = changed_word(*right[:2], rng) if rng.random() < 0.7 else None
                if changed:
                    yield right, (changed, *right[1:])
                    continue
                beside = [j for j in range(f - 2, f + 3) if j != f and 0 <= j < len(facts)]
                other_answer, other = facts[rng.choice(near[g][f] if rng.random() < 0.6 else beside)]
                other = rng.sample(other if people or rng.random() < 0.5 else other[:3], min(len(known), 3))
                yield right, (right[0], hide(other), mask(other_answer, subject))


def tune(cross, minutes, seed, most_rate):
    groups = groups_of_facts()
    near, far, rng = neighbours(groups, cross.encoder), elsewhere(groups, cross.encoder), random.Random(seed)
    source = examples(groups, near, far, rng)
    optimizer = torch.optim.AdamW([{"params": cross.encoder.parameters(), "most": most_rate}, {"params": cross.head.parameters(), "most": 5 * most_rate}],
                                  betas=(0.9, 0.98), weight_decay=0)
    begin, step, seen = time.time(), 0, []
    while (share := (time.time() - begin) / 60 / minutes) < 1:
        for group in optimizer.param_groups:
            group["lr"] = group["most"] * min(1, (step + 1) / 50) * (1 - share)
        pairs = [next(source) for _ in range(BATCH)]
        z = cross([cross.pair(*p) for p, _ in pairs] + [cross.pair(*n) for _, n in pairs])
        right, wrong = z[:BATCH], z[BATCH:]
        loss = F.softplus(-right).mean() + F.softplus(wrong).mean() + 0.5 * F.softplus(wrong - right).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(cross.encoder.parameters(), 1.0)
        optimizer.step()
        step += 1
        seen.append([loss.item(), (right > 0).float().mean().item(), (wrong < 0).float().mean().item(), (right > wrong).float().mean().item()])
        if step % 50 == 0:
            print(step, f"{time.time() - begin:.0f} s", np.mean(seen[-50:], 0).round(3), flush=True)
        if step % 500 == 0:
            cross.save(FOLDER)


def check(cross):
    """The asked against their neighbours, by the cosines and by the cross-encoder."""
    encoder = Encoder()
    encoder.load(ADAPTER)
    rule = json.loads((DATA / "reader" / "acceptance.json").read_text())
    weights = torch.tensor([rule[t] for t in ("centred", "whole", "answer", "nearest", "contrast", "bias")], dtype=torch.float)
    for name in ("near_dev", "contrast_dev"):
        pairs, cosines, right = [], [], []
        for desk in lines(f"desk/{name}.jsonl"):
            facts, subject = desk["facts"], desk.get("subject", "")
            hide = lambda text: mask(plain_question(text), subject)
            questions = [(i, q) for i, f in enumerate(facts) for q in f["asked"]] + [(-1, q) for q in desk["contrast"]]
            with torch.no_grad():
                z = log_odds(weights, evidence(subject, [f["questions"] for f in facts], [f["answer"] for f in facts], [q for _, q in questions], encoder)[0])
            for (i, q), row in zip(questions, z.numpy()):
                best = int(row.argmax())
                pairs.append(cross.pair(hide(q), [hide(w) for w in facts[best]["questions"]], hide(facts[best]["answer"])))
                cosines.append(row[best])
                right.append(1 if i == best else -1 if i < 0 else 0)
        read, cosines, right = cross.score(pairs), np.array(cosines), np.array(right)
        for what, x in (("cosines", cosines), ("read together", read), ("both", read + 0.5 * cosines)):
            yes, no = x[right > 0], x[right < 0]
            print(f"{name:13} {what:14} area {area(yes, no):.3f}, right at a tenth {(yes > np.quantile(no, 0.9)).sum() / (right >= 0).sum():.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--go-on", action="store_true", help="begin at the cross-encoder that is there, at a lower rate")
    parser.add_argument("--check", action="store_true", help="only measure what is there")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    cross = CrossEncoder(FOLDER if given.go_on or given.check else ADAPTER)
    if not given.check:
        tune(cross, given.minutes, given.seed, 0.6 * RATE if given.go_on else RATE)
        cross.save(FOLDER)
    check(cross)


if __name__ == "__main__":
    main()
