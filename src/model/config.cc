#include "model/config.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <numbers>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"

namespace accrete {
namespace {

using nlohmann::json;

json parse_json_file(const std::filesystem::path& path) {
  json parsed = json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object())
    throw Error(ErrorCode::kFormat, accrete::format("{} is not a JSON object", path.string()),
                "save the model again with `save_pretrained`");
  return parsed;
}

int64_t require_positive(const json& config, const char* key, const std::string& source) {
  const auto it = config.find(key);
  if (it == config.end() || !it->is_number_integer() || it->get<int64_t>() <= 0 ||
      it->get<int64_t>() > (int64_t{1} << 31))
    throw Error(ErrorCode::kFormat,
                accrete::format("{}: `{}` must be a positive integer", source, key),
                "is this the config.json of a language model?");
  return it->get<int64_t>();
}

template <typename T>
T optional_value(const json& config, const char* key, T fallback) {
  const auto it = config.find(key);
  if (it == config.end() || it->is_null()) return fallback;
  try {
    return it->get<T>();
  } catch (const json::exception&) {
    throw Error(ErrorCode::kFormat, accrete::format("config.json: `{}` has the wrong type", key));
  }
}

void read_eos(const json& config, std::vector<int64_t>& out) {
  const auto it = config.find("eos_token_id");
  if (it == config.end()) return;
  const auto add = [&out](const json& v) {
    if (!v.is_number_integer()) return;
    const auto id = v.get<int64_t>();
    for (int64_t known : out)
      if (known == id) return;
    out.push_back(id);
  };
  if (it->is_array())
    for (const auto& v : *it) add(v);
  else
    add(*it);
}

NativeMemory read_memory(const json& config, int64_t blocks, const std::string& source) {
  const auto it = config.find("memory");
  if (it == config.end() || !it->is_object())
    throw Error(ErrorCode::kFormat, source + ": `memory` must be an object",
                "was the model made by `accrete pretrain`?");
  NativeMemory m;
  m.block = optional_value<int64_t>(*it, "block", -1);
  m.heads = require_positive(*it, "heads", source);
  m.half_keys = require_positive(*it, "half_keys", source);
  m.top_k = require_positive(*it, "top_k", source);
  m.query_width = require_positive(*it, "query_width", source);
  // Sizes of tensors are products of these: none may overflow.
  if (m.block < 0 || m.block >= blocks || m.heads > 4096 || m.half_keys > 65536 ||
      m.query_width > (1 << 20))
    throw Error(ErrorCode::kFormat, source + ": `memory` describes an impossible layer",
                "was the model made by `accrete pretrain`?");
  return m;
}

[[noreturn]] void unsupported(const std::string& source, const std::string& what) {
  throw Error(ErrorCode::kUnsupported, accrete::format("{}: {}", source, what),
              "accrete reads the Llama family: llama, mistral, qwen2, qwen3");
}

// `scaling` is the object `rope_scaling` or `rope_parameters`.
std::optional<RopeScaling> read_rope_scaling(const json& scaling, const std::string& source) {
  const auto type = optional_value<std::string>(
      scaling, "rope_type", optional_value<std::string>(scaling, "type", "default"));
  if (type == "default") return std::nullopt;
  RopeScaling s;
  s.linear = type == "linear";
  if (!s.linear && type != "llama3")
    unsupported(source, accrete::format("rope scaling \"{}\"", type));
  s.factor = optional_value<double>(scaling, "factor", 0);
  if (!s.linear) {
    s.low = optional_value<double>(scaling, "low_freq_factor", 0);
    s.high = optional_value<double>(scaling, "high_freq_factor", 0);
    s.original_positions = optional_value<double>(scaling, "original_max_position_embeddings", 0);
  }
  const auto large = [](double x) { return x > 0 && x < 1e9; };
  if (!large(s.factor) || !large(s.low) || !large(s.high) || !large(s.original_positions) ||
      s.high <= s.low)
    throw Error(ErrorCode::kFormat,
                accrete::format("{}: the rope scaling \"{}\" has impossible factors", source, type),
                "save the model again with `save_pretrained`");
  return s;
}

}  // namespace

double RopeScaling::operator()(double frequency) const {
  if (linear) return frequency / factor;
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength < original_positions / high) return frequency;
  if (wavelength > original_positions / low) return frequency / factor;
  const double smooth = (original_positions / wavelength - low) / (high - low);
  return (1 - smooth) * frequency / factor + smooth * frequency;
}

ModelConfig ModelConfig::from_json(const json& json, const std::string& source) {
  constexpr std::array kTypes = {"llama", "mistral", "qwen2", "qwen3", "accrete_native"};
  ModelConfig c;
  c.model_type = optional_value<std::string>(json, "model_type", "");
  if (std::find(kTypes.begin(), kTypes.end(), c.model_type) == kTypes.end())
    unsupported(source, accrete::format("model_type \"{}\" is not supported", c.model_type));
  c.vocab_size = require_positive(json, "vocab_size", source);
  c.width = require_positive(json, "hidden_size", source);
  c.ffn_width = require_positive(json, "intermediate_size", source);
  c.blocks = require_positive(json, "num_hidden_layers", source);
  c.heads = require_positive(json, "num_attention_heads", source);
  c.kv_heads = optional_value<int64_t>(json, "num_key_value_heads", c.heads);
  c.head_dim = optional_value<int64_t>(json, "head_dim", c.width / c.heads);
  c.max_positions = optional_value<int64_t>(json, "max_position_embeddings", 2048);
  c.norm_eps = optional_value<double>(json, "rms_norm_eps", 1e-5);
  c.rope_theta = optional_value<double>(json, "rope_theta", 10000.0);
  // transformers >= 5 nests it.
  if (const auto it = json.find("rope_parameters"); it != json.end() && it->is_object()) {
    c.rope_theta = optional_value<double>(*it, "rope_theta", c.rope_theta);
    c.rope_scaling = read_rope_scaling(*it, source);
  }
  if (const auto it = json.find("rope_scaling"); it != json.end() && it->is_object())
    c.rope_scaling = read_rope_scaling(*it, source);
  c.tied_head = optional_value<bool>(json, "tie_word_embeddings", false);
  if (const auto act = optional_value<std::string>(json, "hidden_act", "silu"); act != "silu")
    unsupported(source, accrete::format("activation \"{}\"", act));
  if (c.model_type == "mistral" && json.contains("sliding_window") &&
      !json["sliding_window"].is_null())
    unsupported(source, "sliding-window attention");
  if (c.model_type.starts_with("qwen") && optional_value<bool>(json, "use_sliding_window", false))
    unsupported(source, "sliding-window attention");
  c.head_norms = c.model_type == "qwen3";
  if (c.kv_heads <= 0 || c.heads % c.kv_heads != 0 || c.head_dim <= 0 || c.head_dim % 2 != 0)
    throw Error(
        ErrorCode::kFormat,
        accrete::format("{}: {} heads, {} key/value heads and head size {} do not fit together",
                        source, c.heads, c.kv_heads, c.head_dim));
  if (!(c.norm_eps > 0) || !(c.rope_theta > 0))
    throw Error(ErrorCode::kFormat, source + ": rms_norm_eps and rope_theta must be positive");
  read_eos(json, c.eos_ids);
  if (c.model_type == "accrete_native") c.memory = read_memory(json, c.blocks, source);
  return c;
}

ModelConfig ModelConfig::from_folder(const std::filesystem::path& folder) {
  const auto path = folder / "config.json";
  if (!std::filesystem::exists(path))
    throw Error(ErrorCode::kNotFound, accrete::format("{} has no config.json", folder.string()),
                "name a Hugging Face model folder or a .gguf file");
  ModelConfig config = from_json(parse_json_file(path), path.string());
  const auto generation = folder / "generation_config.json";
  if (std::filesystem::exists(generation)) read_eos(parse_json_file(generation), config.eos_ids);
  return config;
}

}  // namespace accrete
