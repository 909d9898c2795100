// The reader: a sentence encoder that turns a question into a vector of unit length.
//
// Reads a folder of the BERT family as `transformers` and `sentence-transformers` save it
// (config.json, tokenizer.json, model.safetensors; 1_Pooling/config.json and modules.json are
// obeyed where they are): all-MiniLM-L6-v2, bge-small, e5-small and the like. Weights are read
// through the file map, of the word embeddings only the rows of words that occur; what is computed
// is float32.
//
// A text's vector is the same, bit for bit, alone and beside others, with one thread and with many;
// machines with other instructions may differ in the last bits.
//
// Prefixes that a model wants before its texts ("prompts" of config_sentence_transformers.json,
// "query: ") are ignored: put them there yourself. So is the length that sentence_bert_config.json
// asks for: tokenizer.json's counts.
//
// More is obeyed where it is: adapter/, a LoRA of the encoder's linear layers as peft saves it
// (adapter_config.json, adapter_model.safetensors: W + alpha / r B A); cross_encoder/, another such
// LoRA and a head (`head.weight` [1, 2 width], `head.bias` [1]), with which a question and a fact
// are read together; and acceptance.json, the decision that was fitted to this reader
// (memory/acceptance.h).
//
// Non-goals: training, other families, devices other than the CPU.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "memory/acceptance.h"
#include "memory/read_pair.h"

namespace accrete {

class Reader {
 public:
  // Throws kNotFound, kFormat (torn files, tensors that are missing or of a wrong shape, by name),
  // kUnsupported (another kind of model, by the part that is not understood).
  static Reader open(const std::filesystem::path& folder);

  int64_t width() const;
  // Tokens of a text that are read; the rest is left out.
  int64_t max_tokens() const;

  // Which reader this is, 64 hex digits: of configuration, tokenizer, decision, and of the weights
  // and the adapter their names, shapes, and both ends of each tensor. Costs milliseconds and is
  // taken by open().
  const std::string& digest() const;
  // The same over every byte of the weights.
  std::string full_digest() const;

  // [n, width] float32, rows of unit length: the mean over a text's tokens (or the first, if the
  // folder says so). Any text has a vector, the empty one too. Safe to call from several threads.
  // Throws kFormat where the weights are such that the result is no number.
  // `words_only`: the mean leaves the special tokens out, which tells questions better apart; not
  // where the folder asks for the first token.
  at::Tensor read(std::span<const std::string> texts, bool words_only = false) const;
  // Whether there is a cross-encoder, and what it says of pairs: the log-odds that the question
  // asks for the fact. Both are read as one text, "[CLS] question [SEP] wording / wording [SEP]
  // answer [SEP]" with token types 0 and 1 (Nogueira & Cho 2019); the head weighs the means over
  // the question's words and over the fact's. Bits and threads as read(). Throws kUnsupported
  // without one, kFormat as read().
  bool has_cross_encoder() const;
  std::vector<double> judge(std::span<const ReadPair> pairs) const;
  // Whether there is a passage encoder, and what it says of questions and passages: the log-odds
  // that the passage answers, "[CLS] question [SEP] headings / piece piece ... [SEP]", with the
  // passage's mean weighed by a softmax over its tokens, of which each piece has a part. The rest
  // as judge() of facts; of a pair 256 tokens are read.
  bool has_passage_encoder() const;
  std::vector<ReadPassageResult> judge(std::span<const ReadPassage> passages) const;
  // The place of a whole word in the vocabulary, about by how common it is; -1: it is in pieces.
  int32_t word_id(std::string_view word) const;
  // How a question must lie to a taught one in this reader's space.
  const AcceptanceRule& acceptance() const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;  // immutable: copies are cheap and thread-safe
};

}  // namespace accrete
