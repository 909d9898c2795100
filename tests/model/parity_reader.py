"""Our reader against transformers: token ids equal, vectors at a cosine of .9999 or more.

usage: parity_reader.py ENCODE_TOOL READER_FOLDER   (exit 77: a package or the reader is absent)

Prints the processor time of one question with one thread, ours and theirs; asserts nothing about that.
"""

import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
try:
    import numpy as np
    import torch
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    from transformers import BertModel, PreTrainedTokenizerFast
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)

tool, folder = sys.argv[1:3]
if not os.path.exists(os.path.join(folder, "model.safetensors")):
    print("skipped:", folder, "is absent (scripts/fetch_reader.sh brings it)")
    sys.exit(77)
DATA = pathlib.Path(__file__).resolve().parents[2] / "data"
BLOCKS = [
    (0x00, 0x7F),
    (0x80, 0xFF),
    (0x100, 0x24F),
    (0x250, 0x2FF),
    (0x300, 0x36F),
    (0x370, 0x3FF),
    (0x400, 0x52F),
    (0x530, 0x58F),
    (0x590, 0x5FF),
    (0x600, 0x6FF),
    (0x700, 0x74F),
    (0x780, 0x7BF),
    (0x7C0, 0x8FF),
    (0x900, 0x97F),
    (0x980, 0x9FF),
    (0xA00, 0xAFF),
    (0xB00, 0xBFF),
    (0xC00, 0xCFF),
    (0xD00, 0xDFF),
    (0xE00, 0xE7F),
    (0xE80, 0xEFF),
    (0xF00, 0xFFF),
    (0x1000, 0x109F),
    (0x10A0, 0x10FF),
    (0x1100, 0x11FF),
    (0x1200, 0x137F),
    (0x13A0, 0x167F),
    (0x1680, 0x17FF),
    (0x1800, 0x18AF),
    (0x1900, 0x1AFF),
    (0x1B00, 0x1CFF),
    (0x1D00, 0x1DFF),
    (0x1E00, 0x1EFF),
    (0x1F00, 0x1FFF),
    (0x2000, 0x206F),
    (0x2070, 0x20CF),
    (0x20D0, 0x20FF),
    (0x2100, 0x218F),
    (0x2190, 0x2BFF),
    (0x2C00, 0x2DFF),
    (0x2E00, 0x2FFF),
    (0x3000, 0x30FF),
    (0x3100, 0x33FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA000, 0xA63F),
    (0xA640, 0xABFF),
    (0xAC00, 0xD7A3),
    (0xD7B0, 0xD7FF),
    (0xE000, 0xF8FF),
    (0xF900, 0xFAFF),
    (0xFB00, 0xFDFF),
    (0xFE00, 0xFE2F),
    (0xFE30, 0xFEFF),
    (0xFF00, 0xFFEF),
    (0xFFF0, 0xFFFD),
    (0x10000, 0x101FF),
    (0x10280, 0x105FF),
    (0x10800, 0x10FFF),
    (0x11000, 0x11FFF),
    (0x12000, 0x1247F),
    (0x13000, 0x1345F),
    (0x16800, 0x16FFF),
    (0x1B000, 0x1B2FF),
    (0x1BC00, 0x1BCFF),
    (0x1D100, 0x1D7FF),
    (0x1E000, 0x1E95F),
    (0x1EE00, 0x1EEFF),
    (0x1F000, 0x1FAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2EBE0),
    (0x2F800, 0x2FA1F),
    (0x30000, 0x3134F),
    (0xE0000, 0xE01EF),
    (0xF0000, 0xF0100),
]
WRITTEN = [
    "",
    " ",
    "\t\n",
    "?",
    "Wie schwer ist der Hub?",
    "¿Cuánto pesa el módulo?",
    "Combien pèse l’appareil ?",
    "重さはどのくらいですか。",
    "这个设备有多重？",
    "이 장치의 무게는 얼마입니까?",
    "อุปกรณ์นี้หนักเท่าไร",
    "ما وزن هذا الجهاز؟",
    "מה המשקל של המכשיר?",
    "इस उपकरण का वज़न कितना है?",
    "Сколько весит устройство?",
    "Πόσο ζυγίζει η συσκευή;",
    "Cihaz ne kadar ağır? İSTANBUL ıI",
    "Thiết bị nặng bao nhiêu?",
    "Straße STRASSE ẞ",
    "e\u0301a\u0308\u0323 a\u0323\u0308",
    "\u1100\u1161\u11a8 각",
    "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪 1️⃣",
    "zero\u200bwidth\u200djoin\u2060er\ufeff",
    "soft\u00adhyphen",
    "a\x00b\x01c\x7fd\x85e\x0bf\x0cg\x1ch",
    "\ufffd\ufffe",
    "\u202eabc\u202c \u2066x\u2069",
    "ﬁne ﬃ ①②③ Ⅷ ½ ㎏ ℃",
    "x" * 100,
    "x" * 101,
    "é" * 100,
    "e\u0301" * 100,
    "漢" * 300,
    "a b " * 400,
    "word " * 126,
    "word " * 127,
    "word " * 125,
    "don't can't it's 3.14 1,000 a_b x@y.example #1 100%",
    "https://docs.example.com/a/b?c=d&e=f",
    "const int x = 3; // why?",
    "[CLS] is a token, [SEP] too",
    "[MASK][PAD][UNK]",
    "[ SEP ]",
    "##ing ##s",
    "ǅ ǈ ǲ İi̇ Å Å Ω Ω ſ K",
    "ﷺ",
    "ｆｕｌｌ　ｗｉｄｔｈ！",
    "﹫﹪",
    "\u3000indent",
    "a\u00a0b\u2003c\u2028d",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝐁𝐨𝐥𝐝",
    "𐐀𐐁 𞤀𞤁 Ა",
]


def data_texts():
    texts = []
    for name in (
        "questions/test.jsonl",
        "known/questions_test.jsonl",
        "known/clozes_test.jsonl",
        "facts/test.jsonl",
        "facts/test_questions.jsonl",
        "facts/about_known_test.jsonl",
    ):
        for line in (DATA / name).read_text("utf-8").splitlines():
            for value in json.loads(line).values():
                texts += [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, str)]
    return sorted(set(texts))


def generated(rng):
    def character(block):
        return chr(rng.randint(*block))

    texts = []
    for block in BLOCKS:  # one script, words of it
        for _ in range(12):
            texts.append(
                " ".join("".join(character(block) for _ in range(rng.randint(1, 9))) for _ in range(rng.randint(1, 12)))
            )
    marks, emoji = (0x300, 0x36F), (0x1F300, 0x1FAFF)
    for _ in range(700):  # all mixed
        parts = []
        for _ in range(rng.randint(1, 40)):
            kind = rng.random()
            parts.append(
                chr(rng.randint(32, 126))
                if kind < 0.45
                else (
                    rng.choice("  \t\n")
                    if kind < 0.6
                    else (
                        character(marks)
                        if kind < 0.68
                        else (
                            character(emoji) + rng.choice(["", "\u200d", "\ufe0f", "\U0001f3fd"])
                            if kind < 0.74
                            else rng.choice(WRITTEN)[:12] if kind < 0.82 else character(rng.choice(BLOCKS))
                        )
                    )
                )
            )
        texts.append("".join(parts))
    return texts


def ask(*requests, of=folder):
    lines = "".join(json.dumps(r) + "\n" for r in ({"reader": of}, *requests))
    done = subprocess.run([tool], input=lines.encode(), stdout=subprocess.PIPE, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == 1 + len(requests), "the tool ended early"
    for answer in answers:
        assert "error" not in answer, answer
    return answers


rng = random.Random(20)
questions = data_texts()
texts = WRITTEN + rng.sample(questions, 900) + generated(rng)
texts += [" ".join(rng.sample(questions, n)) for n in (8, 20, 60, 400) for _ in range(5)]  # over-long
texts = [t.encode("utf-8", "ignore").decode() for t in texts]
assert len(texts) >= 2000

path = os.path.join(folder, "tokenizer.json")


def check_ids(of, lengths):
    """Ids as `tokenizers` has them, where what users write is text ("[SEP]" too)."""
    reference = Tokenizer.from_file(os.path.join(of, "tokenizer.json"))
    reference.no_padding()
    reference.encode_special_tokens = True
    _, *answers = ask(*({"ids": texts, "length": n} for n in lengths), of=of)
    failures = 0
    for length, answer in zip(lengths, answers):
        reference.enable_truncation(length)
        for text, wanted, got in zip(texts, reference.encode_batch(texts), answer["ids"]):
            if wanted.ids != got:
                failures += 1
                if failures <= 20:
                    print(f"DIFFERENT {text!r} at {length}:\n  expected {wanted.ids}\n  got      {got}")
    assert failures == 0, f"{failures} texts have other token ids"
    return answers


by_length = check_ids(folder, (128, 512, 16, 2))
# Other normalizers: every switch.
spec = json.loads(pathlib.Path(path).read_text("utf-8"))
with tempfile.TemporaryDirectory() as other:
    for name in ("config.json", "model.safetensors"):
        os.symlink(os.path.abspath(os.path.join(folder, name)), os.path.join(other, name))
    for switches in range(1, 16):
        spec["normalizer"].update(
            clean_text=not switches & 1,
            handle_chinese_chars=not switches & 2,
            strip_accents=not switches & 4,
            lowercase=not switches & 8,
        )
        pathlib.Path(other, "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=switches % 2 == 0), "utf-8")
        check_ids(other, (512,))
# And as transformers calls it, where no text names a special token.
fast = PreTrainedTokenizerFast(tokenizer_file=path)
plain = [i for i, t in enumerate(texts) if not any(s in t for s in ("[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]"))]
encoded = fast([texts[i] for i in plain], truncation=True, max_length=128, padding=False)["input_ids"]
assert all(by_length[0]["ids"][i] == ids for i, ids in zip(plain, encoded))
print(
    f"reader parity: ids of {len(texts)} texts equal, cut to 128, 512, 16 and 2 tokens, "
    "and with 15 other normalizers"
)

torch.set_num_threads(1)


def with_adapter(name):
    """The published encoder with a LoRA of its folder, and what else the LoRA's file holds."""
    network = BertModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False).eval()
    config = json.loads(pathlib.Path(folder, name, "adapter_config.json").read_text("utf-8"))
    factors = load_file(os.path.join(folder, name, "adapter_model.safetensors"))
    with torch.no_grad():
        for layer in {n.rsplit(".lora_", 1)[0] for n in factors if ".lora_" in n}:
            a, b = (factors[f"{layer}.lora_{x}.weight"].float() for x in "AB")
            weight = network.get_submodule(layer.removeprefix("base_model.model.")).weight
            weight += config["lora_alpha"] / config["r"] * b @ a
    return network, factors


assert os.path.isdir(os.path.join(folder, "adapter")), "scripts/fetch_reader.sh puts the adapter of data/reader there"
model, _ = with_adapter("adapter")


def theirs(ids):
    ids = torch.tensor(ids)
    with torch.no_grad():
        return torch.nn.functional.normalize(model(input_ids=ids).last_hidden_state.mean(1), dim=-1).numpy()


# Several of one length at a time need no padding.
want = np.empty((len(texts), model.config.hidden_size), np.float32)
ids = by_length[0]["ids"]
by_size = {}
for i, one in enumerate(ids):
    by_size.setdefault(len(one), []).append(i)
for same in by_size.values():
    for i in range(0, len(same), 64):
        want[same[i : i + 64]] = theirs([ids[j] for j in same[i : i + 64]])

few = rng.sample([q for q in questions if q.endswith("?")], 40)
with tempfile.TemporaryDirectory() as work:
    out = os.path.join(work, "vectors")
    alone = os.path.join(work, "alone")
    opened, *_, timed = ask(
        {"read": texts, "into": out},
        *({"read": [t], "into": f"{alone}.{i}"} for i, t in enumerate(texts[:60])),
        {"bench": few, "rounds": 10},
    )
    got = np.fromfile(out, np.float32).reshape(want.shape)
    single = np.stack([np.fromfile(f"{alone}.{i}", np.float32) for i in range(60)])
assert np.isfinite(got).all() and np.abs(np.linalg.norm(got, axis=1) - 1).max() < 1e-5
cosines = (got * want).sum(1)
worst = int(cosines.argmin())
assert cosines[worst] >= 0.9999, f"cosine {cosines[worst]} of {texts[worst]!r}"
beside = np.abs(single - got[:60]).max()
assert beside == 0, f"a text read alone differs by {beside}"
print(
    f"reader parity: vectors within {np.abs(got - want).max():.1e}, least cosine {cosines[worst]:.8f}; "
    f"read alone within {beside:.1e}"
)

seconds = []
for _ in range(10):
    for text in few:
        start = time.process_time()
        theirs([fast(text, truncation=True, max_length=128)["input_ids"]])
        seconds.append(time.process_time() - start)
mine, other = timed["each"] * 1e3, statistics.median(seconds) * 1e3
print(
    f"reader: one question, one thread: {mine:.2f} ms, transformers {other:.2f} ms, ratio {mine / other:.2f}; "
    f"{len(few)} at once {timed['all'] / len(few) * 1e3:.2f} ms each; opened in {opened['seconds'] * 1e3:.1f} ms"
)

# The cross-encoder: a question and a fact as one text, against transformers.
network, factors = with_adapter("cross_encoder")
pairs = []
for i in range(300):
    some = rng.sample(questions, 5)
    pairs.append([some[0], some[1 : 1 + i % 4], some[4] if i % 5 else rng.choice(texts)])
pairs += [["", [""], ""], ["?", ["a"] * 3, "b" * 400], [questions[0] * 30, [questions[1] * 20] * 3, questions[2] * 20], ["[SEP]", ["[CLS] x"], "y"]]
got = np.array(ask({"judge": pairs})[1]["odds"])
alone = np.array([answer["odds"][0] for answer in ask(*({"judge": [p]} for p in pairs[:40]))[1:]])
assert (alone == got[:40]).all(), "a pair read alone differs"
encode = Tokenizer.from_file(path)
encode.no_padding()
encode.no_truncation()
encode.encode_special_tokens = True
words = lambda text, most: encode.encode(text, add_special_tokens=False).ids[:most]
want = []
for question, wordings, answer in pairs:
    first, end = encode.token_to_id("[CLS]"), encode.token_to_id("[SEP]")
    asked, fact = words(question, 40), []
    for wording in wordings:
        fact += (words("/", 8) if fact else []) + words(wording, 32)
    ids = [first, *asked, end, *fact, end, *words(answer, 16)][:127] + [end]
    second = len(asked) + 2
    with torch.no_grad():
        h = network(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([[int(i >= second) for i in range(len(ids))]])).last_hidden_state[0]
    means = [h[a:b].sum(0) / max(b - a, 1) for a, b in ((1, second - 1), (second, len(ids) - 1))]
    want.append(float(torch.cat(means) @ factors["head.weight"].float()[0] + factors["head.bias"].float()[0]))
worst = np.abs(got - np.array(want)).max()
assert worst < 1e-3, f"the cross-encoder differs by {worst}"
print(f"cross-encoder parity: {len(pairs)} pairs within {worst:.1e}, the same bits alone")
typical = [[q, rng.sample(few, 3), "thirty euros"] for q in few]
timed = ask({"bench pairs": typical, "rounds": 5})[1]
print(f"cross-encoder: one pair, one thread: {timed['each'] * 1e3:.2f} ms, three at once {timed['three'] * 1e3:.2f} ms")

# The passage encoder likewise: the tokens of the passage weighed, and the piece that counts most.
network, factors = with_adapter("passage_encoder")
passages = []
for i in range(120):
    some = rng.sample(questions, 8)
    passages.append([some[0], some[1] if i % 3 else "", some[2 : 3 + i % 6]])
passages += [["", "", [""]], ["?", "a > b", []], [questions[0] * 30, questions[1] * 9, questions[2:60]], ["[SEP]", "[CLS]", ["[SEP] y", "z"]]]
answer = ask({"judge passages": passages})[1]
got = np.array(answer["odds"])
alone = ask(*({"judge passages": [p]} for p in passages[:40]))[1:]
assert ([a["odds"][0] for a in alone] == got[:40]).all(), "a passage read alone differs"
worst = 0
for question, section, pieces in passages:
    i = passages.index([question, section, pieces])
    first, end = encode.token_to_id("[CLS]"), encode.token_to_id("[SEP]")
    ids = [first, *words(question, 40), end]
    second, begins = len(ids), []
    ids += words(section, 24) + words("/", 8)
    for piece in pieces:
        begins.append(len(ids))
        ids += words(piece, 256)
    ids = ids[:255] + [end]
    with torch.no_grad():
        h = network(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([[int(k >= second) for k in range(len(ids))]])).last_hidden_state[0]
    mean = h[1 : second - 1].sum(0) / max(second - 2, 1)
    logits = (h[second:-1] @ factors["pool.weight"].float()[0]).double()
    pooled = (h[second:-1].double() * logits.softmax(0)[:, None]).sum(0)
    want = float(torch.cat([mean.double(), pooled]) @ factors["head.weight"].double()[0] + factors["head.bias"].double()[0])
    worst = max(worst, abs(want - got[i]))
    weights = [0.0] * second + logits.softmax(0).tolist() + [0.0] * 400
    ends = [*begins[1:], 400]
    for begin, end_, got_part in zip(begins, ends, answer["pieces"][i]):
        assert abs(np.log(sum(weights[begin:end_]) + 1e-9) - got_part) < 1e-2, (question, begin, end_, got_part)
assert worst < 1e-3, f"the passage encoder differs by {worst}"
print(f"passage encoder parity: {len(passages)} passages within {worst:.1e}, the same parts of pieces, the same bits alone")
