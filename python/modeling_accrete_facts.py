"""A model of the Llama family with accrete's memory of facts, for transformers.

`accrete export` puts this file into the folder that it writes; from there

    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    text, fact = model.say("How heavy is the Corvane 5?")

says what accrete says. `say` reads the question, chooses the fact that is asked for, if there is one, and answers by
it. Plain `generate` and `forward` know no question, only tokens, and therefore answer as the base does.

What was taught lies in accrete_facts.json and accrete_facts.safetensors, the reader of questions in reader/
(docs/formats.md). Both are opened at the first question. The functions below are those of src/text/wording.cc,
src/memory/ and src/model/ask.cc, and must agree with them.

Non-goals: teaching, sampling, several questions at once, two threads in one model at once.
"""

import json
import math
import os
import re
import shutil
import unicodedata

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import (
    AutoModel,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.utils import cached_file


TEXTS, TENSORS, READER = "accrete_facts.json", "accrete_facts.safetensors", "reader"

# Words of a question (src/text/wording.cc).

ARTICLES = {"the", "a", "an", "my", "this", "our", "that", "your", "their"}
# Words that stand in many questions and in no name by themselves.
FUNCTION_WORDS = set("""
    a an the i i'm is are was were do does did what who whom whose when where which why how can could would will shall
    should may might must please tell say give name and or of in on at to for from by with about my your our their his
    her its it this that these those there you we they he she me us has have had if as so not no yes hi hello hey s t
    any some than then be been under over after before since until per ok okay well now
""".split())
# What may stand inside a name without a capital.
CONNECTORS = set("""
    of the and & de la le du da di von van der den del for s + # y e et und
""".split())
# What makers tell their things apart by; the latter with a capital alone.
VERSIONS = {"pro", "xl", "lite", "ultra", "mini", "junior", "jr", "senior", "sr"}
CAPITAL_VERSIONS = {"max", "plus", "se", "air", "gt", "neo", "ii", "iii", "iv", "v", "vi", "s"}
SPACES = set("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | {chr(c) for c in range(0x2000, 0x200B)}
# Scripts whose words no space parts: Thai, Lao, Myanmar, Khmer, kana, Han.
ALONE = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
         (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
# What Unicode calls default ignorable.
IGNORED = ((0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
           (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
           (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF))


def within(c, ranges):
    return any(first <= ord(c) <= last for first, last in ranges)


def is_letter(c):
    return unicodedata.category(c) in ("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me")


def is_digit(c):
    return unicodedata.category(c).startswith("N")


def is_symbol(c):
    return unicodedata.category(c).startswith("S") or c in "#&%@*°"


def folded(text):
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(c for c in text if not within(c, IGNORED))


class Word:
    """A run of letters and digits, a number with its point or colon inside, or one symbol."""

    def __init__(self, text, begin, end):
        self.form, self.begin, self.end = folded(text[begin:end]), begin, end
        self.capital = any(unicodedata.category(c) in ("Lu", "Lt") for c in text[begin:end])
        self.number = any(is_digit(c) for c in text[begin:end])


def words_of(text):
    words, at = [], 0
    while at < len(text):
        c, begin = text[at], at
        at += 1
        alone = within(c, ALONE)
        if is_letter(c) or is_digit(c):
            if not alone:
                after_digit = is_digit(c)
                while at < len(text):
                    d = text[at]
                    if is_letter(d) or is_digit(d):
                        if within(d, ALONE):
                            break
                        after_digit = is_digit(d)
                        at += 1
                    elif after_digit and d in ".:," and at + 1 < len(text) and is_digit(text[at + 1]):
                        at += 2
                    else:
                        break
        elif not is_symbol(c):
            continue
        if alone:
            while at < len(text) and unicodedata.category(text[at]).startswith("M"):
                at += 1
        word = Word(text, begin, at)
        if word.form:
            words.append(word)
    return words


def forms_of(text):
    return [word.form for word in words_of(text)]


def plain_question(text):
    """The question as it is read: NFKC, white space squeezed, without "Hi," before it and "please" behind it."""
    out = ""
    for c in unicodedata.normalize("NFKC", text):
        if c not in SPACES:
            out += "'" if c == "\u2019" else c
        elif out and out[-1] != " ":
            out += " "
    out = rest = out.rstrip(" ")
    for greeting in ("hi", "hello", "hey"):
        if not begins(rest, greeting):
            continue
        after = rest[len(greeting):]
        if begins(after, " there"):
            after = after[6:]
        after = after.lstrip(" ")
        if not after or after[0] not in ",!.":
            continue
        rest = after[1:].lstrip(" ")
        break
    end = len(rest.rstrip("?.! "))
    if end > 6 and begins(rest[end - 6:], "please") and rest[end - 7] in " ,":
        rest = rest[:end - 6].rstrip(" ,") + rest[end:]
    return rest if words_of(rest) else out


def begins(text, word):
    return lower(text[:len(word)]) == word


def lower(text):
    return "".join(c.lower() if "A" <= c <= "Z" else c for c in text)


def find_name(text, name):
    """[(begin, end)] of every occurrence of a name."""
    words, wanted, out, i = words_of(text), forms_of(name), [], 0
    while wanted and i + len(wanted) <= len(words):
        if [word.form for word in words[i:i + len(wanted)]] == wanted:
            out.append((words[i].begin, words[i + len(wanted) - 1].end))
            i += len(wanted)
        else:
            i += 1
    return out


def mask_name(text, name):
    """`text` with `name`, and an article before it, replaced by "something"."""
    words, wanted = words_of(text), forms_of(name)
    if not wanted:
        return text
    out, done, i = "", 0, 0
    while i + len(wanted) <= len(words):
        if [word.form for word in words[i:i + len(wanted)]] != wanted:
            i += 1
            continue
        begin, before = words[i].begin, words[i - 1] if i > 0 else None
        if (before and before.begin >= done and before.form in ARTICLES
                and not text[before.end:begin].strip(" \t\n\r")):
            begin = before.begin
        out += text[done:begin] + "something"
        done = words[i + len(wanted) - 1].end
        i += len(wanted)
    return out + text[done:]


def begins_sentence(text, word):
    before = text[:word.begin].rstrip(" \"'")
    return not before or before[-1] in ".!?:\n"


CALENDAR = set("""
    monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays thursdays fridays saturdays sundays
    january february march april may june july august september october november december""".split())


def names_somebody(text):
    """Whether a question holds what could be a name: whether shared_name() of src/text/wording.cc finds one in it."""
    if not any("a" <= c <= "z" for c in text):
        return False
    words = words_of(text)

    def tells(k, last):
        word = words[k]
        if word.number or not word.capital or word.form in FUNCTION_WORDS:
            return word.number
        # A capital at the beginning of a sentence says something where the next word goes on.
        return not begins_sentence(text, word) or not last and (words[k + 1].capital or words[k + 1].number)

    def is_name(run):
        """Where these words stand first, those at the ends tell, and the others do or may be between them."""
        n = len(run)
        at = next(at for at in range(len(words)) if forms[at:at + n] == run)
        told = [tells(at + k, k == n - 1) for k in range(n)]
        return told[0] and told[-1] and all(t or form in CONNECTORS for t, form in zip(told, run))

    forms = [word.form for word in words]
    inside = CONNECTORS | {word.form for k, word in enumerate(words) if tells(k, k == len(words) - 1)}
    for begin in range(len(words)):
        # A number needs what it counts: "hub 3".
        counts = begin > 0 and forms[begin - 1] not in FUNCTION_WORDS and any(c not in "0123456789.,:" for c in forms[begin - 1])
        letters = calendar = False
        for end in range(begin, len(words)):
            if forms[end] not in inside:
                break
            if end > begin and any(c in "?!:;\n" for c in text[words[end - 1].end:words[end].begin]):
                break
            calendar |= forms[end] in CALENDAR
            letters |= forms[end] not in CALENDAR and any(c not in "0123456789.,:" for c in forms[end])
            if (letters or counts and not calendar) and is_name(forms[begin:end + 1]):
                return True
    return False


def name_goes_on(text, words, begin, end):
    """Whether another name is meant than that of words [begin, end): "Quillo 7 Pro" is not "Quillo 7"."""
    if end >= len(words):
        return False
    digit, last = (lambda form: "0" <= form[0] <= "9"), words[end]
    if digit(last.form):
        return not digit(words[end - 1].form)
    if text[words[end - 1].end:last.begin].strip(" -"):
        return False
    if last.form in VERSIONS:
        return True
    if not last.capital:
        return False
    if last.form in CAPITAL_VERSIONS:
        return True
    written = text[last.begin:last.end]
    shout = len(written.encode()) > 1 and not any("a" <= c <= "z" or ord(c) >= 0x80 for c in written)
    if shout or last.form in FUNCTION_WORDS:
        return False
    if end + 1 == len(words) and begin <= 2 and words[0].form in ("is", "are", "was", "were"):
        return False
    rest = [w for k, w in enumerate(words) if k > 0 and not begin <= k <= end and not w.number and w.form not in ("i", "i'm")]
    return any(not w.capital for w in rest) and not any(w.capital and w.form in FUNCTION_WORDS for w in rest)


THEM, THEIRS = {"it", "he", "she", "they", "him", "her", "them"}, {"its", "his", "their"}


def changes_topic(forms, news):
    """Whether a message speaks of something new: none of what was spoken of is meant by it (src/memory/fact_store.cc)."""
    return any(form in news for form in forms) and not has_pronoun(forms)


def has_pronoun(forms):
    return any(form in THEM | THEIRS for form in forms)


def with_name(text, name):
    """"And how heavy is it?" about somebody named before: "how heavy is NAME?" (src/text/follow_up.cc)."""
    words, begin = words_of(text), 0
    if len(words) > 1 and words[0].form in ("and", "but", "also", "so"):
        words = words[1:]
        begin = words[0].begin
    for word in words:
        theirs = word.form in THEIRS
        if theirs or word.form in THEM:
            return text[begin:word.begin] + name + ("'s" if theirs else "") + text[word.end:]
    end = words[-1].end if words else len(text)
    return text[begin:end] + " of " + name + text[end:]


# Words of which one is asked for or the other (src/text/contrast.cc).

# What a number counts, as people write it.
UNITS = {unit: units[0] for units in (line.split() for line in """
    minute min
    hour h hr
    second sec
    kilogram kg kilo
    gram g
    metre m meter
    centimetre cm centimeter
    kilometre km kilometer
    litre l liter
    euro \u20ac eur
    dollar $ usd
    pound \u00a3 gbp
    gigabyte gb
    percent %
    child children kid
    person people
""".strip().split("\n")) for unit in units}
NUMBERS = {word: str(i) for i, word in enumerate("""
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
    nineteen twenty""".split())} | {word: str(10 * i) for i, word in enumerate(
    "thirty forty fifty sixty seventy eighty ninety hundred".split(), 3)}


def stems(form):
    """The word itself, and what it may be a plural or a verb form of."""
    yield form
    for end, least in (("s", 3), ("es", 3), ("ing", 4), ("ed", 4)):
        stem = form.removesuffix(end)
        if stem == form or len(stem) < least:
            continue
        yield stem
        if end in ("ing", "ed"):
            yield stem + "e"
            if stem[-1] == stem[-2]:
                yield stem[:-1]
    if form.endswith("ies") and len(form) > 5:
        yield form[:-3] + "y"


class Contrasts:
    """The table of src/text/contrast_classes.inc, from its text."""

    def __init__(self, table):
        self.words, self.phrases, self.excluded = {}, {}, set()
        frame = False
        for c, line in enumerate(table.split("\n")):
            name, colon, members = line.partition(":")
            if line.startswith("#") or not colon:
                continue
            if name == "not":
                self.excluded.update(members.split())
            frame |= name == "frame"
            for m, words in enumerate(members.split("|") if name != "not" else ()):
                for word in words.split():
                    parts = word.replace("~", "_").split("_")
                    if len(parts) == 1:
                        self.words.setdefault(word, []).append((c, m, frame))
                    else:
                        self.phrases.setdefault(parts[0], []).append((parts[1], 3 if "~" in word else 0, c, m))

    def places(self, form):
        """[(class, member, whether in a frame alone)] of a word."""
        if form not in self.excluded:
            for stem in stems(form):
                if stem in self.words:
                    return self.words[stem]
        return []

    def members(self, forms):
        """[(first, last, class, member)] of words; of numbers the class is what they count."""
        out = []
        for i, form in enumerate(forms):
            for second, gap, c, m in self.phrases.get(form, ()):
                if second in forms[i + 1:i + 2 + gap]:
                    out.append((i, forms.index(second, i + 1) + 1, c, m))
            if i > 0 and forms[i - 1] == "how":
                continue
            out += [(i, i + 1, c, m) for c, m, frame in self.places(form) if not frame]
            value, units = number_in(form)
            if value:
                units += [f for f in forms[i + 1:i + 2] + forms[max(i - 1, 0):i]
                          if f not in FUNCTION_WORDS and not "0" <= f[0] <= "9"]
                for unit in units or forms[max(i - 1, 0):i]:
                    unit = singular(unit)
                    out.append((i, i + 1, "#" + UNITS.get(unit, unit), value))
        return out

    def of(self, text):
        """class -> the members that a text holds."""
        found, word = {}, {}
        for first, last, c, m in self.members(forms_of(text)):
            if last == first + 1 and not str(c).startswith("#"):
                if word.get(c) == first:  # a word of several members
                    found[c][-1].add(m)
                    continue
                word[c] = first
            found.setdefault(c, []).append({m})
        # "Easter holidays" are Easter's: what stands for several counts where nothing stands for one.
        return {c: set().union(*([p for p in places if len(p) == 1] or places)) for c, places in found.items()}

    def asked(self, text):
        """What contrast() asks of a question."""
        return self.of(text), [singular(form) for form in forms_of(text)]

    def taught(self, wordings):
        """What contrast() asks of a fact: the classes of which all wordings hold one member, and the wordings' words."""
        held = [self.of(text) for text in wordings]
        fixed = {c: set().union(*(h[c] for h in held)) for c in held[0]
                 if all(c in h for h in held) and set.intersection(*(h[c] for h in held))}
        return fixed, [[singular(form) for form in forms_of(text)] for text in wordings]

    def contrast(self, asked, taught):
        """Whether a question asks for another thing than a fact by a word that says so."""
        (members, words), (fixed, frames) = asked, taught
        if any(c in fixed and not m & fixed[c] for c, m in members.items()):
            return True
        return any(len(frame) == len(words) >= 4 and self.replaced(words, frame, frames) for frame in frames)

    def replaced(self, words, frame, frames):
        """Whether one word stands in another's place, which is no other word for it."""
        differ = [(a, b) for a, b in zip(words, frame) if a != b]
        if len(differ) != 1:
            return False
        a, b = differ[0]
        digit = lambda form: "0" <= form[0] <= "9"
        if digit(a) != digit(b) or not is_content(a) or not is_content(b) or any(a in f for f in frames):
            return False
        if UNITS.get(a, a) == UNITS.get(b, b):  # "min", "minute"
            return False
        of_a, of_b = ([p[:2] for p in self.places(x) or self.places(x + "s")] for x in (a, b))  # "upstair" was "upstairs"
        if set(of_a) & set(of_b):
            return False
        return all(b in f for f in frames) or any(c == d for c, _ in of_a for d, _ in of_b)


# A question that leaves out what was asked just before (src/text/follow_up.cc).

PREPOSITIONS = set("for on in at with without from to during by per after before until till via through under over".split())
WHOLE = set("""what when where who whom whose which why how is are was were do does did can could will would should may might must has
    have had i we you he she it they him her them its his their tell show give there""".split())


def follow_up(fragment, before, name, name_before, contrasts):
    """"And on Sunday?" behind "When is the bar open on Saturday?": "When is the bar open on Sunday?"; "" where it is none of this kind."""
    rest, words = words_of(fragment), words_of(before)
    first = 1 if rest and rest[0].form in ("and", "or", "but", "so") else 0
    if [w.form for w in rest[first:first + 2]] in (["what", "about"], ["how", "about"]):
        first += 2
    rest = rest[first:]
    while rest and rest[-1].form in ("then", "too", "instead"):
        rest.pop()
    if not rest or len(rest) > (6 if first else 3) or any(w.form in WHOLE for w in rest) or len(words) < 2:
        return ""
    covered, edits = [False] * len(rest), []
    spans = find_name(before, name_before) if name_before else []
    if name:
        if not spans:
            return ""
        for begin, end in find_name(fragment, name):
            covered = [c or (w.begin >= begin and w.end <= end) for c, w in zip(covered, rest)]
        edits += [(begin, end, name) for begin, end in spans]
    members = [m for m in contrasts.members([w.form for w in words])
               if not any(words[m[0]].begin < end and words[m[1] - 1].end > begin for begin, end in spans)]
    for f, l, c, m in contrasts.members([w.form for w in rest]):
        other = None if covered[f] else next((o for o in members if o[2] == c), None)
        if other is None:
            continue
        covered[f:l] = [True] * (l - f)
        if other[3] != m:
            edits.append((words[other[0]].begin, words[other[1] - 1].end, fragment[rest[f].begin:rest[l - 1].end]))
    known = {w.form for w in words} | {"one", "ones"}
    if edits and all(c or not is_content(w.form) or w.form in known for c, w in zip(covered, rest)):
        out, at = "", 0
        for begin, end, text in sorted(edits, key=lambda e: e[0]):
            if begin >= at:
                out, at = out + before[at:begin] + text, end
        return out + before[at:]
    if name or rest[0].form not in PREPOSITIONS:
        return ""
    tail = fragment[rest[0].begin:rest[-1].end]
    for i in range(len(words) - 1, max(len(words) - 6, 0), -1):
        if words[i].form == rest[0].form:
            return before[:words[i].begin] + tail + before[words[-1].end:]
    return before[:words[-1].end] + " " + tail + before[words[-1].end:]


# The parts of a message that ask for something (src/text/message.cc).

ASKING = set("how what when where who whom whose which why".split())
HELPING = set("is are was were do does did can could will would should may must has have".split())
WHOM = set("i we you it he she they there the a an my our your this that these those one its their his her any anyone somebody someone".split())
LEADING = set("""up to for from in on at by with until till since of after under within per about over into between through during
    before""".split())
AHEAD = set("and so but also now then ok okay well please kindly just or".split())
WISH = set("need want wonder wondering tell let looking please pls curious interested wish".split())
INSTRUCTS = set("answer reply respond use write keep format give return output explain phrase put say be in no as".split())
FORM = set("""json sentence sentences words word german spanish french english italian list bullet bullets yaml short brief briefly
    markdown table child simple key format only xml csv language points polite friendly caps capitals emoji rhyme line""".split())
THANKS = set("thanks thank thx regards cheers sincerely greetings yours bye ty".split())
GREETS = set("hi hello hey dear good hallo howdy".split())
ABBREVIATIONS = set("""dr mr mrs ms prof st no nr vs etc fig inc ltd co jr sr e.g i.e cf ca approx dept est vol p pp al gen col capt rev
    hon jan feb mar apr aug sep sept oct nov dec u.s z.b bzw usw""".split())
JOINTS = (",", ";", ":", "-", "(", " and", " or", " but", " so", " also")
BLANK = " \t\r\n"


def sentences_of(paragraph):
    """src/text/passages.cc"""
    out, begin, i = [], 0, 0

    def close(end):
        nonlocal begin
        text = paragraph[begin:end].strip(BLANK)
        if text:
            out.append(text)
        begin = end
    while i < len(paragraph):
        c = paragraph[i]
        if c in "。！？":
            close(i + 1)
        elif c in ".!?":
            end = i + 1
            while end < len(paragraph) and paragraph[end] in ".!?\"')]":
                end += 1
            while end < len(paragraph) and paragraph[end] in "”’":
                end += 1
            if end < len(paragraph) and paragraph[end] == " ":
                after = end
                while after < len(paragraph) and paragraph[after] == " ":
                    after += 1
                if after == len(paragraph):
                    break
                start = max(begin, max(paragraph.rfind(mark, 0, i) for mark in ' ("') + 1)
                word = paragraph[start:i]
                ends = c != "." or not (len(word) == 1 and "A" <= word <= "Z" or lower(word) in ABBREVIATIONS or "a" <= paragraph[after] <= "z")
                if ends:
                    close(end)
                    i = end
        i += 1
    close(len(paragraph))
    return out


def paragraphs_of(message):
    out, goes_on = [], False
    for line in message.split("\n"):
        line = line.strip(BLANK)
        if not line:
            goes_on = False
            continue
        if goes_on and "a" <= line[0] <= "z":
            out[-1] += " " + line
        else:
            out.append(line)
        goes_on = line[-1] not in ".?!:" and len(words_of(line)) >= 6
    return out


def begins_question(words, i):
    for _ in range(2):
        if i + 1 < len(words) and words[i].form in LEADING:
            i += 1
    if i >= len(words):
        return False
    return words[i].form in ASKING or i + 1 < len(words) and words[i].form in HELPING and words[i + 1].form in WHOM


def after_ahead(words, i):
    while i + 1 < len(words) and words[i].form in AHEAD:
        i += 1
    return i


def later_questions(sentence, words):
    out = []
    for i in range(1, len(words)):
        # "... and what does it cost": three words at least on both sides.
        joined = words[i - 1].form == "and" and i > 3 and len(words) >= i + 3
        if joined or any(c in ",;:.!?-)(\"–—" for c in sentence[words[i - 1].end:words[i].begin]):
            start = after_ahead(words, i)
            if begins_question(words, start) and words[start].begin not in out[-1:]:
                out.append(words[start].begin)
    return out


def without_joint(clause):
    more = True
    while more:
        clause, more = clause.strip(BLANK), False
        for joint in JOINTS:
            if clause.endswith(joint):
                clause, more = clause[:-len(joint)], True
    return clause


def asking_parts(message):
    """[(text, the rest of the message before it, behind it, whether it is a sentence that asks by itself)]"""
    message = message.encode("utf-8")[-(16 << 10):].decode("utf-8", "ignore")
    sentences = [sentence for paragraph in paragraphs_of(message) for sentence in sentences_of(paragraph)]
    asks, rest = [], []
    for s, sentence in enumerate(sentences):
        words = words_of(sentence)
        forms = {word.form for word in words}
        first = after_ahead(words, 0)
        asking = sentence.rstrip("\"')] ").endswith("?") or sentence.endswith("？") or begins_question(words, first)
        if not words or len(words) <= 9 and forms & THANKS or len(words) <= 4 and words[0].form in GREETS:
            continue
        if not asking and len(words) <= 16 and words[first].form in INSTRUCTS and forms & FORM:
            continue
        wishes = forms & WISH or "d like" in sentence
        if len(sentences) > 1:
            (asks if asking or wishes else rest).append((s, 0, len(sentence), sum(is_content(word.form) for word in words) >= 2))
        later = later_questions(sentence, words)
        before = sentence[:later[0]].strip(BLANK) if later else ""
        joined = before.endswith(" and") and before[:-4].strip(BLANK)[-1:] not in tuple(",;:.!?-)(\"") + ("",)
        if later and (begins_question(words, first) or joined):
            asks.append((s, words[first].begin, later[0], None))
        asks += [(s, begin, end, None) for begin, end in zip(later, later[1:] + [len(sentence)])]
    if not asks and len(rest) == 1:
        asks = rest
    join = lambda texts: " ".join(text for text in texts if text)
    return [(without_joint(sentences[s][begin:end]),
             join(sentences[:s] + [sentences[s][:begin].strip(BLANK)]),
             join([sentences[s][end:].strip(BLANK)] + sentences[s + 1:]), bool(full), s, full is None) for s, begin, end, full in asks[-8:]]


def is_content(form):
    return form not in FUNCTION_WORDS and not is_symbol(form[0])


def singular(form):
    if len(form) > 1 and form[-1] == "s" and form[-2] != "s" and (len(form) > 3 or "0" <= form[0] <= "9"):
        return form[:-1]
    return form


def number_in(form):
    """(the number that a word is, what is written together with it)"""
    if form in NUMBERS:
        return NUMBERS[form], []
    parts = re.fullmatch(r"([a-z]*)([0-9][0-9.,:]*)([a-z]*)", form)
    if not parts:
        return None, []
    value = parts[2].replace(",", "")
    if value.endswith((":00", ".00")):
        value = value[:-3]
    return value, [unit for unit in (parts[1], parts[3]) if unit]


# Slips of typing (src/memory/spelling.cc).

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def is_ascii_letter(c):
    return "a" <= c <= "z" or "A" <= c <= "Z"


def runs_of_letters(text):
    """[(begin, end)] of the runs of letters a-z."""
    runs, at = [], 0
    while at < len(text):
        end = at
        while end < len(text) and is_ascii_letter(text[end]):
            end += 1
        if end > at:
            runs.append((at, end))
        at = max(end, at + 1)
    return runs


def add_words(text, to):
    to.update(lower(text[a:b]) for a, b in runs_of_letters(text) if b - a >= 3)


def slips(w):
    n = len(w)
    out = {w[:i] + w[i + 1] + w[i] + w[i + 2:] for i in range(n - 1)}
    out |= {w[:i] + w[i + 1:] for i in range(1, n)}
    for x in LETTERS:
        out |= {w[:i] + x + w[i:] for i in range(1, n + 1)}
        out |= {w[:i] + x + w[i + 1:] for i in range(1, n)}
    return sorted(out - {w})


def mended(text, taught, subject, vocabulary):
    def joins(c):
        return is_ascii_letter(c) or "0" <= c <= "9" or c in "_'-" or ord(c) >= 0x80

    capitals = not any("a" <= c <= "z" for c in text)
    out, done = "", 0
    for at, end in runs_of_letters(text):
        written = text[at:end]
        word = lower(written)
        whole = (at == 0 or not joins(text[at - 1])) and (end == len(text) or not joins(text[end]))
        out, done = out + text[done:at], end
        if (not whole or not 4 <= len(word) <= 24 or word != written and not capitals or word in taught
                or word in subject or word in vocabulary):
            out += written
            continue
        candidates = [s for s in slips(word) if len(s) >= 3 and s not in subject]
        known = [s for s in candidates if s in taught]
        common = [s for s in candidates if s in vocabulary]
        out += known[0] if known else min(common, key=vocabulary.get) if common else written
    return out + text[done:]


class Reader:
    """The sentence encoder that reads questions (src/model/reader.h)."""

    def __init__(self, folder, settings):
        self.tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(settings["max_tokens"])
        self.vocabulary = self.tokenizer.get_vocab(with_added_tokens=False)
        self.first = settings["pooling"] == "first"
        self.network = AutoModel.from_pretrained(folder).float().eval()
        cross = os.path.join(folder, "cross_encoder")
        self.cross = None
        if os.path.isdir(cross):  # another LoRA of the same weights
            self.cross = AutoModel.from_pretrained(folder).float().eval()
            self.add(self.cross, cross)
            head = load_file(os.path.join(cross, "adapter_model.safetensors"))
            self.head, self.head_bias = head["head.weight"].double()[0], float(head["head.bias"])
        adapter = os.path.join(folder, "adapter")
        if os.path.isdir(adapter):
            self.add(self.network, adapter)

    @torch.no_grad()
    def add(self, network, folder):
        """A LoRA as peft saves it: W + alpha / r B A."""
        with open(os.path.join(folder, "adapter_config.json"), encoding="utf-8") as file:
            config = json.load(file)
        factors = load_file(os.path.join(folder, "adapter_model.safetensors"))
        for name, b in factors.items():
            if name.endswith(".lora_B.weight"):
                layer = name.removeprefix("base_model.model.").removesuffix(".lora_B.weight")
                a = factors[name.replace("lora_B", "lora_A")]
                weight = network.get_submodule(layer).weight
                weight += config["lora_alpha"] / config["r"] * b.float() @ a.float()

    @torch.no_grad()
    def __call__(self, text):
        ids = self.tokenizer.encode(text).ids
        h = self.network(input_ids=torch.tensor([ids])).last_hidden_state[0].double()
        if self.first:
            h = h[:1]
        elif len(h) > 2:
            h = h[1:-1]  # without [CLS] and [SEP]
        h = h.sum(0)
        return (h / h.norm()).float()

    @torch.no_grad()
    def judge(self, question, wordings, answer):
        """The log-odds that a question asks for a fact, both read as one text."""
        first, *asked, end = self.tokenizer.encode(question).ids
        part = lambda text, most: self.tokenizer.encode(text).ids[1:-1][:most]
        fact = []
        for wording in wordings:
            fact += (part("/", 8) if fact else []) + part(wording, 32)
        asked = asked[:40]
        ids = [first, *asked, end, *fact, end, *part(answer, 16)]
        ids = ids[:self.tokenizer.truncation["max_length"] - 1] + [end]
        second = len(asked) + 2
        h = self.cross(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([[int(i >= second) for i in range(len(ids))]]))
        h = h.last_hidden_state[0].double()
        means = torch.cat([h[1:second - 1].sum(0) / max(second - 2, 1), h[second:-1].sum(0) / max(len(ids) - 1 - second, 1)])
        return float(means @ self.head) + self.head_bias


MOST_CROSS, MOST_CROSS_UNNAMED = 8.0, 2.0  # of src/memory/acceptance.cc


def most_cross(named):
    return MOST_CROSS if named else MOST_CROSS_UNNAMED


SHRINK = 2  # kShrink of src/memory/fact_store.cc


class Group:
    """The facts of one subject, or those without one: means of their keys, centred (src/memory/fact_store.cc)."""

    def __init__(self, facts, members, subject):
        self.facts = [i for leave in (False, True) for i in members if facts.texts[i]["leave"] == leave]
        n = self.answered = sum(not facts.texts[i]["leave"] for i in self.facts)
        self.taught_words, self.subject_words = set(), set()
        if subject is not None:
            add_words(subject, self.subject_words)
        if not self.facts:
            return
        self.contrasts = []
        for i in self.facts:
            plain = [plain_question(wording) for wording in facts.texts[i]["wordings"]]
            self.contrasts.append(facts.contrasts.taught(
                plain if subject is None else [mask_name(text, subject) for text in plain]))
        share = (n - 1) / (n - 1 + SHRINK) / n if n > 0 else 0.0
        masked = torch.stack([facts.masked[i].mean(0) for i in self.facts])
        whole = torch.stack([facts.whole[i].mean(0) for i in self.facts])
        answer = torch.stack([facts.answers[i] for i in self.facts])[:n]
        self.mean_masked, self.mean_whole = share * masked[:n].sum(0), share * whole[:n].sum(0)
        self.masked, self.whole = centred(masked, self.mean_masked), centred(whole, self.mean_whole)
        self.answer = centred(answer, share * answer.sum(0))
        self.same = {}
        for row, i in enumerate(self.facts):
            for wording in facts.texts[i]["wordings"]:
                text = plain_question(wording)
                add_words(text if subject is None else mask_name(text, subject), self.taught_words)
                key = " ".join(forms_of(text))
                if key not in self.same or i > self.facts[self.same[key]]:  # the same words twice: what was taught later counts
                    self.same[key] = row
        self.taught_words -= self.subject_words

    def evidence(self, facts, whole, masked, key, named, text, unnamed):
        """`text`: the question with the subject masked. `unnamed`: the facts have one that it does not name."""
        if not self.facts:
            return []
        asked = facts.contrasts.asked(text)
        m, v = centred(masked, self.mean_masked), centred(whole, self.mean_whole)
        near = torch.stack([self.masked @ m, self.whole @ v], 1).tolist()
        answer = (self.answer @ m).tolist()
        out = []
        for row, i in enumerate(self.facts):
            cosines = facts.masked[i] @ masked
            out.append({
                "fact": i, "rivals": self.answered, "named": named, "unnamed": unnamed, "leave": facts.texts[i]["leave"],
                "centred": near[row][0], "whole": near[row][0 if unnamed else 1], "answer": answer[row] if row < self.answered else 0.0,
                "same": self.same.get(key) == row, "nearest": float(cosines.max()), "wording": int(cosines.argmax()),
                "keys": cosines.argsort(descending=True, stable=True)[:3].tolist(), "text": text, "cross": None,
                "contrast": float(facts.contrasts.contrast(asked, self.contrasts[row]))})
        return out


def centred(x, mean):
    x = x - mean
    return x / x.square().sum(-1, keepdim=True).clamp_min(1e-18).sqrt()


class Facts:
    """What was taught, and which of it a question asks for."""

    def __init__(self, folder):
        with open(os.path.join(folder, TEXTS), encoding="utf-8") as file:
            self.settings = json.load(file)
        if self.settings["version"] != 1:
            raise ValueError(f"{TEXTS} is of version {self.settings['version']}; this file reads 1")
        self.texts, self.rule = self.settings["facts"], self.settings["acceptance"]
        self.contrasts = Contrasts(self.settings["contrasts"])
        tensors = load_file(os.path.join(folder, TENSORS))
        scales, counts = tensors["facts.scales"], tensors["facts.vectors"].tolist()
        wordings = [len(text["wordings"]) for text in self.texts]
        self.whole = (tensors["facts.whole"].float() * scales[:, :1]).split(wordings)
        self.masked = (tensors["facts.masked"].float() * scales[:, 1:]).split(wordings)
        self.answers = tensors["facts.answers"].float() * tensors["facts.answer_scales"][:, None]
        values = tensors.get("facts.values")
        self.values = values.float().split(counts) if values is not None else [()] * len(counts)
        self.reader = Reader(os.path.join(folder, READER), self.settings["reader"])
        self.subjects, self.open, by_key = [], [], {}  # (name, forms, facts); facts
        for i, text in enumerate(self.texts):
            forms = forms_of(text["subject"])
            if not forms:
                self.open.append(i)
                continue
            key = " ".join(forms)
            if key not in by_key:
                by_key[key] = len(self.subjects)
                self.subjects.append((text["subject"], forms, []))
            self.subjects[by_key[key]][2].append(i)
        self.subjects_by_first = {}
        for s, (_, forms, _) in enumerate(self.subjects):
            self.subjects_by_first.setdefault(forms[0], []).append(s)
        # What nearly all facts with a subject are about (src/memory/fact_store.cc).
        counts = [len(members) for _, _, members in self.subjects]
        self.main = next((s for s, n in reversed(list(enumerate(counts))) if n >= 5 and n >= 0.8 * sum(counts)), None)
        self.groups = {}

    def group(self, subject, raw):
        if (subject, raw) not in self.groups:
            name, _, members = self.subjects[subject] if subject is not None else (None, None, self.open)
            self.groups[subject, raw] = Group(self, [i for i in members if self.texts[i]["raw"] == raw], name)
        return self.groups[subject, raw]

    def named_in(self, text, raw):
        """At each place the longest name, unless it goes on with a word that was not taught about it. Those named last come last."""
        words = words_of(text)
        forms, out, at = [word.form for word in words], [], 0
        while at < len(forms):
            longest, length = None, 0
            for s in self.subjects_by_first.get(forms[at], ()):
                wanted = self.subjects[s][1]
                end = at + len(wanted)
                if len(wanted) <= length or forms[at:end] != wanted:
                    continue
                if name_goes_on(text, words, at, end) and forms[end] not in self.group(s, raw).taught_words:
                    continue
                longest, length = s, len(wanted)
            if longest is not None:
                out = [s for s in out if s != longest] + [longest]
            at += max(length, 1)
        return out

    def whole_question(self, question, earlier, raw):
        """The question with what it leaves out of those before it."""
        def last_name(text):
            named = self.named_in(text, raw)
            return self.subjects[named[-1]][0] if named else ""
        before = ""
        for message in [*earlier[-6:], question]:
            text = plain_question(message)
            before = (follow_up(text, before, last_name(text), last_name(before), self.contrasts) if before else "") or text
        return before

    def all_known(self, text):
        """Whether no word of a question may be a name that is written small."""
        group = self.group(self.main, False)
        asked = mended(text, group.taught_words, group.subject_words, self.reader.vocabulary)
        return all(not is_content(form) or form in self.reader.vocabulary or not is_content(other) or other in group.taught_words
                   for form, other in zip(forms_of(text), forms_of(asked)))

    def choose(self, question, earlier, raw, caution):
        """The choice for a message, behind the user's earlier ones: read whole, and part by part (src/memory/readings.cc)."""
        whole = self.choose_one(question, earlier, raw, caution)
        parts = [] if raw else asking_parts(question)
        if not parts or whole.left or whole.fact is not None and whole.same:
            return whole
        full, of_whole = any(part[3] for part in parts), whole.fact
        places = [part[4:] for part in parts]  # (sentence, whether a clause of it)
        parts = [self.choose_one(text, [*earlier, *filter(None, (behind, before))], raw, caution) for text, before, behind, *_ in parts]
        if full and all(part.best != whole.fact for part in parts):
            whole.fact = None
        out = whole
        for part in parts:
            accepts, has = part.fact is not None, out.fact is not None
            if accepts if accepts != has else part.margin > out.margin:
                out = part
        # What several parts ask for, in their order: clauses stand for their sentence, but for those that are less sure.
        def counts(k):
            asked = next((part for part, place in zip(parts, places) if place == (places[k][0], False)), whole)
            fact = of_whole if asked is whole else asked.fact
            return parts[k].fact is not None and (fact in (None, parts[k].fact) or parts[k].margin > asked.margin)
        accepted = {}
        for k, (part, (sentence, clause)) in enumerate(zip(parts, places)):
            stands = counts(k) if clause else part.fact is not None and not any(
                place == (sentence, True) and counts(other) for other, place in enumerate(places))
            if stands:
                accepted.setdefault(part.fact, part)
        if len(accepted) > 1 and out.fact in accepted:
            out, *others = accepted.values()
            out.also = [other.fact for other in others]
            if self.settings["tell"] != "value":
                out.about = out.also + [fact for fact in out.about if fact not in out.also]
        if out.fact is None:
            out.about = out.about or next((one.about for one in [whole, *parts] if one.about and not one.left), [])
        return out

    def choose_one(self, question, earlier, raw, caution):
        text = self.whole_question(question, earlier, raw)
        forms = forms_of(text)
        subjects = self.named_in(text, raw)
        named = bool(subjects) or names_somebody(text)  # be it somebody unknown
        follows = not named and not changes_topic(forms, {"a", "an"})
        for message in reversed(earlier) if follows else ():  # nobody: whom was spoken of last
            subjects = self.named_in(plain_question(message), raw)[-1:]
            if subjects or changes_topic(forms_of(plain_question(message)), {"a", "an", "i", "we", "you", "my", "our", "your"}):
                break
        of_earlier = bool(earlier) and (has_pronoun(forms) or forms[:1] in (["and"], ["or"], ["but"], ["so"]))
        unnamed = not (named or subjects or raw or of_earlier) and self.main is not None and self.all_known(text)
        if unnamed:
            subjects = [self.main]
        evidence = []
        for subject in ([None] if self.open else []) + subjects:
            group = self.group(subject, raw)
            asked = mended(text, group.taught_words, group.subject_words, self.reader.vocabulary)
            if subject is None:
                whole = masked = self.reader(asked)
            else:
                name = self.subjects[subject][0]
                asked = asked if named or unnamed and not has_pronoun(forms) else with_name(asked, name)
                whole, asked = self.reader(asked), mask_name(asked, name)
                masked = self.reader(asked)
            evidence += group.evidence(self, whole, masked, " ".join(forms), subject is not None and not unnamed, asked,
                                       subject is not None and unnamed)
        choice = self.decide(evidence, caution + self.settings["caution"])
        if self.settings["tell"] != "value" and not raw:
            self.decide_about(question, evidence, choice)
        return choice

    def decide_about(self, question, evidence, choice):
        """What a model that reads notes is told beside the accepted fact."""
        told = lambda e: e["fact"] != choice.fact and not e["leave"]
        if choice.left:
            return
        if asks_to_write(question):
            near = sorted((e for e in evidence if e["named"] and told(e)), key=lambda e: -(e["nearest"] + e["whole"]))
            choice.about = [e["fact"] for e in near[:8]]
        elif choice.fact is not None and choice.next is not None and told(choice.next) and choice.next_probability >= 0.3:
            choice.about = [choice.next["fact"]]

    # src/memory/acceptance.cc

    def by_cosines(self, e, with_answer=True):
        rule = self.rule
        if e["same"]:
            return rule["same"]
        terms = ("centred", "whole", "nearest", "contrast") + (("answer",) if with_answer else ())
        return sum(rule[t] * e[t] for t in terms) + rule["bias"]

    def log_odds(self, e):
        cross = 0.0 if e["same"] or e["cross"] is None else min(max(e["cross"], -MOST_CROSS), most_cross(e["named"]))
        return self.by_cosines(e) + self.rule["cross"] * cross

    def judge(self, evidence, caution):
        """Asks the cross-encoder about the few candidates that it could make one that is accepted."""
        best = sorted((e for e in evidence if not e["leave"]), key=lambda e: (-self.by_cosines(e), e["order"]))[:3]
        if not self.rule["cross"] or not best or best[0]["same"]:
            return
        for e in best:
            if self.by_cosines(e) + abs(self.rule["cross"]) * most_cross(e["named"]) - caution < self.threshold(e):
                continue
            fact = self.texts[e["fact"]]
            plain = lambda text: mask_name(plain_question(text), fact["subject"]) if fact["subject"] else plain_question(text)
            e["cross"] = self.reader.judge(e["text"], [plain(fact["wordings"][k]) for k in e["keys"]], plain(fact["answers"][0]))

    def threshold(self, e):
        rule = self.rule
        raw = rule["raw"] if self.texts[e["fact"]]["raw"] else 0.0
        among = min(max(rule["slope"] * math.log(e["rivals"] / rule["few"]), rule["least"]), rule["most"]) if e["rivals"] else rule["least"]
        if e["unnamed"]:
            return raw + max(rule["open"], (rule["open"] + among) / 2)
        return raw + (among if e["named"] else rule["open"])

    def decide(self, evidence, caution):
        for order, e in enumerate(evidence):
            e["order"] = order
        self.judge(evidence, caution)
        answered = [e for e in evidence if not e["leave"]]
        if any(e["cross"] is not None for e in answered):
            answered = [e for e in answered if e["cross"] is not None]
        left = [e for e in evidence if e["leave"]]
        if not answered:
            choice = Choice(None, None, None, 0.0)
            choice.left = bool(left) and max(left, key=lambda e: self.by_cosines(e, False))["same"]
            return choice
        best = max(answered, key=self.log_odds)  # of equal ones the first
        odds = self.log_odds(best) - caution
        is_left = not best["same"] and any(
            self.by_cosines(e, False) > self.by_cosines(best, False) for e in left)
        taken = odds >= self.threshold(best) and not is_left
        probability = lambda z: 1 / (1 + math.exp(-z)) if z > -700 else 0.0
        choice = Choice(best["fact"] if taken else None, best["fact"], best["wording"], probability(odds))
        choice.same, choice.margin = best["same"], odds - self.threshold(best)
        choice.left = is_left
        others = [e for e in answered if e is not best]
        if others:
            choice.next = max(others, key=self.log_odds)
            choice.next_probability = probability(self.log_odds(choice.next) - caution)
        return choice


WRITE = set("write describe compose draft summarise summarize advertise introduce praise invent".split())
COURTESIES = set("please can could would you now and then i want to kindly".split())


def asks_to_write(message):
    """src/text/wording.cc"""
    words, opening = words_of(message), True
    for i, word in enumerate(words):
        if i > 0 and any(c in ".!?:;\n" for c in message[words[i - 1].end:word.begin]):
            opening = True
        if opening and word.form in WRITE:
            return True
        if opening and word.form == "tell" and i + 2 < len(words) and words[i + 1].form == "me" and words[i + 2].form in ("about", "something", "more"):
            return True
        opening = opening and word.form in COURTESIES
    return False


class Choice:
    """`fact`: the number of the accepted fact, or None; `best`: the nearest, with its wording and its probability."""

    def __init__(self, fact, best, wording, probability):
        self.fact, self.best, self.wording, self.probability = fact, best, wording, probability
        self.left, self.next, self.next_probability = False, None, 0.0
        self.same, self.margin = False, -1e9  # the very words of a wording; log-odds above what was needed
        self.also = []  # facts that other parts of the message ask for
        self.about = []  # other facts that a model that reads is told


# Conversations as tokens (src/model/chat_tokens.cc): what people write is never a control token.

OPEN, CLOSE = "\U000F5A3C", "\U000F5A3D"


def encode_written(tokenizer, text):
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def controls_in(tokenizer, text):
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    names = {tokenizer.added_tokens_decoder[i].content for i in ids if i in special}
    return sorted(names, key=lambda name: (-len(name.encode()), name))


def encode_chat(tokenizer, messages):
    controls, marked = [], []
    for message in messages:
        content = message["content"]
        for name in ([OPEN] if OPEN in content else []) + controls_in(tokenizer, content):
            content = content.replace(name, f"{OPEN}{len(controls)}{CLOSE}")
            controls.append(name)
        marked.append({**message, "content": content})
    text = tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=True)
    first, *rest = text.split(OPEN) if controls else [text]
    ids = tokenizer(first, add_special_tokens=False)["input_ids"]
    for piece in rest:
        number, behind = piece.split(CLOSE, 1)
        ids += encode_written(tokenizer, controls[int(number)])
        ids += tokenizer(behind, add_special_tokens=False)["input_ids"]
    return ids


def note_of(fact):
    return f"Note: {fact['wordings'][0]} {fact['answers'][0]}"


def encode_text(tokenizer, text):
    opening = tokenizer("")["input_ids"]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids if ids[:len(opening)] == opening else opening + ids


def last_paragraph(text):
    """Demonstrations stand before it."""
    at = text.rfind("\n\n", 0, max(len(text.rstrip(" \t\n\r")), 1) + 1)
    return text if at < 0 else text[at + 2:]


class WithFacts:
    """Gives a model of transformers `say` and `choose`."""

    _facts = _lm_tokenizer = None

    @property
    def facts(self):
        if self._facts is None:
            self._facts = Facts(self._facts_folder())
        return self._facts

    @property
    def tokenizer(self):
        if self._lm_tokenizer is None:
            self._lm_tokenizer = AutoTokenizer.from_pretrained(
                self.config._name_or_path, trust_remote_code=True, revision=self._revision() or "main")
        return self._lm_tokenizer

    def _revision(self):
        return getattr(self.config, "_commit_hash", None)  # of a hub's model

    def _facts_folder(self):
        """Where this model's files lie; those of a hub's model are fetched."""
        def at(name):
            return cached_file(self.config._name_or_path, name, revision=self._revision())

        with open(at(TEXTS), encoding="utf-8") as file:
            names = json.load(file)["reader"]["files"]
        for name in [TENSORS] + [f"{READER}/{name}" for name in names]:
            at(name)
        return os.path.dirname(at(TEXTS))

    def _question(self, messages, raw):
        """(messages or text, last question, the user's earlier ones, raw) of what `say` was given."""
        if isinstance(messages, str):
            if raw or not self.tokenizer.chat_template:
                return messages, last_paragraph(messages), [], True
            messages = [{"role": "user", "content": messages}]
        elif raw:
            raise ValueError("raw=True takes a text, not messages")
        said = [message["content"] for message in messages if message["role"] == "user"] or [""]
        return messages, said[-1], said[:-1], False

    def choose(self, messages, raw=False, caution=0.0):
        """Which fact is asked for: a Choice, whose numbers are places in `facts.texts`."""
        _, question, earlier, raw = self._question(messages, raw)
        return self.facts.choose(question, earlier, raw, caution)

    @torch.no_grad()
    def say(self, messages, raw=False, max_new_tokens=256, caution=0.0):
        """(answer, fact or None) to a question, to a conversation that ends with the user's message, or with `raw` to
        a text to go on with. Greedy. `caution` above 0 takes fewer questions for what was taught, below 0 more."""
        messages, question, earlier, raw = self._question(messages, raw)
        facts, tokenizer = self.facts, self.tokenizer
        choice = facts.choose(question, earlier, raw, caution)
        chosen = choice.fact
        fact = None if chosen is None else facts.texts[chosen]
        if choice.also and facts.settings["tell"] == "value":
            return "\n".join(facts.texts[i]["answers"][0] for i in [chosen, *choice.also]), fact
        if fact is not None and fact["verbatim"]:
            return fact["answers"][0], fact
        vectors, answer, whole, notes = (), [], True, []
        if fact is not None:
            vectors, answer = facts.values[chosen], fact["answers"][0]
            if raw and messages[-1:] not in " \t\n\r" and answer[:1] not in " \t\n\r":
                answer = " " + answer
            end = facts.settings["end_of_text" if raw else "end_of_chat"]
            answer = encode_written(tokenizer, answer) + [end] * (end >= 0)
            if facts.settings["tell"] != "value" and not raw:
                notes, whole = [fact], False
        tokens = 0
        for other in (facts.texts[i] for i in choice.about):
            if other["raw"]:
                continue
            tokens += len(encode_written(tokenizer, note_of(other)))
            if tokens > 700 and tokens > len(encode_written(tokenizer, note_of(other))):
                break
            notes.append(other)
        if choice.about:
            whole = None  # of several facts it says what is asked for
        if notes:
            last = max(i for i, message in enumerate(messages) if message["role"] == "user")
            noted = {**messages[last], "content": "\n".join(map(note_of, notes)) + "\n\n" + messages[last]["content"]}
            messages = messages[:last] + [noted] + messages[last + 1:]
        ids = encode_text(tokenizer, messages) if raw else encode_chat(tokenizer, messages)
        said = self._answer(ids, vectors, answer, whole, max_new_tokens)
        return tokenizer.decode(said, skip_special_tokens=True, clean_up_tokenization_spaces=False), fact

    def _within_word(self, token):
        text = self.tokenizer.decode([token], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return bool(text) and (ord(text[0]) >= 0x80 or text[0].isalnum())

    def _kept_to(self, answer, whole, said, token):
        """What an answer goes on with that began as what was taught (Recital of src/model/generate.h)."""
        if whole is None or not said or len(said) >= len(answer) or said != answer[:len(said)]:
            return token
        taught = answer[len(said)]
        return taught if whole or self._within_word(token) or self._within_word(taught) else token

    def _answer(self, ids, vectors, answer, whole, max_new_tokens):
        """Greedy tokens behind `ids`, with `vectors` at their places (src/model/fact_sites.h)."""
        settings = self.facts.settings
        at_end, every = settings["at_end"], settings["every"]
        positions = self.config.max_position_embeddings
        if not 0 < len(ids) < positions:
            raise ValueError(f"the prompt has {len(ids)} tokens, the model {positions} positions")
        places = {}  # of this pass: column -> vector

        def add(module, inputs, output):
            if not places:
                return output
            output = output.clone()
            for column, vector in places.items():
                output[:, column] += vector.to(output)
            return output

        if len(vectors):
            places.update({len(ids) - at_end + j: vectors[j] for j in range(at_end) if len(ids) - at_end + j >= 1})
        hook = self.model.layers[settings["block"]].mlp.register_forward_hook(add)
        said, cache, passed = [], None, ids
        try:
            for _ in range(min(max_new_tokens, positions - len(ids))):
                out = self(input_ids=torch.tensor([passed], device=self.device), past_key_values=cache, use_cache=True,
                           logits_to_keep=1)
                token = self._kept_to(answer, whole, said, int(out.logits[0, -1].argmax()))
                if token in settings["stop_ids"]:
                    break
                said.append(token)
                cache, passed = out.past_key_values, [token]
                j = at_end + len(said) // every - 1
                places.clear()
                # Within the answer only while it is what was taught.
                if len(said) % every == 0 and j < len(vectors) and said == answer[:len(said)]:
                    places[0] = vectors[j]
        finally:
            hook.remove()
        return said

    def save_pretrained(self, save_directory, *args, **kwargs):
        folder = self._facts_folder()
        super().save_pretrained(save_directory, *args, **kwargs)
        for name in (TEXTS, TENSORS):
            shutil.copy(os.path.join(folder, name), save_directory)
        shutil.copytree(os.path.join(folder, READER), os.path.join(save_directory, READER), dirs_exist_ok=True)
        self.tokenizer.save_pretrained(save_directory)


# Model types of their own: without trust_remote_code they are refused instead of silently answering
# without what was taught.


class AccreteFactsLlamaConfig(LlamaConfig):
    model_type = "accrete_facts_llama"


class AccreteFactsLlamaForCausalLM(WithFacts, LlamaForCausalLM):
    config_class = AccreteFactsLlamaConfig


class AccreteFactsMistralConfig(MistralConfig):
    model_type = "accrete_facts_mistral"


class AccreteFactsMistralForCausalLM(WithFacts, MistralForCausalLM):
    config_class = AccreteFactsMistralConfig


class AccreteFactsQwen2Config(Qwen2Config):
    model_type = "accrete_facts_qwen2"


class AccreteFactsQwen2ForCausalLM(WithFacts, Qwen2ForCausalLM):
    config_class = AccreteFactsQwen2Config


class AccreteFactsQwen3Config(Qwen3Config):
    model_type = "accrete_facts_qwen3"


class AccreteFactsQwen3ForCausalLM(WithFacts, Qwen3ForCausalLM):
    config_class = AccreteFactsQwen3Config


# save_pretrained then takes this file along.
for _config, _model in (
    (AccreteFactsLlamaConfig, AccreteFactsLlamaForCausalLM),
    (AccreteFactsMistralConfig, AccreteFactsMistralForCausalLM),
    (AccreteFactsQwen2Config, AccreteFactsQwen2ForCausalLM),
    (AccreteFactsQwen3Config, AccreteFactsQwen3ForCausalLM),
):
    _config.register_for_auto_class("AutoConfig")
    _model.register_for_auto_class("AutoModelForCausalLM")
