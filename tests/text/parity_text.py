#!/usr/bin/env python3
"""Holds the text layer against Hugging Face `tokenizers` and `transformers`.

    .venv/bin/python tests/text/parity_text.py --helper build/tests/text/tokenize

Ids must be equal one for one, for several tokenizers and for texts of all scripts; so must decoded
text, streamed text and rendered conversations. SmolLM2's tokenizer comes from a GGUF file: the
environment variable ACCRETE_TEST_GGUF, or models/SmolLM2-135M-Instruct.Q4_1.gguf; without one those
checks are left out. Exit status: 0 equal, 1 not, 77 equal as far as it was checked, but not all was.
"""

import argparse
import codecs
import copy
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("RAYON_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import parity_cases as cases  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Report:
    def __init__(self):
        self.checks = 0
        self.failures = 0

    def compare(self, what, given, expected, got):
        self.checks += 1
        if expected != got:
            self.failures += 1
            if self.failures <= 20:
                print(f"DIFFERENT {what}: {given!r}\n  expected {expected!r}\n  got      {got!r}")


class Helper:
    def __init__(self, path):
        self.path = path

    def ask(self, requests):
        lines = "".join(json.dumps(request) + "\n" for request in requests)
        done = subprocess.run(
            [self.path], input=lines.encode(), stdout=subprocess.PIPE, check=True
        )
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(answers) == len(requests), "the helper ended early"
        return answers


def byte_alphabet():
    """Byte-level character -> byte, as GPT-2 defined it."""
    printable = [*range(33, 127), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


def gpt2_json():
    merges = (ROOT / "tests/data/text/gpt2-merges.txt").read_text("utf-8").splitlines()
    tokens = [*byte_alphabet(), *(m.replace(" ", "") for m in merges)]
    return {
        "version": "1.0",
        "added_tokens": [cases.added(len(tokens), "<|endoftext|>")],
        "normalizer": None,
        "pre_tokenizer": cases.byte_level(),
        "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False},
        "decoder": cases.byte_level(),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "vocab": {t: i for i, t in enumerate([*tokens, "<|endoftext|>"])},
            "merges": merges,
        },
    }


def smollm2_json():
    """The tokenizer.json that transformers makes of the GGUF, or None."""
    path = pathlib.Path(
        os.environ.get("ACCRETE_TEST_GGUF", ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf")
    )
    if not path.is_file():
        print(f"LEFT OUT SmolLM2: no {path} (set ACCRETE_TEST_GGUF)")
        return None
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    return json.loads(tokenizer.backend_tokenizer.to_str())


def token_bytes(tokenizer, alphabet):
    added = tokenizer.get_added_tokens_decoder()
    table = {}
    for token, i in tokenizer.get_vocab(with_added_tokens=True).items():
        content = added[i].content if i in added else token
        if all(c in alphabet for c in content):
            table[i] = bytes(alphabet[c] for c in content)
        else:
            table[i] = content.encode()
    return table


def check_tokenizer(report, helper, name, spec, texts, folder):
    from tokenizers import Tokenizer

    path = os.path.join(folder, "tokenizer.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(spec, file)
    reference = Tokenizer.from_file(path)
    before = report.checks
    for special in (True, False):
        # The written-out special tokens stay text.
        reference.encode_special_tokens = not special
        chosen = texts if special else texts[::7]
        expected = [e.ids for e in reference.encode_batch(chosen, add_special_tokens=False)]
        answers = helper.ask(
            [{"tokenizer": path}, *({"encode": t, "special": special} for t in chosen)]
        )
        if "error" in answers[0]:
            report.compare(name, "loading", {}, answers[0])
            return
        for text, ids, answer in zip(chosen, expected, answers[1:]):
            report.compare(f"{name} special={special}", text, ids, answer.get("ids", answer))
    reference.encode_special_tokens = False
    encoded = report.checks - before

    # Decoding: real ids, and random ones, which make broken UTF-8.
    size = max(reference.get_vocab(with_added_tokens=True).values()) + 1
    random = cases.Random(name)
    sequences = [e.ids for e in reference.encode_batch(texts[::29], add_special_tokens=False)]
    sequences += [[random.below(size) for _ in range(random.below(12))] for _ in range(500)]
    sequences += [[random.below(256) for _ in range(random.below(12))] for _ in range(500)]
    known = token_bytes(reference, byte_alphabet())
    special_ids = {i for i, t in reference.get_added_tokens_decoder().items() if t.special}
    for skip in (True, False):
        answers = helper.ask(
            [
                {"tokenizer": path},
                *({"decode": ids, "skip": skip} for ids in sequences),
                *({"stream": ids, "skip": skip} for ids in sequences),
            ]
        )[1:]
        for ids, answer in zip(sequences, answers):
            expected = reference.decode(ids, skip_special_tokens=skip)
            report.compare(f"{name} decode", ids, expected, answer.get("text", answer))
        for ids, answer in zip(sequences, answers[len(sequences) :]):
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            expected = [
                decoder.decode(b"" if skip and i in special_ids else known.get(i, b"")) for i in ids
            ]
            expected.append(decoder.decode(b"", final=True))
            # Python may hold a broken start of a character back for longer; never for shorter.
            pieces = answer.get("pieces", [])
            early = len(pieces) == len(expected) and all(
                len("".join(pieces[: i + 1])) >= len("".join(expected[: i + 1]))
                for i in range(len(pieces))
            )
            report.compare(
                f"{name} stream", ids, ("".join(expected), True), ("".join(pieces), early)
            )
    print(f"  {name}: {encoded} encodings, {report.checks - before - encoded} decodings")


def check_vectors(report, helper, spec, folder):
    """llama.cpp's vectors for GPT-2."""
    data = ROOT / "tests/data/text"
    inputs = (data / "gpt2.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")[:-1]
    lines = (data / "gpt2.out").read_text().splitlines()
    path = os.path.join(folder, "gpt2.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(spec, file)
    answers = helper.ask([{"tokenizer": path}, *({"encode": t} for t in inputs)])[1:]
    assert len(inputs) == len(lines), (len(inputs), len(lines))
    for text, line, answer in zip(inputs, lines, answers):
        report.compare("vectors", text, [int(i) for i in line.split()], answer.get("ids", answer))
    print(f"  GPT-2 vectors: {len(inputs)}")


def check_chat(report, helper):
    import jinja2
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE({}, [])), bos_token="<s>", eos_token="</s>"
    )
    conversations = cases.conversations()
    refused = 0
    for name, template in cases.CHAT_TEMPLATES.items():
        wanted = [(m, prompt) for m in conversations for prompt in (False, True)]
        answers = helper.ask(
            [{"chat": template, "messages": m, "prompt": prompt} for m, prompt in wanted]
        )
        for (messages, prompt), answer in zip(wanted, answers):
            try:
                expected = tokenizer.apply_chat_template(
                    messages, chat_template=template, tokenize=False, add_generation_prompt=prompt
                )
            except jinja2.TemplateError:
                expected = "refused"
                refused += 1
            got = "refused" if answer.get("error") == "invalid_argument" else answer.get("text", answer)
            report.compare(f"chat {name}", messages, expected, got)
    with_tools = check_tools(report, helper, tokenizer)
    messages = [{"role": "user", "content": "Hi"}]
    for name, template in cases.REFUSED_CHAT_TEMPLATES.items():
        answer = helper.ask([{"chat": template, "messages": messages, "prompt": True}])[0]
        report.compare(f"chat {name}", template, "unsupported", answer.get("error"))
    print(
        f"  chat: {len(cases.CHAT_TEMPLATES)} templates x {2 * len(conversations)} conversations, "
        f"{refused} of them refused by both; {len(cases.REFUSED_CHAT_TEMPLATES)} templates refused; "
        f"with tools: {', '.join(with_tools)}"
    )


def check_tools(report, helper, tokenizer):
    """Tools, their calls and what they said, by the templates that write tools down."""
    import jinja2

    def rendered(template, messages):
        try:
            return tokenizer.apply_chat_template(
                messages, chat_template=template, tokenize=False, add_generation_prompt=True, tools=cases.TOOLS
            )
        except (jinja2.TemplateError, TypeError):
            return "refused"

    took = []
    for name, template in cases.CHAT_TEMPLATES.items():
        conversations = cases.tool_conversations()
        requests = [{"chat": template, "messages": m, "prompt": True, "tools": cases.TOOLS} for m in conversations]
        if cases.TOOLS[0]["function"]["name"] not in rendered(template, conversations[0]):
            report.compare(f"tools {name}", "offered", "unsupported", helper.ask(requests[:1])[0].get("error"))
            continue
        took.append(name)
        for messages, answer in zip(conversations, helper.ask(requests)):
            got = "refused" if answer.get("error") == "invalid_argument" else answer.get("text", answer)
            report.compare(f"tools {name}", messages, rendered(template, messages), got)
    report.compare("tools", "templates that take them", [], [n for n in ("Qwen2.5",) if n not in took])
    return took


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--helper", required=True, help="the executable of tokenize_main.cc")
    parser.add_argument("--texts", type=int, default=12_000, help="random texts a tokenizer")
    parser.add_argument(
        "--thorough", action="store_true", help="all texts for all tokenizers (ten minutes)"
    )
    arguments = parser.parse_args()
    try:
        import tokenizers
        import transformers
    except ImportError as error:
        print(f"SKIPPED: {error}; install tokenizers and transformers")
        return 77
    print(f"tokenizers {tokenizers.__version__}, transformers {transformers.__version__}")

    helper = Helper(arguments.helper)
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        gpt2 = gpt2_json()
        check_vectors(report, helper, gpt2, folder)
        check_chat(report, helper)
        every = cases.every_code_point()
        texts = cases.texts(arguments.texts)
        smollm2 = smollm2_json()
        if smollm2 is not None:
            for name, spec in cases.smollm2_variants(copy.deepcopy(smollm2)).items():
                check_tokenizer(report, helper, name, spec, texts + every, folder)
        for name, (spec, full) in cases.gpt2_variants(gpt2).items():
            if arguments.thorough or name == "GPT-2":
                chosen = texts + every
            else:
                chosen = texts[::3] + every[::4] if full else texts[::6] + every[::16]
            check_tokenizer(report, helper, name, spec, chosen, folder)
    print(f"{report.checks} checks, {report.failures} different")
    if report.failures:
        return 1
    return 77 if smollm2 is None else 0


if __name__ == "__main__":
    sys.exit(main())
