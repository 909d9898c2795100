"""Fits data/reader/acceptance.json, the decision whether a question is one that was taught, to the tuned reader.

usage: fit_acceptance.py [--threads 2] [--report HALF] [--published] [--contrast HALF]

Learned on the development half of data/desk and on the intents of CLINC150 that the reader was not tuned on, by logistic regression
(which fact, and whether any): the numbers of the log-odds (src/memory/acceptance.h), but for that of a contrasting word, which is
START's: in these sets hardly any question has one. --contrast prints both sides of that one, on data/desk/contrast_HALF.jsonl: other
wordings of what was taught, and questions that differ from it in what they ask about. It prints the numbers, and both sides of every
threshold: what was not taught and is accepted, what was taught and is turned away. Numbers and thresholds are written into the file by
hand, since the thresholds are a judgement. --report tries what is there on a half and learns nothing, and each term alone beside it;
with --published the encoder as it is published and the numbers of acceptance_rule(). Unrelated questions are not parted into halves:
every third was looked at in fitting.
"""

import argparse
import json
import os

import numpy as np
import torch
import torch.nn.functional as F
from tune_reader import ADAPTER, DATA, START, Encoder, caching, evidence, lines, log_odds, measures, show, trials

FILE = DATA / "reader" / "acceptance.json"
TERMS = ["centred", "whole", "answer", "nearest", "contrast", "bias"]
WEIGHT = {"far": 0.25, "office": 2}  # of a set beside the others, which weigh 1, by what its name has in it


def fit(sets):
    raw = torch.tensor([np.log(x) for x in START[:4]] + [START[5]], dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([raw], max_iter=200, line_search_fn="strong_wolfe")
    weights = lambda: torch.cat([raw[:4].exp(), torch.tensor(START[4:5], dtype=torch.double), raw[4:]])

    def loss():
        optimizer.zero_grad()
        total = 0
        for name, draws in sets.items():
            of_set = 0
            for cosines, of in draws:
                z = log_odds(weights(), cosines.double())
                of = torch.from_numpy(of)
                known, left, unrelated = of >= 0, of == -1, of == -2
                of_set += F.cross_entropy(z[known], of[known]) + F.softplus(-z[known].gather(1, of[known][:, None])).mean()
                of_set += F.softplus(z[left].max(1).values).mean()
                if unrelated.any():
                    of_set += F.softplus(z[unrelated].max(1).values).mean()
            total = total + of_set / len(draws) * next((w for k, w in WEIGHT.items() if k in name), 1)
        total.backward()
        return total

    optimizer.step(loss)
    return weights().detach().float()


def curve(weights, sets, thresholds):
    """The share accepted and right, and of what was not taught the share accepted, by threshold of the log-odds."""
    for name, draws in sets.items():
        rows = [measures(weights, *draw) for draw in draws]
        print(f"{name}: threshold: right and accepted / left accepted / unrelated accepted")
        for t in thresholds:
            right = np.mean([(r["right"] & (r["score"] >= t)).mean() for r in rows])
            left = np.mean([(r["left"] >= t).mean() for r in rows])
            unrelated = sum((r["unrelated"] >= t).sum() for r in rows)
            print(f"  {t:5.2f}: {right:.3f} / {left:.3f} / {unrelated} of {sum(len(r['unrelated']) for r in rows)}")


def contrast(half, rule, encode):
    """By weight of a contrasting word what is accepted on either side."""
    weights, counts = [0, -2, -4, -6, -8, -10], {}
    for group in lines(f"desk/contrast_{half}.jsonl"):
        facts, subject = group["facts"], group.get("subject", "")
        questions = [(i, q) for i, fact in enumerate(facts) for q in fact["asked"]] + [(-1, q) for q in group["contrast"]]
        cosines = evidence(subject, [f["questions"] for f in facts], [f["answer"] for f in facts], [q for _, q in questions], encode)[0]
        of = np.array([i for i, _ in questions])
        threshold = rule["open"] if not subject else min(max(rule["slope"] * np.log(len(facts) / rule["few"]), 0), rule["most"])
        for weight in weights:
            z = log_odds(torch.tensor([{**rule, "contrast": weight}[t] for t in TERMS]), cosines).numpy()
            accepted, right = z.max(1) >= threshold, z.argmax(1) == of
            known = of >= 0
            counts[weight] = counts.get(weight, 0) + np.array(
                [known.sum(), (known & accepted & right).sum(), (known & accepted & ~right).sum(), (~known).sum(), (~known & accepted).sum()])
    for weight, (asked, right, wrong, others, taken) in counts.items():
        print(f"contrast {weight:4}: of {asked} asked, {right} right and accepted, {wrong} wrong; of {others} about other things {taken} accepted")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--report", choices=["dev", "test"])
    parser.add_argument("--published", action="store_true")
    parser.add_argument("--contrast", choices=["dev", "test"])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    encoder = Encoder()
    if not given.published:
        encoder.load(ADAPTER)
    encode = caching(encoder)
    if given.contrast:
        contrast(given.contrast, json.loads(FILE.read_text()), encode)
        return
    if given.report:
        rule = json.loads(FILE.read_text())
        weights = torch.tensor(START if given.published else [rule[t] for t in TERMS])
        sets = trials(given.report, encode, draws=12)
    else:
        sets = trials("dev", encode)
        sets.pop("150 intents, 5 wordings")
        sets.pop("150 intents, 10 wordings")
        weights = fit(sets)
        print({t: round(float(w), 3) for t, w in zip(TERMS, weights)})
    show(weights, sets)
    for i, term in enumerate(TERMS[:4] if given.report else []):
        print(f"{term} alone")
        show(torch.eye(6)[i], sets)
    curve(weights, sets, np.arange(-1, 3.01, 0.25))


if __name__ == "__main__":
    main()
