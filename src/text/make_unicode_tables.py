#!/usr/bin/env python3
"""Writes the tables of src/text by asking Hugging Face `tokenizers` itself.

Parity is with that library and not with a version of Unicode: its regular expressions (Oniguruma),
its Digits pre-tokenizer (Rust's standard library), its added tokens (Rust's regex crate), its
normalizers and what BERT needs each carry tables of their own age. So every code point is put to the library, once, and
the answers are kept. Run again after a new release of `tokenizers`:

    for table in properties decompositions combining_classes bert lowercase; do
      .venv/bin/python src/text/make_unicode_tables.py $table > src/text/unicode_$table.inc
    done
"""

import sys
import textwrap
import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

CATEGORIES = (
    "Cn Cc Cf Co Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp".split()
)
NUMERIC, WORD = 32, 64
DROPPED, CHINESE, MARK, PUNCTUATION, SPACE = 1, 2, 4, 8, 16
POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
CHUNK = 4096


def matched_by(pattern):
    """The code points that a one-character regex matches."""
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    found = set()
    for i in range(0, len(POINTS), CHUNK):
        chunk = "".join(map(chr, POINTS[i : i + CHUNK]))
        kept = set("".join(s for s, _ in split.pre_tokenize_str(chunk)))
        found.update(ord(c) for c in chunk if c not in kept)
    return found


def numeric():
    digits = pre_tokenizers.Digits(individual_digits=True)
    found = set()
    for i in range(0, len(POINTS), CHUNK):
        text = "a" + "a".join(map(chr, POINTS[i : i + CHUNK])) + "a"
        found.update(ord(s) for s, _ in digits.pre_tokenize_str(text) if len(s) == 1 and s != "a")
    return found


def word_characters():
    """A single-word token is found unless a word character follows it."""
    tokenizer = Tokenizer(models.BPE({}, []))
    tokenizer.add_tokens([AddedToken("\x01", single_word=True, normalized=False)])
    texts = ["\x01" + chr(c) for c in POINTS]
    encoded = tokenizer.encode_batch(texts)
    # The probe itself is found alone, once, in front of itself; it is no word character.
    return {c for c, e in zip(POINTS, encoded) if not e.ids}


def properties():
    value = dict.fromkeys(range(0x110000), 0)
    for number, name in enumerate(CATEGORIES):
        for c in matched_by(r"\p{%s}" % name):
            value[c] = number
    for c in numeric():
        value[c] |= NUMERIC
    for c in word_characters():
        value[c] |= WORD
    # Surrogates cannot occur in UTF-8: let them continue the range before them.
    for c in range(0xD800, 0xE000):
        value[c] = value[0xD7FF]
    ranges = [(c, value[c]) for c in range(0x110000) if c == 0 or value[c] != value[c - 1]]
    print("// Each number is (first code point of a range << 8) | properties of the range.")
    return [c << 8 | v for c, v in ranges]


def combining_class(c, nfd):
    """The class of Python's tables, where `tokenizers` (which is older) has one at all."""
    # U+0345 has the highest class, 240, and U+0334 the lowest, 1: any mark moves beside one of them.
    moves = nfd("\u0345" + chr(c)) != "\u0345" + nfd(chr(c)) or (
        nfd(chr(c) + "\u0334") != nfd(chr(c)) + "\u0334"
    )
    return unicodedata.combining(chr(c)) if moves or c == 0x334 else 0


def decompositions():
    nfd, nfc = normalizers.NFD().normalize_str, normalizers.NFC().normalize_str
    print("// Per character: code point << 8 | composes << 7 | length, its canonical decomposition.")
    numbers = []
    for c in POINTS:
        if 0xAC00 <= c <= 0xD7A3:  # Hangul syllables are computed
            continue
        parts = nfd(chr(c))
        if parts != chr(c):
            numbers.append(c << 8 | (nfc(parts) == chr(c)) << 7 | len(parts))
            numbers += map(ord, parts)
    return numbers


def combining_classes():
    nfd = normalizers.NFD().normalize_str
    value = {c: combining_class(c, nfd) if len(nfd(chr(c))) == 1 else 0 for c in POINTS}
    print("// Each number is (first code point of a range << 8) | combining class of the range.")
    ranges = [(c, v) for c, v in value.items() if c == 0 or v != value.get(c - 1, 0)]
    return [c << 8 | v for c, v in ranges]


def bert_normalizer(**what):
    off = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return normalizers.BertNormalizer(**(off | what)).normalize_str


def bert():
    """What BertNormalizer and BertPreTokenizer do to each character."""
    clean, strip = bert_normalizer(clean_text=True), bert_normalizer(strip_accents=True)
    chinese = bert_normalizer(handle_chinese_chars=True)
    split, nfd = pre_tokenizers.BertPreTokenizer().pre_tokenize_str, normalizers.NFD().normalize_str
    value = dict.fromkeys(range(0x110000), 0)
    for c in POINTS:
        text = chr(c)
        parts = len(split("a" + text + "a"))
        value[c] |= DROPPED * (clean(text) == "")
        value[c] |= CHINESE * (chinese(text) == " " + text + " ")
        value[c] |= MARK * (nfd(text) == text and strip(text) == "")
        value[c] |= PUNCTUATION * (parts == 3) | SPACE * (parts == 2)
        assert clean(text) == ("" if value[c] & DROPPED else " " if value[c] & SPACE else text)
    for c in range(0xD800, 0xE000):
        value[c] = value[0xD7FF]
    ranges = [(c, value[c]) for c in range(0x110000) if c == 0 or value[c] != value[c - 1]]
    print("// Each number is (first code point of a range << 8) | BERT's properties of the range.")
    return [c << 8 | v for c, v in ranges]


def lowercase():
    """Rust's char::to_lowercase; U+0130 alone becomes two characters and is left out."""
    lower = bert_normalizer(lowercase=True)
    print("// Pairs: a character and what it is in lower case.")
    numbers = []
    for c in POINTS:
        text = lower(chr(c))
        if c != 0x130 and text != chr(c):
            numbers += [c, ord(text)]
    return numbers


def main():
    table = {
        "properties": properties,
        "decompositions": decompositions,
        "combining_classes": combining_classes,
        "bert": bert,
        "lowercase": lowercase,
    }[sys.argv[1]]
    print("// Generated by make_unicode_tables.py from tokenizers %s." % tokenizers.__version__)
    words = ["0x%x," % number for number in table()]
    print("// clang-format off")
    for line in textwrap.wrap(" ".join(words), 100):
        print(line)


if __name__ == "__main__":
    main()
