#include "io/npz.h"

#include <array>
#include <cctype>
#include <cstring>
#include <limits>
#include <set>

#include "base/error.h"
#include "base/format.h"
#include "io/inflate.h"
#include "io/utf8.h"

namespace accrete {
namespace {

constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50;
constexpr size_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22;
constexpr size_t kMostMembers = 4096;
constexpr size_t kMostDimensions = 8;
constexpr uint16_t kDeflated = 8;

[[noreturn]] void refuse_npz(std::string_view source, const std::string& what) {
  throw Error(ErrorCode::kFormat, accrete::format("{}: {}", source, what),
              "write it with numpy.savez(file, inputs=..., targets=...)");
}

// A part of the file; a reader that never leaves it.
class Reader {
 public:
  Reader(std::span<const std::byte> bytes, std::string_view source)
      : bytes_(bytes), source_(source) {}

  size_t size() const { return bytes_.size(); }
  std::span<const std::byte> part(uint64_t at, uint64_t n) const {
    if (at > bytes_.size() || n > bytes_.size() - at)
      refuse_npz(source_, "it ends too soon, or its directory is damaged");
    return bytes_.subspan(static_cast<size_t>(at), static_cast<size_t>(n));
  }
  template <typename T>
  T number(uint64_t at) const {
    T value;
    std::memcpy(&value, part(at, sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string text(uint64_t at, uint64_t n) const {
    const auto bytes = part(at, n);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

 private:
  std::span<const std::byte> bytes_;
  std::string_view source_;
};

uint32_t crc32(std::span<const std::byte> bytes) {
  static const auto table = [] {
    std::array<uint32_t, 256> t{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t c = i;
      for (int k = 0; k < 8; ++k) c = (c & 1) != 0 ? 0xedb88320U ^ (c >> 1) : c >> 1;
      t[i] = c;
    }
    return t;
  }();
  uint32_t c = ~0U;
  for (const std::byte b : bytes) c = table[(c ^ static_cast<uint32_t>(b)) & 255] ^ (c >> 8);
  return ~c;
}

// The header of a .npy file: a literal of Python with three keys, in any order.
class NpyHeader {
 public:
  NpyHeader(std::string text, std::string where)
      : text_(std::move(text)), where_(std::move(where)) {
    expect('{');
    while (!next_is('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr" && type.empty())
        type = quoted();
      else if (key == "fortran_order" && !has_order_)
        fortran = truth();
      else if (key == "shape" && !has_shape_)
        read_shape();
      else
        fail();
      if (!next_is(',')) {
        expect('}');
        break;
      }
    }
    skip();
    if (at_ != text_.size() || type.empty() || !has_order_ || !has_shape_) fail();
  }

  std::string type;
  bool fortran = false;
  std::vector<int64_t> shape;

 private:
  [[noreturn]] void fail() const { refuse_npz(where_, "its header is none of a .npy file"); }
  void skip() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
  }
  bool next_is(char c) {
    skip();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!next_is(c)) fail();
  }
  std::string quoted() {
    skip();
    const char mark = at_ < text_.size() ? text_[at_] : ' ';
    const size_t end = mark == '\'' || mark == '"' ? text_.find(mark, at_ + 1) : std::string::npos;
    if (end == std::string::npos) fail();
    std::string out = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return out;
  }
  bool truth() {
    skip();
    has_order_ = true;
    for (const auto& [word, value] : {std::pair("True", true), std::pair("False", false)})
      if (text_.compare(at_, std::strlen(word), word) == 0) {
        at_ += std::strlen(word);
        return value;
      }
    fail();
  }
  void read_shape() {
    has_shape_ = true;
    expect('(');
    while (!next_is(')')) {
      skip();
      int64_t n = 0;
      const size_t begin = at_;
      for (; at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_])) != 0; ++at_)
        if (at_ - begin < 12) n = n * 10 + (text_[at_] - '0');
      if (at_ == begin || at_ - begin > 12 || shape.size() == kMostDimensions) fail();
      shape.push_back(n);
      if (!next_is(',')) {
        expect(')');
        break;
      }
    }
  }

  std::string text_, where_;
  size_t at_ = 0;
  bool has_order_ = false, has_shape_ = false;
};

size_t element_bytes(const NpyArray& array) {
  switch (array.type) {
    case NpyArray::Type::kU8:
      return 1;
    case NpyArray::Type::kF64:
    case NpyArray::Type::kI64:
      return 8;
    case NpyArray::Type::kText:
      return 4 * static_cast<size_t>(array.width);
    default:
      return 4;
  }
}

void set_type(NpyArray& array, const std::string& type, const std::string& where) {
  if (type == "<f4") {
    array.type = NpyArray::Type::kF32;
  } else if (type == "<f8") {
    array.type = NpyArray::Type::kF64;
  } else if (type == "<i4") {
    array.type = NpyArray::Type::kI32;
  } else if (type == "<i8") {
    array.type = NpyArray::Type::kI64;
  } else if (type == "|u1") {
    array.type = NpyArray::Type::kU8;
  } else if (type.starts_with("<U") && type.size() > 2 && type.size() < 7 &&
             type.find_first_not_of("0123456789", 2) == std::string::npos && type[2] != '0') {
    array.type = NpyArray::Type::kText;
    array.width = std::stoll(type.substr(2));
  } else {
    throw Error(ErrorCode::kUnsupported, accrete::format("{}: its type is {}", where, shown(type)),
                "save it as float32, float64, int32, int64, uint8 or text");
  }
}

NpyArray parse_npy(std::span<const std::byte> bytes, std::string name, std::string_view source) {
  const std::string where = accrete::format("{}: {}", source, name);
  const Reader in(bytes, where);
  if (in.text(0, 6) != "\x93NUMPY") refuse_npz(where, "it is no .npy file");
  const auto major = in.number<uint8_t>(6);
  if (major < 1 || major > 3) refuse_npz(where, "its version is not known");
  const uint64_t at = major == 1 ? 10 : 12;
  const uint64_t n = major == 1 ? in.number<uint16_t>(8) : in.number<uint32_t>(8);
  const NpyHeader header(in.text(at, n), where);
  NpyArray array;
  array.name = std::move(name);
  set_type(array, header.type, where);
  array.shape = header.shape;
  if (header.fortran && array.shape.size() > 1)
    throw Error(ErrorCode::kUnsupported, where + ": it is in Fortran's order",
                "save numpy.ascontiguousarray(...) of it");
  array.data = in.part(at + n, bytes.size() - at - n);
  uint64_t expected = element_bytes(array);
  for (const int64_t d : array.shape)
    if (__builtin_mul_overflow(expected, static_cast<uint64_t>(d), &expected))
      refuse_npz(where, "its shape is too large");
  if (expected != array.data.size())
    refuse_npz(where, accrete::format("it has {} bytes, and its shape wants {}", array.data.size(),
                                      expected));
  return array;
}

// The member that the directory's entry at `at` names.
NpyArray parse_member(const Reader& in, uint64_t at, std::string_view source) {
  const auto flags = in.number<uint16_t>(at + 8), method = in.number<uint16_t>(at + 10);
  const std::string name = in.text(at + kCentralBytes, in.number<uint16_t>(at + 28));
  const uint64_t packed = in.number<uint32_t>(at + 20), size = in.number<uint32_t>(at + 24);
  if ((method != 0 && method != kDeflated) || (flags & 1) != 0)
    throw Error(ErrorCode::kUnsupported,
                accrete::format("{}: {} is encrypted, or packed in a way that is not known", source,
                                shown(name)),
                "write it with numpy.savez or numpy.savez_compressed");
  if (!name.ends_with(".npy")) refuse_npz(source, shown(name) + " is no .npy file");
  // numpy writes sizes of 64 bits into the local header; here they must fit the directory's 32.
  const uint64_t local = in.number<uint32_t>(at + 42);
  if ((method == 0 && packed != size) || in.number<uint32_t>(local) != kLocal)
    refuse_npz(source, "its directory is damaged");
  if (in.text(local + kLocalBytes, in.number<uint16_t>(local + 26)) != name)
    refuse_npz(source, "its directory names another file than stands there");
  const uint64_t begin =
      local + kLocalBytes + in.number<uint16_t>(local + 26) + in.number<uint16_t>(local + 28);
  auto bytes = in.part(begin, packed);
  std::shared_ptr<const std::vector<std::byte>> own;
  if (method == kDeflated) {
    auto made = inflate(bytes, size);
    if (!made) refuse_npz(source, shown(name) + " is damaged: it cannot be unpacked");
    own = std::make_shared<const std::vector<std::byte>>(*std::move(made));
    bytes = *own;
  }
  if (crc32(bytes) != in.number<uint32_t>(at + 16))
    refuse_npz(source, shown(name) + " is damaged: its checksum is another");
  NpyArray array = parse_npy(bytes, name.substr(0, name.size() - 4), source);
  array.own = std::move(own);
  return array;
}

template <typename T>
T load(const NpyArray& array, size_t i) {
  T value;
  std::memcpy(&value, array.data.data() + i * sizeof(T), sizeof(T));
  return value;
}

void append_utf8(uint32_t c, std::string& out) {
  const auto byte = [&out](uint32_t b) { out += static_cast<char>(b); };
  if (c < 0x80) return byte(c);
  if (c < 0x800) {
    byte(0xc0 | c >> 6);
  } else {
    if (c < 0x10000) {
      byte(0xe0 | c >> 12);
    } else {
      byte(0xf0 | c >> 18);
      byte(0x80 | (c >> 12 & 63));
    }
    byte(0x80 | (c >> 6 & 63));
  }
  byte(0x80 | (c & 63));
}

}  // namespace

int64_t NpyArray::numel() const {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

std::vector<float> NpyArray::numbers() const {
  std::vector<float> out(static_cast<size_t>(numel()));
  for (size_t i = 0; i < out.size(); ++i) switch (type) {
      case Type::kF32:
        out[i] = load<float>(*this, i);
        break;
      case Type::kF64:
        out[i] = static_cast<float>(load<double>(*this, i));
        break;
      case Type::kI32:
        out[i] = static_cast<float>(load<int32_t>(*this, i));
        break;
      case Type::kI64:
        out[i] = static_cast<float>(load<int64_t>(*this, i));
        break;
      case Type::kU8:
        out[i] = load<uint8_t>(*this, i);
        break;
      case Type::kText:
        refuse_npz(name, "it is text, where numbers are wanted");
    }
  return out;
}

std::vector<int32_t> NpyArray::whole() const {
  std::vector<int32_t> out(static_cast<size_t>(numel()));
  for (size_t i = 0; i < out.size(); ++i) {
    int64_t value = 0;
    if (type == Type::kI32)
      value = load<int32_t>(*this, i);
    else if (type == Type::kI64)
      value = load<int64_t>(*this, i);
    else if (type == Type::kU8)
      value = load<uint8_t>(*this, i);
    else
      refuse_npz(name, "it is not of whole numbers");
    if (value < std::numeric_limits<int32_t>::min() || value > std::numeric_limits<int32_t>::max())
      refuse_npz(name, accrete::format("{} is out of range", value));
    out[i] = static_cast<int32_t>(value);
  }
  return out;
}

std::vector<std::string> NpyArray::text() const {
  if (type != Type::kText) refuse_npz(name, "it is not of text");
  std::vector<std::string> out(static_cast<size_t>(numel()));
  for (size_t i = 0; i < out.size(); ++i)
    for (int64_t k = 0; k < width; ++k) {
      const auto c = load<uint32_t>(*this, i * static_cast<size_t>(width) + static_cast<size_t>(k));
      if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) refuse_npz(name, "its text is no Unicode");
      if (c != 0) append_utf8(c, out[i]);
    }
  return out;
}

std::vector<NpyArray> parse_npz(std::span<const std::byte> bytes, std::string_view source) {
  const Reader in(bytes, source);
  // numpy writes no comment behind the end record.
  if (in.size() < kEndBytes || in.number<uint32_t>(in.size() - kEndBytes) != kEnd)
    refuse_npz(source, "it is no .npz file, or it ends too soon");
  const uint64_t end = in.size() - kEndBytes;
  const auto members = in.number<uint16_t>(end + 10);
  const uint64_t size = in.number<uint32_t>(end + 12);
  uint64_t at = in.number<uint32_t>(end + 16);
  if (in.number<uint32_t>(end + 4) != 0 || members == 0 || members > kMostMembers ||
      in.number<uint16_t>(end + 8) != members || at + size != end)
    refuse_npz(source, "its directory is damaged");
  std::vector<NpyArray> out;
  std::set<std::string> names;
  for (uint16_t i = 0; i < members; ++i) {
    if (in.number<uint32_t>(at) != kCentral) refuse_npz(source, "its directory is damaged");
    out.push_back(parse_member(in, at, source));
    if (!names.insert(out.back().name).second)
      refuse_npz(source, shown(out.back().name) + " is there twice");
    at += kCentralBytes + in.number<uint16_t>(at + 28) + in.number<uint16_t>(at + 30) +
          in.number<uint16_t>(at + 32);
  }
  if (at != end) refuse_npz(source, "its directory is damaged");
  return out;
}

}  // namespace accrete
