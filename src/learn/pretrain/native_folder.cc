#include "learn/pretrain/native_folder.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "io/gguf.h"
#include "io/hf_folder.h"
#include "io/safetensors.h"
#include "io/strict_json.h"
#include "learn/new_model.h"
#include "model/memory_files.h"
#include "text/truncate.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kWindow = 128;         // tokens of a background sample
constexpr size_t kNameSequences = 2000;  // of the mixture, in which names are looked for
constexpr int64_t kGateSubjects = 400;

void write_ordered_json(const fs::path& path, const nlohmann::ordered_json& json) {
  write_file_atomically(path, json.dump(2) + "\n");
}

void write_base(const fs::path& folder, const PretrainConfig& config,
                const TrainingNetwork& network, const nlohmann::json& tokenizer, int64_t vocabulary,
                int32_t end_of_text) {
  const ModelConfig& c = config.model;
  write_ordered_json(folder / "config.json",
                     {{"architectures", {"AccreteNativeForCausalLM"}},
                      {"model_type", c.model_type},
                      {"hidden_act", "silu"},
                      {"hidden_size", c.width},
                      {"intermediate_size", c.ffn_width},
                      {"num_hidden_layers", c.blocks},
                      {"num_attention_heads", c.heads},
                      {"num_key_value_heads", c.kv_heads},
                      {"head_dim", c.head_dim},
                      {"max_position_embeddings", c.max_positions},
                      {"rms_norm_eps", c.norm_eps},
                      {"rope_theta", c.rope_theta},
                      {"tie_word_embeddings", true},
                      {"vocab_size", vocabulary},
                      {"eos_token_id", end_of_text},
                      {"torch_dtype", config.store_bfloat16 ? "bfloat16" : "float32"},
                      {"memory",
                       {{"block", c.memory->block},
                        {"heads", c.memory->heads},
                        {"half_keys", c.memory->half_keys},
                        {"top_k", c.memory->top_k},
                        {"query_width", c.memory->query_width}}}});
  write_ordered_json(folder / "generation_config.json", {{"eos_token_id", end_of_text}});
  write_file_atomically(folder / "tokenizer.json", tokenizer.dump() + "\n");
  write_ordered_json(folder / "tokenizer_config.json",
                     {{"eos_token", config.end_of_text},
                      {"tokenizer_class", "PreTrainedTokenizerFast"},
                      {"model_max_length", c.max_positions}});
  std::vector<TensorView> views;
  auto tensors = network.model_tensors();
  for (auto& [name, t] : tensors) {
    // What decides which slots are read stays whole, and so do norms.
    const bool addresses = name.find(".memory.") != std::string::npos && !name.ends_with("values");
    const bool half = config.store_bfloat16 && t.dim() == 2 && !addresses;
    if (half) t = t.to(at::kBFloat16);
    views.push_back({name,
                     half ? DType::kBF16 : DType::kF32,
                     t.sizes().vec(),
                     {static_cast<const std::byte*>(t.const_data_ptr()), t.nbytes()}});
  }
  write_safetensors(folder / "model.safetensors", views, {{"format", "pt"}});
}

ProductKeys learned_keys(const PretrainConfig& config, const TrainingNetwork& network) {
  at::Tensor projection, keys, bias;
  for (const auto& [name, t] : network.model_tensors()) {
    if (name.ends_with("memory.projection")) projection = t;
    if (name.ends_with("memory.keys")) keys = t;
    if (name.ends_with("memory.bias")) bias = t;
  }
  return ProductKeys::from_tensors(config.keys, at::zeros({config.model.width}), projection, keys,
                                   bias);
}

}  // namespace

nlohmann::json pretrain_tokenizer(const PretrainConfig& config) {
  const fs::path& source = config.tokenizer;
  nlohmann::json json;
  if (source.extension() == ".gguf") {
    json = tokenizer_json_from_gguf(GgufFile::open(source));
  } else {
    if (!fs::exists(source / "tokenizer.json"))
      throw Error(
          ErrorCode::kNotFound, accrete::format("there is no tokenizer in {}", source.string()),
          "name a folder with tokenizer.json or a .gguf file; a relative path is one beside "
          "the config");
    json = read_json_object(source / "tokenizer.json");
  }
  return truncate_tokenizer(json, config.vocabulary);
}

GateFit write_native_folder(const fs::path& folder, const PretrainConfig& config,
                            const TrainingNetwork& network, const TrainingText& text,
                            const nlohmann::json& tokenizer, int32_t end_of_text,
                            const nlohmann::json& info, const Reporter& reporter) {
  fs::create_directories(folder);
  const Tokenizer by = Tokenizer::from_json(tokenizer);
  write_base(folder, config, network, tokenizer, by.vocab_size(), end_of_text);

  const Rng rng = Rng(config.seed).split(12);
  const int64_t window = std::min(kWindow, config.context + 1);
  Mixture mixture(text, window, rng.split(0));
  std::vector<std::vector<int32_t>> windows;
  while (static_cast<int64_t>(windows.size()) * (window - 1) < config.background_tokens)
    windows.push_back(mixture.next());
  std::vector<std::string> documents;
  Mixture sequences(text, config.context + 1, rng.split(1));
  for (size_t i = 0; i < kNameSequences; ++i)
    documents.push_back(by.decode(sequences.next(), true));

  Memory memory;
  memory.address_block = config.model.memory->block;
  memory.blocks = {memory.address_block};
  memory.keys = learned_keys(config, network);
  const Transformer net = Transformer::load(folder, at::kCPU, at::kFloat);
  const auto states = collect_states(net, windows, memory.blocks, reporter).front();
  write_memory_folder(folder, memory, states, documents, info, rng);

  // The gate is measured on the model as it will be opened.
  OpenOptions open;
  open.threads = at::get_num_threads();
  const LanguageModel model = LanguageModel::open(folder, open);
  const GateFit fit =
      fit_gate(model, text.facts, memory.keys.queries(states), kGateSubjects, reporter);
  memory.gate = fit.gate;
  find_first(memory.gate,
             memory.keys.queries(first_token_states(net, windows, memory.address_block)));
  nlohmann::json all = load_memory_info(folder);
  all["base_digest"] = model.base_digest();
  all["gate_fit"] = {{"subjects", fit.subjects}, {"same", fit.same}, {"other", fit.other}};
  save_memory(folder, memory, load_background(folder, memory.keys), all);
  return fit;
}

}  // namespace accrete
