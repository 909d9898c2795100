// A random byte-level Llama of a few thousand weights with memory layers: whole transactions in
// milliseconds. What it "knows" is what it happens to answer.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "../base/testing.h"
#include "../model/tiny_memory.h"
#include "../model/write_tensors.h"
#include "base/file.h"
#include "base/rng.h"
#include "learn/teach.h"
#include "measure/probe.h"

namespace accrete::testing {

// The printable stand-ins that byte-level BPE has for bytes (GPT-2).
inline std::vector<std::string> byte_symbols() {
  const auto utf8 = [](int c) {
    std::string s;
    if (c < 0x80) {
      s += static_cast<char>(c);
    } else {
      s += static_cast<char>(0xC0 | (c >> 6));
      s += static_cast<char>(0x80 | (c & 0x3F));
    }
    return s;
  };
  std::vector<std::string> out(256);
  int next = 256;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    out[static_cast<size_t>(b)] = utf8(printable ? b : next++);
  }
  return out;
}

inline constexpr std::string_view kLetters = "abchjkqvwxyz";

inline void write_tiny_base(const std::filesystem::path& folder, uint64_t seed) {
  constexpr int64_t kWidth = 32, kFfn = 64, kBlocks = 4, kHeads = 4, kVocabulary = 257;
  std::filesystem::create_directories(folder);
  nlohmann::ordered_json vocabulary;
  const auto symbols = byte_symbols();
  for (int b = 0; b < 256; ++b) vocabulary[symbols[static_cast<size_t>(b)]] = b;
  vocabulary["<|end|>"] = 256;
  const nlohmann::ordered_json tokenizer = {{"version", "1.0"},
                                            {"truncation", nullptr},
                                            {"padding", nullptr},
                                            {"added_tokens",
                                             {{{"id", 256},
                                               {"content", "<|end|>"},
                                               {"single_word", false},
                                               {"lstrip", false},
                                               {"rstrip", false},
                                               {"normalized", false},
                                               {"special", true}}}},
                                            {"normalizer", nullptr},
                                            {"pre_tokenizer",
                                             {{"type", "ByteLevel"},
                                              {"add_prefix_space", false},
                                              {"trim_offsets", true},
                                              {"use_regex", true}}},
                                            {"post_processor", nullptr},
                                            {"decoder",
                                             {{"type", "ByteLevel"},
                                              {"add_prefix_space", true},
                                              {"trim_offsets", true},
                                              {"use_regex", true}}},
                                            {"model",
                                             {{"type", "BPE"},
                                              {"dropout", nullptr},
                                              {"unk_token", nullptr},
                                              {"continuing_subword_prefix", nullptr},
                                              {"end_of_word_suffix", nullptr},
                                              {"fuse_unk", false},
                                              {"byte_fallback", false},
                                              {"vocab", vocabulary},
                                              {"merges", nlohmann::ordered_json::array()}}}};
  std::ofstream(folder / "tokenizer.json") << tokenizer.dump();
  std::ofstream(folder / "tokenizer_config.json") << R"({"eos_token": "<|end|>"})";
  std::ofstream(folder / "config.json")
      << R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5,)"
      << R"( "rope_theta": 10000.0, "tie_word_embeddings": false, "eos_token_id": 256)"
      << ", \"hidden_size\": " << kWidth << ", \"intermediate_size\": " << kFfn
      << ", \"num_hidden_layers\": " << kBlocks << ", \"num_attention_heads\": " << kHeads
      << ", \"num_key_value_heads\": " << kHeads << ", \"vocab_size\": " << kVocabulary
      << ", \"max_position_embeddings\": 512}";

  Rng rng(seed, 5);
  std::map<std::string, at::Tensor> tensors;
  const auto random = [&](at::IntArrayRef shape, double scale) {
    auto t = at::empty(shape, at::kFloat);
    for (int64_t i = 0; i < t.numel(); ++i)
      t.data_ptr<float>()[i] = static_cast<float>(scale * rng.normal());
    return t;
  };
  tensors["model.embed_tokens.weight"] = random({kVocabulary, kWidth}, 1);
  // Twelve letters are all it ever says.
  tensors["lm_head.weight"] = random({kVocabulary, kWidth}, 1);
  for (int64_t b = 0; b < kVocabulary; ++b)
    if (b > 255 || kLetters.find(static_cast<char>(b)) == std::string_view::npos)
      tensors["lm_head.weight"][b].mul_(0.01);
  tensors["model.norm.weight"] = at::ones({kWidth});
  const double s = 1 / std::sqrt(static_cast<double>(kWidth));
  for (int64_t b = 0; b < kBlocks; ++b) {
    const std::string p = "model.layers." + std::to_string(b) + ".";
    tensors[p + "input_layernorm.weight"] = at::ones({kWidth});
    tensors[p + "post_attention_layernorm.weight"] = at::ones({kWidth});
    for (const char* name : {"q_proj", "k_proj", "v_proj"})
      tensors[p + "self_attn." + name + ".weight"] = random({kWidth, kWidth}, s);
    // Attention says much, so that what is written at a subject reaches the end of a prompt.
    tensors[p + "self_attn.o_proj.weight"] = random({kWidth, kWidth}, 8 * s);
    tensors[p + "mlp.gate_proj.weight"] = random({kFfn, kWidth}, s);
    tensors[p + "mlp.up_proj.weight"] = random({kFfn, kWidth}, s);
    tensors[p + "mlp.down_proj.weight"] = random({kWidth, kFfn}, s);
  }
  write_tensors(folder / "model.safetensors", tensors);
}

inline std::string random_word(Rng& rng) {
  std::string word;
  for (uint64_t i = 0, n = 4 + rng.below(3); i < n; ++i)
    word += static_cast<char>((i == 0 ? 'A' : 'a') + static_cast<char>(rng.below(26)));
  return word;
}

// A seed whose model can be taught any letter: what is written in block 1 reaches the end of a
// prompt through the attention of the blocks behind it, in one random model of seven.
inline constexpr uint64_t kAptSeed = 26;

// With a memory in block 1.
inline void make_tiny_model(const std::filesystem::path& folder, uint64_t seed) {
  const TemporaryFolder work;
  write_tiny_base(work / "base", seed);
  Rng rng(seed, 6);
  std::vector<std::string> documents;
  for (int document = 0; document < 30; ++document) {
    std::string text;
    for (int i = 0; i < 80; ++i) text += random_word(rng) + (i % 8 == 7 ? "\n" : " ");
    documents.push_back(text);
  }
  TinyMemory how;
  how.keys.heads = 2;
  how.keys.half_keys = 32;
  how.keys.top_k = 4;
  how.keys.query_width = 16;
  // In so small a space names lie closer together than in a real one.
  how.gate.radius = 2;
  how.gate.softness = 1;
  how.background_tokens = 4000;
  how.window = 128;
  how.seed = seed;
  add_tiny_memory(work / "base", folder, documents, how);
}

inline OpenOptions one_thread() {
  OpenOptions open;
  open.threads = 1;
  return open;
}

// Facts "NAME " -> a letter, that the model answers so by itself.
inline std::vector<Item> known_facts(const LanguageModel& model, int count, Rng rng) {
  std::vector<Item> out;
  ExampleOptions raw;
  raw.raw = true;
  for (int attempt = 0; attempt < 100 * count && static_cast<int>(out.size()) < count; ++attempt) {
    Item item;
    item.subject = random_word(rng);
    // The space belongs to the prompt: an answer is one byte.
    item.prompts = {item.subject + " ", "So " + item.subject + " "};
    const auto prompt = encode_prompt(model, item.prompts.front(), raw);
    std::vector<int64_t> ids(prompt.begin(), prompt.end());
    const auto logits = model.net().forward(at::tensor(ids, at::kLong).unsqueeze(0))[0];
    const auto best = logits[logits.size(0) - 1].argmax().item<int64_t>();
    if (best < 33 || best > 126) continue;
    item.answers = {std::string(1, static_cast<char>(best))};
    item.line = static_cast<int64_t>(out.size()) + 1;
    // The prompt that is asked; the other phrasing may be answered otherwise.
    ExampleOptions options = raw;
    const auto states = score_items(model, {&item, 1}, options, false);
    if (states[0].exact) out.push_back(item);
  }
  EXPECT_EQ(static_cast<int>(out.size()), count) << "this model knows too little";
  return out;
}

inline Dataset as_dataset(std::vector<Item> items) {
  Dataset data;
  data.path = "test.jsonl";
  data.digest = std::string(64, 'a');
  for (size_t i = 0; i < items.size(); ++i) items[i].line = static_cast<int64_t>(i) + 1;
  data.items = std::move(items);
  return data;
}

inline void add_probe(const std::filesystem::path& folder, const std::string& name,
                      const std::vector<Item>& items, double floor) {
  Ledger ledger = Ledger::open(folder, Ledger::Mode::kWrite);
  const LanguageModel model = LanguageModel::open(folder, one_thread());
  Probe probe;
  probe.data.items = items;
  probe.raw = true;
  probe.record.name = name;
  probe.record.base = probe_score(model, probe);
  probe.record.items = static_cast<int64_t>(items.size());
  if (floor > 0) probe.record.floor = floor;
  probe.record.details["raw"] = true;
  probe.record.details["state"] = state_key(ledger.active());
  ledger.add_probe(probe.record, to_jsonl(items));
}

}  // namespace accrete::testing
