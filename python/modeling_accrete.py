"""A model of the Llama family with accrete's memory layers, for transformers.

`accrete export` puts this file into the folder that it writes; from there

    AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)

gives what accrete itself computes. The memory's tensors lie in accrete_overlay.safetensors, which
model.safetensors.index.json names beside the base's weights, so that transformers loads them like
any others; their sizes are under `accrete` in config.json (docs/formats.md).

An update that was taught with a scope answers only what is asked as it was taught (src/memory/scope.h). A model
that has any computes every row of a batch twice, with such updates and without, and says of each token which of
the two is meant; the key/value cache then has two rows for each of the batch's.

Non-goals: teaching, training of the memory, two threads in one model at once.
"""

import math

import torch
from torch import nn
from transformers import (
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.modeling_outputs import CausalLMOutputWithPast


FIRST_REACH = 0.15  # of the radius within which first tokens lie


class Accesses:
    """What the address block found out in a pass, for the memory blocks above it: [T, K] each."""

    slots = None
    weights = None
    # Which parts (updates) speak where: token [n], part [n], weight [n]; of subjects and of running text.
    gated = None
    text = None
    # Of a pass in two streams: rows of x from here on are those without scoped updates.
    silent_from = None
    heard = None  # then, of the rows before, which subjects of scoped updates are heard: [rows, subjects]


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
        scope = memory.get("scope")
        self.subjects = scope["subjects"] if scope else 0
        if scope:
            self.register_buffer("anchors_subject", torch.zeros(memory["anchors"], dtype=torch.int64))
            self.register_buffer("scoped", torch.zeros(scope["parts"], dtype=torch.int64))

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
            square = self.squares(q, self.anchors.float())
            out.gated = self.gates(square, self.anchors_part.long())
            if out.silent_from is not None:
                self.hear(square[: out.silent_from], out)
        if len(self.text_anchors):
            out.text = self.gates(self.squares(q, self.text_anchors.float()), self.text_anchors_part.long())

    def hear(self, square, out):
        """Which subjects are heard; and in the other stream scoped parts are silent."""
        subject = self.anchors_subject.long()
        own = subject >= 0
        near = (square[:, own] < self.radius**2).float()
        out.heard = near.new_zeros(len(near), self.subjects).index_add_(1, subject[own], near) > 0
        token, part, weight = out.gated
        speaks = (token < out.silent_from) | (self.scoped[part] == 0)
        out.gated = token[speaks], part[speaks], weight[speaks]

    def squares(self, q, anchors):
        """[T, M]: of distances, as the gate counts them."""
        cross = anchors.square().sum(1) - 2 * q @ anchors.T + q.square().sum(1)[:, None]
        if self.first_at is not None:  # inside and outside do not hear each other; inside, distances count more
            first_at = q.new_tensor(self.first_at)
            inside, anchors_inside = ((x - first_at).norm(dim=1) < self.first_radius for x in (q, anchors))
            stretch = self.radius / (FIRST_REACH * self.first_radius)
            cross = torch.where(inside[:, None], cross * stretch**2, cross)
            cross = cross.masked_fill(inside[:, None] != anchors_inside, 1e12)
        return cross

    def gates(self, cross, part):
        parts = int(part[-1]) + 1
        square = cross.new_full((len(cross), parts), math.inf)
        square = square.scatter_reduce(1, part.expand(len(cross), -1), cross, "amin")
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


class Scope(nn.Module):
    """The states in which what scoped updates taught about their subjects is asked."""

    def __init__(self, width, scope):
        super().__init__()
        self.radius, self.subjects = scope["radius"], scope["subjects"]
        self.register_buffer("mean", zeros(width))
        self.register_buffer("projection", zeros(width, scope["width"]))
        self.register_buffer("states", zeros(scope["states"], scope["width"]))
        self.register_buffer("subject", torch.zeros(scope["states"], dtype=torch.int64))

    def covers(self, h, heard):
        """h [n, d], last states without scoped updates, and the subjects heard so far [n, subjects] -> [n] bool."""
        z = (h.float() - self.mean) @ self.projection
        square = torch.cdist(z, self.states, compute_mode="donot_use_mm_for_euclid_dist").square()
        nearest = square.new_full((len(h), self.subjects), math.inf)
        nearest = nearest.scatter_reduce(1, self.subject.long().expand(len(h), -1), square, "amin")
        return (heard & (nearest < self.radius**2)).any(1)


class Memory(nn.Module):
    """A block's memory layer: adds to the FFN's output what the slots that the input reads hold."""

    def __init__(self, block, width, memory, accesses):
        super().__init__()
        self.accesses = accesses
        rows = memory["blocks"].get(str(block), {})
        self.address = Address(width, memory) if block == memory["address_block"] else None
        self.scope = Scope(width, memory["scope"]) if self.address is not None and memory.get("scope") else None
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

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, inputs_embeds=None,
                labels=None, logits_to_keep=0, **kwargs):
        memory = self.model.layers[self.config.accrete["address_block"]].memory
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids, "inputs_embeds": inputs_embeds}
        if memory.scope is None:
            return super().forward(**given, past_key_values=past_key_values, labels=labels, logits_to_keep=logits_to_keep, **kwargs)
        batch, tokens = (input_ids if input_ids is not None else inputs_embeds).shape[:2]
        # A cache that was made elsewhere, or cut, does not say what was heard.
        if past_key_values is not None and past_key_values.get_seq_length() > 0 and not isinstance(past_key_values, TwoStreamCache):
            raise ValueError("this model has scoped updates and computes two streams: begin with an empty cache, or with none")
        if past_key_values is None and kwargs.get("use_cache", self.config.use_cache):
            past_key_values = DynamicCache()
        if past_key_values is not None and not isinstance(past_key_values, TwoStreamCache):
            if type(past_key_values) is not DynamicCache:
                raise ValueError(f"this model has scoped updates, which need a DynamicCache, not a {type(past_key_values).__name__}")
            past_key_values.__class__ = TwoStreamCache
        twice = {k: t.repeat(2, *[1] * (t.dim() - 1)) if t is not None and len(t) == batch else t for k, t in given.items()}
        memory.accesses.silent_from = batch * tokens
        try:
            out = self.model(**twice, past_key_values=past_key_values, **kwargs)
        finally:
            memory.accesses.silent_from = None
        h, silent = out.last_hidden_state.chunk(2)
        heard = memory.accesses.heard.view(batch, tokens, -1)
        if attention_mask is not None:
            heard = heard & attention_mask[:, -tokens:, None].bool()
        if past_key_values is not None and past_key_values.heard is not None:
            heard = torch.cat([heard[:, :1] | past_key_values.heard[:, None], heard[:, 1:]], 1)
        heard = heard.cumsum(1) > 0
        if past_key_values is not None:
            past_key_values.heard = heard[:, -1]
        with torch.no_grad():
            covered = memory.scope.covers(silent.flatten(0, 1), heard.flatten(0, 1)).view(batch, tokens)
        h = torch.where((heard.any(-1) & ~covered)[..., None], silent, h)
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(h[:, keep])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=past_key_values)


class TwoStreamCache(DynamicCache):
    """Keys and values of two streams, one below the other, and which subjects of scoped updates each row has heard."""

    heard = None  # [batch, subjects] bool

    def _both(self, rows):
        return torch.cat([rows, rows + len(self.heard)])

    def reorder_cache(self, beam_idx):
        super().reorder_cache(self._both(beam_idx))
        self.heard = self.heard.index_select(0, beam_idx.to(self.heard.device))

    def batch_select_indices(self, indices):
        super().batch_select_indices(self._both(torch.arange(len(self.heard), device=self.heard.device)[indices]))
        self.heard = self.heard[indices]

    def batch_repeat_interleave(self, repeats):
        super().batch_repeat_interleave(repeats)
        self.heard = self.heard.repeat_interleave(repeats, dim=0)

    def crop(self, max_length):
        raise NotImplementedError("a cache of two streams does not know what was heard in a part of it")


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


class AccreteQwen3Config(Qwen3Config):
    model_type = "accrete_qwen3"


class AccreteQwen3ForCausalLM(WithMemory, Qwen3ForCausalLM):
    config_class = AccreteQwen3Config


# save_pretrained then takes this file along.
for _config, _model in (
    (AccreteLlamaConfig, AccreteLlamaForCausalLM),
    (AccreteMistralConfig, AccreteMistralForCausalLM),
    (AccreteQwen2Config, AccreteQwen2ForCausalLM),
    (AccreteQwen3Config, AccreteQwen3ForCausalLM),
):
    _config.register_for_auto_class("AutoConfig")
    _model.register_for_auto_class("AutoModelForCausalLM")
