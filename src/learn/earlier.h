// What earlier updates of a model taught, and what that means for a new teach set: which of its
// questions they answer otherwise, what of theirs is protected, and what has to be learned along.
//
// A question asked again with another answer is a correction. It is allowed and reported; what the
// earlier update was taught with is then no longer protected, or it would win. Facts about the same
// subject that stand share the place the correction is written at, so they are learned along with
// it (companions).
//
// Non-goals: reading ledgers under way (the caller holds one).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/dataset.h"
#include "ledger/ledger.h"
#include "ledger/state_file.h"
#include "memory/access_log.h"
#include "model/language_model.h"

namespace accrete {

// Subjects are the same when their keys are: the words of their names without regard to case and
// punctuation (text/wording.h, name_key). Questions are so by question_key, answers by same_text.
std::string subject_key(const std::string& subject);

struct EarlierUpdate {
  UpdateRecord record;
  Update update;
};

// The active updates with their files, in ledger order.
std::vector<EarlierUpdate> load_earlier(const Ledger& ledger);
std::vector<EarlierUpdate> load_earlier(const Ledger& ledger, std::vector<UpdateRecord> active);
// The same as the state file has them: without the values of their rows.
std::vector<EarlierUpdate> outlines_of(std::vector<UpdateRecord> active, StateFile& state);
// The same with the members of folds (compact.h) in their place, where their files are there.
std::vector<EarlierUpdate> load_members(const Ledger& ledger);
// Their updates alone, as LanguageModel::set_overlay takes them.
std::vector<Update> updates_of(std::span<const EarlierUpdate> earlier);

// A question that an active update answers otherwise; of several updates the last one counts.
struct Conflict {
  std::string question;
  std::string answer;         // of the new set
  int64_t line = 0;           // in the new set
  std::string update;         // id
  int64_t update_line = 0;    // in the set that update was taught from
  std::string update_answer;  // what it taught
  std::string update_source;
  std::vector<std::string> taken = {};  // its wordings, which from now on ask for the new answer
};
std::vector<Conflict> find_conflicts(std::span<const Item> items,
                                     std::span<const EarlierUpdate> earlier);

// Facts about subjects of `items` that earlier updates taught and that stand: not in conflict, not
// asked again, not corrected by a later update. At most `per_subject` of each subject, the latest.
struct Companion {
  Item item;  // line 0
  bool raw = false;
};
std::vector<Companion> find_companions(std::span<const Item> items,
                                       std::span<const EarlierUpdate> earlier,
                                       int64_t per_subject = 8);

// Where a new update will speak: at tokens near `queries` [n, query_width], by a gate of `reach`;
// kEverywhere: everywhere, without a gate.
struct Speaks {
  Reach reach = Reach::kEverywhere;
  at::Tensor queries;
};

// What the earlier updates were taught with joins `log` with `weight`, but for what is about a
// subject of `items` or asks one of their questions (`items` may be empty: everything joins), and
// but for updates that the new one is not heard at: those of another reach, and those none of whose
// anchors (of `memory`'s overlay, which is that of `earlier`) is within the gate's radius of it.
// Throws kFormat when an update does not fit the keys.
void protect_earlier(AccessLog& log, std::span<const EarlierUpdate> earlier,
                     std::span<const Item> items, const Memory& memory, double weight,
                     const Speaks& where);

// How an update's taught accesses are stored and read back; `owner` [n] int32 items.
void set_taught_accesses(Taught& taught, const Accesses& accesses, const at::Tensor& owner);
// `keep` [items] says whose; empty: all. Undefined when there are none.
Accesses taught_accesses(const Taught& taught, const std::vector<bool>& keep = {});

}  // namespace accrete
