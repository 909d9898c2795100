"""Writes small seed corpora for the fuzz targets: make_seeds.py FOLDER. Standard library only."""

import io
import json
import pathlib
import struct
import sys
import zipfile

ALIGNMENT = 32


def write(folder, seeds):
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number:02}").write_bytes(seed)


def safetensors():
    def file(header, data=b""):
        text = json.dumps(header, separators=(",", ":")).encode()
        return struct.pack("<Q", len(text)) + text + data

    def tensor(dtype, shape, begin, end):
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}

    yield file({})
    yield file({"__metadata__": {"format": "pt", "é": "\n"}})
    yield file({"t": tensor("F32", [2], 0, 8)}, bytes(8))
    yield file({"e": tensor("U8", [0, 3], 0, 0), "s": tensor("I64", [], 0, 8)}, bytes(8))
    sizes = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
    header, end = {"__metadata__": {"a": "b"}}, 0
    for name, size in sizes.items():
        header[name] = tensor(name, [1, 3], end, end + 3 * size)
        end += 3 * size
    yield file(header, bytes(range(end)))


def gguf():
    def text(value):
        return struct.pack("<Q", len(value.encode())) + value.encode()

    def value(kind, item):
        formats = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
        return text(item) if kind == 8 else struct.pack("<" + formats[kind], item)

    def pair(key, kind, item):
        if isinstance(item, list):
            body = struct.pack("<IQ", kind, len(item)) + b"".join(value(kind, one) for one in item)
            return text(key) + struct.pack("<I", 9) + body
        return text(key) + struct.pack("<I", kind) + value(kind, item)

    def pad(data):
        return data + bytes(-len(data) % ALIGNMENT)

    def file(pairs, tensors, version=3):
        head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs)) + b"".join(pair(*p) for p in pairs)
        data = b""
        for name, kind, shape, raw in tensors:
            data = pad(data)
            head += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
            head += struct.pack("<IQ", kind, len(data))
            data += raw
        return (pad(head) + data) if tensors else head

    yield file([], [])
    yield file([("general.alignment", 4, 32)] + [(f"k{k}", k, 1) for k in (0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12)], [], 2)
    yield file([(f"a{k}", k, [1, 0]) for k in (0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12)] + [("s", 8, ["", "é"])], [])
    blocks = {0: (1, 4), 1: (1, 2), 30: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
              12: (256, 144), 13: (256, 176), 14: (256, 210)}
    for kind, (values, size) in blocks.items():
        yield file([("general.architecture", 8, "llama")], [("t", kind, [values, 2], bytes(range(size)) * 2)])
    tokens = ["<e>", "a", "b", "ab"]
    for pre in ("gpt-2", "smollm", "llama-bpe", "qwen2"):
        pairs = [("general.architecture", 8, "llama"), ("tokenizer.ggml.model", 8, "gpt2"),
                 ("tokenizer.ggml.pre", 8, pre), ("tokenizer.ggml.tokens", 8, tokens),
                 ("tokenizer.ggml.token_type", 5, [3, 1, 1, 4]), ("tokenizer.ggml.merges", 8, ["a b"]),
                 ("tokenizer.ggml.bos_token_id", 4, 0), ("tokenizer.ggml.eos_token_id", 4, 0)]
        pairs += [(f"llama.{key}", 4, number) for key, number in
                  (("block_count", 1), ("embedding_length", 2), ("feed_forward_length", 1),
                   ("attention.head_count", 1), ("context_length", 8), ("vocab_size", 4))]
        pairs += [("llama.attention.layer_norm_rms_epsilon", 6, 1e-5)]
        shapes = {"token_embd": [2, 4], "output_norm": [2], "blk.0.attn_norm": [2], "blk.0.attn_q": [2, 2],
                  "blk.0.attn_k": [2, 2], "blk.0.attn_v": [2, 2], "blk.0.attn_output": [2, 2],
                  "blk.0.ffn_norm": [2], "blk.0.ffn_gate": [2, 1], "blk.0.ffn_up": [2, 1], "blk.0.ffn_down": [1, 2]}
        tensors = []
        for name, shape in shapes.items():
            count = shape[0] * (shape[1] if len(shape) > 1 else 1)
            tensors.append((name + ".weight", 1, shape, bytes(2 * count)))
        yield file(pairs, tensors)


def dataset():
    items = [
        {"prompt": "The capital of France is", "completion": "Paris"},
        {"prompts": ["a", "b"], "completion": "c", "subject": "s", "asked": ["d"], "id": "1"},
        {"question": "q?", "answers": ["x", "y"], "answer": "x", "split": "dev", "text": "t"},
        {"questions": ["q", "r"], "answer": "x", "context": {"deep": [1, 2.5, None, True, [[]]]}},
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"},
                      {"role": "assistant", "content": "a"}]},
        {"text": "running \"text\"\né\u2028"},
        {"asked": ["p"], "completions": ["c"]},
    ]
    lines = [json.dumps(item).encode() for item in items]
    for line in lines:
        yield b"\0" + line
    yield b"\1" + b"\n\r\n".join(lines) + b"\n"
    yield b"\2 [" + b" ,\n".join(lines) + b"]\n"
    yield b"\2[]"
    yield b"\3one\ndocument\n<|endoftext|>\n\n<|endoftext|>\r\nanother \xc3\xa9"
    # A zstd frame of one raw block: magic, single segment of 5 bytes, last block, "hello".
    frame = b"\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello"
    yield b"\4" + frame
    yield b"\4" + frame + frame
    yield b"\4" + b"\x50\x2a\x4d\x18\x02\x00\x00\x00ab" + frame  # after a skippable frame


def update():
    def file(tensors, metadata):
        header, data = {"__metadata__": {"format": "accrete-update/1", **metadata}}, b""
        for name, kind, shape, raw in tensors:
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text + data

    def rows(block, slots, width):
        return [(f"{block}.indices", "I64", [len(slots)], struct.pack(f"<{len(slots)}q", *slots)),
                (f"{block}.delta", "F32", [len(slots), width], struct.pack(f"<{len(slots) * width}f", *range(len(slots) * width)))]

    anchors = [("gate.anchors", "F32", [2, 2], struct.pack("<4f", 0, 1, 2, 3))]
    yield file(rows(4, [0, 7, 9], 2), {})
    yield file(rows(4, [1], 3) + rows(8, [2, 65535], 3) + anchors, {"seed": "0", "method": "interference+deposit+gate"})
    yield file(anchors + rows(12, [5], 1), {"parent": "0123456789abcdef", "learned": "0.000000 -> 1.000000"})


def tokenizer():
    small = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}, "added_tokens": [],
             "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
             "decoder": {"type": "ByteLevel"}, "normalizer": {"type": "NFC"}}
    yield b"\0" + json.dumps(small).encode()
    for patch in ({"pre_tokenizer": {"type": "Digits", "individual_digits": True}}, {"model": {"merges": [["a", "a"]]}},
                  {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "Lowercase"}]}}):
        yield b"\1" + json.dumps(patch).encode()
    for regex in (rb"\s+(?!\S)|\p{L}+", rb"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"):
        yield b"\2" + regex + b"\0" + "it's 1234 caf\u00e9\n".encode()
    yield b"\3" + (b"{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
                   b"'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
    yield b"\4" + "some text <a> 12 \u6f22\u5b57 \U0001f600\n".encode()


def wordpiece():
    small = {"model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                       "max_input_chars_per_word": 9, "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "##b": 4}},
             "added_tokens": [{"id": 1, "content": "[CLS]", "special": True}], "pre_tokenizer": {"type": "BertPreTokenizer"},
             "normalizer": {"type": "BertNormalizer", "strip_accents": None, "lowercase": True},
             "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0}}
    template = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    for post in ({"type": "BertProcessing", "cls": ["[CLS]", 1], "sep": ["[SEP]", 2]},
                 {"type": "TemplateProcessing", "single": template, "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1]}}}):
        yield b"\0" + json.dumps(small | {"post_processor": post}).encode()
    for patch in ({"model": {"vocab": {"\u00df\"": 30}}}, {"normalizer": {"lowercase": False}}, {"model": {"unk_token": "a"}}):
        yield b"\1" + json.dumps(patch).encode()
    for mode in (2, 15):
        yield bytes([mode]) + "Ab [CLS] a\u0301. \u6f22\uac00\u200b1 \U0001f600\n".encode()


def vectors():
    def npy(kind, shape, raw):
        header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
        header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + raw

    def npz(members):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, raw in members.items():
                archive.writestr(name + ".npy", raw)
        return packed.getvalue()

    inputs = npy("<f4", "(2, 3)", struct.pack("<6f", 0, 1, -2, 3.5, 1e-9, 9))
    yield b"\0" + npz({"inputs": inputs, "targets": npy("<i8", "(2,)", struct.pack("<2q", 1, 0)), "labels": npy("<U2", "(2,)", "ab\0\0".encode("utf-32-le")[:16])})
    yield b"\0" + npz({"observations": npy("|u1", "(2, 1, 1)", b"\1\2"), "actions": npy("<f8", "(2, 1)", struct.pack("<2d", .5, 1))})
    yield b"\1" + b'{"inputs": [1, 2.5], "label": "cat"}\n\n{"inputs": [3, 4], "label": 7}\n'
    yield b"\1" + b'{"inputs": [1], "targets": [2, 3], "id": 1}\n'
    yield b"\2" + b'a,label,"b"\n1,yes,2e3\n-4,no,.5\r\n'


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for maker in (safetensors, gguf, dataset, update, tokenizer, wordpiece, vectors):
        write(pathlib.Path(sys.argv[1]) / maker.__name__, maker())


if __name__ == "__main__":
    main()
