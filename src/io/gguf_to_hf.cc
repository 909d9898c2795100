#include "io/gguf_to_hf.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "io/gguf_codes.h"
#include "io/hf_folder.h"
#include "io/staged_folder.h"
#include "io/utf8.h"

namespace accrete {
namespace {

using Json = nlohmann::json;

// GGUF holds float32: 9.999999747378752e-06 is meant to be 1e-05, its shortest decimal.
double shortest(double value) {
  return std::stod(accrete::format("{}", static_cast<float>(value)));
}

Json optional(const std::optional<int64_t>& id) {
  return id ? Json(*id) : Json(nullptr);
}

Json rope_scaling_json(const LlamaSizes& sizes) {
  if (sizes.rope_factor == 1) return nullptr;
  if (sizes.rope_linear) return {{"rope_type", "linear"}, {"factor", sizes.rope_factor}};
  return {{"rope_type", "llama3"},
          {"factor", sizes.rope_factor},
          {"low_freq_factor", kLlama3Low},
          {"high_freq_factor", kLlama3High},
          {"original_max_position_embeddings", kLlama3Positions}};
}

Json config_json(const LlamaSizes& sizes, const SpecialIds& ids) {
  static const std::map<std::string, const char*> kClasses = {
      {"llama", "LlamaForCausalLM"}, {"qwen2", "Qwen2ForCausalLM"}, {"qwen3", "Qwen3ForCausalLM"}};
  return {{"architectures", {kClasses.at(sizes.architecture)}},
          {"attention_bias", sizes.attention_bias},
          {"attention_dropout", 0.0},
          {"bos_token_id", optional(ids.bos)},
          {"eos_token_id", optional(ids.eos)},
          {"head_dim", sizes.head_dim},
          {"hidden_act", "silu"},
          {"hidden_size", sizes.width},
          {"intermediate_size", sizes.ffn},
          {"max_position_embeddings", sizes.context},
          {"mlp_bias", sizes.mlp_bias},
          {"model_type", sizes.architecture},
          {"num_attention_heads", sizes.heads},
          {"num_hidden_layers", sizes.blocks},
          {"num_key_value_heads", sizes.kv_heads},
          {"pad_token_id", optional(ids.padding)},
          {"rms_norm_eps", shortest(sizes.norm_epsilon)},
          {"rope_scaling", rope_scaling_json(sizes)},
          {"rope_theta", shortest(sizes.rope_theta)},
          {"tie_word_embeddings", sizes.tied},
          {"torch_dtype", "float32"},
          {"use_cache", true},
          {"vocab_size", sizes.vocabulary}};
}

Json generation_config_json(const SpecialIds& ids) {
  Json config = {{"_from_model_config", true}};
  if (ids.bos) config["bos_token_id"] = *ids.bos;
  if (ids.padding) config["pad_token_id"] = *ids.padding;
  if (!ids.eos) return config;
  config["eos_token_id"] = *ids.eos;
  // Chat models may end a turn with another token than a text.
  if (ids.end_of_turn && ids.end_of_turn != ids.eos)
    config["eos_token_id"] = {*ids.eos, *ids.end_of_turn};
  return config;
}

Json tokenizer_config_json(const GgufFile& file, const LlamaSizes& sizes, const SpecialIds& ids) {
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false},
                 {"model_max_length", sizes.context}};
  Json decoder = Json::object();
  for (const AddedToken& token : added_tokens(file))
    decoder[std::to_string(token.id)] = {{"content", token.content}, {"lstrip", false},
                                         {"normalized", false},      {"rstrip", false},
                                         {"single_word", false},     {"special", token.special}};
  config["added_tokens_decoder"] = std::move(decoder);
  const auto& tokens = file.get_strings("tokenizer.ggml.tokens");
  const auto name = [&](const char* key, const std::optional<int64_t>& id) {
    if (id) config[key] = tokens[static_cast<size_t>(*id)];
  };
  name("bos_token", ids.bos);
  name("eos_token", ids.eos);
  name("unk_token", ids.unknown);
  name("pad_token", ids.padding);
  const std::string chat = file.get_string("tokenizer.chat_template", "");
  if (!is_utf8(chat))
    throw Error(ErrorCode::kFormat, "GGUF model: the chat template is not UTF-8",
                "the file is damaged");
  if (!chat.empty()) config["chat_template"] = chat;
  return config;
}

// llama.cpp stores the rows of a head that a rotation turns together next to each other; Hugging
// Face keeps the first of all pairs, then the second. Row (which, pair) comes from (pair, which).
// Empty for tensors without such rows.
std::vector<int64_t> row_order(const LlamaTensor& tensor) {
  const int64_t heads = tensor.heads;
  if (heads == 0) return {};
  const int64_t row_count = tensor.source->shape[0];
  const int64_t head_dim = row_count / heads;
  std::vector<int64_t> from(static_cast<size_t>(row_count));
  for (int64_t head = 0; head < heads; ++head)
    for (int64_t row = 0; row < head_dim; ++row) {
      const int64_t pair = row / 2, which = row % 2;
      from[static_cast<size_t>(head * head_dim + which * (head_dim / 2) + pair)] =
          head * head_dim + row;
    }
  return from;
}

std::vector<float> values_of(const LlamaTensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.source->numel()));
  dequantize(*tensor.source, values);
  if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); }))
    throw Error(ErrorCode::kFormat,
                accrete::format("GGUF model: the tensor {} holds values that are not finite",
                                shown(tensor.source->name)),
                "the file is damaged; fetch it again");
  return values;
}

void write_weights(const std::filesystem::path& path, const std::vector<LlamaTensor>& tensors,
                   const Reporter& reporter) {
  std::vector<TensorSpec> specs;
  specs.reserve(tensors.size());
  for (const LlamaTensor& tensor : tensors)
    specs.push_back({tensor.name, DType::kF32, tensor.source->shape});
  // transformers refuses files that do not say which framework wrote them.
  SafetensorsWriter writer(path, specs, {{"format", "pt"}});
  const auto total = static_cast<int64_t>(tensors.size());
  for (int64_t i = 0; i < total; ++i) {
    reporter.check_cancelled();
    const LlamaTensor& tensor = tensors[static_cast<size_t>(i)];
    reporter.report("convert", i, total, tensor.name);
    const std::vector<float> values = values_of(tensor);
    const auto bytes = std::as_bytes(std::span(values));
    if (const auto row_of = row_order(tensor); row_of.empty())
      writer.write(bytes);
    else
      writer.write(reordered_rows(bytes, row_of));
  }
  writer.commit();
  reporter.report("convert", total, total);
}

void write_quantised(const std::filesystem::path& path, const std::vector<LlamaTensor>& tensors) {
  std::vector<NamedCodes> named;
  for (const LlamaTensor& t : tensors) named.push_back({t.name, t.source, row_order(t)});
  write_codes(path, named);
}

void write_json(const std::filesystem::path& path, const Json& value) {
  write_file_atomically(path, value.dump(2) + "\n");
}

}  // namespace

std::vector<std::byte> reordered_rows(std::span<const std::byte> rows,
                                      const std::vector<int64_t>& row_of) {
  const size_t bytes = rows.size() / row_of.size();
  std::vector<std::byte> out(rows.size());
  for (size_t i = 0; i < row_of.size(); ++i)
    std::copy_n(rows.data() + static_cast<size_t>(row_of[i]) * bytes, bytes,
                out.data() + i * bytes);
  return out;
}

void convert_gguf_to_hf(const std::filesystem::path& gguf, const std::filesystem::path& to,
                        const Reporter& reporter) {
  const GgufFile file = GgufFile::open(gguf);
  // All that can be refused is, before the first byte is written.
  const LlamaSizes sizes = llama_sizes(file);
  const std::vector<LlamaTensor> tensors = llama_tensors(file, sizes);
  const Json tokenizer = tokenizer_json_from_gguf(file);
  const SpecialIds ids = special_ids(file);
  const Json tokenizer_config = tokenizer_config_json(file, sizes, ids);

  StagedFolder folder(to);
  write_json(folder.path() / "config.json", config_json(sizes, ids));
  write_json(folder.path() / "generation_config.json", generation_config_json(ids));
  write_json(folder.path() / "tokenizer.json", tokenizer);
  write_json(folder.path() / "tokenizer_config.json", tokenizer_config);
  write_weights(folder.path() / "model.safetensors", tensors, reporter);
  write_quantised(folder.path() / "accrete" / "codes.safetensors", tensors);
  reporter.check_cancelled();
  folder.commit();
}

}  // namespace accrete
