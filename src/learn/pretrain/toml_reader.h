// A TOML file read key by key: every key must be known and of its type; what is wrong is said with
// file and line.
//
// Non-goals: dates, writing TOML.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace accrete {

// One table of the file. Reading a key marks it as known; finish() refuses the others.
class TomlTable {
 public:
  // Throws kNotFound, kIo, kFormat ("FILE:LINE: ...").
  static TomlTable open(const std::filesystem::path& path);
  // The same from text that is there already; `source` names it in messages.
  static TomlTable parse(const std::string& text, const std::string& source);

  bool has(const std::string& key) const;
  // The value, or `fallback` where the key is absent. Throws kFormat on another type; an integer
  // will do for a number.
  int64_t integer(const std::string& key, int64_t fallback, int64_t low, int64_t high);
  double number(const std::string& key, double fallback, double low, double high);
  std::string text(const std::string& key, const std::string& fallback);
  // The same, one of `choices`.
  std::string choice(const std::string& key, const std::string& fallback,
                     const std::vector<std::string>& choices);
  // A table, and the tables of an array of them; empty where the key is absent.
  TomlTable table(const std::string& key);
  std::vector<TomlTable> tables(const std::string& key);
  // Throws kFormat where the key is absent.
  void require(const std::string& key) const;
  // Throws kFormat when the table has a key that nobody asked for.
  void finish() const;
  // An error about `key`, or about the table where it is absent: "FILE:LINE: what".
  [[noreturn]] void fail(const std::string& key, const std::string& what,
                         const std::string& hint) const;

 private:
  struct Node;  // toml++'s table, and the file that it is of
  std::shared_ptr<Node> node_;
  std::string name_;  // "[model]", for messages; empty: the file itself
  std::vector<std::string> known_;
};

}  // namespace accrete
