#include "io/gguf.h"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <optional>
#include <set>
#include <type_traits>
#include <utility>

#include "base/format.h"
#include "io/gguf_reader.h"
#include "io/utf8.h"

namespace accrete {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMaxAlignment = uint64_t{1} << 20;
constexpr uint32_t kMaxRank = 4;
// The least that an entry can take: a key and a value; a name, a rank, a dimension, a type, an
// offset.
constexpr size_t kLeastPair = 8 + 4 + 1;
constexpr size_t kLeastTensor = 8 + 4 + 8 + 4 + 8;

enum class ValueType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64,
};

struct TypeInfo {
  GgmlType type;
  std::string_view name;
  int64_t values;  // of a block
  size_t bytes;    // of a block
};

constexpr std::array kTypes = {
    TypeInfo{GgmlType::kF32, "F32", 1, 4},       TypeInfo{GgmlType::kF16, "F16", 1, 2},
    TypeInfo{GgmlType::kBF16, "BF16", 1, 2},     TypeInfo{GgmlType::kQ4_0, "Q4_0", 32, 18},
    TypeInfo{GgmlType::kQ4_1, "Q4_1", 32, 20},   TypeInfo{GgmlType::kQ5_0, "Q5_0", 32, 22},
    TypeInfo{GgmlType::kQ5_1, "Q5_1", 32, 24},   TypeInfo{GgmlType::kQ8_0, "Q8_0", 32, 34},
    TypeInfo{GgmlType::kQ4_K, "Q4_K", 256, 144}, TypeInfo{GgmlType::kQ5_K, "Q5_K", 256, 176},
    TypeInfo{GgmlType::kQ6_K, "Q6_K", 256, 210},
};

const TypeInfo* find_type(GgmlType type) {
  for (const TypeInfo& info : kTypes)
    if (info.type == type) return &info;
  return nullptr;
}

const TypeInfo& type_info(GgmlType type) {
  if (const TypeInfo* info = find_type(type)) return *info;
  throw Error(ErrorCode::kInvalidArgument,
              accrete::format("no such GGML type: {}", static_cast<uint32_t>(type)));
}

bool read_bool(GgufReader& in) {
  const auto value = in.read<uint8_t>("a boolean");
  if (value > 1) in.fail(accrete::format("{} is not a boolean", value));
  return value == 1;
}

template <typename T>
std::vector<int64_t> read_integers(GgufReader& in) {
  const uint64_t count = in.read_count("an array's length", sizeof(T));
  std::vector<int64_t> out(count);
  for (int64_t& value : out) {
    const T raw = in.read<T>("an array");
    if (!std::in_range<int64_t>(raw)) in.fail(accrete::format("{} exceeds 2^63 - 1", raw));
    value = static_cast<int64_t>(raw);
  }
  return out;
}

template <typename T>
std::vector<double> read_floats(GgufReader& in) {
  std::vector<double> out(in.read_count("an array's length", sizeof(T)));
  for (double& value : out) value = static_cast<double>(in.read<T>("an array"));
  return out;
}

std::vector<int64_t> read_bools(GgufReader& in) {
  std::vector<int64_t> out(in.read_count("an array's length", 1));
  for (int64_t& value : out) value = read_bool(in) ? 1 : 0;
  return out;
}

std::vector<std::string> read_strings(GgufReader& in) {
  const uint64_t count = in.read_count("an array's length", sizeof(uint64_t));
  std::vector<std::string> out;
  out.reserve(count);
  for (uint64_t i = 0; i < count; ++i) out.push_back(in.read_string("a string of an array"));
  return out;
}

GgufValue read_array(GgufReader& in) {
  const auto type = in.read<uint32_t>("an array's type");
  switch (static_cast<ValueType>(type)) {
    case ValueType::kU8:
      return read_integers<uint8_t>(in);
    case ValueType::kI8:
      return read_integers<int8_t>(in);
    case ValueType::kU16:
      return read_integers<uint16_t>(in);
    case ValueType::kI16:
      return read_integers<int16_t>(in);
    case ValueType::kU32:
      return read_integers<uint32_t>(in);
    case ValueType::kI32:
      return read_integers<int32_t>(in);
    case ValueType::kU64:
      return read_integers<uint64_t>(in);
    case ValueType::kI64:
      return read_integers<int64_t>(in);
    case ValueType::kF32:
      return read_floats<float>(in);
    case ValueType::kF64:
      return read_floats<double>(in);
    case ValueType::kBool:
      return read_bools(in);
    case ValueType::kString:
      return read_strings(in);
    case ValueType::kArray:
      in.fail("an array of arrays");
  }
  in.fail(accrete::format("unknown type {} of an array", type));
}

GgufValue read_value(GgufReader& in) {
  const auto type = in.read<uint32_t>("a value's type");
  switch (static_cast<ValueType>(type)) {
    case ValueType::kU8:
      return uint64_t{in.read<uint8_t>("a value")};
    case ValueType::kU16:
      return uint64_t{in.read<uint16_t>("a value")};
    case ValueType::kU32:
      return uint64_t{in.read<uint32_t>("a value")};
    case ValueType::kU64:
      return in.read<uint64_t>("a value");
    case ValueType::kI8:
      return int64_t{in.read<int8_t>("a value")};
    case ValueType::kI16:
      return int64_t{in.read<int16_t>("a value")};
    case ValueType::kI32:
      return int64_t{in.read<int32_t>("a value")};
    case ValueType::kI64:
      return in.read<int64_t>("a value");
    case ValueType::kF32:
      return double{in.read<float>("a value")};
    case ValueType::kF64:
      return in.read<double>("a value");
    case ValueType::kBool:
      return read_bool(in);
    case ValueType::kString:
      return in.read_string("a string");
    case ValueType::kArray:
      return read_array(in);
  }
  in.fail(accrete::format("unknown type {} of a value", type));
}

std::string read_name(GgufReader& in, const char* what) {
  std::string name = in.read_string(what);
  if (name.empty() || !is_utf8(name)) in.fail(accrete::format("{} is empty or not UTF-8", what));
  return name;
}

// A tensor's entry; its bytes are only `offset` and `size` until the data's begin is known.
struct Entry {
  GgufTensor tensor;
  uint64_t offset = 0;
  uint64_t size = 0;
};

Entry read_entry(GgufReader& in) {
  Entry entry;
  GgufTensor& tensor = entry.tensor;
  tensor.name = read_name(in, "a tensor's name");
  const auto rank = in.read<uint32_t>("a tensor's rank");
  if (rank == 0 || rank > kMaxRank)
    in.fail(accrete::format("tensor {} has {} dimensions", shown(tensor.name), rank));
  uint64_t values = 1;
  for (uint32_t i = 0; i < rank; ++i) {
    const auto n = in.read<uint64_t>("a tensor's shape");
    if (n == 0 || n > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) ||
        __builtin_mul_overflow(values, n, &values) ||
        values > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      in.fail(accrete::format("the shape of tensor {} is empty or overflows", shown(tensor.name)));
    tensor.shape.push_back(static_cast<int64_t>(n));
  }
  const auto type = in.read<uint32_t>("a tensor's type");
  const TypeInfo* info = find_type(static_cast<GgmlType>(type));
  if (info == nullptr)
    in.fail_unsupported(
        accrete::format("tensor {} has the GGML type {}, which accrete does not read",
                        shown(tensor.name), type),
        "use a file in F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K");
  tensor.type = info->type;
  if (tensor.shape[0] % info->values != 0)
    in.fail(accrete::format("rows of tensor {} have {} values, not a multiple of {}",
                            shown(tensor.name), tensor.shape[0], info->values));
  if (__builtin_mul_overflow(values / static_cast<uint64_t>(info->values), info->bytes,
                             &entry.size))
    in.fail(accrete::format("the size of tensor {} overflows", shown(tensor.name)));
  entry.offset = in.read<uint64_t>("a tensor's offset");
  std::reverse(tensor.shape.begin(), tensor.shape.end());
  return entry;
}

uint64_t align_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

// Gives each tensor its bytes. The data begin at the next multiple of the alignment, and each
// tensor at the first multiple after the one before it; after the last, padding may follow or not.
std::vector<GgufTensor> place(GgufReader& in, std::vector<Entry> entries, uint64_t alignment) {
  std::vector<GgufTensor> tensors;
  tensors.reserve(entries.size());
  const std::span<const std::byte> file = in.bytes();
  const uint64_t data = align_up(in.position(), alignment);
  if (entries.empty()) {
    if (in.left() > 0 && file.size() != data)
      in.fail(accrete::format("{} bytes follow the last entry", in.left()));
    return tensors;
  }
  std::vector<size_t> order(entries.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return entries[a].offset < entries[b].offset; });
  uint64_t end = data;
  for (const size_t i : order) {
    Entry& entry = entries[i];
    const uint64_t begin = align_up(end, alignment);
    if (entry.offset != begin - data)
      in.fail(accrete::format("tensor {} begins at offset {}, where {} is expected: the tensors {}",
                              shown(entry.tensor.name), entry.offset, begin - data,
                              entry.offset < begin - data ? "overlap" : "leave a hole"));
    // begin may lie beyond the end of the file by the padding alone.
    if (begin > file.size() || entry.size > file.size() - begin)
      in.fail(accrete::format("tensor {} needs {} bytes from {} on, the file has {}",
                              shown(entry.tensor.name), entry.size, begin, file.size()));
    entry.tensor.bytes = file.subspan(begin, entry.size);
    end = begin + entry.size;
  }
  if (file.size() != end && file.size() != align_up(end, alignment))
    in.fail(accrete::format("{} bytes follow the last tensor", file.size() - end));
  for (Entry& entry : entries) tensors.push_back(std::move(entry.tensor));
  return tensors;
}

}  // namespace

std::string_view ggml_type_name(GgmlType type) {
  return type_info(type).name;
}
int64_t ggml_block_values(GgmlType type) {
  return type_info(type).values;
}
size_t ggml_block_bytes(GgmlType type) {
  return type_info(type).bytes;
}

int64_t GgufTensor::numel() const {
  int64_t product = 1;
  for (const int64_t n : shape) product *= n;
  return product;
}

GgufFile GgufFile::open(const std::filesystem::path& path) {
  MappedFile map(path);
  GgufFile file = parse(map.bytes(), path.string());
  file.file_.push_back(std::move(map));
  return file;
}

GgufFile GgufFile::parse(std::span<const std::byte> bytes, std::string_view source) {
  GgufReader in(bytes, source);
  if (in.read<uint32_t>("the magic number") != kMagic) in.fail("the file does not begin with GGUF");
  GgufFile file;
  file.source_ = source;
  file.version_ = in.read<uint32_t>("the version");
  if (file.version_ != 2 && file.version_ != 3) {
    const bool swapped = (file.version_ & 0xFFFF) == 0 && file.version_ != 0;
    in.fail_unsupported(swapped ? std::string("a big-endian GGUF file")
                                : accrete::format("GGUF version {}", file.version_),
                        "use a little-endian file of version 2 or 3");
  }
  const uint64_t tensor_count = in.read_count("the number of tensors", kLeastTensor);
  const uint64_t pair_count = in.read_count("the number of metadata entries", kLeastPair);

  for (uint64_t i = 0; i < pair_count; ++i) {
    std::string key = read_name(in, "a key");
    if (file.metadata_.contains(key))
      in.fail(accrete::format("the key {} is there twice", shown(key)));
    GgufValue value = read_value(in);
    file.metadata_.emplace(std::move(key), std::move(value));
  }

  const int64_t alignment = file.get_int("general.alignment", kDefaultAlignment);
  if (alignment <= 0 || !std::has_single_bit(static_cast<uint64_t>(alignment)) ||
      static_cast<uint64_t>(alignment) > kMaxAlignment)
    in.fail(accrete::format("general.alignment is {}, not a power of two", alignment));

  // Again: the metadata have used up bytes that the first check still counted.
  if (tensor_count > in.left() / kLeastTensor)
    in.fail(accrete::format("{} tensors are announced, which {} bytes cannot hold", tensor_count,
                            in.left()));
  std::vector<Entry> entries;
  entries.reserve(tensor_count);
  std::set<std::string, std::less<>> names;
  for (uint64_t i = 0; i < tensor_count; ++i) {
    entries.push_back(read_entry(in));
    const std::string& name = entries.back().tensor.name;
    if (!names.insert(name).second)
      in.fail(accrete::format("tensor {} is there twice", shown(name)));
  }
  file.tensors_ = place(in, std::move(entries), static_cast<uint64_t>(alignment));
  return file;
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  for (const GgufTensor& tensor : tensors_)
    if (tensor.name == name) return &tensor;
  return nullptr;
}

}  // namespace accrete
