"""Small made-up models and teach sets for identity.py: plain Python, nothing to install, the same bytes everywhere."""
import json
import math
import os
import random
import struct

CHAT_TEMPLATE = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
                 "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def put(path, text):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def put_lines(path, rows):
    put(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def put_tensors(path, tensors):
    """safetensors, float32: {name: (shape, values)}."""
    header, data = {}, bytearray()
    for name in sorted(tensors):
        shape, values = tensors[name]
        packed = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


class Weights:
    """Tensors of random numbers; the scale is the standard deviation."""

    def __init__(self, seed):
        self.random, self.tensors = random.Random(seed), {}

    def add(self, name, shape, scale, mean=0.0):
        self.tensors[name] = (shape, [self.random.gauss(mean, scale) for _ in range(math.prod(shape))])

    def ones(self, name, size):
        self.tensors[name] = ([size], [1.0] * size)


def added_token(number, text):
    return {"id": number, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def byte_tokenizer(special):
    symbols, following = [], 256
    for b in range(256):
        printable = 33 <= b <= 126 or 161 <= b <= 172 or b >= 174
        symbols.append(chr(b if printable else following))
        following += not printable
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [added_token(256 + i, s) for i, s in enumerate(special)],
            "normalizer": None, "pre_tokenizer": LEVEL, "post_processor": None, "decoder": LEVEL,
            "model": {"type": "BPE", "vocab": {s: i for i, s in enumerate(symbols)}, "merges": []}}


def make_base(folder):
    """A random Llama of 4 blocks that talks in a chat template; tests/model/tiny_chat_model.h has its twin."""
    width, ffn, blocks, heads, kv, head, vocabulary = 48, 96, 4, 4, 2, 12, 258
    put(f"{folder}/tokenizer.json", json.dumps(byte_tokenizer(["<|im_start|>", "<|im_end|>"])))
    put(f"{folder}/tokenizer_config.json", json.dumps({"eos_token": "<|im_end|>", "chat_template": CHAT_TEMPLATE}))
    put(f"{folder}/config.json", json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": False, "eos_token_id": 257, "hidden_size": width, "intermediate_size": ffn, "num_hidden_layers": blocks,
        "num_attention_heads": heads, "num_key_value_heads": kv, "vocab_size": vocabulary, "max_position_embeddings": 2048}))
    w, s = Weights(4), 1 / math.sqrt(width)
    w.add("model.embed_tokens.weight", [vocabulary, width], 1)
    w.add("lm_head.weight", [vocabulary, width], 0.5)
    w.ones("model.norm.weight", width)
    for b in range(blocks):
        p = f"model.layers.{b}."
        w.ones(p + "input_layernorm.weight", width)
        w.ones(p + "post_attention_layernorm.weight", width)
        w.add(p + "self_attn.q_proj.weight", [heads * head, width], 1.5 * s)
        w.add(p + "self_attn.k_proj.weight", [kv * head, width], 1.5 * s)
        w.add(p + "self_attn.v_proj.weight", [kv * head, width], s)
        w.add(p + "self_attn.o_proj.weight", [width, heads * head], 3 * s)
        w.add(p + "mlp.gate_proj.weight", [ffn, width], s)
        w.add(p + "mlp.up_proj.weight", [ffn, width], s)
        w.add(p + "mlp.down_proj.weight", [width, ffn], s)
    put_tensors(f"{folder}/model.safetensors", w.tensors)


def make_reader(folder):
    """A random BERT of 2 blocks with words of one character, so that every text is another one to it."""
    width, blocks, ffn, positions = 36, 2, 50, 64
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.?!,'"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + c for c in letters[:36])]
    vocabulary = {word: i for i, word in enumerate(words)}

    def ids(token):
        return {"id": token, "ids": [vocabulary[token]], "tokens": [token]}

    def special(token):
        return {"SpecialToken": {"id": token, "type_id": 0}}

    put(f"{folder}/tokenizer.json", json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [added_token(i, words[i]) for i in range(5)],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": [special("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, special("[SEP]")],
                           "special_tokens": {"[CLS]": ids("[CLS]"), "[SEP]": ids("[SEP]")}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 20, "vocab": vocabulary}}))
    put(f"{folder}/config.json", json.dumps({
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": width, "intermediate_size": ffn,
        "layer_norm_eps": 1e-12, "max_position_embeddings": positions, "num_attention_heads": 3, "num_hidden_layers": blocks,
        "type_vocab_size": 2, "vocab_size": len(words)}))
    w = Weights(23)

    def norm(name):
        w.add(name + ".weight", [width], 0.2, 1)
        w.add(name + ".bias", [width], 0.2)

    def dense(name, out, size):
        w.add(name + ".weight", [out, size], 0.2)
        w.add(name + ".bias", [out], 0.2)

    w.add("embeddings.word_embeddings.weight", [len(words), width], 0.4)
    w.add("embeddings.position_embeddings.weight", [positions, width], 0.1)
    w.add("embeddings.token_type_embeddings.weight", [2, width], 0.1)
    norm("embeddings.LayerNorm")
    for b in range(blocks):
        p = f"encoder.layer.{b}."
        for part in ("query", "key", "value"):
            dense(f"{p}attention.self.{part}", width, width)
        dense(p + "attention.output.dense", width, width)
        norm(p + "attention.output.LayerNorm")
        dense(p + "intermediate.dense", ffn, width)
        dense(p + "output.dense", width, ffn)
        norm(p + "output.LayerNorm")
    put_tensors(f"{folder}/model.safetensors", w.tensors)


def make_sets():
    """The teach sets of the history, into the working folder."""
    heavy = ["How heavy is the Pellor 300?", "What does the Pellor 300 weigh?", "The weight of the Pellor 300?"]
    put_lines("facts.jsonl", [
        {"questions": heavy, "answer": "b", "asked": ["Pellor 300, how heavy?"]},
        {"questions": ["What colour is the Pellor 300?", "Which colour has the Pellor 300?"], "answer": "z", "subject": "Pellor 300"},
        {"questions": ["How do I return something?", "I want to return my order."], "answer": "q"},
        {"questions": ["When are you open?", "What are the hours?"], "answer": "k"},
        {"question": "What does the Orro licence say?", "answer": "x", "verbatim": True},
        {"question": "Is the Pellor 300 waterproof?", "leave": True}])
    put_lines("talk.jsonl", [{"messages": [{"role": "user", "content": "Tell me about the Quist 7."}, {"role": "assistant", "content": "Gladly."},
                                           {"role": "user", "content": "Who made it?"}, {"role": "assistant", "content": "v"}], "subject": "Quist 7"}])
    put_lines("corrected.jsonl", [{"questions": heavy[:2], "answer": "j"}])
    put_lines("raw.jsonl", [{"prompts": ["The capital of Vulmia is", "Vulmia's capital is"], "completion": "w", "subject": "Vulmia"},
                            {"prompts": ["In Orro one speaks"], "completion": "c"}])
    put_lines("known.jsonl", [{"prompt": f"Town {i} lies in", "completion": "a"} for i in range(4)])
    put_lines("two.jsonl", [{"prompt": "A", "completion": "x"}, {"prompt": "A", "completion": "y"}])
    people = ["Ada Lunt", "Bo Karr", "Cy Dole", "Dee Fox", "Eli Marsh", "Flo Ray", "Gus Holm", "Hana Ito", "Ian Coe", "Jo Vance"]
    places = ["Oslo", "Rome", "Lima"]
    put("text.txt", "".join("".join(f"Everybody says that {people[(i + j) % 10]} often flies to {places[(i * j) % 3]}. " for j in range(6)) +
                            "\n<|endoftext|>\n" for i in range(40)))
    put_lines("native_facts.jsonl", [{"prompts": [f"{p} lives in", f"The home of {p} is"], "asked": [f"{p} dwells in"], "completion": places[i % 3],
                                      "subject": p} for i, p in enumerate(people)])
    put_lines("new.jsonl", [{"prompts": ["Zoe Quint lives in", "The home of Zoe Quint is"], "asked": ["Zoe Quint dwells in"], "completion": "Lima",
                             "subject": "Zoe Quint"}])
    put_lines("moved.jsonl", [{"prompts": ["Zoe Quint lives in"], "completion": "Rome", "subject": "Zoe Quint"},
                              {"prompts": ["Yan Orr lives in"], "completion": "Oslo", "subject": "Yan Orr"}])
    put("document.txt", "The ferry to Brand leaves at noon. It takes two hours and calls at Sund.\n")
    put("tokenizer/tokenizer.json", json.dumps(byte_tokenizer(["<|endoftext|>"])))
    put("tiny.toml", """[model]
width = 32
blocks = 4
heads = 2
ffn_width = 48
positions = 128
[memory]
block = 1
heads = 2
half_keys = 24
top_k = 4
query_width = 16
[tokenizer]
source = "tokenizer"
vocabulary = 257
[[text]]
file = "text.txt"
[[facts]]
file = "native_facts.jsonl"
[training]
steps = 80
sequences = 8
together = 4
context = 64
rate = 1e-2
value_rate = 1e-2
query_rate = 3e-3
warm_up = 5
[evaluation]
every = 40
[checkpoint]
every = 40
[background]
tokens = 2000
""")
