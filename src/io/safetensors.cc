#include "io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/format.h"
#include "io/safetensors_header.h"
#include "io/utf8.h"

namespace accrete {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;  // the format's own limit
constexpr size_t kLengthBytes = 8;
constexpr size_t kHeaderAlignment = 8;

[[noreturn]] void fail(std::string_view source, const std::string& what) {
  throw Error(ErrorCode::kFormat, accrete::format("{}: {}", source, what),
              "the file is damaged or not a safetensors file; fetch or write it again");
}

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& what) {
  throw Error(ErrorCode::kInvalidArgument,
              accrete::format("cannot write {}: {}", path.string(), what));
}

uint64_t load_u64(const std::byte* bytes) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = (value << 8) | std::to_integer<uint64_t>(bytes[i]);
  return value;
}

// "a, b, c, ...": for messages about a name that is not there.
std::string some_names(const std::vector<TensorView>& tensors) {
  constexpr size_t kShown = 8;
  std::string out;
  for (size_t i = 0; i < std::min(tensors.size(), kShown); ++i)
    out += (i == 0 ? "" : ", ") + shown(tensors[i].name);
  if (tensors.size() > kShown) out += accrete::format(", ... ({} in all)", tensors.size());
  return out.empty() ? "none" : out;
}

// Adds the tensor's bytes to `end`.
void advance(const std::filesystem::path& path, const TensorSpec& tensor, uint64_t& end) {
  uint64_t size = dtype_size(tensor.dtype);
  if (end % size != 0)
    refuse(path, accrete::format("tensor {} would not be aligned; put wide types first",
                                 shown(tensor.name)));
  for (const int64_t n : tensor.shape)
    if (n < 0 || __builtin_mul_overflow(size, static_cast<uint64_t>(n), &size) ||
        size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      refuse(path,
             accrete::format("tensor {}: the shape is negative or overflows", shown(tensor.name)));
  if (__builtin_add_overflow(end, size, &end)) refuse(path, "the sizes overflow");
}

std::string make_header(const std::filesystem::path& path, std::span<const TensorSpec> tensors,
                        const Metadata& metadata, uint64_t& bytes) {
  std::set<std::string_view> names;
  std::string text = "{";
  // By hand, one entry at a time: ordered_json looks through all its keys at each insertion.
  const auto add = [&](const std::string& name, const nlohmann::ordered_json& value) {
    if (text.size() > 1) text += ',';
    text += nlohmann::json(name).dump() + ':' + value.dump();
  };
  try {
    if (!metadata.empty()) add("__metadata__", metadata);
    bytes = 0;
    for (const TensorSpec& tensor : tensors) {
      if (tensor.name == "__metadata__" || !names.insert(tensor.name).second)
        refuse(path, accrete::format("the tensor name {} is {}", shown(tensor.name),
                                     tensor.name == "__metadata__" ? "reserved" : "there twice"));
      const uint64_t begin = bytes;
      advance(path, tensor, bytes);
      add(tensor.name, {{"dtype", dtype_name(tensor.dtype)},
                        {"shape", tensor.shape},
                        {"data_offsets", {begin, bytes}}});
    }
  } catch (const nlohmann::json::exception&) {
    refuse(path, "a tensor's name or the metadata is not UTF-8");
  }
  text += '}';
  text.append((kHeaderAlignment - text.size() % kHeaderAlignment) % kHeaderAlignment, ' ');
  if (text.size() > kMaxHeader) refuse(path, "the header would exceed 100 MB");
  return text;
}

// What comes before the tensors: the header's length and the header.
std::string make_beginning(const std::filesystem::path& path, std::span<const TensorSpec> tensors,
                           const Metadata& metadata, uint64_t& bytes) {
  const std::string header = make_header(path, tensors, metadata, bytes);
  std::string out(kLengthBytes, '\0');
  for (size_t i = 0; i < kLengthBytes; ++i)
    out[i] = static_cast<char>((uint64_t{header.size()} >> (8 * i)) & 0xFF);
  return out + header;
}

// Tensors in the order that aligns them all, their sizes checked.
struct Aligned {
  std::vector<size_t> order;
  std::vector<TensorSpec> specs;
};
Aligned align(const std::filesystem::path& path, std::span<const TensorView> tensors) {
  Aligned out;
  out.order.resize(tensors.size());
  std::iota(out.order.begin(), out.order.end(), size_t{0});
  std::stable_sort(out.order.begin(), out.order.end(), [&](size_t a, size_t b) {
    return dtype_size(tensors[a].dtype) > dtype_size(tensors[b].dtype);
  });
  out.specs.reserve(tensors.size());
  for (const size_t i : out.order) {
    const TensorView& tensor = tensors[i];
    out.specs.push_back({tensor.name, tensor.dtype, tensor.shape});
    uint64_t size = 0;
    advance(path, out.specs.back(), size);
    if (tensor.bytes.size() != size)
      refuse(path, accrete::format("tensor {} has {} bytes, its type and shape need {}",
                                   shown(tensor.name), tensor.bytes.size(), size));
  }
  return out;
}

}  // namespace

void parse_safetensors(std::span<const std::byte> bytes, std::string_view source,
                       std::vector<TensorView>& tensors, Metadata& metadata) {
  if (bytes.size() < kLengthBytes)
    fail(source, accrete::format("{} bytes are too few for a safetensors file", bytes.size()));
  const uint64_t length = load_u64(bytes.data());
  if (length > kMaxHeader)
    fail(source,
         accrete::format("the header claims {} bytes, the limit is {}", length, kMaxHeader));
  bytes = bytes.subspan(kLengthBytes);
  if (length > bytes.size())
    fail(source,
         accrete::format("the header claims {} bytes, only {} follow", length, bytes.size()));
  const std::string_view json(reinterpret_cast<const char*>(bytes.data()), length);
  bytes = bytes.subspan(length);

  SafetensorsHeader header = read_safetensors_header(json, source);
  uint64_t end = 0;
  for (const SafetensorsEntry& entry : header.entries) {
    if (entry.begin != end)
      fail(source, accrete::format("tensor {} begins at byte {}, where {} is expected: the data {}",
                                   shown(entry.name), entry.begin, end,
                                   entry.begin < end ? "overlap" : "have a hole"));
    if (entry.end > bytes.size())
      fail(source, accrete::format("tensor {} ends at byte {}, but only {} bytes of data are there",
                                   shown(entry.name), entry.end, bytes.size()));
    end = entry.end;
  }
  if (end != bytes.size())
    fail(source, accrete::format("{} bytes follow the last tensor", bytes.size() - end));

  std::vector<TensorView> views;
  views.reserve(header.entries.size());
  for (SafetensorsEntry& entry : header.entries)
    views.push_back({std::move(entry.name), entry.dtype, std::move(entry.shape),
                     bytes.subspan(entry.begin, entry.end - entry.begin)});
  tensors = std::move(views);
  metadata = std::move(header.metadata);
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile file{MappedFile(path)};
  parse_safetensors(file.file_.bytes(), path.string(), file.tensors_, file.metadata_);
  file.by_name_.resize(file.tensors_.size());
  std::iota(file.by_name_.begin(), file.by_name_.end(), size_t{0});
  std::sort(file.by_name_.begin(), file.by_name_.end(),
            [&](size_t a, size_t b) { return file.tensors_[a].name < file.tensors_[b].name; });
  return file;
}

const TensorView* SafetensorsFile::find(std::string_view name) const {
  const auto found =
      std::lower_bound(by_name_.begin(), by_name_.end(), name,
                       [&](size_t i, std::string_view n) { return tensors_[i].name < n; });
  if (found == by_name_.end() || tensors_[*found].name != name) return nullptr;
  return &tensors_[*found];
}

const TensorView& SafetensorsFile::at(std::string_view name) const {
  if (const TensorView* tensor = find(name)) return *tensor;
  throw Error(ErrorCode::kFormat,
              accrete::format("{} has no tensor {}; it has {}", file_.path().string(), shown(name),
                              some_names(tensors_)),
              "check that this is the file you mean");
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::span<const TensorSpec> tensors, const Metadata& metadata)
    : file_(path) {
  file_.write(make_beginning(path, tensors, metadata, missing_));
}

void SafetensorsWriter::write(std::span<const std::byte> bytes) {
  if (bytes.size() > missing_)
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("{} bytes for tensors that lack {}", bytes.size(), missing_));
  file_.write(bytes);
  missing_ -= bytes.size();
}

void SafetensorsWriter::commit() {
  if (missing_ != 0)
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("{} bytes of the announced tensors were never written", missing_));
  file_.commit();
}

void write_safetensors(const std::filesystem::path& path, std::span<const TensorView> tensors,
                       const Metadata& metadata) {
  const Aligned aligned = align(path, tensors);
  SafetensorsWriter writer(path, aligned.specs, metadata);
  for (const size_t i : aligned.order) writer.write(tensors[i].bytes);
  writer.commit();
}

std::string safetensors_bytes(std::string_view source, std::span<const TensorView> tensors,
                              const Metadata& metadata) {
  const Aligned aligned = align(source, tensors);
  uint64_t size = 0;
  std::string out = make_beginning(source, aligned.specs, metadata, size);
  out.reserve(out.size() + size);
  for (const size_t i : aligned.order)
    out.append(reinterpret_cast<const char*>(tensors[i].bytes.data()), tensors[i].bytes.size());
  return out;
}

}  // namespace accrete
