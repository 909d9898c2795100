"""Fits the two rules of src/memory/passage_index.cc: which passage answers a question, and whether any does.

usage: accrete bench documents MODEL --data QUESTIONS --half dev --questions 0 --features FILE    (for each set)
       fit_passages.py FILE... [--apart] [--report]

FILE holds, for each question, the evidence of the passages that lie nearest and which of them are of the document that answers; every
third document was not taught, so its questions have no answer among their neighbours, and some questions have none at all. The log-odds
are fitted by logistic regression, which passage (cross-entropy over the candidates) and whether any: kRead, with what the passage encoder
says of the first three, or with --apart kApart, by words and cosines alone. It prints the numbers, and both sides of every threshold.
--report tries what is there, and learns nothing. What the number of passages takes off is not in it: that, the threshold, is a judgement,
and so the numbers go into passage_index.cc by hand.
"""

import argparse
import json
import pathlib
import re

import numpy as np
import torch
import torch.nn.functional as F

SOURCE = pathlib.Path(__file__).resolve().parents[1] / "src" / "memory" / "passage_index.cc"
TERMS = ["words", "covered", "nearest", "whole", "read", "bias", "margin"]
CANDIDATES, READ = 4, 3  # that are found; of these that are read together with the question
NONE = [-1, -1, -1, -1, -20]


def shipped(name):
    rule = re.search(rf"PassageRule {name} = \{{(.*?)\}};", SOURCE.read_text(encoding="utf-8"), re.S).group(1)
    return torch.tensor([float(re.search(rf"\.{t} = (-?[\d.]+)", rule).group(1)) for t in TERMS], dtype=torch.double)


def read(path, candidates):
    """Evidence [questions, candidates, 5] and truth [questions, candidates]; of those whose document was taught, and of the others."""
    out = {True: [], False: []}
    for line in open(path, encoding="utf-8"):
        row = json.loads(line)
        found = [(p["evidence"], p["right"]) for p in row["passages"][:candidates]]
        out[row["taught"]].append(found + [(NONE, False)] * (candidates - len(found)))
    split = lambda rows: (torch.tensor([[p[0] for p in q] for q in rows], dtype=torch.double).view(-1, candidates, 5),
                          torch.tensor([[p[1] for p in q] for q in rows], dtype=torch.bool).view(-1, candidates))
    return split(out[True]), split(out[False])


def log_odds(weights, evidence):
    """Of every passage, and of the best with what it leads by."""
    z = evidence @ weights[:5] + weights[5]
    best = z.topk(2, dim=1).values
    return z, best[:, 0] + weights[6] * (best[:, 0] - best[:, 1])


def fit(sets, weights, free):
    start = weights
    weights = weights.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weights], max_iter=300, line_search_fn="strong_wolfe")
    used = lambda: torch.where(free, weights, start)

    def loss():
        optimizer.zero_grad()
        total = 1e-3 * (used()[:5] ** 2).sum()
        for (own, right), (others, _) in sets.values():
            there = right.any(1)
            z, best = log_odds(used(), own[there])
            # Of several passages of the document any may be first.
            of_right = torch.where(right[there], z, torch.full_like(z, -1e9)).logsumexp(1)
            total = total + (z.logsumexp(1) - of_right).mean() + F.softplus(-best).mean()
            total = total + F.softplus(log_odds(used(), others)[1]).mean()
        total.backward()
        return total

    optimizer.step(loss)
    return used().detach()


def report(weights, sets):
    for name, ((own, right), (others, _)) in sets.items():
        z, best = log_odds(weights, own)
        first = right[torch.arange(len(right)), z.argmax(1)].numpy()
        best, other = best.numpy(), log_odds(weights, others)[1].numpy()
        area = (best[first][:, None] > other[None]).mean()
        print(f"{name}: right first {first.mean():.3f}, area {area:.3f}; threshold: right / wrong / without an answer accepted")
        for t in np.arange(-2, 3.1, 0.5):
            print(f"  {t:5.2f}: {(first & (best >= t)).mean():.3f} / {(~first & (best >= t)).mean():.3f} / {(other >= t).mean():.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--apart", action="store_true", help="by words and cosines alone")
    parser.add_argument("--report", action="store_true", help="only try what is there")
    given = parser.parse_args()
    sets = {pathlib.Path(f).stem: read(f, CANDIDATES if given.apart else READ) for f in given.files}
    weights = shipped("kApart" if given.apart else "kRead")
    if not given.report:
        free = torch.ones(len(TERMS), dtype=torch.bool)
        free[TERMS.index("read")] = not given.apart
        weights = fit(sets, weights, free)
        print({t: round(float(w), 3) for t, w in zip(TERMS, weights)})
    report(weights, sets)


if __name__ == "__main__":
    main()
