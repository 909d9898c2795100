// What an update was taught, kept with it: the items, so that a later teach can find the same
// question with another answer and an explanation can name its source line; and the accesses of the
// tokens that were written at, so that later updates leave them alone.
//
// It is part of the update file (docs/formats.md): an update and its protection appear together or
// not at all.
//
// Of a memory of facts an item may be a passage of a document instead (text/passages.h): its pieces
// are `prompts`, and it has no answers. One without pieces only takes others away (`replaces`).
//
// Non-goals: the whole teach set. Of memory layers running text and conversations leave an excerpt
// only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace accrete {

struct TaughtItem {
  int64_t line = 0;                   // in the teach set
  std::vector<std::string> prompts;   // of a fact; empty otherwise
  std::vector<std::string> answers;   // of a fact; the first was taught
  std::string subject;                // as given or found; may be empty
  bool raw = false;                   // prompts without the chat template
  std::string excerpt;                // the beginning of a text or conversation
  bool verbatim = false;              // its answer is written word for word
  bool leave = false;                 // a question that is left to the model: no answers
  std::vector<std::string> replaces;  // facts that it corrects (fact_id, ledger/facts.h)
  // Of a passage:
  std::string document = {};         // where it was read: a path, an address; empty: it is none
  std::string document_digest = {};  // SHA-256 of what was read, hex
  std::string section = {};          // its headings; may be empty

  bool passage() const { return !document.empty(); }

  bool operator==(const TaughtItem&) const = default;
};

struct Taught {
  std::vector<TaughtItem> items;
  int64_t per_token = 0;          // K: accesses of a token
  std::vector<int32_t> slots;     // [n, K] row-major: a slot or -1
  std::vector<uint16_t> weights;  // [n, K] float16 bits, finite
  std::vector<int32_t> owner;     // [n] the item of each token, an index into `items`

  bool empty() const { return items.empty() && slots.empty(); }
  int64_t tokens() const { return static_cast<int64_t>(owner.size()); }
  bool operator==(const Taught&) const = default;
};

// One line of JSON an item; empty for none.
std::string taught_items_to_text(const std::vector<TaughtItem>& items);
// Strict: exactly the keys that the other writes. Throws kFormat; `source` goes into the message.
std::vector<TaughtItem> taught_items_from_text(std::string_view text, std::string_view source);

// Empty when everything fits together, else what does not.
std::string fault(const Taught& taught);

// At most `bytes` bytes of the beginning of `text`, cut between characters, white space squeezed.
std::string excerpt_of(std::string_view text, size_t bytes = 160);

}  // namespace accrete
