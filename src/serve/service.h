// What a server serves: a workspace, a request made ready under its state of now, and what was
// taught. This is the only file of the server that knows models, ledgers and memories of facts.
//
// Non-goals: HTTP, threads (all calls are safe from any), teaching (jobs.h starts a process for
// it).
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "io/dataset.h"
#include "model/step_loop.h"
#include "workspace/workspace.h"

namespace accrete::serve {

// What a request asks.
struct Query {
  std::vector<Message> messages;  // of a chat
  std::string text;               // or a text to go on with
  std::vector<int32_t> tokens;    // or that in tokens
  bool chat = true;
  std::string question;  // names what of a text chooses a fact; empty: the text itself
  bool facts = true;     // false: as if nothing had been taught
  bool explain = false;
  double caution = 0;
  std::string otherwise;  // said where no fact is accepted; empty: the model answers
};

struct PreparedQuery {
  std::shared_ptr<const LanguageModel> model;
  std::vector<int32_t> prompt;
  std::optional<FactUse> fact;
  std::optional<Generation> word_for_word;  // the answer, which the network need not say
  bool accepted = false;                    // by a fact
  nlohmann::ordered_json explanation;       // if it was asked for
  std::string updates;                      // whose fact answers; empty: none
  std::string fingerprint;                  // of the state
};

class Service {
 public:
  // Throws as Workspace::now does, kUnsupported where no texts can be written side by side.
  Service(const std::filesystem::path& folder, const api::OpenOptions& open);

  const std::filesystem::path& folder() const { return folder_; }  // absolute
  const std::string& name() const { return name_; }
  int64_t created() const { return created_; }  // seconds since 1970
  // The state of now; all states share the network.
  std::shared_ptr<const LanguageModel> network() const { return workspace_.now(); }
  std::string fingerprint() const;

  // Throws kInvalidArgument, kUnsupported.
  PreparedQuery prepare(const Query& query) const;
  // Looks whether the ledger says another state, and serves that from now on. Throws as
  // Ledger::load does; then the state of before is served.
  bool refresh() { return workspace_.refresh(); }

  std::vector<int32_t> tokenize(const std::string& text, bool opening) const;
  std::string detokenize(const std::vector<int32_t>& tokens) const;
  // A token as text; "bytes:\\xe2" where it is no whole character.
  std::string token_text(int32_t id) const;
  nlohmann::ordered_json tokenizer_info() const;
  int64_t positions() const;
  // A text of more bytes has more tokens than the model has positions, however it is cut.
  int64_t most_bytes() const { return most_bytes_; }
  bool can_chat() const;
  // The reader's. Throws kUnsupported when there is none.
  std::vector<std::vector<float>> embed(const std::vector<std::string>& texts) const;

  // How many items a teach set of JSON lines has. Throws, before anything is computed, what a teach
  // would refuse it for, with the lines.
  int64_t check_set(const std::string& lines, const std::string& name) const;

  nlohmann::ordered_json updates() const;
  nlohmann::ordered_json update(const std::string& id) const;
  // As the verbs. Each returns the ids and serves the new state.
  std::vector<std::string> undo(int64_t count);
  std::vector<std::string> redo(int64_t count);
  void set_active(const std::string& id, bool active);
  nlohmann::ordered_json forget(const std::string& source);

 private:
  std::filesystem::path folder_;
  Workspace workspace_;
  std::string name_;
  int64_t created_ = 0, most_bytes_ = 0;
  std::string base_digest_;
};

}  // namespace accrete::serve
