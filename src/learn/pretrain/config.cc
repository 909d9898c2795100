#include "learn/pretrain/config.h"

#include <cmath>
#include <numbers>

#include "base/error.h"
#include "base/format.h"
#include "base/sha256.h"
#include "learn/pretrain/toml_reader.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMany = int64_t{1} << 31;

void read_model(TomlTable table, PretrainConfig& c) {
  ModelConfig& m = c.model;
  m.model_type = "accrete_native";
  m.tied_head = true;
  m.width = table.integer("width", 256, 8, 1 << 16);
  m.blocks = table.integer("blocks", 6, 1, 1024);
  m.heads = table.integer("heads", 4, 1, 1024);
  m.kv_heads = table.integer("kv_heads", m.heads, 1, 1024);
  m.head_dim = table.integer("head_dim", m.width / m.heads, 2, 1024);
  m.ffn_width = table.integer("ffn_width", 3 * m.width, 8, 1 << 20);
  m.rope_theta = table.number("rope_theta", 10000, 1, 1e9);
  m.norm_eps = table.number("norm_eps", 1e-5, 1e-12, 1);
  m.max_positions = table.integer("positions", 2048, 16, 1 << 20);
  c.store_bfloat16 = table.choice("store", "float32", {"float32", "bfloat16"}) == "bfloat16";
  if (m.heads % m.kv_heads != 0)
    table.fail("kv_heads", accrete::format("{} heads cannot share {} of keys", m.heads, m.kv_heads),
               "let `kv_heads` divide `heads`");
  if (m.head_dim % 2 != 0)
    table.fail("head_dim", accrete::format("a head's width must be even, not {}", m.head_dim),
               "give `head_dim`");
  table.finish();
}

void read_memory_table(TomlTable table, PretrainConfig& c) {
  NativeMemory m;
  m.block = table.integer("block", c.model.blocks / 3, 0, c.model.blocks - 1);
  m.heads = c.keys.heads = table.integer("heads", 4, 1, 64);
  m.half_keys = c.keys.half_keys = table.integer("half_keys", 128, 2, 4096);
  m.top_k = c.keys.top_k = table.integer("top_k", 8, 1, std::min<int64_t>(m.half_keys, 64));
  m.query_width = c.keys.query_width = table.integer("query_width", 128, 2, 4096);
  c.query_norm = table.choice("query_norm", "batch", {"batch", "none"}) == "batch";
  if (m.query_width % 2 != 0)
    table.fail("query_width", "a query has two halves: `query_width` must be even", "make it even");
  if (m.heads * m.half_keys * m.half_keys >= kMany)
    table.fail("half_keys", "there would be more than 2^31 slots", "take fewer half-keys");
  table.finish();
  c.model.memory = m;
}

void read_corpora(TomlTable& root, const char* kind, const fs::path& here, const fs::path& data,
                  PretrainConfig& c) {
  for (TomlTable& table : root.tables(kind)) {
    table.require("file");
    PretrainConfig::Corpus corpus;
    corpus.facts = std::string_view(kind) == "facts";
    const fs::path file = table.text("file", "");
    corpus.weight = table.number("weight", 1, 1e-9, 1e9);
    const bool in_data = table.choice("folder", "config", {"config", "data"}) == "data";
    table.finish();
    if (in_data && data.empty()) {
      c.left_out.push_back(file.string());
      continue;
    }
    corpus.file = (in_data ? data : here) / file;
    if (!fs::exists(corpus.file))
      table.fail("file", accrete::format("there is no {}", corpus.file.string()),
                 in_data ? "is --data the folder with the corpora?"
                         : "a file's place is relative to the config's");
    c.corpora.push_back(std::move(corpus));
  }
}

void read_training(TomlTable table, PretrainConfig& c) {
  c.steps = table.integer("steps", c.steps, 1, kMany);
  c.sequences = table.integer("sequences", c.sequences, 1, 1 << 16);
  c.together = table.integer("together", std::min(c.together, c.sequences), 1, c.sequences);
  c.context = table.integer("context", c.context, 8, c.model.max_positions);
  c.rate = table.number("rate", c.rate, 1e-12, 1);
  c.value_rate = table.number("value_rate", c.value_rate, 1e-12, 1);
  c.query_rate = table.number("query_rate", c.query_rate, 1e-12, 1);
  c.warm_up = table.integer("warm_up", std::min(c.warm_up, c.steps), 0, c.steps);
  c.final_rate = table.number("final_rate", c.final_rate, 0, 1);
  c.weight_decay = table.number("weight_decay", c.weight_decay, 0, 10);
  c.clip = table.number("clip", c.clip, 1e-6, 1e6);
  c.bfloat16 = table.choice("compute", "float32", {"float32", "bfloat16"}) == "bfloat16";
  c.seed = static_cast<uint64_t>(table.integer("seed", 0, 0, INT64_MAX));
  table.finish();
}

// Everything that the result depends on, in a fixed form: a comment more changes nothing.
std::string digest_of_config(const PretrainConfig& c) {
  const ModelConfig& m = c.model;
  std::string all =
      accrete::format("model {} {} {} {} {} {} {} {} {}\n", m.width, m.blocks, m.heads, m.kv_heads,
                      m.head_dim, m.ffn_width, m.rope_theta, m.norm_eps, m.max_positions);
  all += accrete::format("memory {} {} {} {} {} {}\n", m.memory->block, c.keys.heads,
                         c.keys.half_keys, c.keys.top_k, c.keys.query_width, c.query_norm);
  all += accrete::format("tokenizer {} {}\n", c.vocabulary, c.end_of_text);
  for (const auto& corpus : c.corpora)
    all += accrete::format("corpus {} {} {}\n", corpus.file.filename().string(), corpus.weight,
                           corpus.facts);
  all += accrete::format("training {} {} {} {} {} {} {} {} {} {} {} {} {}\n", c.steps, c.sequences,
                         c.together, c.context, c.rate, c.value_rate, c.query_rate, c.warm_up,
                         c.final_rate, c.weight_decay, c.clip, c.bfloat16, c.seed);
  all += accrete::format("rest {} {}\n", c.held_out, c.background_tokens);
  if (c.store_bfloat16) all += "store bfloat16\n";
  return sha256_hex(all);
}

}  // namespace

PretrainConfig PretrainConfig::read(const fs::path& file, const fs::path& data,
                                    std::optional<uint64_t> seed) {
  TomlTable root = TomlTable::open(file);
  const fs::path here = file.parent_path();
  if (!data.empty() && !fs::is_directory(data))
    throw Error(ErrorCode::kNotFound, accrete::format("there is no data folder {}", data.string()),
                "name the folder with the corpora, or leave --data away");
  PretrainConfig c;
  read_model(root.table("model"), c);
  read_memory_table(root.table("memory"), c);

  TomlTable tokenizer = root.table("tokenizer");
  tokenizer.require("source");
  c.tokenizer = here / tokenizer.text("source", "");
  c.vocabulary = tokenizer.integer("vocabulary", c.vocabulary, 257, 65536);
  c.end_of_text = tokenizer.text("end_of_text", c.end_of_text);
  tokenizer.finish();

  read_corpora(root, "text", here, data, c);
  read_corpora(root, "facts", here, data, c);
  read_training(root.table("training"), c);

  TomlTable evaluation = root.table("evaluation");
  c.evaluate_every = evaluation.integer("every", c.evaluate_every, 0, kMany);
  c.held_out = evaluation.number("held_out", c.held_out, 0, 0.5);
  c.held_out_tokens = evaluation.integer("tokens", c.held_out_tokens, 0, kMany);
  c.facts_asked = evaluation.integer("facts", c.facts_asked, 0, kMany);
  evaluation.finish();
  TomlTable checkpoint = root.table("checkpoint");
  c.checkpoint_every = checkpoint.integer("every", c.checkpoint_every, 1, kMany);
  checkpoint.finish();
  TomlTable background = root.table("background");
  c.background_tokens = background.integer("tokens", c.background_tokens, 1000, 10'000'000);
  background.finish();
  root.finish();

  if (c.corpora.empty())
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("{}: no corpus is left", file.string()),
                c.left_out.empty() ? "name one under [[text]] or [[facts]]"
                                   : "give the folder of the corpora with --data");
  if (seed) c.seed = *seed;
  c.digest = digest_of_config(c);
  return c;
}

double PretrainConfig::schedule(int64_t step) const {
  if (step < warm_up) return static_cast<double>(step + 1) / static_cast<double>(warm_up);
  const double done = static_cast<double>(step - warm_up) /
                      static_cast<double>(std::max<int64_t>(1, steps - warm_up));
  return final_rate + (1 - final_rate) * 0.5 * (1 + std::cos(std::numbers::pi * done));
}

}  // namespace accrete
