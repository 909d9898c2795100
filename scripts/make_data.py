#!/usr/bin/env python3
"""Makes the tracked sets under data/ from a folder of raw public sets and a model. See docs/data.md.

    python scripts/make_data.py --data DIR [--model MODEL] [--scores FILE] [--out data] [--only-native | --only-about-known | --only-abilities | --only-to-teach]

DIR     a folder with the raw sets; see docs/data.md for what it holds and where it comes from
MODEL   a Hugging Face folder of SmolLM2-135M-Instruct: says which facts and questions the model answers today.
        Needs torch and transformers. Not needed when FILE already has every score.
--only-native   make native/known_facts.jsonl alone, from the tracked facts/; needs neither model nor scores
--only-about-known   make facts/about_known_*.jsonl alone, from the tracked known/ and facts/; likewise
FILE    the scores, read when there and completed with the model; keep it to build again without a model

The same input and the same scores give the same bytes: every order is by SHA-256, nothing is drawn at random.
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path

FEWSHOT = [("who wrote the play hamlet?", "William Shakespeare"), ("what is the capital of japan?", "Tokyo")]
SOURCES = ["webquestions_train", "webquestions_test", "triviaqa_sm", "nq_open", "nq_open_efficientqa"]
QUESTIONS_PER_SOURCE = 2000
SEPARATOR = "<|endoftext|>"


def sha(text):
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def side(text):
    """dev or test, by the parity of the hash: what one knows of a subject is all on one side."""
    return "dev" if int(sha(text)[:8], 16) % 2 == 0 else "test"


def read_jsonl(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.strip()]


def write_jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="\n") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")


# ---------------------------------------------------------------------------------------------------------------------
# The model's present answers
# ---------------------------------------------------------------------------------------------------------------------


def unpack(path):
    return subprocess.run(["zstd", "-dcq", str(path)], check=True, stdout=subprocess.PIPE).stdout.decode("utf-8")


class Scorer:
    """Which completions the model gives by itself: every token of the completion is the most likely one."""

    def __init__(self, model, scores_path, threads):
        self.path = scores_path
        self.scores = {"cloze": {}, "question": {}}
        if scores_path and scores_path.exists():
            self.scores = json.loads(scores_path.read_text(encoding="utf-8"))
        self.folder, self.threads, self.model = model, threads, None

    def load(self):
        if self.model is not None:
            return
        if not self.folder:
            sys.exit("make_data: scores are missing and no --model is given; pass a model folder or a complete --scores file")
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.torch = torch
        torch.set_num_threads(self.threads)
        torch.set_grad_enabled(False)
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        self.model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()

    def save(self):
        if self.path:
            new = self.path.with_suffix(".new")
            new.write_text(json.dumps(self.scores, ensure_ascii=False, sort_keys=True), encoding="utf-8")
            new.replace(self.path)

    def ids(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False)

    def clozes(self, pairs):
        """pairs of (prompt, completion) -> {pair: bool}; kept in the scores"""
        known = self.scores["cloze"]
        key = lambda p: p[0] + "\t" + p[1]
        todo = sorted({p for p in pairs if key(p) not in known})
        if todo:
            self.load()
            torch = self.torch
            coded = sorted(((self.ids(p), self.ids(" " + c), (p, c)) for p, c in todo), key=lambda t: len(t[0]) + len(t[1]))
            for start in range(0, len(coded), 64):
                part = coded[start : start + 64]
                width = max(len(a) + len(b) for a, b, _ in part) - 1
                x = torch.zeros(len(part), width, dtype=torch.long)
                y = torch.full((len(part), width), -1)
                for i, (a, b, _) in enumerate(part):
                    s = a + b
                    x[i, : len(s) - 1] = torch.tensor(s[:-1])
                    y[i, len(a) - 1 : len(s) - 1] = torch.tensor(b)
                hidden = self.model.model(x, use_cache=False).last_hidden_state  # right padded, causal: no mask needed
                where = y >= 0
                hit = self.model.lm_head(hidden[where]).argmax(-1) == y[where]
                row = where.nonzero()[:, 0]
                for i, (_, _, pair) in enumerate(part):
                    known[key(pair)] = int(bool(hit[row == i].all()))
            self.save()
        return {p: bool(known[key(p)]) for p in pairs}

    def questions(self, rows):
        """rows of (key, question, answers) -> {key: {"right", "exact", "output"}} in few-shot form

        right: the greedy continuation starts with the tokens of one of the answers (the same as: every token of that
        answer is the argmax). exact: its first line is one of the answers, case and articles aside.
        output is null where the first token rules out every answer and the row was not in the third that is decoded anyway.
        """
        known = self.scores["question"]
        todo = [r for r in rows if r[0] not in known]
        if not todo:
            return {r[0]: known[r[0]] for r in rows}
        self.load()
        import copy

        torch = self.torch
        from transformers import DynamicCache

        prefix = "".join(f"Question: {q}\nAnswer: {a}\n\n" for q, a in FEWSHOT) + "Question:"
        cache = self.model(torch.tensor([self.ids(prefix)]), use_cache=True).past_key_values
        for chunk in range(0, len(todo), 1000):
            groups = defaultdict(list)
            for r in todo[chunk : chunk + 1000]:
                groups[len(self.ids(f" {r[1]}?\nAnswer:"))].append(r)
            for length in sorted(groups):
                for start in range(0, len(groups[length]), 64):
                    part = groups[length][start : start + 64]
                    x = torch.tensor([self.ids(f" {q}?\nAnswer:") for _, q, _ in part])
                    past = copy.deepcopy(cache)
                    past.batch_repeat_interleave(len(part))
                    out = self.model(x, past_key_values=past, use_cache=True, logits_to_keep=1)
                    first = out.logits[:, -1].argmax(-1)
                    keep = []
                    for i, (k, q, answers) in enumerate(part):
                        t = self.tokenizer.decode([int(first[i])]).strip().lower()
                        near = any(a.lower().startswith(t) for a in answers) or t in ("the", "a", "an", "")
                        if near or int(sha(k)[8:10], 16) % 3 == 0:
                            keep.append(i)
                        else:
                            known[k] = {"right": 0, "exact": 0, "output": None}
                    if not keep:
                        continue
                    past = out.past_key_values
                    past.batch_select_indices(torch.tensor(keep))
                    tokens = [first[torch.tensor(keep)]]
                    done = torch.zeros(len(keep), dtype=torch.bool)
                    newline = self.ids("\n")[0]
                    for _ in range(11):
                        done |= tokens[-1] == newline
                        if done.all():
                            break
                        out = self.model(tokens[-1][:, None], past_key_values=past, use_cache=True, logits_to_keep=1)
                        past = out.past_key_values
                        tokens.append(out.logits[:, -1].argmax(-1))
                    tokens = torch.stack(tokens, 1).tolist()
                    for i, t in zip(keep, tokens):
                        k, _, answers = part[i]
                        line = self.tokenizer.decode(t).split("\n")[0].strip()
                        right = any(t[: len(b)] == b for b in (self.ids(" " + a) for a in answers))
                        exact = normal(line) in {normal(a) for a in answers}
                        known[k] = {"right": int(right), "exact": int(exact), "output": line}
            print(f"questions {chunk + 1000}/{len(todo)}", file=sys.stderr, flush=True)
            self.save()
        return {r[0]: known[r[0]] for r in rows}


def normal(text):
    """lower case, no punctuation, no articles, single spaces: the usual normal form of an answer"""
    text = "".join(c for c in text.lower() if not unicodedata.category(c).startswith("P"))
    return " ".join(w for w in text.split() if w not in ("a", "an", "the"))


# ---------------------------------------------------------------------------------------------------------------------
# Facts
# ---------------------------------------------------------------------------------------------------------------------

PEOPLE = {"P19", "P20", "P27", "P101", "P106", "P108", "P937", "P1412"}
PLACES = {"P17", "P131", "P37", "P1376"}
COMPANIES = {"P159", "P740", "P127"}
WORKS = {"P136", "P364", "P407", "P495"}
PRODUCTS = {"P176", "P178"}

# relations whose answers could each be true of the other's phrasings: a subject keeps the first of them only
ALIKE = [("P17", "P131"), ("P176", "P178"), ("P364", "P407"), ("P495", "P740"), ("P495", "P136"), ("P19", "P27"), ("P159", "P740")]

WITH_THE = {"Netherlands", "Philippines", "Bahamas", "Maldives", "BBC"}

# objects that are no answer to the relation's question, or mean something else
NOT_OBJECTS = {
    "P17": {"Kingdom"},
    "P108": {"Victoria", "Berlin", "Canada", "Amsterdam", "Raphael", "Sur", "Russia", "Paris", "Salon", "Alexandria", "Heart",
             "Fortune", "Germany", "Sunrise"},
    "P127": {"Leonardo", "Gibson", "Victoria", "Vice", "God"},
    "P136": {"chess", "poker", "BBC", "variety", "portrait", "musical", "orchestra", "electro", "hardcore", "essay", "anthology"},
    "P176": {"God", "liver", "Spain", "sugar", "Iran", "Hercules", "Mercury", "Douglas"},
    "P178": {"NATO", "Access", "BBC", "Gibson", "Douglas", "Square"},
    "P1376": {"West", "North", "South", "East", "Western", "Eastern"},
    "P407": {"Python", "Pascal", "R", "Gothic"},
    "P740": {"Columbia", "Riverside"},
}
ONLY_OBJECTS = {
    "P101": set("physics mathematics astronomy chemistry physiology psychology medicine geometry sociology anatomy anthropology "
                "philosophy theology history biology geography economics logic aviation photography ecology opera animation "
                "espionage ballet pharmacy surgery feminism ethics mythology accounting jazz classics".split()),
}
# a company among the places, an organisation among the people
NO_PLACE = re.compile(r"\b(Company|Corporation|Inc|Ltd|Limited|Party|Group|Records|Airlines|League|Championship|Cup|Bank|Team|"
                      r"Army|Navy|Force|Election|elections?|Open|Prix|Order|Music|Media|University of the)\b", re.I)
NO_PERSON = re.compile(r"\b(Company|Corporation|Party|Group|Society|Union|Bank|Ministry|Band|Records|Orchestra|Quartet|Trio|"
                       r"Association|Institute|University|Foundation|Indonesia|family|brothers|Team|Council|Award|Prize|Medal|"
                       r"Journal|Review|Magazine|Conference|Committee|Commission|Museum|Agency|Department|Office|Cent(?:er|re)|"
                       r"School|Academy|College|Times|Press|Church|Club|theory|effect|Act|Program|Laboratory|Theatre|Opera|"
                       r"System|Code|Project|History|Science|Studio|Studios|Network|Channel|News|Radio|TV)\b", re.I)
PER_SIDE = 1500
PER_RELATION = 90  # at most, on each side, before all is cut to PER_SIDE
PER_OBJECT = 14  # one completion may not fill a relation
WAVE = 40


def render(template, subject, completion):
    """a taught or asked phrasing: [X] the subject, [a] the article of the completion, [ the] where English needs it"""
    text = template.replace("[X]", subject)
    text = text.replace("[a]", "an" if completion[0].lower() in "aeiou" else "a")
    return text.replace("[ the]", " the" if completion in WITH_THE else "")


def common_words(data):
    """how often each lower-cased word is in the two corpora: a one-word name that is a common word names nothing"""
    count = Counter()
    for name in ("wikipedia_articles", "openstax_ccby"):
        count.update(re.findall(r"[^\W\d_]+", unpack(data / "text" / f"{name}.txt.zst").lower()))
    return count


def candidates(data, templates):
    """(relation, subject, completion), sound, unambiguous, by hash of the id"""
    words = common_words(data)
    rows, relations_of = [], defaultdict(set)
    for relation in templates:
        objects = defaultdict(set)
        for d in read_jsonl(data / "facts" / "pararel" / f"{relation}.jsonl"):
            objects[d["subject"]].add(d["object"])
        for subject, found in objects.items():
            completion = next(iter(found))
            bare = re.fullmatch(r"[^\W\d_]+", subject)
            if len(found) > 1 or completion.lower() in subject.lower() or subject.lower() in completion.lower():
                continue
            if re.search(r'[,()"/:;?!]', subject) or not 3 <= len(subject) <= 42 or len(subject.split()) > 6:
                continue
            if not (subject[0].isupper() or subject[0].isdigit() or re.match(r"[a-z][A-Z]", subject)):
                continue
            if completion in NOT_OBJECTS.get(relation, ()) or completion not in ONLY_OBJECTS.get(relation, {completion}):
                continue
            if bare and relation not in PLACES and words[subject.lower()] >= 15:
                continue
            if relation in PLACES and NO_PLACE.search(subject) or relation in PEOPLE and NO_PERSON.search(subject):
                continue
            # a language named after its land is half told by the name: Finland, Finnish
            if relation in ("P37", "P364", "P407") and subject.lower().startswith(completion.lower()[:4]):
                continue
            rows.append((relation, subject, completion))
            relations_of[subject].add(relation)
    drop = {(b, s) for s, found in relations_of.items() for a, b in ALIKE if a in found and b in found}
    rows = [r for r in rows if (r[0], r[1]) not in drop]
    return sorted(rows, key=lambda r: sha(fact_id(r)))


def fact_id(fact):
    return f"{fact[0]}-{sha(fact[0] + chr(9) + fact[1])[:10]}"


def choose_facts(rows, templates, scorer):
    """the facts that the model gets wrong in every cloze phrasing, balanced; and of the others those that it gets right in
    half of the phrasings or more, each with one phrasing that it gets right"""
    queue, taken, shares = defaultdict(list), defaultdict(list), Counter()
    for r in rows:
        queue[r[0], side(r[1])].append(r)
    not_wrong = []
    while True:
        wave, pending = [], Counter(shares)
        for (relation, part), left in queue.items():
            rest, n = [], 0
            for r in left:
                slot = (relation, part, r[2])
                if len(taken[relation, part]) < PER_RELATION and n < WAVE and pending[slot] < PER_OBJECT:
                    wave.append(r)
                    pending[slot] += 1
                    n += 1
                else:
                    rest.append(r)
            queue[relation, part] = rest
        if not wave:
            break
        state = {r: None for r in wave}
        for i in range(6):
            pairs = {}
            for r in state:
                all_ = templates[r[0]]["taught"] + templates[r[0]]["asked"]
                if i < len(all_):
                    pairs[r] = (render(all_[i], r[1], r[2]), r[2])
            hits = scorer.clozes(list(pairs.values()))
            for r, pair in pairs.items():
                if state[r] is None or state[r] == hits[pair]:
                    state[r] = hits[pair]
                else:
                    del state[r]
                    not_wrong.append(r)
        for r in sorted(state, key=lambda r: sha(fact_id(r))):
            slot = (r[0], side(r[1]))
            if state[r]:
                not_wrong.append(r)
            elif len(taken[slot]) < PER_RELATION and shares[slot + (r[2],)] < PER_OBJECT:
                taken[slot].append(r)
                shares[slot + (r[2],)] += 1
        print(f"facts: wave of {len(wave)}, taken {sum(map(len, taken.values()))}, answered {len(not_wrong)}", file=sys.stderr, flush=True)
    chosen = {}
    for part in ("dev", "test"):
        lists = {relation: taken[relation, part] for relation in templates}
        quota = PER_RELATION
        while quota > 1 and sum(min(quota, len(v)) for v in lists.values()) > PER_SIDE:
            quota -= 1
        short = PER_SIDE - sum(min(quota, len(v)) for v in lists.values())
        for relation in lists:  # what is missing, one each
            more = short > 0 and len(lists[relation]) > quota
            short -= more
            lists[relation] = lists[relation][: quota + more]
        chosen[part] = sorted((r for v in lists.values() for r in v), key=lambda r: sha(fact_id(r)))
    phrasings = {r: [(render(t, r[1], r[2]), r[2]) for t in templates[r[0]]["asked"] + templates[r[0]]["taught"]] for r in not_wrong}
    hits = scorer.clozes([p for found in phrasings.values() for p in found])
    known = []
    for r in sorted(not_wrong, key=lambda r: sha(fact_id(r))):
        right = [p for p, _ in phrasings[r] if hits[p, r[2]]]
        if 2 * len(right) >= len(phrasings[r]):
            known.append((r, right[0], len(right) == len(phrasings[r])))
    return chosen, known


def clozes_of_wikidata(data, n=8000):
    """(prompt, answer) of the wikidata completions with one answer that the prompt does not give away"""
    rows = []
    for d in read_jsonl(data / "facts" / "wikidata_qa.jsonl"):
        p, a = d["prompt"].strip(), d["answer"].strip()
        if len(d.get("answers", [a])) == 1 and a.lower() not in p.lower() and len(p) < 90:
            rows.append((p, a))
    return sorted(rows, key=lambda r: sha(r[0]))[:n]


# ---------------------------------------------------------------------------------------------------------------------
# Questions
# ---------------------------------------------------------------------------------------------------------------------


def questions_of(data):
    """(key, question without its mark, answers, source), the first QUESTIONS_PER_SOURCE of each source by hash; a
    question that several sources have goes to the first of them"""
    seen, rows = set(), []
    for source in SOURCES:
        mine = []
        for d in read_jsonl(data / "qa" / f"{source}.jsonl"):
            q = d["question"].strip().rstrip("?").strip()
            n = normal(q)
            answers = list(dict.fromkeys(a.strip() for a in d["answers"] if a.strip()))
            if n in seen or not answers or "\n" in q or len(q) > 200:
                continue
            seen.add(n)
            mine.append((f"{source}/{sha(q)[:12]}", q, answers, source))
        rows += sorted(mine, key=lambda r: sha(r[1]))[:QUESTIONS_PER_SOURCE]
    return sorted(rows, key=lambda r: sha(r[1]))


def choose_questions(data, scorer):
    """{side: rows}: the questions the model answers today, and for each source as many that it does not

    Where its wording of a right answer differs from every alias in case or article, its wording joins the aliases, so
    that right is right by tokens too. A continuation that merely starts with an answer ("New York" in "New York City")
    counts as neither."""
    rows = questions_of(data)
    scores = scorer.questions([r[:3] for r in rows])
    known, unknown = defaultdict(list), defaultdict(list)
    for key, question, answers, source in rows:
        score = scores[key]
        slot = (source, side(question))
        if score["exact"]:
            known[slot].append((key, question, list(dict.fromkeys(answers + [score["output"]])), score["output"]))
        elif score["output"] and not score["right"]:
            words = set(normal(score["output"]).split())
            if not any(words & set(normal(a).split()) for a in answers):  # no overlap: F1 is 0 for every alias
                unknown[slot].append((key, question, answers, score["output"]))
    chosen = {"dev": [], "test": []}
    for source in SOURCES:
        for part in chosen:
            right = known[source, part]
            wrong = unknown[source, part][: len(right)]
            for tag, found in (("known", right), ("unknown", wrong)):
                chosen[part] += [
                    {"id": f"{tag}/{key}", "question": q + "?", "answers": answers, "said": said} for key, q, answers, said in found
                ]
    for part in chosen:
        chosen[part].sort(key=lambda r: sha(r["question"]))
    return chosen


# ---------------------------------------------------------------------------------------------------------------------
# Text
# ---------------------------------------------------------------------------------------------------------------------

BYTES_PER_SOURCE = 4_400_000
BYTES_PER_DOCUMENT = 4_000


def excerpt(text, limit):
    """the beginning of a document, whole paragraphs"""
    size, kept = 0, []
    for line in text.strip().split("\n"):
        size += len(line.encode("utf-8")) + 1
        if size > limit and kept:
            break
        kept.append(line)
    return "\n".join(kept).strip()


def running_text(data, name):
    documents = unpack(data / "text" / f"{name}.txt.zst").split(f"\n{SEPARATOR}\n")
    size, kept = 0, []
    for d in sorted(documents, key=sha):
        d = excerpt(d, BYTES_PER_DOCUMENT)
        if len(d) < 300:
            continue
        size += len(d.encode("utf-8"))
        if size > BYTES_PER_SOURCE:
            break
        kept.append(d)
    return kept


def as_questions(pairs):
    return "\n\n".join(f"Question: {q}\nAnswer: {a}" for q, a in pairs)


def as_chat(pairs):
    return "\n".join(f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n{a}<|im_end|>" for q, a in pairs)


def made_up_questions():
    """plain questions whose answers follow by rule; nothing that anybody would want to be taught"""
    days = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
    months = "January February March April May June July August September October November December".split()
    letters = "abcdefghijklmnopqrstuvwxyz"
    out = []
    for i, d in enumerate(days):
        out += [(f"What day comes after {d}?", days[(i + 1) % 7]), (f"Which day is before {d}?", days[i - 1])]
    for i, m in enumerate(months):
        out += [(f"What month comes after {m}?", months[(i + 1) % 12]), (f"Which month is before {m}?", months[i - 1])]
    for i in range(25):
        out.append((f"What letter comes after {letters[i]}?", letters[i + 1]))
    for i in range(2, 60):
        j = (i * 7) % 23 + 2
        out += [(f"What is {i} plus {j}?", str(i + j)), (f"What is {i + j} minus {j}?", str(i)), (f"How much is {i} times {j}?", str(i * j))]
    for w in "table river window garden pencil bottle mountain kitchen yellow simple winter planet silver market doctor".split():
        out += [(f"How many letters are in the word {w}?", str(len(w))), (f"Spell the word {w} backwards.", w[::-1]),
                (f"What is the first letter of {w}?", w[0])]
    return out


def background(data, used_questions):
    """documents: equal parts of the two corpora, and a small part of questions"""
    parts = [running_text(data, "wikipedia_articles"), running_text(data, "openstax_ccby")]
    web = []
    for d in read_jsonl(data / "qa" / "webquestions_train.jsonl"):
        if normal(d["question"]) not in used_questions:
            web.append((d["question"].strip(), d["answers"][0]))
    web.sort(key=lambda p: sha(p[0]))
    math = []
    for d in read_jsonl(data / "qa" / "gsm8k_train.jsonl"):
        solution = re.sub(r"<<[^>]*>>", "", d["solution"]).split("\n#### ")
        math.append((" ".join(d["question"].split()), f"{solution[0].strip()} The answer is {solution[1].strip()}."))
    math = sorted(math, key=lambda p: sha(p[0]))[:500]
    rules = sorted(made_up_questions(), key=lambda p: sha(p[0]))
    documents = []
    for pairs, n in ((web, 6), (math, 2), (rules, 8)):
        for i in range(0, len(pairs), n):
            documents.append((as_questions if i // n % 2 == 0 else as_chat)(pairs[i : i + n]))
    parts.append(documents)
    every = [d for part in parts for d in part]
    if any(SEPARATOR in d for d in every):
        sys.exit("make_data: a document holds the separator")
    return sorted(every, key=sha), [len(p) for p in parts]


def wikitext(data, limit=200_000):
    """whole articles of the WikiText-2 test split, in order, while they fit; detokenised"""
    text = (data / "text" / "wikitext2_test.txt").read_text(encoding="utf-8")
    for a, b in ((" <unk>", ""), (" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", "."), (" @.@", "."), (" ,", ","), (" .", ".")):
        text = text.replace(a, b)
    lines = [line.strip() for line in text.split("\n")]
    articles, size, kept = [[]], 0, []
    for line in lines:
        if re.fullmatch(r"= [^=].*[^=] =|= [^=] =", line):
            articles.append([])
        if line:
            articles[-1].append(line)
    for a in ("\n".join(a) for a in articles if a):
        more = len(a.encode("utf-8")) + len(SEPARATOR) + 2
        if size + more <= limit:
            size += more
            kept.append(a)
    return kept


# ---------------------------------------------------------------------------------------------------------------------
# Abilities: samples of public tasks, measured by likelihood
# ---------------------------------------------------------------------------------------------------------------------

ABILITIES = {"arc_easy": 150, "arc_challenge": 100, "piqa": 120, "boolq": 60, "lambada": 120, "gsm8k": 50}


def ability_rows(data, task, n, limit=800):
    """the n shortest-hashed lines of a task whose text is not longer than the limit"""
    out = []
    for r in read_jsonl(data / "qa" / ("gsm8k_test.jsonl" if task == "gsm8k" else f"{task}.jsonl")):
        if task == "lambada":
            row = {"prompt": r["context"], "answer": r["answers"][0]}
        elif task == "gsm8k":
            row = {"prompt": f"Question: {r['question']}\nAnswer:", "solution": re.sub(r"<<.*?>>", "", r["solution"])}
        else:
            before = r["context"] + "\n" if task == "boolq" else ""
            row = {"prompt": f"{before}Question: {r['question'].strip()}\nAnswer:", "choices": r["choices"], "right": r["label"]}
        row = json.loads(unicodedata.normalize("NFC", json.dumps(row, ensure_ascii=False)))
        if len(json.dumps(row)) <= limit:
            out.append({"id": f"{task}-{sha(row['prompt'])[:10]}", **row})
    return sorted(out, key=lambda r: sha(r["id"]))[:n]


def write_abilities(data, out):
    for task, n in ABILITIES.items():
        write_jsonl(out / "abilities" / f"{task}.jsonl", ability_rows(data, task, n))


# ---------------------------------------------------------------------------------------------------------------------
# Questions and documents to be taught
# ---------------------------------------------------------------------------------------------------------------------

QUESTIONS_TO_TEACH = 400


def spelled(answers):
    """accepted answers, first the one to teach: the main one, as it is spelled when it is not all capitals"""
    first = normal(answers[0])
    return sorted(dict.fromkeys(answers), key=lambda a: (normal(a) != first, a.isupper() and len(a) > 3))[:8]


def questions_to_teach(data, used):
    """TriviaQA questions that data/known does not have; whether a model answers them is for the benchmark to ask"""
    rows = {"dev": [], "test": []}
    for d in sorted(read_jsonl(data / "qa" / "triviaqa_sm.jsonl"), key=lambda d: sha(d["question"])):
        question = d["question"].strip().rstrip("?").strip()
        answers = spelled([a.strip() for a in d["answers"] if a.strip()])
        part = side(question)
        if normal(question) in used or "\n" in question or len(question) > 120 or len(answers[0]) > 30 or len(rows[part]) == QUESTIONS_TO_TEACH:
            continue
        rows[part].append({"id": f"trivia-{sha(question)[:10]}", "question": question + "?", "answers": answers})
    return rows


def documents_to_teach(data):
    """{side: (documents, questions)}: 20 SQuAD paragraphs with up to five questions each, 40 Wikipedia passages with one each"""
    squad = defaultdict(list)
    for r in read_jsonl(data / "qa" / "xquad_en.jsonl"):
        squad[r["context"]].append(r)
    natural = {r["text"]: r for r in read_jsonl(data / "qa" / "nq_open_passages.jsonl") if 150 <= len(r["text"]) <= 700}
    out = {}
    for part in ("dev", "test"):
        documents, questions = [], []
        paragraphs = [t for t in sorted(squad, key=sha) if side(t) == part and len(t) <= 800 and len(squad[t]) >= 4][:20]
        passages = [t for t in sorted(natural, key=sha) if side(t) == part][:40]
        for kind, texts in (("squad", paragraphs), ("nq", passages)):
            for text in texts:
                key = f"{kind}-{sha(text)[:10]}"
                row = {"id": key, "text": text}
                if kind == "nq":
                    row["title"] = natural[text]["title"]
                documents.append(row)
                asked = [natural[text]] if kind == "nq" else sorted(squad[text], key=lambda r: sha(r["question"]))[:5]
                questions += [{"id": f"{key}/{i}", "question": r["question"], "answers": r["answers"][:4]} for i, r in enumerate(asked)]
        out[part] = documents, questions
    return out


def write_to_teach(data, out):
    used = {normal(r["question"]) for part in ("dev", "test") for r in read_jsonl(out / "known" / f"questions_{part}.jsonl")}
    for part, rows in questions_to_teach(data, used).items():
        write_jsonl(out / "questions" / f"{part}.jsonl", rows)
    for part, (documents, questions) in documents_to_teach(data).items():
        write_jsonl(out / "documents" / f"{part}.jsonl", documents)
        write_jsonl(out / "documents" / f"{part}_questions.jsonl", questions)


# ---------------------------------------------------------------------------------------------------------------------
# All of it
# ---------------------------------------------------------------------------------------------------------------------

KINDS = [("people", PEOPLE, 180), ("artists", {"P136"}, 60), ("places", PLACES, 120), ("companies", {"P159", "P740"}, 100),
         ("works", {"P364", "P407"}, 80), ("products", PRODUCTS, 60)]
LICENCES = {
    "pararel-MIT.txt": "pararel-MIT.txt",
    "natural-questions-Apache-2.0.txt": "natural-questions-Apache-2.0.txt",
    "llm-foundry-Apache-2.0.txt": "llm-foundry-Apache-2.0.txt",
    "grade-school-math-MIT.txt": "grade-school-math-MIT.txt",
    "lost-in-the-middle-MIT.txt": "lost-in-the-middle-MIT.txt",
    "MedQuAD-CC-BY-4.0.txt": "CC-BY-4.0.txt",
    "WikiTableQuestions-CC-BY-SA-4.0.txt": "CC-BY-SA-4.0.txt",
}


def fact_rows(facts, templates):
    clozes, questions = [], []
    for relation, subject, completion in facts:
        t = templates[relation]
        fill = lambda key: [render(p, subject, completion) for p in t[key]]
        clozes.append({"id": fact_id((relation, subject)), "subject": subject, "prompts": fill("taught"), "asked": fill("asked"),
                       "completion": completion})
        questions.append({"id": fact_id((relation, subject)) + "-q", "subject": subject, "questions": fill("taught_questions"),
                          "asked": fill("asked_questions"), "answer": completion})
    return clozes, questions


NATIVE_FACTS = 3000
NATIVE_PER_OBJECT = 24


def native_facts(rows, used, templates):
    """facts for a model of our own to know from its pretraining: subjects of none that is taught or asked later; the
    phrasings to be taught, and one to be asked in"""
    shares, mine = Counter(), []
    for r in rows:
        if r[1] not in used and shares[r[0], r[2]] < NATIVE_PER_OBJECT:
            shares[r[0], r[2]] += 1
            mine.append(r)
    chosen, _ = fact_rows(sorted(spread(mine, lambda r: r[0], NATIVE_FACTS), key=lambda r: sha(fact_id(r))), templates)
    return [{**row, "asked": row["asked"][:1]} for row in chosen]


# of what a known sentence says, the subject; and relations that something else may be said of it in
ABOUT = [(r"The native language of (.*) is", "person"), (r"The country of citizenship of (.*) is", "person"), (r"(.*) convicted of", "person"),
         (r"The official language of (.*) is", "place"), (r"In (.*), the official language is", "place"), (r"The capital of (.*) is", "place"),
         (r"The country that produced (.*) is", "thing"), (r"(.*) is based in", "thing"), (r"(.*) is built by", "thing"),
         (r"(.*) was developed by", "thing"), (r"(.*) is developed by", "thing")]
ABOUT_RELATIONS = {"person": ["P19", "P937", "P108", "P106", "P101"], "place": ["P740", "P127"], "thing": ["P127", "P740"]}


def about_known(clozes, facts, templates):
    """an invented fact about the subject of each known sentence, of another relation than the sentence's; completions from `facts`"""
    pool = defaultdict(set)
    for f in facts:
        pool[f["id"].split("-")[0]].add(f["completion"])
    pool = {r: sorted(v) for r, v in pool.items()}
    rows = {}
    for cloze in clozes:
        for pattern, kind in ABOUT:
            match = re.fullmatch(pattern, cloze["prompt"])
            if not match or match.group(1) in rows:
                continue
            subject = match.group(1)
            dice = int(sha("about " + subject)[:16], 16)
            relations = ABOUT_RELATIONS[kind]
            relation = relations[dice % len(relations)]
            answers = [a for a in pool[relation] if a not in subject]
            completion = answers[dice // len(relations) % len(answers)]
            text = {k: [render(t, subject, completion) for t in templates[relation][k]] for k in ("taught", "asked")}
            rows[subject] = {"id": f"{relation}-{sha('about ' + subject)[:10]}", "subject": subject, "prompts": text["taught"],
                             "asked": text["asked"], "completion": completion}
            break
    return list(rows.values())


def write_about_known(out, templates):
    for part in ("dev", "test"):
        write_jsonl(out / "facts" / f"about_known_{part}.jsonl",
                    about_known(read_jsonl(out / "known" / f"clozes_{part}.jsonl"), read_jsonl(out / "facts" / f"{part}.jsonl"), templates))


def spread(rows, kind_of, n):
    """n rows, the kinds in turn, in the order given"""
    queues = defaultdict(list)
    for r in rows:
        queues[kind_of(r)].append(r)
    out, order = [], sorted(queues)
    while len(out) < n and any(queues.values()):
        for k in order:
            if queues[k] and len(out) < n:
                out.append(queues[k].pop(0))
    return out


def neighbours(rows, facts):
    """names of the same kinds as the subjects of facts, but of none of them"""
    used = {s for part in facts.values() for _, s, _ in part}
    out, seen = {}, set()
    for kind, relations, n in KINDS:
        mine = [r for r in rows if r[0] in relations and r[1] not in used]
        if kind == "companies":  # bands are founded too: keep what reads as a company or an institution
            word = re.compile(r"\b(Airlines?|Company|Corporation|Group|Bank|Records|Entertainment|Industries|Motors?|Systems|Media|"
                              r"Technologies|Pictures|Studios?|Press|Software|Holdings|Foods?|Energy|Games|University|Institute|"
                              r"Publishing|Productions|Insurance|Telecom|Pharmaceuticals|Brewery|Airways|Networks?|Labs|Books)\b")
            mine = [r for r in mine if word.search(r[1])]
        names = []
        for r in spread(mine, lambda r: r[0], len(mine)):
            if r[1] not in seen and len(names) < n:
                seen.add(r[1])
                names.append(r[1])
        out[kind] = names
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with the raw sets; see docs/data.md")
    parser.add_argument("--model", help="a Hugging Face folder of the model whose present answers decide")
    parser.add_argument("--scores", type=Path, help="read and completed: what the model answers")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "data")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only-native", action="store_true", help="native/known_facts.jsonl alone")
    parser.add_argument("--only-about-known", action="store_true", help="facts/about_known_*.jsonl alone")
    parser.add_argument("--only-abilities", action="store_true", help="abilities/*.jsonl alone")
    parser.add_argument("--only-to-teach", action="store_true", help="questions/*.jsonl and documents/*.jsonl alone")
    args = parser.parse_args()
    data, out = args.data, args.out
    if args.only_abilities:
        write_abilities(data, out)
        return
    if args.only_to_teach:
        write_to_teach(data, out)
        return
    if args.only_about_known:
        write_about_known(out, json.loads((out / "facts" / "templates.json").read_text(encoding="utf-8")))
        return
    scorer = Scorer(args.model, args.scores, args.threads)
    templates = json.loads((out / "facts" / "templates.json").read_text(encoding="utf-8"))

    rows = candidates(data, templates)
    if args.only_native:
        used = {r["subject"] for part in ("dev", "test") for r in read_jsonl(out / "facts" / f"{part}.jsonl")}
        write_jsonl(out / "native" / "known_facts.jsonl", native_facts(rows, used, templates))
        return
    facts, known = choose_facts(rows, templates, scorer)
    for part, chosen in facts.items():
        clozes, questions = fact_rows(chosen, templates)
        write_jsonl(out / "facts" / f"{part}.jsonl", clozes)
        write_jsonl(out / "facts" / f"{part}_questions.jsonl", questions)

    taught = {p for chosen in facts.values() for f in chosen for p in fact_rows([f], templates)[0][0]["prompts"]}
    asked = {p for chosen in facts.values() for f in chosen for p in fact_rows([f], templates)[0][0]["asked"]}
    wikidata = clozes_of_wikidata(data)
    hits = scorer.clozes(wikidata)
    clozes = {"dev": [], "test": []}
    for f, prompt, _ in known:
        clozes[side(f[1])].append({"id": "known-" + fact_id(f), "prompt": prompt, "answer": f[2]})
    elsewhere = taught | asked | {r["prompt"] for v in clozes.values() for r in v}
    per_answer = Counter()
    for prompt, answer in wikidata:
        part = side(prompt)
        if not hits[prompt, answer] or prompt in elsewhere:
            continue
        per_answer[part, answer] += 1
        if per_answer[part, answer] <= 20:  # not all French
            clozes[part].append({"id": f"known-wikidata-{sha(prompt)[:10]}", "prompt": prompt, "answer": answer})
    for part in clozes:
        write_jsonl(out / "known" / f"clozes_{part}.jsonl", sorted(clozes[part], key=lambda r: sha(r["id"])))

    questions = choose_questions(data, scorer)
    for part in questions:
        write_jsonl(out / "known" / f"questions_{part}.jsonl",
                    [{"id": r["id"], "question": r["question"], "answers": r["answers"]} for r in questions[part]])
    write_jsonl(out / "known" / "fewshot.jsonl", [{"question": q, "answer": a} for q, a in FEWSHOT])

    used = {normal(r["question"]) for part in questions.values() for r in part}
    documents, counts = background(data, used)
    (out / "background.txt.zst").write_bytes(
        subprocess.run(["zstd", "-19", "-q", "-c", "--single-thread"], check=True, stdout=subprocess.PIPE,
                       input=(f"\n{SEPARATOR}\n".join(documents) + "\n").encode("utf-8")).stdout)
    sample = wikitext(data)
    (out / "text").mkdir(exist_ok=True)
    (out / "text" / "wikitext2_test_sample.txt").write_text(f"\n{SEPARATOR}\n".join(sample) + "\n", encoding="utf-8", newline="\n")

    # the demonstration: short names and answers, every relation in turn
    clozes_test, questions_test = fact_rows(facts["test"], templates)
    plain = {f["id"] for f in clozes_test if f["subject"].isascii() and len(f["subject"]) <= 24}
    few = spread([f for f in clozes_test if f["id"] in plain], lambda f: f["id"].split("-")[0], 50)
    ids = {f["id"] for f in few}
    write_jsonl(out / "demo" / "facts.jsonl", few)
    write_jsonl(out / "demo" / "facts_questions.jsonl", [q for q in questions_test if q["id"][:-2] in ids])
    demo = [{"id": r["id"], "question": r["question"], "answers": r["answers"]} for r in questions["test"]]
    tag = lambda r: (r["id"].split("/")[0] == "known", r["id"].split("/")[1])
    write_jsonl(out / "demo" / "known.jsonl", sorted(spread(demo, tag, 120), key=lambda r: sha(r["question"])))

    write_jsonl(out / "native" / "known_facts.jsonl", native_facts(rows, {f[1] for v in facts.values() for f in v}, templates))

    write_about_known(out, templates)
    write_abilities(data, out)
    write_to_teach(data, out)
    names = neighbours(rows, facts)
    (out / "names.txt").write_text("".join(f"{n}\n" for v in names.values() for n in v), encoding="utf-8", newline="\n")
    (out / "LICENCES").mkdir(exist_ok=True)
    for source, name in LICENCES.items():
        shutil.copyfile(data / "licences" / source, out / "LICENCES" / name)

    count = {
        "facts": {p: len(v) for p, v in facts.items()},
        "relations": {p: dict(sorted(Counter(f[0] for f in v).items())) for p, v in facts.items()},
        "known clozes": {p: len(v) for p, v in clozes.items()},
        "known clozes of pararel": dict(Counter(side(f[0][1]) for f in known)),
        "questions": {p: dict(Counter(r["id"].split("/")[0] for r in v)) for p, v in questions.items()},
        "questions by source": {p: dict(sorted(Counter(r["id"].rsplit("/", 1)[0] for r in v).items())) for p, v in questions.items()},
        "background documents": dict(zip(("wikipedia", "openstax", "questions"), counts)),
        "background bytes": sum(len(d.encode("utf-8")) for d in documents),
        "wikitext articles": len(sample),
        "names": {k: len(v) for k, v in names.items()},
        "bytes": sum(f.stat().st_size for f in out.rglob("*") if f.is_file()),
    }
    print(json.dumps(count, indent=1))


if __name__ == "__main__":
    main()
