// What `accrete pretrain` is told: shape of the model, its memory layer, corpora, training.
// docs/pretrain.md describes every key.
//
// Non-goals: reading the corpora (mixture.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "memory/product_keys.h"
#include "model/config.h"

namespace accrete {

struct PretrainConfig {
  // [model], [memory]; the vocabulary is known once the tokenizer is.
  ModelConfig model;
  ProductKeyOptions keys;
  bool store_bfloat16 = false;  // the written folder's large tensors
  bool query_norm = true;       // queries of mean 0 and variance 1 over a batch's tokens

  // [tokenizer]
  std::filesystem::path tokenizer;  // a folder with tokenizer.json, or a .gguf
  int64_t vocabulary = 8192;
  std::string end_of_text = "<|endoftext|>";

  // [[text]] and [[facts]]
  struct Corpus {
    std::filesystem::path file;
    double weight = 1;  // share of the sequences, relative to the others'
    bool facts = false;
  };
  std::vector<Corpus> corpora;
  std::vector<std::string> left_out;  // of the corpora that need a data folder, where none is given

  // [training]
  int64_t steps = 1000;
  int64_t sequences = 16;  // of a step
  int64_t together = 4;    // of them, in one pass
  int64_t context = 512;   // tokens of a sequence
  double rate = 2e-3, value_rate = 2e-3;
  double query_rate = 3e-4;  // of the memory's queries and keys
  int64_t warm_up = 100;     // steps
  double final_rate = 0.1;   // as a share of the rate
  double weight_decay = 0.1;
  double clip = 1;
  bool bfloat16 = false;  // what matrix products take
  uint64_t seed = 0;

  // [evaluation]
  int64_t evaluate_every = 200;  // steps; 0: at the end only
  double held_out = 0.005;       // share of each text corpus's documents
  int64_t held_out_tokens = 32768;
  int64_t facts_asked = 256;

  // [checkpoint], [background]
  int64_t checkpoint_every = 200;  // steps
  int64_t background_tokens = 60000;

  std::string digest;  // SHA-256 of all that decides what is trained: not of the file's wording

  // Relative files are beside the config file; those of a corpus with `folder = "data"` are in
  // `data`, and left out where it is empty. Throws kNotFound, kFormat (file and line), and
  // kInvalidArgument where no corpus is left.
  // `seed` takes the place of the file's.
  static PretrainConfig read(const std::filesystem::path& file, const std::filesystem::path& data,
                             std::optional<uint64_t> seed = {});

  // The learning rate's share at step `step`, from 0: linear warm-up, then half a cosine.
  double schedule(int64_t step) const;
};

}  // namespace accrete
