#include "serve/keys.h"

#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/sha256.h"
#include "io/strict_json.h"
#include "ledger/overlay_folder.h"

namespace accrete::serve {
namespace {

constexpr Scope kScopes[] = {Scope::kAsk, Scope::kTeach, Scope::kUndo, Scope::kAdmin};

bool is_hash(const std::string& text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

bool is_name(const std::string& text) {
  return !text.empty() && text.front() != '-' && text.size() <= 64 &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                  c == '_' || c == '.' || c == '-';
         });
}

std::string line_of(const Key& key) {
  nlohmann::ordered_json scopes = nlohmann::ordered_json::array();
  for (const Scope scope : key.scopes) scopes.push_back(scope_name(scope));
  nlohmann::ordered_json json = {{"name", key.name}, {"sha256", key.sha256}, {"scopes", scopes}};
  if (!key.overlay.empty()) json["overlay"] = key.overlay;
  if (key.quotas.jobs_a_day > 0) json["quotas"]["jobs_a_day"] = key.quotas.jobs_a_day;
  if (key.quotas.items_a_job > 0) json["quotas"]["items_a_job"] = key.quotas.items_a_job;
  return json.dump() + "\n";
}

// What is wrong with the overlay that a key is bound to; empty: nothing.
std::string fault_of(const Key& key) {
  if (!is_overlay_name(key.overlay))
    return "an overlay has a name of small letters, digits, '_', '.' and '-', at most 64";
  if (std::find(key.scopes.begin(), key.scopes.end(), Scope::kAdmin) != key.scopes.end())
    return "a key with the scope admin reaches every overlay, and is bound to none";
  return {};
}

// Throws Error for what is none, or a bound that is not known: it would bind nobody.
KeyQuotas quotas_of(const nlohmann::json& json) {
  KeyQuotas out;
  if (!json.is_object()) throw Error(ErrorCode::kFormat, "quotas are an object");
  for (const auto& [name, value] : json.items()) {
    if (name != "jobs_a_day" && name != "items_a_job")
      throw Error(ErrorCode::kFormat, "quotas are jobs_a_day and items_a_job");
    if (!value.is_number_integer() || value.get<int64_t>() < 1)
      throw Error(ErrorCode::kFormat, name + " is a whole number above 0");
    (name == "jobs_a_day" ? out.jobs_a_day : out.items_a_job) = value.get<int64_t>();
  }
  return out;
}

std::string text_of(const std::vector<Key>& keys) {
  std::string out;
  for (const Key& key : keys) out += line_of(key);
  return out;
}

}  // namespace

std::string_view scope_name(Scope scope) {
  switch (scope) {
    case Scope::kAsk:
      return "ask";
    case Scope::kTeach:
      return "teach";
    case Scope::kUndo:
      return "undo";
    case Scope::kAdmin:
      break;
  }
  return "admin";
}

Scope parse_scope(std::string_view name) {
  for (const Scope scope : kScopes)
    if (scope_name(scope) == name) return scope;
  throw Error(ErrorCode::kInvalidArgument, accrete::format("\"{}\" is no scope", std::string(name)),
              "use ask, teach, undo or admin");
}

bool Key::allows(Scope scope) const {
  return std::any_of(scopes.begin(), scopes.end(),
                     [&](Scope has) { return has == scope || has == Scope::kAdmin; });
}

std::vector<Key> read_keys(const std::filesystem::path& file) {
  const std::string text = read_file(file);
  std::vector<Key> out;
  int64_t number = 0;
  for (size_t at = 0; at < text.size(); ++at) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = std::string_view(text).substr(at, end - at);
    at = end;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const auto wrong = [&](const std::string& what) {
      return Error(ErrorCode::kFormat, accrete::format("{}:{}: {}", file.string(), number, what),
                   "make keys with `accrete key add FILE NAME`");
    };
    const auto json = parse_json(line, file.string(), {}, number);
    Key key;
    try {
      key.name = json.at("name").get<std::string>();
      key.sha256 = json.at("sha256").get<std::string>();
      for (const auto& scope : json.at("scopes"))
        key.scopes.push_back(parse_scope(scope.get<std::string>()));
      if (json.contains("overlay")) key.overlay = json["overlay"].get<std::string>();
      if (json.contains("quotas")) key.quotas = quotas_of(json["quotas"]);
    } catch (const nlohmann::json::exception&) {
      throw wrong(
          "a key has a name, a sha256, a list of scopes, and may have an overlay and quotas");
    } catch (const Error& e) {
      throw wrong(e.what());
    }
    if (!is_name(key.name) || !is_hash(key.sha256) || key.scopes.empty())
      throw wrong("a key has a name of letters and digits, 64 hex digits and at least one scope");
    if (json.contains("overlay"))
      if (const std::string fault = fault_of(key); !fault.empty()) throw wrong(fault);
    for (const Key& other : out)
      if (other.name == key.name || other.sha256 == key.sha256)
        throw wrong("this name or key is there twice");
    out.push_back(std::move(key));
  }
  return out;
}

std::string add_key(const std::filesystem::path& file, const std::string& name,
                    const std::vector<Scope>& scopes, const std::string& overlay,
                    const KeyQuotas& quotas) {
  if (!is_name(name))
    throw Error(ErrorCode::kInvalidArgument, accrete::format("\"{}\" cannot name a key", name),
                "use letters, digits, '_', '.' and '-', at most 64");
  if (scopes.empty())
    throw Error(ErrorCode::kInvalidArgument, "a key needs a scope",
                "use ask, teach, undo or admin");
  if (const std::string fault = overlay.empty() ? "" : fault_of({name, "", scopes, overlay});
      !fault.empty())
    throw Error(ErrorCode::kInvalidArgument, fault, "use ask, teach and undo with --overlay");
  std::vector<Key> keys;
  if (std::filesystem::exists(file)) keys = read_keys(file);
  for (const Key& key : keys)
    if (key.name == name)
      throw Error(ErrorCode::kConflict, accrete::format("there is a key \"{}\" already", name),
                  "revoke it first, or take another name");
  std::array<unsigned char, 32> random{};
  size_t got = 0;
  while (got < random.size()) {
    const ssize_t n = ::getrandom(random.data() + got, random.size() - got, 0);
    if (n < 0 && errno != EINTR) throw Error(ErrorCode::kIo, "the system gives no random bytes");
    if (n > 0) got += static_cast<size_t>(n);
  }
  std::string key = "acc-";
  for (const unsigned char byte : random) key += accrete::format("{:02x}", byte);
  keys.push_back({name, sha256_hex(key), scopes, overlay, quotas});
  // Made with its owner's rights alone; replacing it keeps them.
  if (!std::filesystem::exists(file)) {
    const int fd = ::open(file.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0) throw Error(ErrorCode::kIo, accrete::format("cannot write {}", file.string()));
    ::close(fd);
  }
  write_file_atomically(file, text_of(keys));
  return key;
}

void revoke_key(const std::filesystem::path& file, const std::string& name) {
  std::vector<Key> keys = read_keys(file);
  const auto all = keys.size();
  std::erase_if(keys, [&](const Key& key) { return key.name == name; });
  if (keys.size() == all)
    throw Error(ErrorCode::kNotFound, accrete::format("there is no key \"{}\"", name),
                "`accrete key list FILE` names them");
  write_file_atomically(file, text_of(keys));
}

KeyRing::KeyRing(std::filesystem::path file) : file_(std::move(file)), keys_(read_keys(file_)) {
  std::error_code ec;
  changed_ = std::filesystem::last_write_time(file_, ec);
  size_ = std::filesystem::file_size(file_, ec);
}

std::optional<Key> KeyRing::find(std::string_view text) {
  std::error_code ec;
  const auto changed = std::filesystem::last_write_time(file_, ec);
  const auto size = std::filesystem::file_size(file_, ec);
  if (ec || changed != changed_ || size != size_) {
    changed_ = changed;
    size_ = size;
    try {
      keys_ = read_keys(file_);
    } catch (const Error&) {
      keys_.clear();
      size_ = 0;  // and is looked at again
      changed_ = {};
    }
  }
  const std::string hash = sha256_hex(text);
  for (const Key& key : keys_)
    if (key.sha256 == hash) return key;
  return std::nullopt;
}

}  // namespace accrete::serve
