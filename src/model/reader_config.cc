#include "model/reader_config.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "io/strict_json.h"
#include "io/utf8.h"

namespace accrete {
namespace {

using nlohmann::json;

[[noreturn]] void fail(const std::filesystem::path& file, const std::string& what) {
  throw Error(ErrorCode::kFormat, accrete::format("{}: {}", file.string(), what),
              "is this a sentence encoder's folder? fetch it again, or save it again with "
              "`save_pretrained`");
}

[[noreturn]] void unsupported_reader(const std::filesystem::path& file, const std::string& what) {
  throw Error(ErrorCode::kUnsupported, accrete::format("{}: {}", file.string(), what),
              "a reader is a sentence encoder of the BERT family, such as all-MiniLM-L6-v2 or "
              "bge-small");
}

json parse_object(const std::string& text, const std::filesystem::path& file) {
  json parsed =
      parse_json(std::string_view(text).substr(after_byte_order_mark(text)), file.string());
  if (!parsed.is_object()) fail(file, "not a JSON object");
  return parsed;
}

int64_t size_at(const json& config, const char* key, const std::filesystem::path& file) {
  constexpr int64_t kMost = int64_t{1} << 24;
  const auto it = config.find(key);
  if (it == config.end() || !it->is_number_integer() || it->get<int64_t>() <= 0 ||
      it->get<int64_t>() > kMost)
    fail(file, accrete::format("`{}` must be a positive integer", key));
  return it->get<int64_t>();
}

std::string string_or(const json& config, const char* key, const std::string& otherwise,
                      const std::filesystem::path& file) {
  const auto it = config.find(key);
  if (it == config.end() || it->is_null()) return otherwise;
  if (!it->is_string()) fail(file, accrete::format("`{}` must be a string", key));
  return it->get<std::string>();
}

// What is missing, null or false is false.
bool flag(const json& config, const char* key, const std::filesystem::path& file) {
  const auto it = config.find(key);
  if (it == config.end() || it->is_null()) return false;
  if (!it->is_boolean()) fail(file, accrete::format("`{}` must be true or false", key));
  return it->get<bool>();
}

void read_shape(const std::filesystem::path& file, ReaderConfig& c) {
  const json config = parse_object(c.config_json, file);
  const std::string type = string_or(config, "model_type", "none", file);
  if (type != "bert") unsupported_reader(file, accrete::format("the model type {}", shown(type)));
  const std::string positions = string_or(config, "position_embedding_type", "absolute", file);
  if (positions != "absolute")
    unsupported_reader(file, accrete::format("the position embedding type {}", shown(positions)));
  for (const char* key : {"is_decoder", "add_cross_attention"})
    if (flag(config, key, file)) unsupported_reader(file, accrete::format("`{}`", key));

  const std::string act = string_or(config, "hidden_act", "gelu", file);
  if (act == "gelu")
    c.activation = ReaderConfig::Activation::kGelu;
  else if (act == "gelu_new" || act == "gelu_pytorch_tanh")
    c.activation = ReaderConfig::Activation::kGeluTanh;
  else if (act == "relu")
    c.activation = ReaderConfig::Activation::kRelu;
  else
    unsupported_reader(file, accrete::format("the activation {}", shown(act)));

  c.vocab_size = size_at(config, "vocab_size", file);
  c.width = size_at(config, "hidden_size", file);
  c.ffn_width = size_at(config, "intermediate_size", file);
  c.blocks = size_at(config, "num_hidden_layers", file);
  c.heads = size_at(config, "num_attention_heads", file);
  c.max_positions = size_at(config, "max_position_embeddings", file);
  c.types = size_at(config, "type_vocab_size", file);
  if (c.width % c.heads != 0)
    fail(file, accrete::format("`hidden_size` {} is not a multiple of `num_attention_heads` {}",
                               c.width, c.heads));
  const auto eps = config.find("layer_norm_eps");
  if (eps != config.end() && !eps->is_null()) {
    c.norm_eps = eps->is_number() ? eps->get<double>() : -1;
    if (!(c.norm_eps >= 0 && c.norm_eps < 1))
      fail(file, "`layer_norm_eps` must be a small positive number");
  }
}

void read_pooling(const std::filesystem::path& file, ReaderConfig& c) {
  const json config = parse_object(c.pooling_json, file);
  std::string mode;
  for (const auto& [key, value] : config.items()) {
    if (!key.starts_with("pooling_mode_") || !flag(config, key.c_str(), file)) continue;
    if (!mode.empty()) unsupported_reader(file, "two ways of pooling at once");
    mode = key;
  }
  if (mode.empty()) mode = "pooling_mode_" + string_or(config, "pooling_mode", "none", file);
  if (mode == "pooling_mode_cls_token" || mode == "pooling_mode_cls")
    c.pool_first = true;
  else if (mode != "pooling_mode_mean_tokens" && mode != "pooling_mode_mean")
    unsupported_reader(file, accrete::format("the pooling {}", shown(mode)));
}

// Modules behind the pooling other than the one that brings vectors to unit length would be left
// out.
void check_modules(const std::filesystem::path& file) {
  const std::string text = read_file(file);
  const json modules =
      parse_json(std::string_view(text).substr(after_byte_order_mark(text)), file.string());
  if (!modules.is_array()) fail(file, "not a list");
  for (const json& module : modules) {
    if (!module.is_object()) fail(file, "a module that is not an object");
    const std::string type = string_or(module, "type", "none", file);
    constexpr std::array<std::string_view, 3> kKnown = {"Transformer", "Pooling", "Normalize"};
    if (std::find(kKnown.begin(), kKnown.end(), type.substr(type.rfind('.') + 1)) == kKnown.end())
      unsupported_reader(file, accrete::format("the module {}", shown(type)));
  }
}

// As peft saves a LoRA of linear layers; what would change the weights in another way is refused.
double scale_of(const std::filesystem::path& file, const std::string& text) {
  const json config = parse_object(text, file);
  const std::string type = string_or(config, "peft_type", "none", file);
  if (type != "LORA") unsupported_reader(file, accrete::format("the adapter {}", shown(type)));
  for (const char* key : {"use_dora", "use_rslora", "fan_in_fan_out"})
    if (flag(config, key, file)) unsupported_reader(file, accrete::format("`{}`", key));
  for (const char* key : {"rank_pattern", "alpha_pattern", "modules_to_save"})
    if (const auto it = config.find(key); it != config.end() && !it->is_null() && !it->empty())
      unsupported_reader(file, accrete::format("`{}`", key));
  if (const std::string bias = string_or(config, "bias", "none", file); bias != "none")
    unsupported_reader(file, accrete::format("the bias {}", shown(bias)));
  const auto alpha = config.find("lora_alpha");
  if (alpha == config.end() || !alpha->is_number() || !(alpha->get<double>() > 0))
    fail(file, "`lora_alpha` must be a positive number");
  return alpha->get<double>() / static_cast<double>(size_at(config, "r", file));
}

void read_acceptance(const std::filesystem::path& file, ReaderConfig& c) {
  const json rule = parse_object(c.acceptance_json, file);
  for (const auto& [key, value] : rule.items()) {
    const auto terms = acceptance_terms();
    const auto term = std::find_if(terms.begin(), terms.end(),
                                   [&key](const AcceptanceTerm& t) { return t.name == key; });
    if (term == terms.end())
      fail(file, accrete::format("{} is no part of the decision", shown(key)));
    if (!value.is_number()) fail(file, accrete::format("{} must be a number", shown(key)));
    c.acceptance.*(term->value) = value.get<double>();
  }
  if (!(c.acceptance.few > 0)) fail(file, "\"few\" must be above 0");
}

}  // namespace

ReaderConfig ReaderConfig::from_folder(const std::filesystem::path& folder) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored))
    throw Error(ErrorCode::kNotFound,
                accrete::format("the reader {} is not a folder", folder.string()),
                "name a folder with config.json, tokenizer.json and model.safetensors");
  ReaderConfig c;
  c.config_json = read_file(folder / "config.json");
  read_shape(folder / "config.json", c);
  c.tokenizer_json = read_file(folder / "tokenizer.json");
  const std::filesystem::path pooling = folder / "1_Pooling" / "config.json";
  if (std::filesystem::exists(pooling, ignored)) {
    c.pooling_json = read_file(pooling);
    read_pooling(pooling, c);
  }
  const std::filesystem::path adapter = folder / "adapter" / "adapter_config.json";
  if (std::filesystem::exists(adapter, ignored)) {
    c.adapter_json = read_file(adapter);
    c.adapter_scale = scale_of(adapter, c.adapter_json);
  }
  const auto read_cross = [&](const char* name, std::string& text, double& scale) {
    const std::filesystem::path file = folder / name / "adapter_config.json";
    if (!std::filesystem::exists(file, ignored)) return;
    text = read_file(file);
    scale = scale_of(file, text);
    if (c.types < 2) fail(file, "a cross-encoder needs two token types");
  };
  read_cross("cross_encoder", c.cross_json, c.cross_scale);
  read_cross("passage_encoder", c.passage_json, c.passage_scale);
  const std::filesystem::path acceptance = folder / "acceptance.json";
  if (std::filesystem::exists(acceptance, ignored)) {
    c.acceptance_json = read_file(acceptance);
    read_acceptance(acceptance, c);
  }
  if (c.acceptance.cross != 0 && c.cross_json.empty())
    fail(acceptance, "\"cross\" is given and there is no cross_encoder/ beside it");
  const std::filesystem::path modules = folder / "modules.json";
  if (std::filesystem::exists(modules, ignored)) check_modules(modules);
  return c;
}

}  // namespace accrete
