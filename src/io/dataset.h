// Teach sets, question files and corpora: JSONL by its keys, plain text, and both packed with zstd.
//
// One line, one item; its keys say what it is:
//   {"prompt": P, "completion": C}                one phrasing of a fact
//   {"prompts": [P, ...], "completion": C}        several phrasings of one fact
//   {"question": Q, "answer": A}  also "questions": [...], "answers": [...]
//   {"messages": [{"role": R, "content": C}, ...]}   a conversation that ends with the assistant
//   {"text": T}                                   running text, or a document (io/documents.h)
// Beside a fact: "verbatim": true (its answer is written word for word), "corrects": Q (a question
// that what was taught answers, and this answers from now on), and instead of an answer "leave":
// true (a question that is left to the model).
// Optional beside any: "subject" (string), "asked": [P, ...] (phrasings to ask in, never taught),
// "id" (string), and beside a text "title" and "url" (strings), which say where it stands.
// "completion" and "answer" are synonyms, as are their plurals, "prompt" and "question" too; of
// synonyms only one may be there. A singular beside its plural is its first entry. With several
// answers the first is taught and the best score counts. Other keys ("split", "context", ...;
// beside a fact also "text", "title", "url") are annotations and left alone, but one that looks
// like a slip of the pen ("subjects", "Prompt") is an error. A `.txt` file is one text per
// document; documents are separated by a line "<|endoftext|>".
//
// Non-goals: tokenising, templates, shuffling.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace accrete {

struct Message {
  std::string role;
  std::string content;
  // Further fields as chat templates take them ("tool_calls", "name"): a JSON object as text, or
  // empty.
  std::string more = {};
};

struct Item {
  enum class Kind { kFact, kMessages, kText };
  Kind kind = Kind::kFact;
  std::vector<std::string> prompts;  // kFact: >= 1 unless only `asked` is given
  std::vector<std::string> answers;  // kFact: >= 1 unless `leave`
  std::vector<std::string> asked;    // kFact: phrasings for asking only; may be empty
  std::string subject;               // may be empty
  bool verbatim = false;             // kFact
  bool leave = false;                // kFact: without answers
  std::string corrects;              // a question whose fact this corrects; may be empty
  std::vector<Message> messages;     // kMessages
  std::string text;                  // kText
  std::string title;                 // kText; may be empty
  std::string source;                // kText: a path or an address; empty: the set's own
  std::string digest;                // kText of a file of its own: SHA-256 of its bytes
  bool markdown = false;             // kText
  std::string id;                    // may be empty
  int64_t line = 0;                  // 1-based line in the file
};

struct Dataset {
  std::filesystem::path path;
  std::string digest;  // SHA-256 of the file's bytes
  std::vector<Item> items;
  std::vector<std::string> remarks;  // what of a folder was not read, and why
};

// Reads .jsonl, .json (an array of items), .txt, each optionally with .zst. Throws kNotFound, kIo,
// kFormat ("FILE:LINE: what is wrong", naming the keys found and the keys expected), and
// kInvalidArgument when there is no item or the name ends in none of these. Nothing is skipped
// silently; blank lines are allowed.
Dataset read_dataset(const std::filesystem::path& path);
// The same of bytes that are at hand: those of the file `path`, which says of which kind they are.
Dataset parse_dataset(std::span<const std::byte> bytes, const std::filesystem::path& path);

// One JSONL line. `source` and `line` go into messages. The fuzz target calls it.
Item parse_item(std::string_view json, std::string_view source, int64_t line);

// Documents of a corpus, in order: the text of each kText item; a conversation's turns joined by
// newlines; a fact as one document, each phrasing followed by the first answer on a line of its
// own.
std::vector<std::string> read_corpus(const std::filesystem::path& path);

// The content of a file, unpacked if its name ends in .zst (at most `limit` bytes, else kFormat).
// Torn or damaged packed data are kFormat.
std::string read_text(const std::filesystem::path& path, size_t limit = size_t{4} << 30);

}  // namespace accrete
