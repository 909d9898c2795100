// Keys of a server: who may do what. The file keeps a key's SHA-256, never the key.
//
// One JSON object a line: {"name": NAME, "sha256": 64 HEX DIGITS, "scopes": ["ask", "teach",
// "undo", "admin"]}, and with "overlay": NAME a key of that overlay, which reaches no other. A key
// is 32 random bytes as text, so its hash cannot be searched for. "quotas": {"jobs_a_day": N,
// "items_a_job": N} bounds what is taught with it; absent: not at all.
//
// Non-goals: passwords, users, expiry.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace accrete::serve {

enum class Scope { kAsk, kTeach, kUndo, kAdmin };
std::string_view scope_name(Scope scope);
// Throws kInvalidArgument.
Scope parse_scope(std::string_view name);

struct KeyQuotas {          // 0: no bound
  int64_t jobs_a_day = 0;   // teaches and merges, by the day in UTC
  int64_t items_a_job = 0;  // lines of one teach set
};

struct Key {
  std::string name;
  std::string sha256;  // of the key's text, in hex
  std::vector<Scope> scopes;
  std::string overlay = {};  // that it is bound to; empty: what all share
  KeyQuotas quotas = {};

  // `admin` may do all of it.
  bool allows(Scope scope) const;
};

// Throws kNotFound, kIo, kFormat (FILE:LINE: what is wrong; a name or hash that is there twice).
std::vector<Key> read_keys(const std::filesystem::path& file);
// Adds one and returns the key's text, which is nowhere afterwards. Makes the file, readable by its
// owner alone. Throws as read_keys does, kConflict (the name is taken), kInvalidArgument (a name
// other than letters, digits, '_', '.', '-', at most 64; no scopes; no name for an overlay, or one
// together with admin).
std::string add_key(const std::filesystem::path& file, const std::string& name,
                    const std::vector<Scope>& scopes, const std::string& overlay = {},
                    const KeyQuotas& quotas = {});
// Throws as read_keys does, kNotFound (no key of that name).
void revoke_key(const std::filesystem::path& file, const std::string& name);

// The keys of a file, read again when it changes, so that a revoked key is refused at once.
class KeyRing {
 public:
  // Throws as read_keys does.
  explicit KeyRing(std::filesystem::path file);
  // The key that this text is. nullopt: none. A file that can no longer be read has no keys.
  std::optional<Key> find(std::string_view text);

 private:
  std::filesystem::path file_;
  std::filesystem::file_time_type changed_;
  std::uintmax_t size_ = 0;
  std::vector<Key> keys_;
};

}  // namespace accrete::serve
