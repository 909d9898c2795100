#include <nlohmann/json.hpp>

#include "api/facade.h"
#include "base/format.h"
#include "base/sha256.h"
#include "learn/teach.h"
#include "model/ask.h"
#include "model/fact_memory.h"
#include "model/language_model.h"

namespace accrete::api {
namespace {

accrete::OpenOptions inner_options(const OpenOptions& options) {
  accrete::OpenOptions inner;
  inner.device = options.device;
  inner.dtype = options.dtype;
  inner.threads = options.threads;
  return inner;
}

// As a line of a teach set: so that what is refused in a file is refused here, in the same words.
std::string to_line(const Item& item, size_t number) {
  nlohmann::ordered_json line = nlohmann::ordered_json::object();
  if (!item.prompts.empty()) line["prompts"] = item.prompts;
  if (!item.answers.empty()) line["answers"] = item.answers;
  if (!item.subject.empty()) line["subject"] = item.subject;
  if (!item.asked.empty()) line["asked"] = item.asked;
  if (item.verbatim) line["verbatim"] = true;
  if (item.leave) line["leave"] = true;
  for (const Message& m : item.messages)
    line["messages"].push_back({{"role", m.role}, {"content", m.content}});
  if (!item.text.empty()) line["text"] = item.text;
  const int kinds = (!item.prompts.empty() || !item.answers.empty() || !item.asked.empty()) +
                    !item.messages.empty() + !item.text.empty();
  if (kinds > 1)
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("item {} is of more than one kind", number),
                "make one item each of a fact, a conversation, a text");
  try {
    return line.dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorCode::kInvalidArgument, accrete::format("item {} is not UTF-8", number));
  }
}

Dataset to_dataset(const std::vector<Item>& items) {
  if (items.empty()) throw Error(ErrorCode::kInvalidArgument, "there is nothing to teach");
  Dataset data;
  data.path = "memory";
  std::string text;
  for (size_t i = 0; i < items.size(); ++i) {
    const std::string line = to_line(items[i], i + 1);
    data.items.push_back(parse_item(line, "memory", static_cast<int64_t>(i) + 1));
    text += line + "\n";
  }
  data.digest = sha256_hex(text);
  return data;
}

TeachReport to_report(const TeachResult& r) {
  TeachReport report;
  report.update = r.update;
  report.items = r.items;
  report.learned = {r.learned_before, r.learned_after};
  if (r.asked_before && r.asked_after) report.asked = {*r.asked_before, *r.asked_after};
  for (const auto& [name, k] : r.kept) report.kept[name] = {k.before, k.after, k.kept, k.floor};
  report.remarks = r.remarks;
  report.rows = r.rows;
  report.parameters = r.parameters;
  report.seconds = r.seconds;
  report.peak_bytes = r.peak_bytes;
  return report;
}

}  // namespace

struct Model::Impl {
  std::filesystem::path folder;
  accrete::OpenOptions open;
  LanguageModel model;

  // The overlay as the ledger has it now.
  void refresh() {
    if (model.has_facts()) {
      const Ledger ledger = Ledger::open(folder, Ledger::Mode::kRead);
      model.use_facts(model.facts().with(load_facts(ledger, ledger.active())));
    }
    if (!model.has_memory()) return;
    model.use_overlay(model.load_overlay(Ledger::open(folder, Ledger::Mode::kRead)));
  }

  TeachReport teach(const Dataset& data, const TeachOptions& options, const Callbacks& callbacks) {
    accrete::TeachOptions inner;
    inner.ranking = parse_ranking(options.ranking);
    inner.slots = options.slots;
    inner.raw = options.raw;
    inner.seed = options.seed;
    inner.max_seconds = options.max_seconds;
    if (options.lambda) inner.deposit.lambda = inner.rows.lambda = *options.lambda;
    if (options.steps) inner.values.steps = inner.facts.steps = *options.steps;
    inner.tool_version = version();
    const auto result = accrete::teach(folder, data, open, inner, reporter_of(callbacks));
    refresh();
    return to_report(result);
  }
};

Model::Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;
Model::~Model() = default;

Model Model::open(const std::filesystem::path& folder, const OpenOptions& options) {
  return with_errors([&] {
    const auto inner = inner_options(options);
    return Model(
        std::unique_ptr<Impl>(new Impl{folder, inner, LanguageModel::open(folder, inner)}));
  });
}

const std::filesystem::path& Model::folder() const {
  return impl_->folder;
}

Answer Model::ask(const std::string& prompt, const AskOptions& options,
                  const std::function<void(std::string_view)>& stream,
                  const Callbacks& callbacks) const {
  return with_errors([&] {
    if (prompt.empty()) throw Error(ErrorCode::kInvalidArgument, "the prompt is empty");
    GenerateOptions inner;
    inner.max_tokens = options.max_tokens;
    inner.temperature = options.temperature;
    inner.top_k = options.top_k;
    inner.top_p = options.top_p;
    inner.min_p = options.min_p;
    inner.repetition_penalty = options.repetition_penalty;
    inner.stop = options.stop;
    inner.seed = options.seed;
    accrete::AskOptions how;
    how.generate = inner;
    how.caution = options.caution;
    const std::vector<AskRequest> requests = {single_question(impl_->model, prompt, options.raw)};
    StreamFn pieces;
    if (stream) pieces = [&stream](size_t, std::string_view text) { stream(text); };
    const auto asked =
        accrete::ask(impl_->model, requests, how, pieces, reporter_of(callbacks)).front();
    return Answer{asked.generation.text, asked.choice.fact >= 0,
                  static_cast<int64_t>(asked.generation.tokens.size()),
                  asked.generation.finish_reason};
  });
}

TeachReport Model::teach(const std::filesystem::path& file, const TeachOptions& options,
                         const Callbacks& callbacks) {
  return with_errors([&] { return impl_->teach(read_dataset(file), options, callbacks); });
}

TeachReport Model::teach(const std::vector<Item>& items, const TeachOptions& options,
                         const Callbacks& callbacks) {
  return with_errors([&] { return impl_->teach(to_dataset(items), options, callbacks); });
}

std::vector<std::string> Model::undo(int64_t n) {
  return with_errors([&] {
    auto ids = Ledger::open(impl_->folder, Ledger::Mode::kWrite).undo(n);
    impl_->refresh();
    return ids;
  });
}

std::vector<std::string> Model::redo(int64_t n) {
  return with_errors([&] {
    auto ids = Ledger::open(impl_->folder, Ledger::Mode::kWrite).redo(n);
    impl_->refresh();
    return ids;
  });
}

std::vector<UpdateInfo> Model::log() const {
  return with_errors([&] {
    std::vector<UpdateInfo> out;
    if (!impl_->model.has_memory() && !impl_->model.has_facts()) return out;
    for (const auto& r : Ledger::open(impl_->folder, Ledger::Mode::kRead).updates())
      out.push_back({r.id, r.time, r.active, r.items, r.rows, r.source, r.tag});
    return out;
  });
}

Digest Model::digest() const {
  return with_errors(
      [&] { return Digest{impl_->model.base_digest(), impl_->model.state_digest()}; });
}

void Model::reload() {
  with_errors([&] { impl_->refresh(); });
}

}  // namespace accrete::api
