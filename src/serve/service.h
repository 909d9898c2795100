// What a server serves: a workspace, a request made ready under its state of now, and what was
// taught. With residents.h this is all of the server that knows models, ledgers and memories of
// facts.
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
#include "memory/acceptance.h"
#include "model/step_loop.h"
#include "serve/proposals.h"
#include "serve/residents.h"
#include "workspace/workspace.h"

namespace accrete::serve {

// What a request asks.
struct Query {
  std::string overlay;            // whose facts answer first; empty: what all share
  std::vector<Message> messages;  // of a chat
  std::string text;               // or a text to go on with
  std::vector<int32_t> tokens;    // or that in tokens
  std::string tools;              // that the model may call in a chat: a JSON list
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
  // At most `resident` overlays stay open. Throws as Workspace::now does, kUnsupported where no
  // texts can be written side by side.
  Service(const std::filesystem::path& folder, const api::OpenOptions& open, size_t resident = 256);

  const std::filesystem::path& folder() const { return folder_; }  // absolute
  const std::string& name() const { return name_; }
  int64_t created() const { return created_; }  // seconds since 1970
  // The state of now; all states share the network.
  std::shared_ptr<const LanguageModel> network() const { return workspace_->now(); }
  // Below, an empty `overlay` is what all share; another is opened if it is not open, and throws as
  // Workspace::overlay does.
  std::string fingerprint(const std::string& overlay) const;

  // MODEL, or MODEL:OVERLAY.
  std::string model_name(const std::string& overlay) const;
  // Whether an overlay is open and as its folder says: asking it waits for no file.
  bool ready(const std::string& overlay) const;
  // Opens it. Throws RequestError model_not_found where there is none.
  void open_overlay(const std::string& overlay) const;
  size_t resident() const { return residents_.count(); }

  // Throws kInvalidArgument, kUnsupported.
  PreparedQuery prepare(const Query& query) const;
  // Looks whether the ledger says another state, and serves that from now on. Throws as
  // Ledger::load does; then the state of before is served.
  bool refresh() { return workspace_->refresh(); }
  // The same of an overlay, after a child taught it.
  void refresh(const std::string& overlay);

  std::vector<int32_t> tokenize(const std::string& text, bool opening) const;
  std::string detokenize(const std::vector<int32_t>& tokens) const;
  // A token as text; "bytes:\\xe2" where it is no whole character.
  std::string token_text(int32_t id) const;
  nlohmann::ordered_json tokenizer_info() const;
  int64_t positions() const;
  // A text of more bytes has more tokens than the model has positions, however it is cut.
  int64_t most_bytes() const { return most_bytes_; }
  bool can_chat() const;
  bool takes_tools() const;
  // The reader's. Throws kUnsupported when there is none.
  std::vector<std::vector<float>> embed(const std::vector<std::string>& texts) const;

  // How many items a teach set of JSON lines has. Throws, before anything is computed, what a teach
  // would refuse it for, with the lines.
  int64_t check_set(const std::string& lines, const std::string& name) const;

  nlohmann::ordered_json updates(const std::string& overlay) const;
  nlohmann::ordered_json update(const std::string& overlay, const std::string& id) const;
  // As the verbs. Each returns the ids and serves the new state.
  std::vector<std::string> undo(const std::string& overlay, int64_t count);
  std::vector<std::string> redo(const std::string& overlay, int64_t count);
  void set_active(const std::string& overlay, const std::string& id, bool active);
  nlohmann::ordered_json forget(const std::string& overlay, const std::string& source);
  // Takes over the facts of an update file, by its bytes. Throws as Workspace::merge.
  nlohmann::ordered_json merge(const std::string& overlay, const std::string& bytes,
                               const std::string& on_conflict);
  // What the last message corrects, where an accepted fact gave the answer before it. Throws as
  // prepare().
  std::optional<Proposal> correction(const Query& query) const;

  // Of all of them the names; as the verbs of workspace/overlays.h.
  std::vector<std::string> overlay_names() const;
  nlohmann::ordered_json overlay(const std::string& name) const;
  nlohmann::ordered_json create_overlay(const std::string& name);
  nlohmann::ordered_json erase_overlay(const std::string& name);
  // The bytes of a file that merge takes.
  std::string export_overlay(const std::string& name) const;

 private:
  std::filesystem::path folder_;
  std::shared_ptr<Workspace> workspace_;
  // The workspace of an overlay, or of what all share.
  std::shared_ptr<Workspace> of(const std::string& overlay) const;
  std::filesystem::path place(const std::string& overlay) const;
  nlohmann::ordered_json explain(const LanguageModel& model, const Query& query,
                                 const Choice& choice) const;

  mutable Residents residents_;
  std::string name_;
  int64_t created_ = 0, most_bytes_ = 0;
  std::string base_digest_;
};

}  // namespace accrete::serve
