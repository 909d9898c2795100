// What was taught as facts, and which of them a question asks for.
//
// The address of a fact is whom x what. *Whom*: its subject stands in the question, as whole words
// (text/wording.h), or was the last one named in the conversation; facts without a subject have no
// such condition. *What*: the question, and the question with the subject masked, lie near a
// wording of the fact in the reader's space. A store that is about one subject nearly alone answers
// questions that name nobody too, as it would without a subject. Of the candidates one is best; it
// is accepted when the probability that it is meant (acceptance.h) is high enough, and otherwise
// nothing is, and the model answers as it always did.
//
// Passages of documents are in the store too, beside the facts: they are told where no fact is
// accepted (passage_index.h).
//
// A store is a value: adding an update makes another store that shares what the two have in common.
// A fact that a later one corrects stays in its update and is not in the store.
//
// Non-goals: encoding (model/reader.h), values in a network (model/fact_sites.h), files.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ledger/update_file.h"
#include "memory/acceptance.h"
#include "memory/passage_index.h"
#include "memory/read_pair.h"
#include "memory/spelling.h"
#include "text/wording.h"

namespace accrete {

// What a store is asked with.
struct Question {
  std::string text;                  // the last message of the user
  std::vector<std::string> earlier;  // the user's messages before it, oldest first
  bool raw = false;                  // a text to go on with: facts taught raw alone answer it
};

// One fact of a store. Its texts are items()[i] of its update.
struct StoredFact {
  std::string id;  // ledger/facts.h
  std::string update_id;
  std::shared_ptr<const Update> update;
  size_t item = 0;        // of update->taught.items
  int64_t first_key = 0;  // of update->facts, its wordings' in order
  int64_t first_vector = 0;
  int64_t subject = -1;  // of subjects(); -1: none

  const TaughtItem& text() const { return update->taught.items[item]; }
  int64_t keys() const { return static_cast<int64_t>(text().prompts.size()); }
  int64_t vectors() const { return update->facts.vectors[item]; }
};

class FactStore {
 public:
  int64_t size() const { return static_cast<int64_t>(facts_.size()); }
  bool empty() const { return facts_.empty(); }
  const StoredFact& fact(int64_t i) const { return facts_[static_cast<size_t>(i)]; }
  // By fact_id; -1: it is not there.
  int64_t find(const std::string& id) const;
  // The passages among the facts, in order.
  const std::vector<int64_t>& passages() const { return passages_; }

  // With one more update, whose facts replace those that they say they do. An update without facts
  // changes nothing. Throws kFormat when its keys have another width.
  FactStore with(const std::string& update_id, std::shared_ptr<const Update> update) const;
  // Of many updates, in order: as if added one after another.
  using Named = std::pair<std::string, std::shared_ptr<const Update>>;
  static FactStore of(std::span<const Named> updates);

  // The subjects that a question names, or else the last that its conversation named; and the texts
  // whose vectors choose() needs.
  struct Asked {
    std::vector<int64_t> subjects;
    // Of the facts without a subject one, if there are any: the question. Then of each subject two:
    // the question, and with the subject masked. Slips of typing are mended.
    std::vector<std::string> texts;
    std::string key;        // the question's words, for the very same question
    bool to_write = false;  // asks_to_write() of text/wording.h
    bool unnamed = false;   // `subjects` is the main one, and the question does not name it
    // What passages are searched by, texts too; empty without passages: the question, and behind
    // the one before it where it leans on that.
    std::vector<std::string> passage_texts;
    bool raw = false;
  };
  Asked read(const Question& question, const Vocabulary& vocabulary) const;
  // How the question lies to every fact that it may ask for. `vectors` [texts, key_width]
  // row-major, unit length.
  std::vector<Evidence> weigh(const Asked& asked, const float* vectors) const;
  // What a cross-encoder reads for one of them.
  ReadPair pair(const Asked& asked, const Evidence& evidence) const;
  // decide() of acceptance.h.
  Choice decide(const Asked& asked, std::span<const Evidence> evidence, const AcceptanceRule& rule,
                double caution = 0) const;

  // Into `choice`, what a model that reads notes is told beside the accepted fact: the runner-up
  // where that may be meant too, and for a request to write about a subject ("Write an
  // advertisement for the Hub with its price.") the facts of it that lie nearest.
  void decide_about(const Asked& asked, std::span<const Evidence> evidence, Choice& choice) const;

  // Of passages(), made when it is first needed.
  const PassageIndex& passage_index() const;
  // How the question lies to the passages that are nearest; `vectors` [passage_texts, key_width].
  std::vector<PassageEvidence> weigh_passages(const Asked& asked, const float* vectors) const;
  // What is read of one of them together with the question.
  ReadPassage read_passage(const Asked& asked, const PassageEvidence& evidence) const;
  // Into `choice`, the passages that are told.
  void decide_passages(std::vector<PassageEvidence> evidence, double caution, Choice& choice) const;

  const std::string& subject_name(int64_t subject) const {
    return subjects_[static_cast<size_t>(subject)].name;
  }
  int64_t key_width() const { return key_width_; }

 private:
  struct Subject {
    std::string name;                // as first written
    std::vector<std::string> forms;  // of its words
    std::vector<int64_t> facts;
  };
  int64_t subject_of(const std::string& name);
  std::vector<int64_t> named_in(const std::string& text, std::span<const Word> words,
                                bool raw) const;
  std::string whole_question(const Question& question) const;
  // What the facts of one subject are compared by; made at the first question about it.
  struct Group;
  struct Groups;
  const Group& group(int64_t subject, bool raw) const;
  // `text`: which of asked.texts is the question with the subject masked.
  void gather(int64_t subject, size_t text, const float* whole, const float* masked,
              const Asked& asked, std::vector<Evidence>& out) const;
  void append(const std::string& update_id, std::shared_ptr<const Update> update);
  void index();

  std::vector<StoredFact> facts_;
  std::vector<Subject> subjects_;
  int64_t main_subject_ = -1;  // that which nearly all facts with a subject are about; -1: none
  std::vector<int64_t> open_;  // facts without a subject
  std::vector<int64_t> passages_;
  std::unordered_map<std::string, int64_t> subject_by_key_, fact_by_id_;
  std::unordered_map<std::string, std::vector<int64_t>> subjects_by_first_;
  int64_t key_width_ = 0;
  std::shared_ptr<Groups> groups_;  // of this store alone
};

}  // namespace accrete
