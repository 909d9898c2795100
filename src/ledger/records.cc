#include "ledger/records.h"

#include <algorithm>
#include <bit>
#include <cctype>
#include <cmath>
#include <initializer_list>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"
#include "base/sha256.h"
#include "io/strict_json.h"
#include "io/utf8.h"

namespace accrete {
namespace {

constexpr size_t kMaxName = 128;
constexpr std::string_view kProbePrefix = "probes/";
constexpr std::string_view kProbeSuffix = ".jsonl";
constexpr std::string_view kUpdatePrefix = "updates/";

bool is_hex(std::string_view text, size_t digits) {
  return text.size() == digits &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= kMaxName &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '_' || c == '.' || c == '-';
         });
}

bool is_tag(std::string_view text) {
  return is_name(text) && !is_update_id(text);
}

// "2025-01-31T12:34:56Z"
bool is_time(std::string_view text) {
  constexpr std::string_view kPattern = "0000-00-00T00:00:00Z";
  return text.size() == kPattern.size() &&
         std::equal(text.begin(), text.end(), kPattern.begin(), [](char c, char p) {
           return p == '0' ? std::isdigit(static_cast<unsigned char>(c)) != 0 : c == p;
         });
}

[[noreturn]] void invalid(const std::string& what) {
  throw Error(ErrorCode::kInvalidArgument, "cannot record this: " + what);
}

[[noreturn]] void damaged(const std::filesystem::path& database, const std::string& what) {
  throw Error(ErrorCode::kFormat, accrete::format("{}: {}", database.string(), what),
              "the ledger is damaged or was edited; restore it from a backup");
}

// What is wrong with the fields that both a new and a stored record have; empty if nothing is.
std::string fault(const UpdateRecord& record) {
  if (record.items < 0) return "the number of items is negative";
  if (record.rows < 1) return "the number of rows is not positive";
  if (!record.source_digest.empty() && !is_hex(record.source_digest, 64))
    return "source_digest is not a SHA-256 in lower-case hex";
  if (!record.parent.empty() && !is_update_id(record.parent)) return "parent is not an update's id";
  if (!record.measurements.is_object()) return "measurements is not a JSON object";
  if (!record.tag.empty() && !is_tag(record.tag))
    return accrete::format("{} cannot be a tag", shown(record.tag));
  for (const std::string* text : {&record.source, &record.method, &record.tool_version})
    if (!is_utf8(*text)) return accrete::format("{} is not UTF-8", shown(*text));
  return {};
}

std::string fault(const ProbeRecord& record) {
  if (!is_name(record.name))
    return accrete::format("{} cannot be a probe's name", shown(record.name));
  if (record.file != probe_file(record.name))
    return accrete::format("{} is not the file of a probe", shown(record.file));
  if (!std::isfinite(record.base)) return "the probe's base score is not finite";
  if (record.floor && !std::isfinite(*record.floor)) return "the probe's floor is not finite";
  if (record.items < 0) return "the number of items is negative";
  if (!record.details.is_object()) return "details is not a JSON object";
  return {};
}

std::string dump(const nlohmann::json& value, const char* field) {
  try {
    return value.dump();
  } catch (const nlohmann::json::exception&) {
    invalid(accrete::format("{} holds text that is not UTF-8", field));
  }
}

// Lengths before contents: otherwise text could move from one field to the next unnoticed.
std::string checksum_of(std::initializer_list<std::string_view> fields) {
  Sha256 hash;
  for (const std::string_view field : fields)
    hash.update(accrete::format("{}:", field.size())).update(field);
  return hash.hex().substr(0, 16);
}

std::string checksum(const UpdateRow& row, const std::string& measurements) {
  const UpdateRecord& r = row.record;
  return checksum_of({accrete::format("{} {} {} {} {} {}", r.order, r.active ? 1 : 0, row.undone,
                                      r.items, r.seed, r.rows),
                      r.id, r.time, r.source, r.source_digest, r.parent, r.method, r.tool_version,
                      measurements, r.tag});
}

// Numbers as their bits in hex: no formatting to agree upon, and -0 differs from 0.
std::string bits(double value) {
  return accrete::format("{:016x}", std::bit_cast<uint64_t>(value));
}

std::string checksum(const ProbeRecord& r, const std::string& digest, const std::string& details) {
  return checksum_of({r.name, r.file, digest, r.floor ? bits(*r.floor) : "none", bits(r.base),
                      accrete::format("{}", r.items), details});
}

}  // namespace

void check_new_record(const UpdateRecord& record) {
  if (const std::string what = fault(record); !what.empty()) invalid(what);
  (void)dump(record.measurements, "measurements");
}

void check_new_record(const ProbeRecord& record) {
  if (const std::string what = fault(record); !what.empty()) invalid(what);
  (void)dump(record.details, "details");
}

void check_tag(const std::string& tag) {
  if (!tag.empty() && !is_tag(tag))
    throw Error(ErrorCode::kInvalidArgument, accrete::format("{} cannot be a tag", shown(tag)),
                "use letters, digits, '_', '.' and '-', and not 16 hex digits");
}

void bind_update_row(Statement& statement, const UpdateRow& row) {
  const UpdateRecord& record = row.record;
  const std::string measurements = dump(record.measurements, "measurements");
  statement.bind(1, record.order)
      .bind(2, record.id)
      .bind(3, record.time)
      .bind(4, int64_t{record.active})
      .bind(6, record.items)
      .bind(7, record.source)
      .bind(8, record.source_digest)
      .bind(9, record.parent)
      .bind(10, std::bit_cast<int64_t>(record.seed))
      .bind(11, record.method)
      .bind(12, record.tool_version)
      .bind(13, record.rows)
      .bind(14, measurements)
      .bind(15, checksum(row, measurements));
  if (row.undone > 0)
    statement.bind(5, row.undone);
  else
    statement.bind_null(5);
  if (!record.tag.empty())
    statement.bind(16, record.tag);
  else
    statement.bind_null(16);
}

UpdateRow read_update_row(const Statement& statement, const std::filesystem::path& database) {
  UpdateRow row;
  UpdateRecord& record = row.record;
  record.order = statement.integer(0);
  const auto refuse = [&](const std::string& what) {
    damaged(database, accrete::format("update number {}: {}", record.order, what));
  };
  record.id = statement.text(1);
  record.time = statement.text(2);
  const int64_t active = statement.integer(3);
  record.active = active == 1;
  if (!statement.is_null(4)) row.undone = statement.integer(4);
  record.items = statement.integer(5);
  record.source = statement.text(6);
  record.source_digest = statement.text(7);
  record.parent = statement.text(8);
  record.seed = std::bit_cast<uint64_t>(statement.integer(9));
  record.method = statement.text(10);
  record.tool_version = statement.text(11);
  record.rows = statement.integer(12);
  const std::string measurements = statement.text(13);
  record.measurements = parse_json(measurements, database.string() + ", measurements");
  if (!statement.is_null(15)) record.tag = statement.text(15);

  if (record.order < 1) refuse("its number is not positive");
  if (!is_update_id(record.id)) refuse("its id is malformed");
  if (!is_time(record.time)) refuse("its time is malformed");
  if (active != 0 && active != 1) refuse("its active flag is neither 0 nor 1");
  if (!statement.is_null(4) && (row.undone < 1 || record.active))
    refuse("its place in the redo order makes no sense");
  if (!statement.is_null(15) && record.tag.empty()) refuse("its tag is empty");
  if (const std::string what = fault(record); !what.empty()) refuse(what);
  if (statement.text(14) != checksum(row, measurements)) refuse("its checksum does not match");
  return row;
}

void bind_probe_row(Statement& statement, const ProbeRecord& record, const std::string& digest) {
  const std::string details = dump(record.details, "details");
  statement.bind(1, record.name).bind(2, record.file).bind(3, digest);
  if (record.floor)
    statement.bind(4, *record.floor);
  else
    statement.bind_null(4);
  statement.bind(5, record.base)
      .bind(6, record.items)
      .bind(7, details)
      .bind(8, checksum(record, digest, details));
}

ProbeRecord read_probe_row(const Statement& statement, const std::filesystem::path& database,
                           std::string* digest) {
  ProbeRecord record;
  record.name = statement.text(0);
  record.file = statement.text(1);
  const std::string items_digest = statement.text(2);
  if (!statement.is_null(3)) record.floor = statement.real(3);
  record.base = statement.real(4);
  record.items = statement.integer(5);
  const std::string details = statement.text(6);
  record.details = parse_json(details, database.string() + ", details");
  std::string what = fault(record);
  if (what.empty() && !is_hex(items_digest, 64)) what = "the digest of its items is malformed";
  if (what.empty() && statement.text(7) != checksum(record, items_digest, details))
    what = "its checksum does not match";
  if (!what.empty()) damaged(database, accrete::format("probe {}: {}", shown(record.name), what));
  if (digest != nullptr) *digest = items_digest;
  return record;
}

std::string probe_file(const std::string& name) {
  return std::string(kProbePrefix) + name + std::string(kProbeSuffix);
}

void check_own_file(const std::string& file, const std::filesystem::path& database) {
  std::string_view name = file;
  if (name.starts_with(kUpdatePrefix) && name.size() > kUpdatePrefix.size() + 16) {
    name.remove_prefix(kUpdatePrefix.size());
    const std::string_view id = name.substr(0, 16);
    if (is_update_id(id) && name == update_file_name(id)) return;
  } else if (name.starts_with(kProbePrefix) && name.ends_with(kProbeSuffix)) {
    name.remove_prefix(kProbePrefix.size());
    if (name.size() > kProbeSuffix.size() &&
        is_name(name.substr(0, name.size() - kProbeSuffix.size())))
      return;
  }
  damaged(database, accrete::format("{} is not a file of the ledger", shown(file)));
}

std::string well_formed(const std::string& text) {
  if (is_utf8(text)) return text;
  using nlohmann::json;
  return json::parse(json(text).dump(-1, ' ', false, json::error_handler_t::replace))
      .get<std::string>();
}

}  // namespace accrete
