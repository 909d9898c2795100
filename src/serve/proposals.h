// Corrections that were said in conversations, kept for a person who may teach: each is an open
// question until somebody confirms or drops it. None is ever applied by itself.
//
// The file has one JSON object a line, and is written anew, whole or not at all, at each change:
//
//   {"id": "p-…", "time": "…", "key": "desk", "question": "…", "questions": […],
//    "old_answer": "…", "answer": "…", "said": "…", "state": "open", "count": 1}
//
// States: open; teaching (a job teaches it); taught; dropped. What was being taught when the server
// ended is open again. The same correction said twice is one proposal. The newest 1,000 stay.
//
// Non-goals: finding corrections (text/correction.h), teaching (jobs.h).
#pragma once

#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace accrete::serve {

struct Proposal {
  std::string id, time;
  std::string key;                     // the name of the key that the conversation came with
  std::string overlay;                 // whose facts it asked; empty: what all share
  std::string question;                // that was asked
  std::vector<std::string> questions;  // the wordings of the fact that answered
  std::string subject;                 // of that fact; may be empty
  std::string old_answer, answer;
  std::string said;  // the message that corrects
  bool verbatim = false;
  std::string state = "open";
  int64_t count = 1;  // how often it was said
  std::string job;    // that teaches it
  std::string error;  // why that failed

  nlohmann::ordered_json json() const;
  // The line of a teach set that puts it in the place of the old answer.
  std::string line() const;
};

class Proposals {
 public:
  // Makes the file, readable by its owner alone. Throws kIo, kFormat (FILE:LINE).
  explicit Proposals(std::filesystem::path file);

  // Gives it an id and a time. One that is open already is counted again. Throws kIo.
  void add(Proposal proposal);
  // Those of an overlay (empty: of what all share), or of all; newest first.
  std::vector<Proposal> list(const std::optional<std::string>& overlay) const;
  std::optional<Proposal> find(const std::string& id) const;
  // From `from` to `state`. false: it is not (or no longer) in that state. Throws kIo.
  bool move(const std::string& id, const std::string& from, const std::string& state,
            const std::string& job = {});
  // What a job that teaches one came to: taught, or open again with the reason.
  void ended(const std::string& job, bool committed, const std::string& error);
  // Forgets those of an overlay. Throws kIo.
  void erase(const std::string& overlay);

 private:
  void save(const std::vector<Proposal>& all) const;

  std::filesystem::path file_;
  mutable std::mutex mutex_;
  std::vector<Proposal> all_;  // oldest first
};

}  // namespace accrete::serve
