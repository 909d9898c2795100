#include <cstring>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "io/hf_folder.h"
#include "io/safetensors.h"
#include "llama_gguf.h"

namespace accrete {
namespace {

using nlohmann::json;
using testing::expect_error;
using testing::LlamaGguf;
using testing::ScratchFolder;

class GgufToHf : public ::testing::Test {
 protected:
  void convert(const Reporter& reporter = {}) {
    convert_gguf_to_hf(folder.write("model.gguf", gguf.build()), folder / "out", reporter);
  }
  json read(const char* name) { return json::parse(read_file(folder / "out" / name)); }
  // Refused, and nothing is there.
  void refuses(std::initializer_list<const char*> parts, ErrorCode code = ErrorCode::kFormat) {
    expect_error(code, parts, [&] { convert(); });
    EXPECT_EQ(folder.names(), std::vector<std::string>{"model.gguf"});
  }
  LlamaGguf gguf;
  ScratchFolder folder;
};

TEST_F(GgufToHf, WritesTheFilesOfAModel) {
  convert();
  EXPECT_EQ(ScratchFolder::names_in(folder / "out"),
            (std::vector<std::string>{"config.json", "generation_config.json", "model.safetensors",
                                      "tokenizer.json", "tokenizer_config.json"}));
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"model.gguf", "out"}));
}

TEST_F(GgufToHf, WritesTheConfiguration) {
  convert();
  const json expected = json::parse(R"({
    "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
    "bos_token_id": 0, "eos_token_id": 0, "head_dim": 4, "hidden_act": "silu", "hidden_size": 8,
    "intermediate_size": 6, "max_position_embeddings": 64, "mlp_bias": false,
    "model_type": "llama", "num_attention_heads": 2, "num_hidden_layers": 1,
    "num_key_value_heads": 1, "pad_token_id": null, "rms_norm_eps": 1e-05, "rope_scaling": null,
    "rope_theta": 50000.0, "tie_word_embeddings": true, "torch_dtype": "float32",
    "use_cache": true, "vocab_size": 6})");
  EXPECT_EQ(read("config.json"), expected);
}

TEST_F(GgufToHf, FillsInWhatAFileMayLeaveOut) {
  gguf.pairs.erase("llama.rope.dimension_count");
  gguf.pairs.erase("llama.rope.freq_base");
  gguf.pairs.erase("llama.attention.head_count_kv");
  gguf.tensor("blk.0.attn_k.weight", {8, 8});
  gguf.tensor("blk.0.attn_v.weight", {8, 8});
  convert();
  EXPECT_EQ(read("config.json")["rope_theta"], 10000.0);
  EXPECT_EQ(read("config.json")["head_dim"], 4);
  EXPECT_EQ(read("config.json")["num_key_value_heads"], 2);
}

TEST_F(GgufToHf, NamesTheWeightsAsHuggingFaceDoes) {
  convert();
  const auto file = SafetensorsFile::open(folder / "out" / "model.safetensors");
  EXPECT_EQ(file.metadata(), (Metadata{{"format", "pt"}}));
  const std::map<std::string, std::string> names = {
      {"model.embed_tokens.weight", "token_embd.weight"},
      {"model.norm.weight", "output_norm.weight"},
      {"model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight"},
      {"model.layers.0.self_attn.v_proj.weight", "blk.0.attn_v.weight"},
      {"model.layers.0.self_attn.o_proj.weight", "blk.0.attn_output.weight"},
      {"model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight"},
      {"model.layers.0.mlp.gate_proj.weight", "blk.0.ffn_gate.weight"},
      {"model.layers.0.mlp.up_proj.weight", "blk.0.ffn_up.weight"},
      {"model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight"}};
  EXPECT_EQ(file.tensors().size(), names.size() + 2);  // and q and k, see below
  for (const auto& [theirs, ours] : names) {
    EXPECT_EQ(to_float32(file.at(theirs)), gguf.tensors.at(ours).values) << theirs;
    EXPECT_EQ(file.at(theirs).dtype, DType::kF32);
  }
  EXPECT_EQ(file.at("model.layers.0.mlp.down_proj.weight").shape, (std::vector<int64_t>{8, 6}));
}

TEST_F(GgufToHf, UndoesTheRotaryOrderOfQueriesAndKeys) {
  convert();
  const auto file = SafetensorsFile::open(folder / "out" / "model.safetensors");
  // Heads of four rows: GGUF keeps pairs next to each other (0 2 1 3 of the original).
  const auto expect_rows = [&](const char* theirs, const char* ours, std::vector<size_t> rows) {
    const auto values = to_float32(file.at(theirs));
    const auto& source = gguf.tensors.at(ours).values;
    for (size_t row = 0; row < rows.size(); ++row)
      for (size_t i = 0; i < 8; ++i)
        EXPECT_EQ(values[row * 8 + i], source[rows[row] * 8 + i]) << theirs << " row " << row;
  };
  expect_rows("model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight",
              {0, 2, 1, 3, 4, 6, 5, 7});
  expect_rows("model.layers.0.self_attn.k_proj.weight", "blk.0.attn_k.weight", {0, 2, 1, 3});
}

TEST_F(GgufToHf, KeepsBiases) {
  for (const char* name : {"attn_q", "attn_output", "ffn_down"})
    gguf.tensor(std::string("blk.0.") + name + ".bias", {8});
  for (const char* name : {"attn_k", "attn_v"})
    gguf.tensor(std::string("blk.0.") + name + ".bias", {4});
  for (const char* name : {"ffn_up", "ffn_gate"})
    gguf.tensor(std::string("blk.0.") + name + ".bias", {6});
  convert();
  EXPECT_TRUE(read("config.json")["attention_bias"].get<bool>());
  EXPECT_TRUE(read("config.json")["mlp_bias"].get<bool>());
  const auto file = SafetensorsFile::open(folder / "out" / "model.safetensors");
  const auto& k = gguf.tensors.at("blk.0.attn_k.bias").values;
  EXPECT_EQ(to_float32(file.at("model.layers.0.self_attn.k_proj.bias")),
            (std::vector<float>{k[0], k[2], k[1], k[3]}));
}

TEST_F(GgufToHf, UntiesTheHeadWhereTheFileHasOne) {
  gguf.tensor("output.weight", {8, 6});
  convert();
  EXPECT_FALSE(read("config.json")["tie_word_embeddings"].get<bool>());
  const auto file = SafetensorsFile::open(folder / "out" / "model.safetensors");
  EXPECT_EQ(to_float32(file.at("lm_head.weight")), gguf.tensors.at("output.weight").values);
}

TEST_F(GgufToHf, WritesTheTokenizersConfiguration) {
  gguf.text("tokenizer.chat_template", "{{ messages }} é");
  gguf.number("tokenizer.ggml.padding_token_id", 5);
  gguf.number("tokenizer.ggml.eot_token_id", 4);
  convert();
  const json config = read("tokenizer_config.json");
  EXPECT_EQ(config["chat_template"], "{{ messages }} é");
  EXPECT_EQ(config["bos_token"], "<|end|>");
  EXPECT_EQ(config["pad_token"], "c");
  EXPECT_FALSE(config.contains("unk_token"));
  EXPECT_EQ(config["model_max_length"], 64);
  EXPECT_EQ(config["added_tokens_decoder"]["4"]["content"], "<user>");
  EXPECT_EQ(read("generation_config.json"),
            json::parse(R"({"_from_model_config":true,"bos_token_id":0,"eos_token_id":[0,4],)"
                        R"("pad_token_id":5})"));
}

// As Qwen's: rows in the order of Hugging Face, norms of the heads, heads wider than width / heads.
TEST_F(GgufToHf, ReadsQwen3) {
  for (const char* key : {"block_count", "context_length", "embedding_length",
                          "feed_forward_length", "attention.head_count", "attention.head_count_kv",
                          "attention.layer_norm_rms_epsilon", "rope.freq_base"}) {
    gguf.pairs[std::string("qwen3.") + key] = gguf.pairs.at(std::string("llama.") + key);
    gguf.pairs.erase(std::string("llama.") + key);
  }
  gguf.pairs.erase("llama.rope.dimension_count");
  gguf.text("general.architecture", "qwen3");
  gguf.number("qwen3.attention.key_length", 6);
  gguf.number("qwen3.attention.value_length", 6);
  gguf.tensor("blk.0.attn_q.weight", {8, 12});
  gguf.tensor("blk.0.attn_k.weight", {8, 6});
  gguf.tensor("blk.0.attn_v.weight", {8, 6});
  gguf.tensor("blk.0.attn_output.weight", {12, 8});
  gguf.tensor("blk.0.attn_q_norm.weight", {6});
  gguf.tensor("blk.0.attn_k_norm.weight", {6});
  convert();
  const json config = read("config.json");
  EXPECT_EQ(config["model_type"], "qwen3");
  EXPECT_EQ(config["architectures"], json::array({"Qwen3ForCausalLM"}));
  EXPECT_EQ(config["head_dim"], 6);
  const auto file = SafetensorsFile::open(folder / "out" / "model.safetensors");
  for (const auto& [name, source] :
       {std::pair{"q_proj", "attn_q"}, {"k_norm", "attn_k_norm"}, {"q_norm", "attn_q_norm"}}) {
    const TensorView* view = file.find(std::string("model.layers.0.self_attn.") + name + ".weight");
    ASSERT_NE(view, nullptr) << name;
    const auto& want = gguf.tensors.at(std::string("blk.0.") + source + ".weight").values;
    ASSERT_EQ(view->bytes.size(), want.size() * sizeof(float));
    EXPECT_EQ(std::memcmp(view->bytes.data(), want.data(), view->bytes.size()), 0) << name;
  }
  std::filesystem::remove_all(folder / "out");
  gguf.tensors.erase("blk.0.attn_k_norm.weight");
  refuses({"attn_k_norm", "missing"});
}

TEST_F(GgufToHf, ReadsTheStretchedPositionsOfLlama3) {
  // Divisors of the frequencies, from transformers' formula. Of 50000^(-2 i / 4) the second turns
  // in 1405 positions, which 8192 hold 5.83 times: often enough to be left alone.
  gguf.tensors["rope_freqs.weight"] = {{2}, {1, 1}};
  convert();
  EXPECT_EQ(read("config.json")["rope_scaling"], nullptr);  // nothing is stretched
  // With 500000 1.844 times: 0.2813 of the way from low to high, by a factor that two do not tell.
  std::filesystem::remove_all(folder / "out");
  gguf.real("llama.rope.freq_base", 500000);
  gguf.tensors["rope_freqs.weight"] = {{2}, {1, 3.2916F}};
  refuses({"another rule"}, ErrorCode::kUnsupported);
  // A third pair says what the factor is.
  gguf = {};
  gguf.real("llama.rope.freq_base", 500000);
  gguf.number("llama.rope.dimension_count", 8);
  gguf.tensor("blk.0.attn_q.weight", {8, 16});
  gguf.tensor("blk.0.attn_k.weight", {8, 8});
  gguf.tensor("blk.0.attn_v.weight", {8, 8});
  gguf.tensor("blk.0.attn_output.weight", {16, 8});
  gguf.tensors["rope_freqs.weight"] = {{4}, {1, 1, 3.2923F, 32}};
  convert();
  const json scaling = read("config.json")["rope_scaling"];
  EXPECT_EQ(scaling["rope_type"], "llama3");
  EXPECT_EQ(scaling["factor"], 32);
  EXPECT_EQ(scaling["original_max_position_embeddings"], 8192);

  gguf = {};
  gguf.text("llama.rope.scaling.type", "linear");
  gguf.real("llama.rope.scaling.factor", 4);
  std::filesystem::remove_all(folder / "out");
  convert();
  EXPECT_EQ(read("config.json")["rope_scaling"], (json{{"rope_type", "linear"}, {"factor", 4}}));
}

TEST_F(GgufToHf, RefusesOtherModels) {
  gguf.text("general.architecture", "gemma3");
  refuses({"gemma3"}, ErrorCode::kUnsupported);
  gguf = {};
  gguf.number("llama.expert_count", 8);
  refuses({"experts"}, ErrorCode::kUnsupported);
  gguf = {};
  gguf.text("llama.rope.scaling.type", "yarn");
  refuses({"rotary"}, ErrorCode::kUnsupported);
  gguf = {};
  gguf.tensor("rope_freqs.weight", {2});
  refuses({"rotary"}, ErrorCode::kUnsupported);
  gguf = {};
  gguf.number("llama.rope.dimension_count", 2);
  gguf.number("llama.attention.key_length", 4);
  refuses({"part of each head"}, ErrorCode::kUnsupported);
  gguf = {};
  gguf.tensor("blk.0.attn_q_norm.weight", {4});
  refuses({"blk.0.attn_q_norm.weight", "no place"}, ErrorCode::kUnsupported);
  gguf = {};
  gguf.text("tokenizer.ggml.model", "bert");
  refuses({"bert"}, ErrorCode::kUnsupported);
}

TEST_F(GgufToHf, RefusesMissingKeys) {
  for (const char* key :
       {"general.architecture", "llama.block_count", "llama.context_length",
        "llama.embedding_length", "llama.feed_forward_length", "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon", "tokenizer.ggml.tokens"}) {
    gguf = {};
    gguf.pairs.erase(key);
    refuses({key, "missing"});
  }
}

TEST_F(GgufToHf, RefusesSizesWithoutSense) {
  for (const char* key : {"llama.block_count", "llama.context_length", "llama.embedding_length",
                          "llama.feed_forward_length", "llama.attention.head_count",
                          "llama.attention.head_count_kv", "llama.rope.dimension_count"}) {
    for (const uint32_t value : {0u, 0xFFFFFFFFu}) {
      gguf = {};
      gguf.number(key, value);
      refuses({key});
    }
    gguf = {};
    gguf.text(key, "8");
    refuses({key, "not an integer"});
  }
  for (const float value : {0.0f, -1.0f, std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
    for (const char* key : {"llama.attention.layer_norm_rms_epsilon", "llama.rope.freq_base"}) {
      gguf = {};
      gguf.real(key, value);
      refuses({key});
    }
  }
  gguf = {};
  gguf.number("llama.block_count", 0x7FFFFFFF);
  refuses({"2147483647 blocks"});
  gguf = {};
  gguf.number("llama.attention.head_count", 3);
  gguf.number("llama.attention.head_count_kv", 2);
  refuses({"share"});
  gguf = {};
  gguf.number("llama.vocab_size", 7);
  refuses({"llama.vocab_size"});
  gguf = {};
  gguf.tensor("token_embd.weight", {8, 5});
  refuses({"6 tokens", "5 rows"});
}

TEST_F(GgufToHf, RefusesEveryMissingOrMisshapenTensor) {
  const LlamaGguf whole;
  for (const auto& [name, floats] : whole.tensors) {
    gguf = whole;
    gguf.tensors.erase(name);
    expect_error(ErrorCode::kFormat, {}, [&] { convert(); });
    gguf = whole;
    std::vector<uint64_t> dimensions = floats.dimensions;
    ++dimensions.front();
    gguf.tensor(name, dimensions);
    refuses({name.c_str(), "expected is"});
    gguf = whole;
    gguf.tensor(name,
                {floats.dimensions[0], floats.dimensions.size() > 1 ? floats.dimensions[1] : 1, 1});
    refuses({name.c_str()});
  }
}

TEST_F(GgufToHf, RefusesBiasesOfAPart) {
  gguf.tensor("blk.0.attn_q.bias", {8});
  refuses({"blk.0.attn_k.bias", "missing"});
  gguf = {};
  gguf.tensor("blk.0.attn_k.bias", {4});
  refuses({"blk.0.attn_k.bias"}, ErrorCode::kUnsupported);
}

TEST_F(GgufToHf, RefusesValuesThatAreNotFinite) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    gguf = {};
    gguf.tensors["blk.0.ffn_up.weight"].values[5] = bad;
    refuses({"blk.0.ffn_up.weight", "not finite"});
  }
}

TEST_F(GgufToHf, RefusesAChatTemplateThatIsNotUtf8) {
  gguf.text("tokenizer.chat_template", "\xFF");
  refuses({"chat template"});
}

TEST_F(GgufToHf, RefusesEveryTruncation) {
  const std::string file = gguf.build();
  // Every byte of the head would take minutes in a sanitizer build; a prime step meets every field.
  for (size_t n = 0; n < file.size(); n += 7) {
    folder.write("model.gguf", file.substr(0, n));
    expect_error(ErrorCode::kFormat, {},
                 [&] { convert_gguf_to_hf(folder / "model.gguf", folder / "out"); });
  }
  EXPECT_EQ(folder.names(), std::vector<std::string>{"model.gguf"});
}

TEST_F(GgufToHf, RefusesATargetThatHasContent) {
  std::filesystem::create_directory(folder / "out");
  folder.write("out/precious", "x");
  expect_error(ErrorCode::kInvalidArgument, {"out", "already there"}, [&] { convert(); });
  EXPECT_EQ(ScratchFolder::names_in(folder / "out"), std::vector<std::string>{"precious"});
}

TEST_F(GgufToHf, ReportsAndStopsWhenAsked) {
  int64_t last = -1, total = 0;
  Reporter reporter;
  reporter.progress = [&](const ProgressEvent& event) {
    EXPECT_EQ(event.done, last + 1);
    last = event.done;
    total = event.total;
  };
  convert(reporter);
  EXPECT_EQ(last, total);
  EXPECT_EQ(total, 11);

  std::filesystem::remove_all(folder / "out");
  reporter.progress = nullptr;
  int polls = 0;
  reporter.cancelled = [&] { return ++polls > 4; };
  expect_error(ErrorCode::kInterrupted, {}, [&] { convert(reporter); });
  EXPECT_EQ(folder.names(), std::vector<std::string>{"model.gguf"});
}

}  // namespace
}  // namespace accrete
