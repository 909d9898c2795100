#include "serve/service.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "learn/fact_inspect.h"
#include "learn/fact_lessons.h"
#include "learn/teach.h"
#include "ledger/ledger.h"
#include "ledger/overlay_folder.h"
#include "measure/text_metrics.h"
#include "model/ask.h"
#include "model/chat_tokens.h"
#include "model/fact_memory.h"
#include "model/memory_files.h"
#include "serve/fields.h"
#include "text/correction.h"
#include "text/unicode.h"
#include "workspace/json.h"
#include "workspace/overlays.h"

namespace accrete::serve {
namespace {

nlohmann::ordered_json record_json(const UpdateRecord& r) {
  return {{"id", r.id},
          {"object", "memory.update"},
          {"order", r.order},
          {"time", r.time},
          {"items", r.items},
          {"active", r.active},
          {"source", r.source},
          {"parent", r.parent},
          {"tag", r.tag},
          {"rows", r.rows},
          {"measurements", r.measurements}};
}

// Where facts of a state were taught: in what all share, or in the overlay.
struct Origins {
  std::string overlay;
  Ledger shared;
  std::optional<Ledger> own;

  UpdateRecord of(const FactMemory& memory, int64_t fact) const {
    return origin_of(own && !memory.is_shared(fact) ? *own : shared, memory.fact(fact));
  }
  nlohmann::ordered_json named(const FactMemory& memory, int64_t fact,
                               nlohmann::ordered_json json) const {
    if (!overlay.empty() && !memory.is_shared(fact)) json["overlay"] = overlay;
    return json;
  }
};

nlohmann::ordered_json candidate_json(const FactMemory& memory, const Origins& origins,
                                      const Candidate& c) {
  const StoredFact& fact = memory.fact(c.fact);
  const TaughtItem& item = fact.text();
  const UpdateRecord origin = origins.of(memory, c.fact);
  nlohmann::ordered_json out = {
      {"id", origin.id},
      {"source", origin.source},
      {"line", item.line},
      {"question", item.prompts[static_cast<size_t>(c.key)]},
      {"answer",
       item.leave ? nlohmann::ordered_json() : nlohmann::ordered_json(item.answers.front())},
      {"score", c.probability}};
  return origins.named(memory, c.fact, std::move(out));
}

// FactStore::decide_passages takes what is at least as likely as not.
constexpr double kPassageNeeded = 0.5;

nlohmann::ordered_json passage_json(const FactMemory& memory, const Origins& origins,
                                    const PassageChoice& c) {
  const StoredFact& fact = memory.fact(c.fact);
  const TaughtItem& item = fact.text();
  return origins.named(memory, c.fact,
                       {{"id", origins.of(memory, c.fact).id},
                        {"source", item.document},
                        {"section", item.section},
                        {"quote", quote_of(memory, c)},
                        {"score", c.probability}});
}

std::string fingerprint_of(const std::string& base, const std::string& key) {
  return accrete::format("accrete-{}-{}", base.substr(0, 8), key.substr(0, 12));
}

std::filesystem::path whole_path(const std::filesystem::path& folder) {
  const auto path = std::filesystem::absolute(folder).lexically_normal();
  return path.filename().empty() ? path.parent_path() : path;
}

}  // namespace

Service::Service(const std::filesystem::path& folder, const api::OpenOptions& open, size_t resident)
    : folder_(whole_path(folder)),
      workspace_(std::make_shared<Workspace>(Workspace::open(folder_, open))),
      residents_(*workspace_, resident),
      name_(folder_.filename().string()) {
  created_ = std::chrono::duration_cast<std::chrono::seconds>(
                 std::chrono::system_clock::now().time_since_epoch())
                 .count();
  const auto now = workspace_->now();
  if (!StepPass::supports(now->net()))
    throw Error(ErrorCode::kUnsupported, "a server computes in float32 on the CPU",
                "leave out --device and --dtype");
  if (has_memory_files(folder_))
    base_digest_ = load_memory_info(folder_).value("base_digest", std::string());
  if (base_digest_.empty()) base_digest_ = now->base_digest();
  size_t longest = 1;
  for (int32_t id = 0; id < now->tokenizer().vocab_size(); ++id)
    longest = std::max(longest, now->tokenizer().decode({&id, 1}).size());
  most_bytes_ = now->net().config().max_positions * static_cast<int64_t>(longest);
  // The reader is opened now, not at somebody's first question.
  if (now->has_facts()) (void)now->facts().reader();
}

std::shared_ptr<Workspace> Service::of(const std::string& overlay) const {
  return overlay.empty() ? workspace_ : residents_.get(overlay);
}

std::filesystem::path Service::place(const std::string& overlay) const {
  return overlay.empty() ? folder_ : find_overlay(folder_, overlay);
}

std::string Service::model_name(const std::string& overlay) const {
  return overlay.empty() ? name_ : name_ + ":" + overlay;
}

bool Service::ready(const std::string& overlay) const {
  return overlay.empty() || residents_.ready(overlay);
}

void Service::open_overlay(const std::string& overlay) const {
  try {
    (void)of(overlay);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kNotFound && error.code() != ErrorCode::kInvalidArgument &&
        error.code() != ErrorCode::kUnsupported)
      throw;
    throw RequestError(
        404, "model_not_found", "model",
        accrete::format("there is no model \"{}\"", model_name(overlay.substr(0, 100))),
        "POST /v1/overlays makes an overlay, with a key that may");
  }
}

void Service::refresh(const std::string& overlay) {
  (void)of(overlay)->refresh();
}

std::string Service::fingerprint(const std::string& overlay) const {
  return fingerprint_of(base_digest_, of(overlay)->now()->state());
}

PreparedQuery Service::prepare(const Query& query) const {
  PreparedQuery out;
  out.model = of(query.overlay)->now();
  const LanguageModel& model = *out.model;
  out.fingerprint = fingerprint_of(base_digest_, model.state());
  AskRequest request;
  request.raw = !query.chat;
  request.messages = query.messages;
  request.text = query.text;
  request.tools = query.tools;
  Choice choice;
  // Behind what a tool said the model goes on by itself.
  const bool asks = query.chat ? query.messages.back().role == "user" || !query.question.empty()
                               : !query.question.empty() || query.tokens.empty();
  if (query.facts && asks) {
    AskRequest asked = request;
    if (!query.question.empty()) asked = single_question(model, query.question, false);
    choice = choose_facts(model, {&asked, 1}, query.caution).front();
  }
  out.accepted = choice.fact >= 0;
  // A text to go on with takes nothing in front of it.
  if (!query.chat) {
    choice.passages.clear();
    choice.about.clear();
  }
  const bool tokens = !query.tokens.empty();
  if (!tokens || out.accepted) {
    if (tokens) request.text = detokenize(query.tokens);
    PreparedAsk ready = prepare_ask(model, request, choice);
    out.prompt = std::move(ready.prompt);
    out.fact = std::move(ready.fact);
    out.word_for_word = std::move(ready.word_for_word);
  }
  if (tokens) out.prompt = query.tokens;
  // A value that was learned in chats says nothing behind a text to go on with.
  if (out.accepted && !query.chat) {
    const TaughtItem& fact = model.facts().fact(choice.fact).text();
    if (!fact.raw) out.word_for_word = as_it_is(model, fact.answers.front());
  }
  if (query.facts && asks && !choice.taught() && !query.otherwise.empty() && query.tools.empty())
    out.word_for_word = as_it_is(model, query.otherwise);
  const auto name_update = [&](int64_t fact) {
    const std::string& id = model.facts().fact(fact).update_id;
    if (out.updates.find(id) == std::string::npos)
      out.updates += (out.updates.empty() ? "" : ",") + id;
  };
  if (out.accepted) name_update(choice.fact);
  for (const Candidate& other : choice.also) name_update(other.fact);
  for (const int64_t fact : choice.about) name_update(fact);
  for (const PassageChoice& passage : choice.passages) name_update(passage.fact);
  if (query.explain) out.explanation = explain(model, query, choice);
  return out;
}

nlohmann::ordered_json Service::explain(const LanguageModel& model, const Query& query,
                                        const Choice& choice) const {
  Origins origins{query.overlay, Ledger::open(folder_, Ledger::Mode::kRead), std::nullopt};
  if (!query.overlay.empty())
    origins.own.emplace(Ledger::open(place(query.overlay), Ledger::Mode::kRead));
  const bool accepted = choice.fact >= 0;
  auto updates = nlohmann::ordered_json::array();
  if (accepted) {
    updates.push_back(candidate_json(model.facts(), origins, choice.best));
    updates.back()["margin"] =
        choice.best.probability - (choice.runner_up.fact >= 0 ? choice.runner_up.probability : 0);
  }
  for (const Candidate& other : choice.also)
    updates.push_back(candidate_json(model.facts(), origins, other));
  for (const PassageChoice& passage : choice.passages)
    updates.push_back(passage_json(model.facts(), origins, passage));
  // Where no fact comes into question the passage is what was decided about.
  const bool by_passages =
      !accepted && choice.about.empty() &&
      (!choice.passages.empty() || (choice.best.fact < 0 && choice.best_passage.has_value()));
  nlohmann::ordered_json out = {{"decision", accepted                   ? "fact"
                                             : !choice.about.empty()    ? "facts"
                                             : !choice.passages.empty() ? "documents"
                                             : choice.left              ? "left"
                                                                        : "model"},
                                {"updates", updates},
                                {"needed", by_passages ? kPassageNeeded : choice.needed}};
  if (!accepted && choice.best.fact >= 0)
    out["nearest"] = candidate_json(model.facts(), origins, choice.best);
  if (!choice.taught() && choice.best_passage)
    out["nearest_passage"] = passage_json(model.facts(), origins, *choice.best_passage);
  if (choice.runner_up.fact >= 0)
    out["runner_up"] = candidate_json(model.facts(), origins, choice.runner_up);
  return out;
}

std::vector<int32_t> Service::tokenize(const std::string& text, bool opening) const {
  const auto now = workspace_->now();
  const Tokenizer& tokenizer = now->tokenizer();
  return opening ? tokenizer.encode_text(text) : tokenizer.encode(text);
}

std::string Service::detokenize(const std::vector<int32_t>& tokens) const {
  return workspace_->now()->tokenizer().decode(tokens);
}

std::string Service::token_text(int32_t id) const {
  const std::string text = workspace_->now()->tokenizer().decode({&id, 1});
  if (unicode::valid_prefix(text) == text.size()) return text;
  std::string out = "bytes:";
  for (const char c : text) out += accrete::format("\\x{:02x}", static_cast<unsigned char>(c));
  return out;
}

nlohmann::ordered_json Service::tokenizer_info() const {
  const auto now = workspace_->now();
  const Tokenizer& tokenizer = now->tokenizer();
  const auto name = [&](std::optional<int32_t> id) -> nlohmann::ordered_json {
    if (!id) return nullptr;
    return tokenizer.decode({&*id, 1});
  };
  nlohmann::ordered_json out = {
      {"eos_token", name(tokenizer.eos())},   {"bos_token", name(tokenizer.bos())},
      {"pad_token", name(tokenizer.eos())},   {"chat_template", nullptr},
      {"vocab_size", tokenizer.vocab_size()}, {"max_model_len", positions()}};
  const auto config = folder_ / "tokenizer_config.json", jinja = folder_ / "chat_template.jinja";
  if (std::filesystem::exists(config)) {
    const auto json = nlohmann::json::parse(read_file(config), nullptr, false);
    if (json.is_object() && json.contains("chat_template") && json["chat_template"].is_string())
      out["chat_template"] = json["chat_template"];
    for (const char* token : {"pad_token", "unk_token"}) {
      if (!json.is_object() || !json.contains(token)) continue;
      const auto& value = json[token];
      out[token] = value.is_object() ? value.value("content", nlohmann::json()) : value;
    }
  }
  if (std::filesystem::exists(jinja)) out["chat_template"] = read_file(jinja);
  return out;
}

int64_t Service::positions() const {
  return workspace_->now()->net().config().max_positions;
}

bool Service::takes_tools() const {
  const auto now = workspace_->now();
  return now->uses_chat(false) && now->chat()->takes_tools();
}

bool Service::can_chat() const {
  return workspace_->now()->uses_chat(false);
}

std::vector<std::vector<float>> Service::embed(const std::vector<std::string>& texts) const {
  const at::NoGradGuard no_gradients;
  const auto now = workspace_->now();
  if (!now->has_facts())
    throw Error(ErrorCode::kUnsupported, "this model has no reader",
                "models that `accrete retrofit` makes have one");
  const auto vectors = now->facts().reader().read(texts).contiguous();
  std::vector<std::vector<float>> out;
  for (int64_t i = 0; i < vectors.size(0); ++i) {
    const float* row = vectors.const_data_ptr<float>() + i * vectors.size(1);
    out.emplace_back(row, row + vectors.size(1));
  }
  return out;
}

int64_t Service::check_set(const std::string& lines, const std::string& name) const {
  const auto now = workspace_->now();
  const Dataset data = parse_dataset(std::as_bytes(std::span(lines)), name);
  if (now->has_facts())
    (void)make_fact_lessons(*now, data, /*raw=*/false);
  else
    check_teach_set(data);
  return static_cast<int64_t>(data.items.size());
}

nlohmann::ordered_json Service::updates(const std::string& overlay) const {
  auto out = nlohmann::ordered_json::array();
  for (const UpdateRecord& record : Ledger::open(place(overlay), Ledger::Mode::kRead).updates())
    out.push_back(record_json(record));
  return out;
}

nlohmann::ordered_json Service::update(const std::string& overlay, const std::string& id) const {
  const Ledger ledger = Ledger::open(place(overlay), Ledger::Mode::kRead);
  const UpdateRecord record = ledger.find(id);
  nlohmann::ordered_json out = record_json(record);
  out["taught"] = nlohmann::ordered_json::array();
  for (const TaughtItem& item : ledger.load(record.id).taught.items) {
    nlohmann::ordered_json one = {{"line", item.line}};
    if (!item.prompts.empty()) one["questions"] = item.prompts;
    if (!item.answers.empty()) one["answers"] = item.answers;
    if (!item.subject.empty()) one["subject"] = item.subject;
    if (!item.excerpt.empty()) one["excerpt"] = item.excerpt;
    if (item.verbatim) one["verbatim"] = true;
    if (item.leave) one["leave"] = true;
    out["taught"].push_back(std::move(one));
  }
  return out;
}

std::vector<std::string> Service::undo(const std::string& overlay, int64_t count) {
  return of(overlay)->undo(count).ids;
}

std::vector<std::string> Service::redo(const std::string& overlay, int64_t count) {
  return of(overlay)->redo(count).ids;
}

nlohmann::ordered_json Service::forget(const std::string& overlay, const std::string& source) {
  return to_json(of(overlay)->forget(source));
}

void Service::set_active(const std::string& overlay, const std::string& id, bool active) {
  const UpdateRecord update = Ledger::open(place(overlay), Ledger::Mode::kRead).find(id);
  if (update.active == active)
    throw Error(
        ErrorCode::kConflict,
        accrete::format("update {} is {} already", update.id, active ? "active" : "taken back"),
        "GET /v1/memory/updates says which are active");
  of(overlay)->revert(update.id, /*again=*/active);
}

std::vector<std::string> Service::overlay_names() const {
  return accrete::overlay_names(folder_);
}

nlohmann::ordered_json Service::overlay(const std::string& name) const {
  nlohmann::ordered_json out = to_json(Overlays(folder_).show(name));
  out["object"] = "overlay";
  out["model"] = model_name(name);
  return out;
}

nlohmann::ordered_json Service::create_overlay(const std::string& name) {
  (void)Overlays(folder_).create(name);
  return overlay(name);
}

nlohmann::ordered_json Service::erase_overlay(const std::string& name) {
  const auto erased = Overlays(folder_).erase(name);
  residents_.drop(name);
  return to_json(erased);
}

namespace {

// A file of this process, for as long as it is needed.
class ScratchFile {
 public:
  ScratchFile()
      : path_(create_temporary_beside(std::filesystem::temp_directory_path() / "facts")) {}
  ~ScratchFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  const std::filesystem::path& path() const { return path_; }
  // A client did not name this file.
  std::string without(std::string text) const {
    const std::string name = path_.string();
    for (size_t at; (at = text.find(name)) != std::string::npos;)
      text.replace(at, name.size(), "the file");
    return text;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace

std::string Service::export_overlay(const std::string& name) const {
  const ScratchFile file;
  (void)of(name)->facts_file(file.path());
  return read_file(file.path());
}

nlohmann::ordered_json Service::merge(const std::string& overlay, const std::string& bytes,
                                      const std::string& on_conflict) {
  const auto workspace = of(overlay);
  const ScratchFile file;
  write_file_atomically(file.path(), bytes);
  try {
    nlohmann::ordered_json json =
        to_json(workspace->merge({&file.path(), 1}, {.on_conflict = on_conflict}));
    json.erase("files");
    for (auto& conflict : json["conflicts"]) conflict.erase("file");
    return json;
  } catch (const Error& e) {
    std::string hint = e.hint();
    if (hint.find("--on-conflict") != std::string::npos)
      hint = "?on_conflict=ours keeps what is here, ?on_conflict=theirs takes what is in the file";
    throw Error(e.code(), file.without(e.what()), file.without(hint));
  }
}

std::optional<Proposal> Service::correction(const Query& query) const {
  const auto& said = query.messages;
  const size_t n = said.size();
  if (!query.chat || !query.facts || n < 3 || said[n - 1].role != "user" ||
      said[n - 2].role != "assistant" || said[n - 3].role != "user")
    return std::nullopt;
  const auto answer = corrected_answer(said[n - 1].content);
  if (!answer) return std::nullopt;
  const auto state = of(query.overlay)->now();
  AskRequest before;
  before.messages.assign(said.begin(), said.end() - 2);
  const Choice choice = choose_facts(*state, {&before, 1}, query.caution).front();
  if (choice.fact < 0) return std::nullopt;
  const TaughtItem& fact = state->facts().fact(choice.fact).text();
  if (fact.leave || fact.raw || fact.answers.empty()) return std::nullopt;
  const std::string& old = fact.answers.front();
  const auto digits = [](const std::string& text) {
    return text.find_first_of("0123456789") != std::string::npos;
  };
  // What was said must be the fact's answer, and a number gives way to a number alone.
  if (said[n - 2].content.find(old) == std::string::npos || says_exactly(*answer, old) ||
      (digits(old) && !digits(*answer)))
    return std::nullopt;
  Proposal out;
  out.overlay = query.overlay;
  out.question = said[n - 3].content.substr(0, 500);
  out.questions = fact.prompts;
  out.subject = fact.subject;
  out.old_answer = old;
  out.answer = *answer;
  out.said = said[n - 1].content;
  out.verbatim = fact.verbatim;
  return out;
}

}  // namespace accrete::serve
