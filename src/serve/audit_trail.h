// Who changed what: one JSON object a line, appended to a file as soon as it has happened.
//
//   {"time": "2026-01-31T08:15:02Z", "key": "desk", "overlay": "anna", "action": "teach", ...}
//
// `key` is the name of the key (empty: there are none), `overlay` whose facts were changed (absent:
// what all share). Of a teach stand the digest of what was sent, how it ended and the update; what
// was taught stands in the ledger. Texts of users are cut, so a line stays below 2 KB.
//
// Lines are written whole, one after the other, and are on the disk before the answer goes out.
// When the file is full it becomes FILE.1, FILE.1 becomes FILE.2, and the oldest goes.
//
// Non-goals: questions and answers (they are nobody's business), reading it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <nlohmann/json_fwd.hpp>

namespace accrete::serve {

class AuditTrail {
 public:
  struct Options {
    int64_t bytes = 16 << 20;  // of a file that is full
    int kept = 8;              // full files that stay
  };
  // Makes the file, readable by its owner alone. Throws kIo.
  explicit AuditTrail(std::filesystem::path file) : AuditTrail(std::move(file), Options()) {}
  AuditTrail(std::filesystem::path file, Options options);
  ~AuditTrail();
  AuditTrail(const AuditTrail&) = delete;
  AuditTrail& operator=(const AuditTrail&) = delete;

  // Adds the time. Throws kIo (a full disk): then the line is not there, nor a part of it.
  void add(const nlohmann::ordered_json& entry);

 private:
  void open();
  void rotate();

  std::filesystem::path file_;
  Options options_;
  std::mutex mutex_;
  int descriptor_ = -1;
  int64_t size_ = 0;
};

}  // namespace accrete::serve
