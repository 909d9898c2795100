// What a reader's folder says about it: the shape of a BERT, its pooling, its adapter, how near a
// question must lie to a taught one, what makes up its identity.
//
// Non-goals: weights (reader.h), the tokenizer (text/wordpiece.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "memory/acceptance.h"

namespace accrete {

struct ReaderConfig {
  enum class Activation { kGelu, kGeluTanh, kRelu };

  int64_t vocab_size = 0;
  int64_t width = 0;
  int64_t ffn_width = 0;
  int64_t blocks = 0;
  int64_t heads = 0;
  int64_t max_positions = 0;
  int64_t types = 0;  // rows of the token type embedding
  double norm_eps = 1e-12;
  Activation activation = Activation::kGelu;
  bool pool_first = false;  // the first token's vector instead of the mean
  // What the product of an adapter's two factors is multiplied by (LoRA's alpha / rank); 0: there
  // is no adapter. The cross-encoders' likewise.
  double adapter_scale = 0, cross_scale = 0, passage_scale = 0;
  AcceptanceRule acceptance = acceptance_rule();
  // The content of the files that say this, the tokenizer's included; empty: there is no such file.
  std::string config_json, tokenizer_json, pooling_json, adapter_json, cross_json, passage_json,
      acceptance_json;

  // Throws kNotFound, kIo, kFormat (by key), kUnsupported.
  static ReaderConfig from_folder(const std::filesystem::path& folder);
};

}  // namespace accrete
