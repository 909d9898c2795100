#include "bench/desk_corrections.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/sha256.h"
#include "bench/desk_methods.h"
#include "learn/teach.h"
#include "ledger/ledger.h"
#include "measure/probe.h"
#include "measure/text_metrics.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSpareTokens = 16;

// A folder with the same model and an empty ledger; it goes away with what is in it.
class WorkFolder {
 public:
  explicit WorkFolder(const fs::path& model) {
    std::string name = (fs::temp_directory_path() / "accrete-desk-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr)
      throw Error(ErrorCode::kIo, "cannot make a temporary folder " + name);
    path_ = name;
    take(model, path_);
    take_all(model / "accrete" / "reader", path_ / "accrete" / "reader");
    link(model / "accrete" / "memory.json", path_ / "accrete" / "memory.json");
    const Ledger ledger = Ledger::create(path_);
  }
  ~WorkFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  static void link(const fs::path& from, const fs::path& to) {
    std::error_code error;
    fs::create_hard_link(from, to, error);
    if (error) fs::copy_file(from, to);
  }
  static void take_all(const fs::path& from, const fs::path& to) {
    fs::create_directories(to);
    take(from, to);
    for (const auto& entry : fs::directory_iterator(from))
      if (entry.is_directory()) take_all(entry.path(), to / entry.path().filename());
  }
  static void take(const fs::path& from, const fs::path& to) {
    for (const auto& entry : fs::directory_iterator(from))
      if (entry.is_regular_file()) link(entry.path(), to / entry.path().filename());
  }

  fs::path path_;
};

Dataset dataset_of(const char* name, std::vector<Item> items) {
  Dataset out;
  out.path = name;
  for (size_t i = 0; i < items.size(); ++i) items[i].line = static_cast<int64_t>(i) + 1;
  out.digest = sha256_hex(to_jsonl(items));
  out.items = std::move(items);
  return out;
}

struct AnswersInTurn {
  std::vector<AskRequest> requests;
  std::vector<size_t> fact;
  std::vector<uint8_t> untaught;
  std::vector<std::string> said;
};

}  // namespace

nlohmann::ordered_json measure_corrections(const LanguageModel& model, const OpenOptions& open,
                                           const DeskSet& set, const Reporter& reporter) {
  const WorkFolder work(model.folder());
  std::vector<Item> corrected(set.taught.begin(),
                              set.taught.begin() + static_cast<ptrdiff_t>(set.correct.size()));
  for (size_t i = 0; i < corrected.size(); ++i) corrected[i].answers = {set.correct[i]};

  AnswersInTurn all;
  int64_t longest = 0;
  for (size_t i = 0; i < set.taught.size(); ++i) {
    const Item& item = set.taught[i];
    for (const bool asked : {false, true})
      for (const std::string& text : asked ? item.asked : item.prompts) {
        all.requests.push_back(single_question(model, text, set.raw));
        all.fact.push_back(i);
        all.untaught.push_back(asked);
      }
    const auto tokens = encode_answer(model, "", item.answers.front(), set.raw);
    longest = std::max(longest, static_cast<int64_t>(tokens.size()));
  }
  for (const std::string& answer : set.correct)
    longest =
        std::max(longest, static_cast<int64_t>(encode_answer(model, "", answer, set.raw).size()));

  TeachOptions options;
  options.raw = set.raw;
  const auto answers = [&] {
    const LanguageModel now = LanguageModel::open(work.path(), open);
    return generate_answers(now, all.requests, choose_facts(now, all.requests),
                            longest + kSpareTokens, reporter);
  };
  const TeachResult first =
      teach(work.path(), dataset_of("desk/taught", set.taught), open, options, reporter);
  const auto before = answers();
  const TeachResult second =
      teach(work.path(), dataset_of("desk/corrected", corrected), open, options, reporter);
  const auto after = answers();

  struct Share {
    size_t count = 0, of = 0;
    void add(bool yes) {
      count += yes;
      ++of;
    }
    double value() const {
      return of == 0 ? 0 : static_cast<double>(count) / static_cast<double>(of);
    }
  };
  Share taught, untaught, old, others, before_untaught;
  for (size_t i = 0; i < all.requests.size(); ++i) {
    const size_t f = all.fact[i];
    if (f < corrected.size()) {
      (all.untaught[i] ? untaught : taught).add(says_exactly(after[i], corrected[f].answers));
      old.add(says_exactly(after[i], set.taught[f].answers));
      if (all.untaught[i]) before_untaught.add(says_exactly(before[i], set.taught[f].answers));
    } else {
      others.add(before[i] == after[i]);
    }
  }
  int64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(work.path() / "accrete" / "updates"))
    bytes += static_cast<int64_t>(entry.file_size());
  return {{"facts", set.taught.size()},
          {"corrected", corrected.size()},
          {"replaced", second.conflicts.size()},
          {"old_untaught_before", before_untaught.value()},
          {"new_taught", taught.value()},
          {"new_untaught", untaught.value()},
          {"old_said", old.value()},
          {"others_unchanged", others.value()},
          {"others_questions", others.of},
          {"seconds", first.seconds},
          {"correct_seconds", second.seconds},
          {"bytes_a_fact",
           static_cast<double>(bytes) / static_cast<double>(set.taught.size() + corrected.size())}};
}

}  // namespace accrete
