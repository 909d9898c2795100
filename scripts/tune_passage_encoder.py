"""Tunes the reader's passage encoder: whether a passage answers a question, and which of its sentences, the two read as one text.

usage: accrete teach MODEL data/reader/pages.jsonl && accrete show MODEL UPDATE --json > passages.json
       tune_passage_encoder.py passages.json [--minutes 45] [--seed 0] [--threads 2] [--go-on]
       tune_passage_encoder.py --check FEATURES...        (of accrete bench documents MODEL --data ... --half dev --features FEATURES)

From models/all-MiniLM-L6-v2, data/reader/cross_encoder, data/reader/questions.jsonl and data/reader/pages.jsonl (invented pages, each
with questions that it answers, where, and questions that it looks as though it answered) it makes data/reader/passage_encoder: a LoRA of
the encoder's linear layers, a vector that says how much each token of the passage counts, and a head over the mean of the question's
tokens and the weighed mean of the passage's (src/model/reader.h). passages.json says how the program cuts the pages. A step shows
questions with the passage that answers, with a neighbour that does not, and questions that nobody answers with the passage that lies
nearest; some pages are made of facts, question and answer a line. Every seventh page is left out, to choose a threshold by. It stops by
the clock, so two runs differ. fit_passages.py then weighs it beside words and cosines.
"""

import argparse
import json
import os
import random
import re
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from tune_cross_encoder import FOLDER as START, CrossEncoder, changed_word, mean_of
from tune_reader import ADAPTER, DATA, Encoder, area, lines

FOLDER = DATA / "reader" / "passage_encoder"
RATE, BATCH = 6e-4, 8
QUESTION, SECTION, MOST = 40, 24, 256  # tokens, as Reader::judge of src/model/reader.cc
HELD_OUT = 7


class PassageEncoder(CrossEncoder):
    """Reads a question and a passage as one text."""

    def __init__(self, start):
        super().__init__(start)
        self.pool = nn.Linear(self.network.config.hidden_size, 1, bias=False)
        nn.init.zeros_(self.pool.weight)
        file = start / "adapter_model.safetensors"
        if "pool.weight" in (tensors := load_file(file)):
            self.pool.load_state_dict({"weight": tensors["pool.weight"].float()})
        self.border = self.tokens("/")

    def pair(self, question, section, pieces, quote=None):
        """(ids, where the passage begins, pieces' (begin, end), tokens of the quote); `quote`: (piece, begin, end), in characters."""
        ids = [self.first, *self.tokens(question)[:QUESTION], self.end]
        second, spans, marked = len(ids), [], []
        ids += self.tokens(section)[:SECTION] + self.border
        for i, piece in enumerate(pieces):
            begin = len(ids)
            ids += self.tokens(piece)
            spans.append((begin, len(ids)))
            if quote and quote[0] == i:
                places = self.encoder.tokenizer(piece, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
                marked = [begin + t for t, (a, b) in enumerate(places) if a < quote[2] and b > quote[1]]
        return ids[: MOST - 1] + [self.end], second, spans, [t for t in marked if t < MOST - 1]

    def __call__(self, pairs):
        """Of each pair the log-odds, and the logits of the passage's tokens [tokens]."""
        out, tokens = [None] * len(pairs), [None] * len(pairs)
        for part, h, asked, passage in self.passes(pairs, 8):
            logits = self.pool(h)[:, :, 0].masked_fill(~passage, -1e9)
            both = torch.cat([mean_of(h, asked), (h * logits.softmax(1)[:, :, None]).sum(1)], -1)
            for row, i in enumerate(part):
                out[i], tokens[i] = self.head(both[row])[0], logits[row]
        return torch.stack(out), tokens

    def parameters(self):
        return [*super().parameters(), *self.pool.parameters()]

    def save(self, folder):
        super().save(folder)
        file = folder / "adapter_model.safetensors"
        save_file({**load_file(file), "pool.weight": self.pool.weight.data.contiguous()}, file)


def plain(text):
    return " ".join(re.sub(r"[*_`|#]+|\[([^\]]*)\]\([^)]*\)", r"\1", text).split())


def find_quote(pieces, quote, question):
    """(piece, begin, end) of where it stands; of several pieces the one that shares most words with the question."""
    words, best = set(re.findall(r"\w+", question.lower())), None
    pattern = r"\W*".join(map(re.escape, re.findall(r"\w+", plain(quote).lower())))
    for i, piece in enumerate(pieces):
        for found in re.finditer(pattern, piece.lower()) if pattern else ():
            shared = len(words & set(re.findall(r"\w+", piece.lower())))
            if best is None or shared > best[0]:
                best = (shared, i, found.start(), found.end())
    return best[1:] if best else None


def read_pages(path):
    """Pages as the program cuts them: [(passages [(section, pieces)], asked [(question, passage, quote)], left [question])]."""
    taught = {}
    for item in json.load(open(path, encoding="utf-8"))["taught"]:
        taught.setdefault(item["document"], []).append((item["section"], [p.strip() for p in item["prompts"]]))
    out = []
    for number, page in enumerate(lines("reader/pages.jsonl")):
        passages, asked = taught[page["url"]], []
        for one in page["asked"]:
            found = [(p, q) for p, (_, pieces) in enumerate(passages) if (q := find_quote(pieces, one["quote"], one["q"]))]
            if found:
                words = set(re.findall(r"\w+", one["q"].lower()))
                shared = lambda p: len(words & set(re.findall(r"\w+", (passages[p][0] + " " + " ".join(passages[p][1])).lower())))
                p, quote = max(found, key=lambda f: shared(f[0]))
                asked.append((one["q"], p, quote, {p for p, _ in found}))
        out.append((number, passages, asked, page["left"]))
    return out


@torch.no_grad()
def nearest(pages, encoder, beside=3, most=5):
    """Of each question of each page (asked, then left) the passages that lie nearest, as (page, passage): of its own page and the pages
    written beside it."""
    text = lambda passage: (passage[0].split(" > ")[-1] + ": " if passage[0] else "") + " ".join(passage[1])
    vectors = [encoder([text(p) for p in passages]) for _, passages, _, _ in pages]
    out = []
    for i, (_, _, asked, left) in enumerate(pages):
        near = [j for j in range(i - beside, i + beside + 1) if 0 <= j < len(pages)]
        places = [(j, p) for j in near for p in range(len(vectors[j]))]
        cosines = encoder([a[0] for a in asked] + list(left)) @ torch.cat([vectors[j] for j in near]).T
        out.append([[places[k] for k in row] for row in cosines.topk(min(most, len(places))).indices.tolist()])
    return out


def page_of_facts(groups, rng):
    """A page of questions and answers, a question of one of them and its quote, and one of a fact that is not there."""
    while True:
        facts = groups[rng.randrange(len(groups))]
        n = rng.randint(3, 6)
        if len(facts) < n + 3:
            continue
        at = rng.randrange(len(facts) - n - 1)
        shown, right = facts[at : at + n + 1], rng.randrange(n + 1)
        other = shown.pop(rng.randrange(n + 1))
        right = min(right, n - 1)
        lines_ = [(rng.choice(ws[:3]), a) for a, ws in shown]
        pieces = [f"{q} {a}" for q, a in lines_]
        ask = lambda ws, known: rng.choice([w for w in ws if w != known] or ws)
        begin = len(pieces[right]) - len(lines_[right][1])
        return ("", pieces), ask(shown[right][1], lines_[right][0]), (right, begin, len(pieces[right])), ask(other[1], None)


def examples(pages, near, groups, rng):
    """(question, passage, quote or None): one that it answers, one that its neighbour does not, one that nobody answers."""
    while True:
        for i in rng.sample(range(len(pages)), len(pages)):
            _, passages, asked, left = pages[i]
            for a in rng.sample(range(len(asked)), min(3, len(asked))):
                question, p, quote, where = asked[a]
                right = (question, passages[p], quote)
                others = [(j, k) for j, k in near[i][a] if j != i or k not in where]
                j, k = rng.choice(others[:3])
                beside = (question, pages[j][1][k], None)
                l = rng.randrange(len(left))
                j, k = rng.choice(near[i][len(asked) + l][:2])
                nobody = (left[l], pages[j][1][k], None)
                if rng.random() < 0.15:
                    text = " ".join(passages[p][1])
                    changed = changed_word(question, [text], rng)
                    if changed and not (set(changed.split()) - set(question.split())) & set(text.split()):
                        beside = (changed, passages[p], None)
                yield right, beside, nobody
            if rng.random() < 0.3:
                page, question, quote, other = page_of_facts(groups, rng)
                page2 = page_of_facts(groups, rng)[0]
                yield (question, page, quote), (question, page2, None), (other, page, None)


def tune(reader, path, minutes, seed, most_rate):
    pages = [p for p in read_pages(path) if p[0] % HELD_OUT != HELD_OUT - 1]
    encoder, rng = Encoder(), random.Random(seed)
    encoder.load(ADAPTER)
    near = nearest(pages, encoder)
    groups = {}
    for row in lines("reader/questions.jsonl"):
        groups.setdefault(row["group"], []).append((row["answer"], row["wordings"]))
    source = examples(pages, near, list(groups.values()), rng)
    print(f"{len(pages)} pages, {sum(len(p[1]) for p in pages)} passages, {sum(len(p[2]) for p in pages)} questions", flush=True)
    optimizer = torch.optim.AdamW([{"params": reader.encoder.parameters(), "most": most_rate},
                                   {"params": [*reader.head.parameters(), *reader.pool.parameters()], "most": 5 * most_rate}],
                                  betas=(0.9, 0.98), weight_decay=0)
    begin, step, seen = time.time(), 0, []
    while (share := (time.time() - begin) / 60 / minutes) < 1:
        for group in optimizer.param_groups:
            group["lr"] = group["most"] * min(1, (step + 1) / 50) * (1 - share)
        shown = [next(source) for _ in range(BATCH)]
        pairs = [reader.pair(q, *passage, quote) for part in zip(*shown) for q, passage, quote in part]
        z, tokens = reader(pairs)
        right, beside, nobody = z.view(3, BATCH)
        quotes = [(tokens[i].logsumexp(0) - tokens[i][pairs[i][3]].logsumexp(0)) for i in range(BATCH) if pairs[i][3]]
        loss = (F.softplus(-right).mean() + F.softplus(beside).mean() + F.softplus(nobody).mean() + 0.5 * F.softplus(beside - right).mean()
                + 0.3 * torch.stack(quotes).mean())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reader.encoder.parameters(), 1.0)
        optimizer.step()
        step += 1
        seen.append([loss.item(), torch.stack(quotes).mean().item(), *((x > 0).float().mean().item() for x in (right, -beside, -nobody, right - beside))])
        if step % 25 == 0:
            print(step, f"{time.time() - begin:.0f} s", np.mean(seen[-50:], 0).round(3), flush=True)
        if step % 200 == 0:
            reader.save(FOLDER)


@torch.no_grad()
def check_held_out(reader, path):
    """On the pages that were left out: what is answered against what is not, by the best of the nearest passages."""
    pages = read_pages(path)
    encoder = Encoder()
    encoder.load(ADAPTER)
    near = nearest(pages, encoder)
    yes, no, first, piece, of = [], [], 0, 0, 0
    for i, (number, _, asked, left) in enumerate(pages):
        if number % HELD_OUT != HELD_OUT - 1:
            continue
        for a, question in enumerate([q[0] for q in asked] + list(left)):
            places = near[i][a][:4]
            pairs = [reader.pair(question, *pages[j][1][k]) for j, k in places]
            z, tokens = reader(pairs)
            best = int(z.argmax())
            if a >= len(asked):
                no.append(z.max().item())
                continue
            yes.append(z.max().item())
            right = places[best][0] == i and places[best][1] in asked[a][3]
            first, of = first + right, of + 1
            if right and places[best][1] == asked[a][1]:
                at = int(tokens[best].argmax())
                piece += next((s for s, (b, e) in enumerate(pairs[best][2]) if b <= at < e), -1) == asked[a][2][0]
    print(f"held out: {of} questions, right first {first / of:.3f}, and the sentence {piece / of:.3f}; area {area(np.array(yes), np.array(no)):.3f}", flush=True)


@torch.no_grad()
def check(reader, files):
    """On what bench documents wrote: the right passage first, and the answered against those whose document was left out."""
    for file in files:
        yes, no, first = [], [], []
        for row in map(json.loads, open(file, encoding="utf-8")):
            shown = row["passages"][:4]
            if not shown:
                continue
            z, _ = reader([reader.pair(row["question"], p["section"], [x.strip() for x in p["pieces"]]) for p in shown])
            best = int(z.argmax())
            (yes if row["taught"] else no).append(z.max().item())
            if row["taught"]:
                first.append(shown[best]["right"])
        yes = np.array(yes)
        print(f"{file}: right first {np.mean(first):.3f}, area {area(yes[np.array(first)], np.array(no)):.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("passages", nargs="?", help="what `accrete show --json` says of the taught pages")
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--go-on", action="store_true", help="begin at the passage encoder that is there, at a lower rate")
    parser.add_argument("--check", nargs="+", default=[], metavar="FEATURES", help="measure what is there")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    reader = PassageEncoder(FOLDER if given.go_on or given.check else START)
    if given.passages and not given.check:
        tune(reader, given.passages, given.minutes, given.seed, 0.6 * RATE if given.go_on else RATE)
        reader.save(FOLDER)
    if given.passages:
        check_held_out(reader, given.passages)
    check(reader, given.check)


if __name__ == "__main__":
    main()
