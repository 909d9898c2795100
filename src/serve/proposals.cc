#include "serve/proposals.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/sha256.h"
#include "base/utc.h"
#include "io/strict_json.h"

namespace accrete::serve {
namespace {

using Json = nlohmann::ordered_json;
constexpr size_t kMost = 1000;

std::string dumped(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Proposal proposal_of(const nlohmann::json& json) {
  Proposal p;
  for (const auto& [name, field] : {std::pair{"id", &p.id},
                                    {"time", &p.time},
                                    {"question", &p.question},
                                    {"old_answer", &p.old_answer},
                                    {"answer", &p.answer},
                                    {"said", &p.said},
                                    {"state", &p.state}})
    *field = json.at(name).get<std::string>();
  for (const auto& [name, field] : {std::pair{"key", &p.key},
                                    {"overlay", &p.overlay},
                                    {"subject", &p.subject},
                                    {"job", &p.job},
                                    {"error", &p.error}})
    *field = json.value(name, std::string());
  p.questions = json.at("questions").get<std::vector<std::string>>();
  p.verbatim = json.value("verbatim", false);
  p.count = json.value("count", int64_t{1});
  // Jobs end with the server; the ledger says what was committed.
  if (p.state == "teaching") p.state = "open";
  return p;
}

}  // namespace

Json Proposal::json() const {
  Json out = {{"id", id},
              {"object", "memory.proposal"},
              {"time", time},
              {"state", state},
              {"question", question},
              {"questions", questions},
              {"old_answer", old_answer},
              {"answer", answer},
              {"said", said},
              {"count", count}};
  const auto add = [&](const char* name, const std::string& text) {
    if (!text.empty()) out[name] = text;
  };
  add("key", key);
  add("overlay", overlay);
  add("subject", subject);
  if (verbatim) out["verbatim"] = true;
  add("job", job);
  add("error", error);
  return out;
}

std::string Proposal::line() const {
  Json out = {{"questions", questions}, {"answer", answer}};
  if (!subject.empty()) out["subject"] = subject;
  if (verbatim) out["verbatim"] = true;
  return dumped(out) + "\n";
}

Proposals::Proposals(std::filesystem::path file) : file_(std::move(file)) {
  if (!std::filesystem::exists(file_)) {
    const int fd = ::open(file_.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0)
      throw Error(ErrorCode::kIo, accrete::format("cannot write {}", file_.string()),
                  "give --proposals a file in a folder that can be written to");
    ::close(fd);
  }
  const std::string text = read_file(file_);
  int64_t number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = std::string_view(text).substr(at, end - at);
    at = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const auto json = parse_json(line, file_.string(), {}, number);
    try {
      all_.push_back(proposal_of(json));
    } catch (const nlohmann::json::exception&) {
      throw Error(ErrorCode::kFormat,
                  accrete::format("{}:{}: this is no proposal", file_.string(), number),
                  "give a file that the server wrote, or one that is not there yet");
    }
  }
}

void Proposals::save(const std::vector<Proposal>& all) const {
  std::string text;
  for (const Proposal& p : all) text += dumped(p.json()) + "\n";
  write_file_atomically(file_, text);
}

void Proposals::add(Proposal proposal) {
  const std::lock_guard lock(mutex_);
  std::vector<Proposal> all = all_;
  const std::string what = proposal.overlay + "\n" + proposal.questions.front() + "\n" +
                           proposal.old_answer + "\n" + proposal.answer;
  for (Proposal& p : all) {
    if (p.state != "open" || p.overlay != proposal.overlay || p.answer != proposal.answer ||
        p.old_answer != proposal.old_answer || p.questions != proposal.questions)
      continue;
    ++p.count;
    save(all);
    all_ = std::move(all);
    return;
  }
  proposal.time = utc_now();
  std::string id;
  const auto taken = [&](const Proposal& p) { return p.id == id; };
  for (size_t again = 0; id.empty() || std::any_of(all.begin(), all.end(), taken); ++again)
    id = "p-" + sha256_hex(what + "\n" + std::to_string(again)).substr(0, 12);
  proposal.id = id;
  all.push_back(std::move(proposal));
  if (all.size() > kMost) all.erase(all.begin());
  save(all);
  all_ = std::move(all);
}

std::vector<Proposal> Proposals::list(const std::optional<std::string>& overlay) const {
  const std::lock_guard lock(mutex_);
  std::vector<Proposal> out;
  for (auto p = all_.rbegin(); p != all_.rend(); ++p)
    if (!overlay || p->overlay == *overlay) out.push_back(*p);
  return out;
}

std::optional<Proposal> Proposals::find(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  for (const Proposal& p : all_)
    if (p.id == id) return p;
  return std::nullopt;
}

bool Proposals::move(const std::string& id, const std::string& from, const std::string& state,
                     const std::string& job) {
  const std::lock_guard lock(mutex_);
  std::vector<Proposal> all = all_;
  for (Proposal& p : all) {
    if (p.id != id || p.state != from) continue;
    p.state = state;
    p.job = job;
    p.error.clear();
    save(all);
    all_ = std::move(all);
    return true;
  }
  return false;
}

void Proposals::ended(const std::string& job, bool committed, const std::string& error) {
  const std::lock_guard lock(mutex_);
  for (Proposal& p : all_) {
    if (p.job != job || p.state != "teaching") continue;
    p.state = committed ? "taught" : "open";
    p.error = error;
    save(all_);
  }
}

void Proposals::erase(const std::string& overlay) {
  const std::lock_guard lock(mutex_);
  std::vector<Proposal> all = all_;
  std::erase_if(all, [&](const Proposal& p) { return p.overlay == overlay; });
  if (all.size() == all_.size()) return;
  save(all);
  all_ = std::move(all);
}

}  // namespace accrete::serve
