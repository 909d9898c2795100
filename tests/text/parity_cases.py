"""Texts, tokenizers, conversations and templates for parity_text.py; all of them repeatable."""

import copy
import hashlib
import inspect
import json
import string
import textwrap
import unicodedata


class Random:
    """A small generator, the same on every version of Python."""

    def __init__(self, seed):
        self.seed = str(seed).encode()
        self.count = 0

    def below(self, n):
        self.count += 1
        digest = hashlib.blake2b(self.seed + b"%d" % self.count, digest_size=8).digest()
        return int.from_bytes(digest, "little") % n

    def choice(self, items):
        return items[self.below(len(items))]


# ---- Texts ----

SCRIPTS = {
    "latin": [(0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x1E00, 0x1EFF)],
    "greek": [(0x370, 0x3FF), (0x1F00, 0x1FFF)],
    "cyrillic": [(0x400, 0x52F)],
    "armenian": [(0x531, 0x58A)],
    "hebrew": [(0x591, 0x5F4)],
    "arabic": [(0x600, 0x6FF), (0x750, 0x77F), (0xFB50, 0xFDFF)],
    "syriac": [(0x700, 0x74F)],
    "thaana": [(0x780, 0x7B1)],
    "nko": [(0x7C0, 0x7FF)],
    "devanagari": [(0x900, 0x97F)],
    "bengali": [(0x980, 0x9FE)],
    "gurmukhi": [(0xA01, 0xA76)],
    "gujarati": [(0xA81, 0xAFF)],
    "tamil": [(0xB82, 0xBFA)],
    "telugu": [(0xC00, 0xC7F)],
    "kannada": [(0xC80, 0xCF3)],
    "malayalam": [(0xD00, 0xD7F)],
    "sinhala": [(0xD81, 0xDF4)],
    "thai": [(0xE01, 0xE5B)],
    "lao": [(0xE81, 0xEDF)],
    "tibetan": [(0xF00, 0xFDA)],
    "myanmar": [(0x1000, 0x109F)],
    "georgian": [(0x10A0, 0x10FF), (0x1C90, 0x1CBF)],
    "hangul": [(0x1100, 0x11FF), (0x3131, 0x318E), (0xAC00, 0xD7A3)],
    "ethiopic": [(0x1200, 0x139F)],
    "cherokee": [(0x13A0, 0x13FD), (0xAB70, 0xABBF)],
    "khmer": [(0x1780, 0x17F9)],
    "mongolian": [(0x1800, 0x18AA)],
    "kana": [(0x3041, 0x30FF), (0x31F0, 0x31FF), (0xFF61, 0xFF9F)],
    "han": [(0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0x20000, 0x2A6DF), (0xF900, 0xFAFF)],
    "yi": [(0xA000, 0xA4C6)],
    "gothic": [(0x10330, 0x1034A)],
    "deseret": [(0x10400, 0x1044F)],
    "cuneiform": [(0x12000, 0x12399)],
    "hieroglyphs": [(0x13000, 0x1342F)],
    "mathematical": [(0x1D400, 0x1D7FF)],
    "adlam": [(0x1E900, 0x1E95F)],
    "symbols": [(0x2010, 0x206F), (0x20A0, 0x20C0), (0x2100, 0x2BFF), (0xFF01, 0xFF5E)],
    "combining": [(0x300, 0x36F), (0x1AB0, 0x1ACE), (0x20D0, 0x20F0), (0xFE20, 0xFE2F)],
    "numbers": [(0x30, 0x39), (0xB2, 0xB3), (0xBC, 0xBE), (0x660, 0x669), (0x966, 0x96F),
                (0x2070, 0x2089), (0x2150, 0x218B), (0x2460, 0x249B), (0x3007, 0x3007),
                (0x3021, 0x3029), (0xFF10, 0xFF19), (0x11DE0, 0x11DE9), (0x1F100, 0x1F10C)],
    "emoji": [(0x1F300, 0x1FAFF), (0x2600, 0x27BF)],
    "controls": [(0x0, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0xFFF0, 0xFFFF)],
    "private": [(0xE000, 0xF8FF), (0xF0000, 0xF0100), (0x10FF00, 0x10FFFF)],
    "any": [(0x0, 0xD7FF), (0xE000, 0x10FFFF)],
}

SPACES = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\r", "\t", "\t\t", "\v", "\f", "\x1c", "\x1f",
          "\x85", "\u00a0", "\u1680", "\u180e", "\u2000", "\u2003", "\u2009", "\u200a", "\u200b",
          "\u200c", "\u200d", "\u2028", "\u2029", "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff"]

EMOJI = ["😀", "👨‍👩‍👧‍👦", "👩🏽‍💻", "🏳️‍🌈", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🇩🇪", "🇫🇷🇯🇵", "👍🏻👍🏿", "❤️‍🔥", "1️⃣", "#️⃣", "🤷🏾‍♀️",
         "☎︎", "☎️", "🧑‍🤝‍🧑", "😶‍🌫️", "🦙", "🫠", "👁️‍🗨️", "🏴‍☠️"]

CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'RE", "'Ll", "'ſ", "’s", "'K",
                "''s", "'sa", "'l", "'r", "'v", "s'", "'lL", "'İ", "'ß"]

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_start|>user\n", "<|im_start",
            "|im_end|>", "<repo_name>", "<filename>", "<|im_end|><|im_end|>", "<|<|im_end|>|>",
            "<empty_output>", "<jupyter_start>", "<mask>", "[PAD]", "naïve", "  ", "<x>", "x>"]

CURATED = [
    "", " ", "a", " a", "a ", "Hello, world!", "I'd've thought you'll see; they're WE'RE o'clock",
    "3.14159 1,000,000 2²x ½ ¼ 0x1F 1e-9 ٣٤٥ ४५६ Ⅻ ①②", "naïve café cafe\u0301 Å Å ﬁ ß ẞ ſ",
    "def f(x):\n    return x ** 2  # squared\n\n\nclass A:\n\tpass\n",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] * c; } // loop\r\n",
    "<html><body class=\"x\">&nbsp;</body></html>", "{\"a\": [1, 2, {\"b\": null}]}",
    "https://example.org/a/b?c=d&e=%20f#g", "user@example.com", "C:\\path\\to\\file.txt",
    "日本語のテキストと中文文本，以及한국어 텍스트。", "नमस्ते दुनिया", "สวัสดีชาวโลก", "مرحبا بالعالم", "שלום עולם",
    "Ünïcödé\u0301\u0302\u0303 z̷̡a̴l̵g̶o̷", "\u202eright to left\u202c", "a\u200bb\u200cc\u200dd\u2060e\ufefff",
    "tabs\tand\t\ttabs", "line\nline\r\nline\rline\u2028line\u2029line\x85line\x0bline\x0cline",
    "    four\n        eight\n\n\n\n    ", "trailing   ", "   leading", "\n", "\n\n\n", " \n ", "\t\n\t",
    "\u00a0\u00a0nbsp\u00a0", "\u3000ideographic\u3000space", "a" * 300, "ab" * 200, " " * 300,
    "é" * 150, "漢" * 120, "!" * 200, "=-" * 150, "0123456789" * 30, "\n" * 150, "😀" * 60, "'" * 50,
    "aAbBcC" * 60 + " " + "xyz" * 90, "<|im_start|>system\nYou are.<|im_end|>\n<|im_start|>user\n",
    "\x00\x01\x02\x7f", "\U0010ffff\U000e0001", "x\u0000y", "\ufffd\ufffe\uffff",
]  # fmt: skip


def pick(random, script):
    low, high = random.choice(SCRIPTS[script])
    return chr(low + random.below(high - low + 1))


def code_lines():
    return [line for module in (json, string, textwrap, inspect)
            for line in inspect.getsource(module).splitlines(keepends=True)]  # fmt: skip


def texts(count):
    random = Random("texts")
    names = list(SCRIPTS)
    code = code_lines()
    words = sorted(set("".join(c if c.isalpha() else " " for c in "".join(code)).split()))

    def word():
        script = random.choice(names)
        return "".join(pick(random, script) for _ in range(1 + random.below(8)))

    def prose():
        parts = []
        for _ in range(1 + random.below(12)):
            parts.append(random.choice(words) if random.below(4) else word())
            parts.append(random.choice([" ", " ", " ", ", ", ". ", "\n", "-", "/", "'s ", "  "]))
        return "".join(parts)

    def mixture():
        kinds = [
            word,
            word,
            lambda: random.choice(words),
            lambda: random.choice(SPACES),
            lambda: random.choice(SPACES),
            lambda: random.choice(EMOJI),
            lambda: random.choice(CONTRACTIONS),
            lambda: random.choice(SPECIALS),
            lambda: str(random.below(10 ** (1 + random.below(12)))),
            lambda: random.choice(string.punctuation) * (1 + random.below(3)),
            lambda: pick(random, "any"),
            lambda: pick(random, "combining"),
        ]
        return "".join(random.choice(kinds)() for _ in range(1 + random.below(14)))

    def source():
        start = random.below(len(code) - 12)
        return "".join(code[start : start + 1 + random.below(10)])

    def blanks():
        return "".join(
            random.choice(SPACES) if random.below(4) else random.choice(["a", "1", ".", "é", "'s"])
            for _ in range(1 + random.below(12))
        )

    def noise():
        return "".join(pick(random, "any") for _ in range(1 + random.below(20)))

    def composable():
        scripts = ["latin", "greek", "combining", "combining", "hangul", "tibetan", "malayalam",
                   "hebrew", "arabic", "bengali", "sinhala"]  # fmt: skip
        parts = [pick(random, random.choice(scripts)) for _ in range(1 + random.below(10))]
        form = random.choice(["NFC", "NFD", "NFD", None])
        text = "".join(parts)
        return unicodedata.normalize(form, text) if form else text

    makers = [prose, mixture, mixture, mixture, source, blanks, noise, composable]
    result = CURATED + EMOJI + [s + t for s in SPACES for t in SPACES] + CONTRACTIONS + SPECIALS
    while len(result) < count:
        result.append(random.choice(makers)())
    return result


def every_code_point():
    """Each code point beside a letter, a digit, punctuation, a space and itself."""
    points = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
    # Unassigned planes say little each: one in sixteen of them.
    points = [c for c in points if c < 0x32000 or 0xE0000 <= c < 0xE0200 or c % 16 == 0]
    result = []
    for i in range(0, len(points), 24):
        result.append("".join(f"a{c}1{c}.{c} {c}{c}" for c in map(chr, points[i : i + 24])))
    return result


# ---- Tokenizers ----

GPT2_PATTERN = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
CL100K_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_PATTERN = CL100K_PATTERN.replace("{1,3}", "")
O200K_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK_PATTERNS = [
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
]
TIKTOKEN_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
)


def added(id, content, special=True, **flags):
    token = {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": special}  # fmt: skip
    return token | flags


def byte_level(add_prefix_space=False, use_regex=True):
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True,
            "use_regex": use_regex}  # fmt: skip


def digits(individual):
    return {"type": "Digits", "individual_digits": individual}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(*parts):
    return {"type": "Sequence", "pretokenizers": list(parts)}


def sequence_of_normalizers(*names):
    return {"type": "Sequence", "normalizers": [{"type": name} for name in names]}


def smollm2_variants(spec):
    """As transformers converts it, and as the hub has it (digits one by one)."""
    hub = dict(spec)
    hub["pre_tokenizer"] = sequence(digits(True), byte_level())
    return {"SmolLM2 of the GGUF": spec, "SmolLM2": hub}


def gpt2_variants(spec):
    """Name -> (tokenizer.json, whether all texts are worth it)."""
    size = len(spec["model"]["vocab"])

    def with_pre(*parts, **model):
        result = dict(spec)
        result["pre_tokenizer"] = parts[0] if len(parts) == 1 else sequence(*parts)
        result["model"] = spec["model"] | model
        return result

    def with_added(*tokens, pre=None):
        result = dict(spec)
        known = spec["model"]["vocab"]
        new = [t["content"] for t in tokens if t["content"] not in known]
        ids = known | {content: size + i for i, content in enumerate(new)}
        result["added_tokens"] = spec["added_tokens"] + [
            added(ids[token["content"]], **token) for token in tokens
        ]
        if pre:
            result["pre_tokenizer"] = pre
        return result

    plain = byte_level(use_regex=False)
    pairs = [m.split(" ") for m in spec["model"]["merges"]]
    variants = {
        "GPT-2": (spec, True),
        "GPT-2 with a prefix": (with_pre(byte_level(add_prefix_space=True)), False),
        "GPT-2 without a regex": (with_pre(plain), False),
        "GPT-2's regex in PCRE2": (with_pre(split(f"(?:{GPT2_PATTERN})"), plain), True),
        "cl100k": (with_pre(split(CL100K_PATTERN), plain, merges=pairs), True),
        "cl100k, removed and inverted": (
            with_pre(split(CL100K_PATTERN, "Removed", True), plain), False),
        "cl100k, ignore_merges": (
            with_pre(split(CL100K_PATTERN), plain, ignore_merges=True), False),
        "cl100k in PCRE2": (with_pre(split(f"(?:{CL100K_PATTERN})"), plain), True),
        "Qwen2": (with_pre(split(QWEN2_PATTERN), plain) | {"normalizer": {"type": "NFC"}}, True),
        "NFC alone": (spec | {"normalizer": {"type": "NFC"}}, True),
        "tiktoken's possessive cl100k": (with_pre(split(TIKTOKEN_PATTERN), plain), True),
        "o200k": (with_pre(split(O200K_PATTERN), plain), True),
        "DeepSeek": (with_pre(*map(split, DEEPSEEK_PATTERNS), plain), True),
        "digits one by one": (with_pre(digits(True), byte_level()), False),
        "digits together": (with_pre(digits(False), byte_level()), True),
        "digits and a prefix": (
            with_pre(digits(True), byte_level(add_prefix_space=True)), False),
        "a string": (with_pre(split(" ", "MergedWithNext", kind="String"), plain), False),
        "a longer string": (with_pre(split("a.", "Removed", kind="String"), byte_level()), False),
        "classes": (with_pre(split(r"[\S\n]|[^\S\n]|\x{1F600}"), plain), False),
        "more classes": (
            with_pre(split(r"[a-c\-é\]\\^]{2,}|\P{L}|[^\d\p{^Z}]|\D{3}|\u00e9?x*?y"), plain), False),
        "look-ahead": (with_pre(split(r"(?=\p{Lu})\p{L}|a(?>b|bc)c|.{2,3}"), plain), False),
    }  # fmt: skip
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            variants[f"{behavior}{', inverted' if invert else ''}"] = (
                with_pre(split(r"\s|\p{P}+", behavior, invert), plain), False)  # fmt: skip
    flags = [
        dict(content="<|im_start|>", lstrip=True),
        dict(content="<|im_end|>", rstrip=True),
        dict(content="<mask>", lstrip=True, rstrip=True, special=False),
        dict(content="<x>", single_word=True),
        dict(content="x>", special=False),
        dict(content="[PAD]", single_word=True, lstrip=True, special=False, normalized=True),
        dict(content="naïve", special=False, normalized=True),
        dict(content="naïv", special=False, normalized=True, rstrip=True),
        dict(content="ï", special=False, single_word=True),
        dict(content="  ", special=False, normalized=True),
        dict(content="    ", special=False),
        dict(content="\n\n\n", special=False, lstrip=True),
        dict(content="1", special=False, single_word=True),
    ]
    variants["added tokens"] = (with_added(*flags), True)
    variants["added tokens and NFC"] = (
        with_added(*flags) | {"normalizer": sequence_of_normalizers("NFC")}, True)  # fmt: skip
    variants["added tokens and a prefix"] = (
        with_added(*flags, pre=byte_level(add_prefix_space=True)), False)  # fmt: skip
    variants["added words"] = (
        with_added(*({"content": c, "special": False, "single_word": i % 2 == 0, "lstrip": i % 3 == 0}
                     for i, c in enumerate(["the", "self", "return", "in", "ing", "é", "1", "a"]))),
        True)  # fmt: skip
    # A vocabulary without some bytes, with and without an unknown token.
    for name, extra in {
        "bytes missing": {},
        "bytes missing, unknown": {"unk_token": "<|endoftext|>"},
        "bytes missing, unknown, fused": {"unk_token": "<|endoftext|>", "fuse_unk": True},
    }.items():
        poor = copy.deepcopy(spec)
        gone = set("éxĠ")
        vocab = {
            t: i
            for t, i in poor["model"]["vocab"].items()
            if not gone & set(t) or t == "<|endoftext|>"
        }
        order = sorted(vocab, key=vocab.get)
        poor["model"]["vocab"] = {t: i for i, t in enumerate(order)}
        poor["model"]["merges"] = [
            m for m in poor["model"]["merges"] if not gone & set(m)
        ]
        poor["model"] |= extra
        poor["added_tokens"] = [added(poor["model"]["vocab"]["<|endoftext|>"], "<|endoftext|>")]
        variants[name] = (poor, False)
    return variants


# ---- Chat ----

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% endif %}"
)
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% endif %}"
)
QWEN25 = r"""{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}
    {%- endif %}
    {{- "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\n<tool_call>\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' }}
        {{- message.content }}
        {{- '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""

CHAT_TEMPLATES = {
    "SmolLM2": SMOLLM2,
    "Qwen2": SMOLLM2.replace(
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
        "You are a helpful assistant.",
    ),
    "Qwen2.5": QWEN25,
    "Qwen2.5, other spacing": QWEN25.replace("    ", "\t").replace("\n", "\r\n"),
    "ChatML": CHATML,
    "ChatML, prompt set": "{% if not add_generation_prompt is defined %}"
    "{% set add_generation_prompt = false %}{% endif %}" + CHATML,
    "ChatML, last turn open": "{% for message in messages %}{{'<|im_start|>' + message['role'] + "
    "'\n' + message['content']}}{% if (loop.last and add_generation_prompt) or not loop.last %}"
    "{{ '<|im_end|>' + '\n'}}{% endif %}{% endfor %}{% if add_generation_prompt and "
    "messages[-1]['role'] != 'assistant' %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "ChatML, in blocks": """{# ChatML, of a kind #}
{% for m in messages %}
  {% if m.role not in ['system', 'user', 'assistant'] %}
    {{ raise_exception('unknown role') }}
  {% endif %}
  {{- "<|im_start|>" ~ m['role'] ~ "\\n" -}}
  {{ m.content }}<|im_end|>
{% if loop.last and add_generation_prompt is true or add_generation_prompt and loop.last %}
<|im_start|>assistant
{% endif %}
{%- endfor %}
""".replace("add_generation_prompt is true or ", ""),
    "ChatML, by role": "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '<|im_start|>user\n' + message['content'] + '<|im_end|>\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ '<|im_start|>assistant\n' + message['content'] "
    "+ '<|im_end|>\n' }}{% else %}{{ '<|im_start|>system\n' + message['content'] + "
    "'<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{{ '<|im_start|>assistant\n' if add_generation_prompt else '' }}",
}

# Templates in the manner of well-known families, and what else templates are written with.
CHAT_TEMPLATES |= {
    "Llama 3": """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- This block extracts the system message, so we can slot it into the right place. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {{- '{"name": "' + message.tool_calls[0].function.name + '", ' }}
        {{- message.tool_calls[0].function.arguments | tojson }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "Llama 2": "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    "Qwen3": """{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""",
    "Gemma": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}"
    "{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}",
    "Mistral": """{%- set today = strftime_now("%Y-%m-%d") %}
{%- set default_system_message = "The current date is " + today + ".\\
\\
Ask when \\"unclear\\"." %}
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = default_system_message %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- '[SYSTEM_PROMPT]' + system_message + '[/SYSTEM_PROMPT]' }}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set others = namespace(n=0) %}
{%- for message in loop_messages | rejectattr("role", "equalto", "user") %}
    {%- set others.n = others.n + 1 %}
{%- endfor %}
{%- set filtered = [] %}
{%- for message in loop_messages if message["role"] not in ["tool"] and not message.get("tool_calls") %}
    {%- set filtered = filtered + [message] %}
    {%- if (message["role"] == "user") != (loop.index0 % 2 == 0) %}
        {{- raise_exception("roles must alternate, " ~ others.n ~ " others") }}
    {%- endif %}
{%- else %}
    {{- raise_exception("nobody speaks") }}
{%- endfor %}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {{- '[INST]' + message['content'] + '[/INST]' }}{{- '!' if message == user_messages[-1] }}
    {%- else %}
        {{- message['content'] + eos_token }}
    {%- endif %}
{%- endfor %}
""",
    "Phi": "{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}"
    "{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}"
    "{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}"
    "{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    "DeepSeek": "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
    "{% set ns = namespace(is_first=false, system_prompt='', is_first_sp=true) %}{%- for message in messages %}"
    "{%- if message['role'] == 'system' %}{%- if ns.is_first_sp %}"
    "{% set ns.system_prompt = ns.system_prompt + message['content'] %}{% set ns.is_first_sp = false %}{%- else %}"
    "{% set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] %}{%- endif %}{%- endif %}{%- endfor %}"
    "{{ bos_token }}{{ ns.system_prompt }}{%- for message in messages %}{%- if message['role'] == 'user' %}"
    "{%- set ns.is_first = true -%}{{'<｜User｜>' + message['content']}}{%- endif %}"
    "{%- if message['role'] == 'assistant' and message['content'] is not none %}{% set content = message['content'] %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endfor -%}"
    "{% if add_generation_prompt and ns.is_first %}{{'<｜Assistant｜><think>\\n'}}{% endif %}",
    "LFM": """{{- bos_token -}}
{%- set preserve = preserve | default(false) -%}
{%- macro parse(content, mark="", end=none) -%}
    {%- if content is string -%}{{- mark + content -}}{%- else -%}
    {%- for item in content -%}{{- item["text"] -}}{%- endfor -%}{%- endif -%}
    {{- end if end is not none -}}
{%- endmacro -%}
{%- set ns = namespace(system_prompt="", last=-1) -%}
{%- if messages[0]["role"] == "system" -%}
    {%- if messages[0].get("content") -%}
        {%- set ns.system_prompt = parse(messages[0]["content"]) -%}
    {%- endif -%}
    {%- set messages = messages[1:] -%}
{%- endif -%}
{%- if ns.system_prompt -%}
    {{- "<|im_start|>system\\n" + ns.system_prompt + "<|im_end|>\\n" -}}
{%- endif -%}
{%- for message in messages -%}
    {%- if message["role"] == "user" -%}{%- set ns.last = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- for message in messages -%}
    {{- "<|im_start|>" + message.role + "\\n" -}}
    {%- if message.role == "assistant" -%}
        {%- generation -%}
        {%- set content = parse(message.content, end=">", mark="<") -%}
        {%- if not (preserve or loop.index0 > ns.last) and "</think>" in content -%}
            {%- set content = content.split("</think>")[-1] | trim -%}
        {%- endif -%}
        {{- content[:-1] ~ (content | length) -}}{{- "<|im_end|>\\n" -}}
        {%- endgeneration -%}
    {%- else %}
        {{- message.get("content", "nothing") -}}{{- "<|im_end|>\\n" -}}
    {%- endif %}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- "<|im_start|>assistant\\n" -}}
{%- endif -%}
""",
    "odds and ends": """{% set block %}
  {{- "b" }}
{% endset %}
{% for m in messages %}
{% if loop.index > 9 %}{% break %}{% endif %}
{% if m.role == 'system' and loop.previtem is defined and loop.previtem.role == 'system' %}{% continue %}{% endif %}
{% raw %}{{ raw }}{% endraw %}
{{ loop.index ~ '/' ~ loop.length ~ ' ' ~ loop.revindex0 }} {{ loop.nextitem.role if not loop.last else none }}
{% for k, v in m.items() %}{{ k }}={{ v|replace('\\n', '|') }};{% endfor %}
{{ m.content | tojson }} {{ {'a': [1, 2.5, true, none], 'b': {}} | tojson(indent=2) }}
{{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 * 3 - 1 }} {{ 1 < 2 < 3 }} {{ 1 < 2 > 5 }} {{ not 1 == 2 }} {{ 'a' 'b' }}
{{ m.content.split() | join('+') }} {{ m.content[1:4] }}{{ m.content[::-1] }} {{ m.content[-1:] }}
{{ range(3) | list | join(',') }} {{ range(5, 1, -2) | join(',') }} {{ (1, 2)[1] }} {{ [3, 4] | last }} {{ [] | first is defined }}
{{ 'x' is in ['x', 'y'] }} {{ 3 is divisibleby 3 }} {{ 4 is odd }} {{ m is mapping }} {{ m.nothing is undefined }} {{ undefined_one | default('d') }}
{{ '' | default('e', true) }} {{ 'Ab' | upper }} {{ 'Ab'.lower() }} {{ 'ab cd'.title() }} {{ 'hello' | capitalize }} {{ ' a\\n\\nb' | indent(2) }}
{{ messages | map(attribute='role') | join(' ') }} {{ ['a', 'B'] | map('upper') | list | join('') }} {{ '12' | int + 1 }}
{{ 'abcabc'.replace('b', 'x', 1) }} {{ 'a.b.c'.split('.', 1) | join(' ') }} {{ 'abc'.find('c') }} {{ 'éa'.find('a') }} {{ '☃' | length }}
{{ "\\u00e9" ~ '\\d' }} {{ block }} {{ {'k': 1}.k }} {{ dict(a=1)['a'] }} {{ (m.content or 'empty') | trim('H') }}
{% else %}nobody{% endfor %}
{% set a, b = 'A', 'B' %}{{ a ~ b }} {{ 'if' if add_generation_prompt }}{% set add_generation_prompt = 5 %}{{ add_generation_prompt }}
""",
}
CHAT_TEMPLATES |= {
    "trimmed": CHATML.replace("message['content']", "message['content'] | trim"),
    "a missing newline": CHATML.replace("'<|im_end|>' + '\\n'", "'<|im_end|>'"),
    "another prompt": CHATML.replace("assistant\\n", "assistant\\n<think>\\n"),
    "user first": CHATML.replace("messages %}", "messages %}{% if loop.first and message.role != "
                                 "'user' %}{{ raise_exception('x') }}{% endif %}", 1),
    "a system message lost": SMOLLM2.replace("!= 'system'", "== 'user'"),
    "trailing text": CHATML + ".",
}  # fmt: skip

# Keys in an order of their own, text that looks like JSON, a number of each kind.
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather_in",
            "description": 'The weather in a "city", now.\nIn °C.',
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"type": "string", "enum": ["Köln", "Bonn"]},
                    "days": {"type": "integer", "minimum": 1, "default": 2.5},
                },
                "required": ["place"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
]


def tool_conversations():
    asks = {"role": "user", "content": "How is the weather in Köln?"}
    calls = [
        {"id": f"call{i:05}", "type": "function", "function": {"name": "weather_in", "arguments": {"place": p, "days": i}}}
        for i, p in enumerate(["Köln", "Bonn"])
    ]
    said = [{"role": "tool", "tool_call_id": c["id"], "content": json.dumps({"degrees": 7})} for c in calls]
    one = {"role": "assistant", "content": "", "tool_calls": calls[:1]}
    return [
        [asks],
        [{"role": "system", "content": "Be brief."}, asks],
        [asks, one, said[0]],
        [asks, {"role": "assistant", "content": "I look.", "tool_calls": calls}, *said],
        [asks, one, said[0], {"role": "assistant", "content": "7 degrees."}, {"role": "user", "content": "Thanks!"}],
    ]


# What Python refuses, and what is not understood.
REFUSED_CHAT_TEMPLATES = {
    "empty": "",
    "text": "Hello",
    "unclosed": "{% for message in messages %}",
    "odd syntax": "{{ 'a' if }}" + CHATML,
    "tools": CHATML + "{{ tools[0].name }}",
    "an undefined attribute": CHATML + "{{ nothing.name }}",
    "a sum of kinds": CHATML + "{{ 'a' + 1 }}",
    "an unknown filter": CHATML + "{{ messages | urlize }}",
    "an unknown statement": "{% include 'x' %}" + CHATML,
    "appending": CHATML + "{{ messages.append(1) }}",
    "a list as text": CHATML + "{{ messages }}",
    "for ever": "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}" + CHATML,
}


def conversations():
    random = Random("conversations")
    contents = ["Hi", "", " ", "\n", " leading", "trailing \n", "a\r\nb", "\t", "<|im_end|>", "{{ x }}",
                "{% if %}", "日本語 😀", "\u00a0nbsp\u3000", "line\n\nline", "'quotes\"", "a" * 500,
                "<|im_start|>system\n", "\\n", "#}", "é\u0301"]  # fmt: skip
    result = []
    for roles in ("u", "su", "ua", "uau", "suau", "s", "a", "au", "ss", "usu", "sus", "uu", "aa",
                  "suauauau", "sas", "uauas"):  # fmt: skip
        for _ in range(12):
            names = {"s": "system", "u": "user", "a": "assistant"}
            result.append([{"role": names[r], "content": random.choice(contents)} for r in roles])
    return result
