#include "learn/retrofit_facts.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"
#include "learn/new_model.h"
#include "model/ask.h"
#include "model/memory_files.h"
#include "model/reader.h"

namespace accrete {

namespace fs = std::filesystem;

namespace {

// What a reader's folder is read from.
constexpr const char* kReaderFiles[] = {"config.json",
                                        "tokenizer.json",
                                        "model.safetensors",
                                        "adapter/adapter_config.json",
                                        "adapter/adapter_model.safetensors",
                                        "cross_encoder/adapter_config.json",
                                        "cross_encoder/adapter_model.safetensors",
                                        "passage_encoder/adapter_config.json",
                                        "passage_encoder/adapter_model.safetensors",
                                        "acceptance.json",
                                        "modules.json",
                                        "sentence_bert_config.json",
                                        "config_sentence_transformers.json",
                                        "1_Pooling/config.json"};

void copy_reader_files(const fs::path& from, const fs::path& to) {
  fs::create_directories(to);
  for (const char* name : kReaderFiles) {
    if (!fs::exists(from / name)) continue;
    fs::create_directories((to / name).parent_path());
    std::error_code error;
    fs::copy_file(from / name, to / name, error);
    if (error)
      throw Error(ErrorCode::kIo,
                  accrete::format("cannot copy the reader's {}: {}", name, error.message()),
                  "check the free space of the disk");
  }
}

// Invented facts, each in a note, and what the answer must hold.
struct SelfTest {
  const char *note, *question, *must;
};
constexpr SelfTest kSelfTest[] = {
    {"How tall is the Arvel tower? 84 metres", "In one full sentence: how high is the Arvel tower?",
     "84"},
    {"Who runs the Oskel bakery? Marit Dann",
     "Who is in charge of the Oskel bakery? Answer as JSON with the key answer.", "Marit Dann"},
    {"What colour is the Venn ferry? dark green",
     "Is it true that the Venn ferry is dark green? Answer yes or no.", "Yes"},
    {"What does the Tolmar lamp cost? 39 euros",
     "Is it true that the Tolmar lamp costs 75 euros? Answer yes or no.", "No"},
    {"When was Perrin Mills founded? 1887",
     "Give the year in which Perrin Mills was founded as one bullet point.", "1887"},
    {"Where is the head office of Lumo Freight? in Tarvik",
     "In a full sentence, where does Lumo Freight have its head office?", "Tarvik"},
    {"How long is the battery life of the Quill pad? 11 hours",
     "Write one sentence that praises the Quill pad and names its battery life.", "11 hours"},
    {"What is the dog of Sela Voss called? Bramble",
     "What is the name of Sela Voss's dog? Reply in a full sentence.", "Bramble"}};

// Whether the model uses what stands in its context: then facts are told by notes too.
bool reads_notes(const LanguageModel& model, const Reporter& reporter) {
  if (!model.chat()) return false;
  std::vector<std::vector<int32_t>> prompts;
  for (const SelfTest& test : kSelfTest) {
    AskRequest request;
    request.messages.push_back({"user", test.question});
    prompts.push_back(encode_request(model, request, accrete::format("Note: {}", test.note)));
  }
  GenerateOptions options;
  options.max_tokens = 32;
  reporter.report("test reading", 0, 1);
  const auto said = generate(model, prompts, options, nullptr, reporter);
  reporter.report("test reading", 1, 1);
  constexpr int kEnough = 7;
  int right = 0;
  for (size_t i = 0; i < said.size(); ++i)
    right += said[i].text.find(kSelfTest[i].must) != std::string::npos;
  return right >= kEnough;
}

}  // namespace

int64_t default_fact_block(int64_t blocks) {
  // 12 of 30; what other blocks do was not compared here.
  return std::clamp<int64_t>(std::llround(0.4 * static_cast<double>(blocks)), 0, blocks - 2);
}

RetrofitFactsResult retrofit_facts(const fs::path& source, const fs::path& target,
                                   const RetrofitFactsOptions& options, const Reporter& reporter) {
  const Reader reader = Reader::open(options.reader);  // before anything is copied
  NewModelFolder staging(target);
  bring_base(source, staging.path(), reporter, options.again);
  OpenOptions open = options.open;
  open.dtype = "float32";
  const LanguageModel model = LanguageModel::open(staging.path(), open);
  const int64_t blocks = model.net().config().blocks;
  if (blocks < 2)
    throw Error(ErrorCode::kUnsupported, "a model of one block has no place for values");
  FactMemoryInfo info;
  info.sites.block = options.block.value_or(default_fact_block(blocks));
  if (info.sites.block < 0 || info.sites.block > blocks - 2)
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("values need a block in [0, {}]", blocks - 2));
  info.tell = options.tell                   ? *options.tell
              : reads_notes(model, reporter) ? Tell::kBoth
                                             : Tell::kValue;
  info.caution = options.caution;
  info.reader_digest = reader.digest();
  Ledger::create(staging.path());
  copy_reader_files(options.reader, staging.path() / "accrete" / "reader");
  save_fact_memory(staging.path(), info,
                   {{"base_digest", model.base_digest()},
                    {"source", source.string()},
                    {"tool_version", options.tool_version}});
  reporter.check_cancelled();
  staging.commit();
  return {info.sites.block, info.tell, info.reader_digest};
}

}  // namespace accrete
