#include "ledger/state_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <map>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/format.h"
#include "base/pages.h"
#include "base/threads.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

constexpr std::array<char, 8> kMagic = {'A', 'C', 'C', 'R', 'S', 'T', 'A', 'T'};
constexpr std::array<char, 8> kRecordMagic = {'U', 'P', 'D', 'A', 'T', 'E', 'D', '1'};
constexpr uint32_t kVersion = 3;
constexpr int64_t kMaxWidth = 1 << 20;
constexpr size_t kMostThreads = 4;  // of a reader, which shares the machine with the model's

struct FileHeader {
  std::array<char, 8> magic = kMagic;
  uint32_t version = kVersion;
  uint32_t width = 0;
};

struct RecordHeader {
  std::array<char, 8> magic = kRecordMagic;
  std::array<char, 16> id{};
  uint64_t outline_bytes = 0;
  uint64_t rows = 0;
  uint64_t before = 0;    // Chain::before of the state that the rows belong to
  uint64_t checksum = 0;  // of the outline, seeded with the fields before
};
static_assert(sizeof(FileHeader) == 16 && sizeof(RecordHeader) == 56);

// FNV-1a over words of 8 bytes: a torn record is recognised, not an attack.
uint64_t checksum(std::span<const std::byte> bytes, uint64_t seed) {
  uint64_t hash = 0xcbf29ce484222325U ^ seed;
  for (size_t i = 0; i < bytes.size(); i += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i, std::min<size_t>(8, bytes.size() - i));
    hash = (hash ^ word) * 0x100000001b3U;
    hash ^= hash >> 29;
  }
  return hash;
}

uint64_t checksum(const RecordHeader& header, std::span<const std::byte> outline) {
  return checksum(outline, header.rows * 31 + header.outline_bytes + header.before);
}

// What a record says in the place of a chain when it is of a gated update.
constexpr uint64_t kOwnRows = std::numeric_limits<uint64_t>::max();

// Which updates the rows of the next one depend on. A gated update's rows are its own whatever else
// is active, the others' are sums with all before them that have no gate.
class Chain {
 public:
  uint64_t before(const Update& next) const {
    return reach_of(next) == Reach::kEverywhere ? summed_ : kOwnRows;
  }
  uint64_t summed() const { return summed_; }
  // The next is one whose record says `before`.
  void add(const std::string& id, uint64_t before) {
    if (before != kOwnRows) summed_ = checksum(std::as_bytes(std::span(id)), summed_);
  }

 private:
  uint64_t summed_ = 0;  // a hash of the ids
};

int64_t units(int64_t bytes, int64_t unit) {
  return (bytes + unit - 1) / unit;
}

// The state while records are read one after the other.
struct Rows {
  using Key = std::pair<int, Reach>;
  std::map<Key, StateFile::Table> tables;
  std::map<Reach, int64_t> parts;

  // The rows of an update begin at unit `row`, layer after layer.
  void add(const Update& outline, int64_t row) {
    const Reach reach = reach_of(outline);
    const int64_t first_part = reach == Reach::kEverywhere ? 0 : parts[reach];
    parts[reach] += parts_of(outline);
    for (const LayerDelta& layer : outline.layers) {
      StateFile::Table& table = tables[{layer.block, reach}];
      for (const int64_t key : layer.indices) {
        table.keys.push_back(key + row_key(first_part, 0));
        table.rows.push_back(static_cast<int32_t>(row++));
      }
    }
  }

  std::vector<StateFile::Table> take() {
    std::vector<StateFile::Table> out;
    for (auto& [key, table] : tables) {
      table.block = key.first;
      table.reach = key.second;
      if (key.second == Reach::kEverywhere) keep_last(table);  // parts follow one another
      out.push_back(std::move(table));
    }
    return out;
  }

 private:
  // Sorted, and of a key that occurs several times the last row.
  static void keep_last(StateFile::Table& table) {
    std::vector<size_t> order(table.keys.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return table.keys[a] < table.keys[b]; });
    StateFile::Table sorted;
    for (size_t i = 0; i < order.size(); ++i) {
      if (i + 1 < order.size() && table.keys[order[i + 1]] == table.keys[order[i]]) continue;
      sorted.keys.push_back(table.keys[order[i]]);
      sorted.rows.push_back(table.rows[order[i]]);
    }
    table.keys = std::move(sorted.keys);
    table.rows = std::move(sorted.rows);
  }
};

// Where a record lies, in units.
struct Place {
  int64_t at = 0, end = 0;
};

// The header at `place.at`, and the end of its record; nullopt: there is none, or a torn one.
std::optional<RecordHeader> read_record_header(std::span<const std::byte> bytes, int64_t unit,
                                               Place& place) {
  const auto begin = static_cast<size_t>(place.at) * static_cast<size_t>(unit);
  if (begin >= bytes.size() || bytes.size() - begin < sizeof(RecordHeader)) return std::nullopt;
  RecordHeader header;
  std::memcpy(&header, bytes.data() + begin, sizeof(header));
  if (header.magic != kRecordMagic) return std::nullopt;
  const size_t left = bytes.size() - begin - sizeof(header);
  if (header.outline_bytes > left || header.rows > left / static_cast<size_t>(unit))
    return std::nullopt;
  place.end = place.at + units(static_cast<int64_t>(sizeof(header) + header.outline_bytes), unit) +
              static_cast<int64_t>(header.rows);
  if (place.end > std::numeric_limits<int32_t>::max() ||
      place.end * unit > static_cast<int64_t>(bytes.size()))
    return std::nullopt;
  return header;
}

struct Located {
  Place place;
  uint64_t before = 0;
};

// The whole records of a file, of active updates and of such as were undone.
class Contents {
 public:
  Contents(std::span<const std::byte> bytes, int64_t unit) {
    Place place{units(sizeof(FileHeader), unit), 0};
    while (const auto header = read_record_header(bytes, unit, place)) {
      // Of several with one key the last.
      records_[{std::string(header->id.data(), header->id.size()), header->before}] = place;
      place.at = place.end;
    }
    end_ = place.at;
  }
  int64_t end() const { return end_; }  // of the last record, in units
  std::optional<Located> find(const std::string& id, uint64_t before) const {
    const auto it = records_.find({id, before});
    if (it == records_.end()) return std::nullopt;
    return Located{it->second, before};
  }
  // The records of the state that `active` makes, and the chain behind them. nullopt: one is
  // missing.
  std::optional<std::vector<Located>> find(std::span<const std::string> active,
                                           Chain& chain) const {
    std::vector<Located> out;
    for (const std::string& id : active) {
      auto found = find(id, kOwnRows);
      if (!found) found = find(id, chain.summed());
      if (!found) return std::nullopt;
      chain.add(id, found->before);
      out.push_back(*found);
    }
    return out;
  }

 private:
  std::map<std::pair<std::string, uint64_t>, Place> records_;  // by id and Chain::before
  int64_t end_ = 0;
};

// The outline of a record; nullopt: it is damaged.
std::optional<Update> read_outline(std::span<const std::byte> bytes, int64_t unit,
                                   const Located& record, bool with_taught) {
  Place place = record.place;
  const auto header = read_record_header(bytes, unit, place);
  if (!header) return std::nullopt;
  const auto outline = bytes.subspan(static_cast<size_t>(place.at * unit) + sizeof(RecordHeader),
                                     header->outline_bytes);
  if (checksum(*header, outline) != header->checksum) return std::nullopt;
  try {
    Update update = parse_outline(outline, kStateFile, with_taught);
    const bool gated = reach_of(update) != Reach::kEverywhere;
    if (static_cast<uint64_t>(rows_of(update)) == header->rows &&
        gated == (record.before == kOwnRows))
      return update;
  } catch (const Error&) {
  }
  return std::nullopt;
}

// The width; 0: not a file of ours.
int64_t read_header(std::span<const std::byte> bytes) {
  FileHeader header;
  if (bytes.size() < sizeof(header)) return 0;
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.magic != kMagic || header.version != kVersion || header.width > kMaxWidth) return 0;
  return header.width;
}

[[noreturn]] void fail(const fs::path& path, const char* what) {
  const int error = errno;
  throw Error(ErrorCode::kIo,
              accrete::format("cannot {} {}: {}", what, path.string(),
                              std::generic_category().message(error)),
              "check the free disk space and the permissions of the model's folder");
}

// A file that is written in place.
class Output {
 public:
  Output(fs::path path, int flags) : path_(std::move(path)) {
    fd_ = ::open(path_.c_str(), flags | O_WRONLY | O_CLOEXEC, 0666);
    if (fd_ < 0) fail(path_, "open");
  }
  ~Output() { ::close(fd_); }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  void write(std::span<const std::byte> bytes, int64_t at) {
    while (!bytes.empty()) {
      const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), at);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) fail(path_, "write");
      bytes = bytes.subspan(static_cast<size_t>(n));
      at += n;
    }
  }
  void truncate(int64_t size) {
    if (::ftruncate(fd_, size) != 0) fail(path_, "resize");
  }
  void sync() {
    if (::fdatasync(fd_) != 0) fail(path_, "sync");
  }

 private:
  fs::path path_;
  int fd_ = -1;
};

struct Pending {
  RecordHeader header;
  std::string outline;
  std::vector<float> rows;
  int64_t units = 0;
};

// `row_now(block, slot)`: the sum so far of updates that are not gated, nullptr for none.
template <typename RowNow>
Pending make_record(const NamedUpdate& added, int64_t width, const Chain& chain,
                    const RowNow& row_now) {
  const Update& update = *added.update;
  Pending p;
  if (added.id.size() != p.header.id.size())
    throw Error(ErrorCode::kInvalidArgument, accrete::format("\"{}\" is no update's id", added.id));
  std::copy(added.id.begin(), added.id.end(), p.header.id.begin());
  p.outline = outline_bytes(update);
  p.header.outline_bytes = p.outline.size();
  p.header.rows = static_cast<uint64_t>(rows_of(update));
  p.header.before = chain.before(update);
  p.header.checksum = checksum(p.header, std::as_bytes(std::span(p.outline)));
  const auto d = static_cast<size_t>(width);
  const bool gated = reach_of(update) != Reach::kEverywhere;
  p.rows.reserve(static_cast<size_t>(p.header.rows) * d);
  for (const LayerDelta& layer : update.layers) {
    if (layer.width != width)
      throw Error(ErrorCode::kInvalidArgument, "two updates have rows of different width",
                  "they were made for different models");
    for (size_t i = 0; i < layer.indices.size(); ++i) {
      const float* from = layer.delta.data() + i * d;
      const float* before = gated ? nullptr : row_now(layer.block, layer.indices[i]);
      // The first value is taken as it is: 0 + x would lose the sign of -0.
      for (size_t k = 0; k < d; ++k) p.rows.push_back(before ? before[k] + from[k] : from[k]);
    }
  }
  const int64_t unit = 4 * width;
  p.units = units(static_cast<int64_t>(sizeof(RecordHeader) + p.outline.size()), unit) +
            static_cast<int64_t>(p.header.rows);
  return p;
}

// Everything but the header, which makes the record one; it goes last, when the rest is on disk.
void write_body(Output& out, const Pending& p, int64_t at, int64_t unit) {
  out.write(std::as_bytes(std::span(p.outline)),
            at * unit + static_cast<int64_t>(sizeof(RecordHeader)));
  out.write(std::as_bytes(std::span(p.rows)),
            (at + p.units - static_cast<int64_t>(p.header.rows)) * unit);
}

void write_header(Output& out, const Pending& p, int64_t at, int64_t unit) {
  out.write(std::as_bytes(std::span(&p.header, 1)), at * unit);
}

// A new file in the place of the old one, which whoever has it mapped keeps.
template <typename Fill>
void replace(const fs::path& path, const Fill& fill) {
  const fs::path temporary = create_temporary_beside(path);
  try {
    Output out(temporary, 0);
    fill(out);
    out.sync();
    rename_durably(temporary, path);
  } catch (...) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw;
  }
}

}  // namespace

std::optional<StateFile> StateFile::open(const fs::path& accrete_folder,
                                         std::span<const std::string> active, Detail detail) {
  StateFile state;
  try {
    state.map_ = std::make_shared<const MappedFile>(accrete_folder / kStateFile);
  } catch (const Error&) {
    return std::nullopt;
  }
  const auto bytes = state.map_->bytes();
  state.width_ = read_header(bytes);
  if (state.width_ == 0) return std::nullopt;
  const int64_t unit = 4 * state.width_;
  Chain chain;
  const auto found = Contents(bytes, unit).find(active, chain);
  if (!found) return std::nullopt;
  std::vector<std::optional<Update>> outlines(active.size());
  share_out(active.size(), 64, kMostThreads, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const Place& place = (*found)[i].place;
      outlines[i] = read_outline(bytes, unit, (*found)[i], detail == Detail::kAll);
      // Outlines lie far apart, and each brings its neighbours with it; rows are read when a token
      // needs them.
      forget_pages(bytes.subspan(static_cast<size_t>(place.at * unit),
                                 static_cast<size_t>((place.end - place.at) * unit)));
    }
  });
  Rows rows;
  for (size_t i = 0; i < active.size(); ++i) {
    auto& outline = outlines[i];
    if (!outline) return std::nullopt;
    const int64_t end = (*found)[i].place.end;
    rows.add(*outline, end - rows_of(*outline));
    for (LayerDelta& layer : outline->layers) {
      layer.width = state.width_;
      if (detail == Detail::kRows) std::vector<int64_t>().swap(layer.indices);
    }
    state.records_.push_back({active[i], std::move(*outline), end});
  }
  forget_pages(bytes);
  state.tables_ = rows.take();
  return state;
}

std::span<const float> StateFile::table() const {
  const auto bytes = map_->bytes();
  const size_t rows = bytes.size() / (4 * static_cast<size_t>(width_));
  return {reinterpret_cast<const float*>(bytes.data()), rows * static_cast<size_t>(width_)};
}

void write_state(const fs::path& accrete_folder, std::span<const NamedUpdate> active) {
  int64_t width = 0;
  for (const NamedUpdate& u : active)
    if (!u.update->layers.empty()) width = u.update->layers.front().width;
  const fs::path path = accrete_folder / kStateFile;
  if (width == 0) {
    std::error_code ignored;
    fs::remove(path, ignored);
    return;
  }
  const int64_t unit = 4 * width;
  replace(path, [&](Output& out) {
    FileHeader header;
    header.width = static_cast<uint32_t>(width);
    out.write(std::as_bytes(std::span(&header, 1)), 0);
    int64_t at = units(sizeof(header), unit);
    std::map<int, std::map<int64_t, std::vector<float>>> sums;
    Chain chain;
    for (const NamedUpdate& u : active) {
      const Pending p = make_record(u, width, chain, [&](int block, int64_t slot) {
        auto& table = sums[block];
        const auto it = table.find(slot);
        return it == table.end() ? nullptr : it->second.data();
      });
      const float* row = p.rows.data();
      if (reach_of(*u.update) == Reach::kEverywhere)
        for (const LayerDelta& layer : u.update->layers)
          for (const int64_t slot : layer.indices) {
            sums[layer.block][slot].assign(row, row + width);
            row += width;
          }
      write_body(out, p, at, unit);
      write_header(out, p, at, unit);
      at += p.units;
      chain.add(u.id, p.header.before);
    }
  });
}

bool append_state(const fs::path& accrete_folder, std::span<const std::string> active_before,
                  const NamedUpdate& added) {
  if (active_before.empty()) {
    write_state(accrete_folder, {&added, 1});
    return true;
  }
  const fs::path path = accrete_folder / kStateFile;
  std::optional<MappedFile> map;
  try {
    map.emplace(path);
  } catch (const Error&) {
    return false;
  }
  const auto bytes = map->bytes();
  const int64_t width = read_header(bytes), unit = 4 * width;
  if (width == 0) return false;
  const Contents contents(bytes, unit);
  Chain chain;
  const auto before = contents.find(active_before, chain);
  if (!before) return false;
  // It was undone, and is taught again.
  if (const auto known = contents.find(added.id, chain.before(*added.update));
      known && read_outline(bytes, unit, *known, true))
    return true;

  // What a sum is made with.
  std::map<int, std::map<int64_t, const float*>> sums;
  if (reach_of(*added.update) == Reach::kEverywhere)
    for (const Located& record : *before) {
      if (record.before == kOwnRows) continue;
      const auto outline = read_outline(bytes, unit, record, false);
      if (!outline) return false;
      const float* row = reinterpret_cast<const float*>(bytes.data()) +
                         (record.place.end - rows_of(*outline)) * width;
      for (const LayerDelta& layer : outline->layers)
        for (const int64_t slot : layer.indices) {
          sums[layer.block][slot] = row;
          row += width;
        }
    }
  const Pending p = make_record(added, width, chain, [&](int block, int64_t slot) -> const float* {
    const auto& table = sums[block];
    const auto it = table.find(slot);
    return it == table.end() ? nullptr : it->second;
  });

  int64_t alive = p.units;
  for (const Located& record : *before) alive += record.place.end - record.place.at;
  if (contents.end() + p.units > 2 * alive) {
    // More than half of it would be of updates that were undone. They may be mapped, so a new file
    // takes over. Records do not depend on where they lie.
    replace(path, [&](Output& out) {
      int64_t at = units(sizeof(FileHeader), unit);
      out.write(bytes.first(static_cast<size_t>(at * unit)), 0);
      for (const Located& record : *before) {
        const int64_t size = record.place.end - record.place.at;
        out.write(bytes.subspan(static_cast<size_t>(record.place.at * unit),
                                static_cast<size_t>(size * unit)),
                  at * unit);
        at += size;
      }
      write_body(out, p, at, unit);
      write_header(out, p, at, unit);
    });
    return true;
  }
  const int64_t at = contents.end();
  Output out(path, 0);
  out.truncate(at * unit);  // what a crash left behind the last record; nobody reads it
  write_body(out, p, at, unit);
  out.sync();
  write_header(out, p, at, unit);
  out.sync();
  return true;
}

}  // namespace accrete
