"""A model of the Llama family with accrete's memory layers, for transformers.

`accrete export` puts this file into the folder that it writes; from there

    AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)

gives what accrete itself computes. The memory's tensors lie in accrete_overlay.safetensors, which
model.safetensors.index.json names beside the base's weights, so that transformers loads them like
any others; their sizes are under `accrete` in config.json (docs/formats.md).

Non-goals: teaching, training of the memory, two threads in one model at once.
"""

import math

import torch
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)


FIRST_REACH = 0.15  # of the radius within which first tokens lie


class Accesses:
    """What the address block found out in a pass, for the memory blocks above it: [T, K] each."""

    slots = None
    weights = None
    # Which parts (updates) speak where: token [n], part [n], weight [n]; of subjects and of running text.
    gated = None
    text = None


class Address(nn.Module):
    """Product keys and gate: which slots a hidden state reads, and whether gated rows speak to it.

    Temperatures are folded into keys and bias.
    """

    def __init__(self, width, memory):
        super().__init__()
        self.heads, self.n = memory["heads"], memory["half_keys"]
        self.top_k, self.query_width = memory["top_k"], memory["query_width"]
        self.radius, self.softness = memory["gate"]["radius"], memory["gate"]["softness"]
        half = self.query_width // 2
        self.register_buffer("mean", zeros(width))
        self.register_buffer("projection", zeros(width, self.heads * self.query_width))
        self.register_buffer("keys", zeros(self.heads, 2, self.n, half))
        self.register_buffer("bias", zeros(self.heads, 2, self.n))
        # Where first tokens lie. Not a buffer: those come from the checkpoint.
        self.first_at, self.first_radius = memory["gate"].get("first_at"), memory["gate"].get("first_radius", 0)
        for name in ("anchors", "text_anchors"):
            self.register_buffer(name, zeros(memory[name], self.query_width))
            self.register_buffer(name + "_part", torch.zeros(memory[name], dtype=torch.int64))

    def forward(self, x, out):
        q = (x.float() - self.mean.float()) @ self.projection.float()  # [T, heads * query_width]
        halves = q.view(len(x), self.heads, 2, -1)
        scores = torch.einsum("thsw,hsnw->thsn", halves, self.keys.float()) + self.bias.float()
        best, index = scores.topk(self.top_k)
        sums = (best[:, :, 0, :, None] + best[:, :, 1, None, :]).flatten(2)
        pairs = (index[:, :, 0, :, None] * self.n + index[:, :, 1, None, :]).flatten(2)
        top, where = sums.topk(self.top_k)
        first_slot = torch.arange(self.heads, device=x.device).view(1, -1, 1) * self.n**2
        out.slots = (pairs.gather(-1, where) + first_slot).flatten(1)
        out.weights = (top.softmax(-1) / math.sqrt(self.heads)).flatten(1)
        q = q[:, : self.query_width]
        if len(self.anchors):
            out.gated = self.gates(q, self.anchors.float(), self.anchors_part.long())
        if len(self.text_anchors):
            out.text = self.gates(q, self.text_anchors.float(), self.text_anchors_part.long())

    def gates(self, q, anchors, part):
        cross = anchors.square().sum(1) - 2 * q @ anchors.T + q.square().sum(1)[:, None]
        if self.first_at is not None:  # inside and outside do not hear each other; inside, distances count more
            first_at = q.new_tensor(self.first_at)
            inside, anchors_inside = ((x - first_at).norm(dim=1) < self.first_radius for x in (q, anchors))
            stretch = self.radius / (FIRST_REACH * self.first_radius)
            cross = torch.where(inside[:, None], cross * stretch**2, cross)
            cross = cross.masked_fill(inside[:, None] != anchors_inside, 1e12)
        parts = int(part[-1]) + 1
        square = cross.new_full((len(q), parts), math.inf)
        square = square.scatter_reduce(1, part.expand(len(q), -1), cross, "amin")
        distance = square.clamp_min(0).sqrt()  # of every part
        gate = ((self.radius - distance) / self.softness).clamp(0, 1)
        # A part is silent where another's anchors are much nearer.
        ahead = distance.amin(1, keepdim=True) + self.radius / 2 - distance
        gate = gate * (ahead / (self.softness / 2)).clamp(0, 1)
        token, part = gate.nonzero(as_tuple=True)
        return token, part, gate[token, part]


class Rows(nn.Module):
    """A value table of which only the rows of some slots are not zero, ascending by part and slot."""

    def __init__(self, count, width):
        super().__init__()
        self.register_buffer("part", torch.zeros(count, dtype=torch.int64))
        self.register_buffer("slots", torch.zeros(count, dtype=torch.int64))
        self.register_buffer("values", zeros(count, width))

    def add_parts(self, y, accesses, speaking):
        token, part, weight = speaking
        slots = accesses.slots[token] + (part << 32)[:, None]
        y.index_add_(0, token, self(slots, accesses.weights[token] * weight[:, None]))

    def forward(self, slots, weights):
        # Loading may have made floats of these integers; below 2**24 they are still exact.
        own = (self.part.long() << 32) + self.slots.long()
        slots, weights = slots.to(own.device), weights.to(own.device)
        row = torch.searchsorted(own, slots).clamp(max=len(own) - 1)
        weights = weights * (own[row] == slots)
        return nn.functional.embedding_bag(
            row, self.values.float(), per_sample_weights=weights, mode="sum"
        )


class Memory(nn.Module):
    """A block's memory layer: adds to the FFN's output what the slots that the input reads hold."""

    def __init__(self, block, width, memory, accesses):
        super().__init__()
        self.accesses = accesses
        rows = memory["blocks"].get(str(block), {})
        self.address = Address(width, memory) if block == memory["address_block"] else None
        self.open = Rows(rows["open"], width) if rows.get("open") else None
        self.gated = Rows(rows["gated"], width) if rows.get("gated") else None
        self.text = Rows(rows["text"], width) if rows.get("text") else None

    @torch.no_grad()  # accesses and rows are constants, as they are in accrete
    def after_ffn(self, ffn, inputs, output):
        x = inputs[0]
        flat = x.reshape(-1, x.shape[-1])
        y = torch.zeros_like(flat, dtype=torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            if self.address is not None:
                self.address(flat, self.accesses)
            if self.open is not None:
                y += self.open(self.accesses.slots, self.accesses.weights)
            if self.gated is not None:
                self.gated.add_parts(y, self.accesses, self.accesses.gated)
            if self.text is not None:
                self.text.add_parts(y, self.accesses, self.accesses.text)
        with torch.enable_grad() if output.requires_grad else torch.no_grad():
            return output + y.view_as(x).to(output.dtype)


class WithMemory:
    """Gives the decoder layers that config.accrete names their memory."""

    # A recomputed layer would read the accesses of a later pass.
    supports_gradient_checkpointing = False
    # bfloat16 queries would read other slots.
    _keep_in_fp32_modules_strict = ["memory"]

    def __init__(self, config):
        super().__init__(config)
        memory, accesses = config.accrete, Accesses()
        for block in sorted({memory["address_block"], *map(int, memory["blocks"])}):
            layer = self.model.layers[block]
            layer.memory = Memory(block, config.hidden_size, memory, accesses)
            layer.mlp.register_forward_hook(layer.memory.after_ffn)


def zeros(*shape):
    return torch.zeros(*shape, dtype=torch.float32)


# Model types of their own: without trust_remote_code they are refused instead of silently answering
# without what was taught.


class AccreteLlamaConfig(LlamaConfig):
    model_type = "accrete_llama"


class AccreteLlamaForCausalLM(WithMemory, LlamaForCausalLM):
    config_class = AccreteLlamaConfig


class AccreteMistralConfig(MistralConfig):
    model_type = "accrete_mistral"


class AccreteMistralForCausalLM(WithMemory, MistralForCausalLM):
    config_class = AccreteMistralConfig


class AccreteQwen2Config(Qwen2Config):
    model_type = "accrete_qwen2"


class AccreteQwen2ForCausalLM(WithMemory, Qwen2ForCausalLM):
    config_class = AccreteQwen2Config


# save_pretrained then takes this file along.
for _config, _model in (
    (AccreteLlamaConfig, AccreteLlamaForCausalLM),
    (AccreteMistralConfig, AccreteMistralForCausalLM),
    (AccreteQwen2Config, AccreteQwen2ForCausalLM),
):
    _config.register_for_auto_class("AutoConfig")
    _model.register_for_auto_class("AutoModelForCausalLM")
