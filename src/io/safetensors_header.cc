#include "io/safetensors_header.h"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "base/format.h"
#include "io/strict_json.h"
#include "io/utf8.h"

namespace accrete {
namespace {

constexpr size_t kMaxRank = 64;

[[noreturn]] void fail(std::string_view source, std::string_view what) {
  throw Error(ErrorCode::kFormat, accrete::format("{}: safetensors header: {}", source, what),
              "the file is damaged or not a safetensors file; fetch or write it again");
}

DType dtype_from_name(std::string_view name, std::string_view tensor, std::string_view source) {
  constexpr std::array kTypes = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kI64,
                                 DType::kI32, DType::kI16, DType::kI8,  DType::kU8,   DType::kBool};
  for (const DType dtype : kTypes)
    if (dtype_name(dtype) == name) return dtype;
  throw Error(ErrorCode::kUnsupported,
              accrete::format("{}: tensor {} has the type {}, which accrete does not read", source,
                              shown(tensor), shown(name)),
              "convert the tensor to one of F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL");
}

// The grammar: { NAME: {"dtype": S, "shape": [N...], "data_offsets": [N, N]} ...,
// "__metadata__": {S: S ...} }. Every event that does not fit where it comes is an error, so
// nothing deeper than three levels is ever entered.
class Handler {
 public:
  bool null() { return unexpected("null"); }
  bool boolean(bool) { return unexpected("a boolean"); }
  bool number_float(double, const std::string&) {
    return unexpected("a fraction or a huge number");
  }
  bool number_integer(int64_t) { return unexpected("a negative number"); }
  bool binary(std::vector<uint8_t>&) { return unexpected("binary data"); }

  bool number_unsigned(uint64_t value) {
    if (state_ == State::kShape) {
      if (entry_.shape.size() >= kMaxRank)
        return fail(accrete::format("over {} dimensions", kMaxRank));
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
        return fail("a dimension is too large");
      entry_.shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (state_ == State::kOffsets) {
      if (offsets_ == 2) return fail("more than two data_offsets");
      (offsets_++ == 0 ? entry_.begin : entry_.end) = value;
      return true;
    }
    return unexpected("a number");
  }

  bool string(std::string& value) {
    if (state_ == State::kMetadata) {
      header_.metadata[std::move(key_)] = std::move(value);
      return true;
    }
    if (state_ == State::kTensor && key_ == "dtype") {
      dtype_ = std::move(value);
      return true;
    }
    return unexpected("a string");
  }

  bool start_object(size_t) {
    if (state_ == State::kStart) {
      state_ = State::kTop;
      return true;
    }
    if (state_ != State::kTop) return unexpected("an object");
    if (key_ == "__metadata__") {
      state_ = State::kMetadata;
      return true;
    }
    state_ = State::kTensor;
    entry_ = {};
    entry_.name = key_;
    dtype_.clear();
    seen_ = 0;
    return true;
  }

  bool key(std::string& name) {
    key_ = std::move(name);
    if (state_ == State::kTop)
      return names_.insert(key_).second || fail(accrete::format("{} is there twice", shown(key_)));
    if (state_ == State::kMetadata)
      return !header_.metadata.contains(key_) ||
             fail(accrete::format("metadata {} is there twice", shown(key_)));
    constexpr std::array<std::string_view, 3> kFields = {"dtype", "shape", "data_offsets"};
    const auto field = std::find(kFields.begin(), kFields.end(), key_);
    if (field == kFields.end()) return fail(accrete::format("unknown field {}", shown(key_)));
    const unsigned bit = 1u << (field - kFields.begin());
    if ((seen_ & bit) != 0) return fail(accrete::format("\"{}\" is there twice", key_));
    seen_ |= bit;
    return true;
  }

  bool start_array(size_t) {
    if (state_ == State::kTensor && key_ == "shape") {
      state_ = State::kShape;
      return true;
    }
    if (state_ == State::kTensor && key_ == "data_offsets") {
      state_ = State::kOffsets;
      offsets_ = 0;
      return true;
    }
    return unexpected("an array");
  }

  bool end_array() {
    if (state_ == State::kOffsets && offsets_ != 2) return fail("data_offsets are not two numbers");
    state_ = State::kTensor;
    return true;
  }

  bool end_object() {
    if (state_ == State::kTensor) {
      if (seen_ != 7) return fail("dtype, shape or data_offsets is missing");
      pending_types_.push_back(std::move(dtype_));
      header_.entries.push_back(std::move(entry_));
      entry_ = {};
    }
    state_ = state_ == State::kTop ? State::kEnd : State::kTop;
    return true;
  }

  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) {
    return fail(json_error_text(error.what()));
  }

  const std::string& error() const { return error_; }
  SafetensorsHeader take(std::string_view source) {
    for (size_t i = 0; i < header_.entries.size(); ++i)
      header_.entries[i].dtype =
          dtype_from_name(pending_types_[i], header_.entries[i].name, source);
    return std::move(header_);
  }

 private:
  enum class State { kStart, kTop, kMetadata, kTensor, kShape, kOffsets, kEnd };

  bool unexpected(std::string_view what) {
    if (state_ == State::kStart)
      return fail(accrete::format("{} where an object is expected", what));
    return fail(accrete::format("{} does not belong in {}", what, shown(key_)));
  }
  bool fail(const std::string& what) {
    const bool inside =
        state_ == State::kTensor || state_ == State::kShape || state_ == State::kOffsets;
    if (error_.empty())
      error_ = inside ? accrete::format("tensor {}: {}", shown(entry_.name), what) : what;
    return false;
  }

  State state_ = State::kStart;
  std::string key_;
  std::string dtype_;
  SafetensorsEntry entry_;
  unsigned seen_ = 0;
  int offsets_ = 0;
  std::set<std::string> names_;
  std::vector<std::string> pending_types_;
  SafetensorsHeader header_;
  std::string error_;
};

void check_size(const SafetensorsEntry& entry, std::string_view source) {
  uint64_t size = dtype_size(entry.dtype);
  for (const int64_t n : entry.shape)
    if (__builtin_mul_overflow(size, static_cast<uint64_t>(n), &size) ||
        size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      fail(source,
           accrete::format("tensor {}: the size of its shape overflows", shown(entry.name)));
  if (entry.end < entry.begin)
    fail(source, accrete::format("tensor {}: data_offsets [{}, {}] run backwards",
                                 shown(entry.name), entry.begin, entry.end));
  if (entry.end - entry.begin != size)
    fail(source, accrete::format("tensor {}: {} bytes are given, its type and shape need {}",
                                 shown(entry.name), entry.end - entry.begin, size));
}

}  // namespace

SafetensorsHeader read_safetensors_header(std::string_view json, std::string_view source) {
  // The format's own rule; it also keeps byte order marks and leading blanks out.
  if (!json.starts_with('{')) fail(source, "it does not begin with \"{\"");
  Handler handler;
  const bool good = nlohmann::json::sax_parse(json.begin(), json.end(), &handler);
  if (!good || !handler.error().empty()) fail(source, handler.error());
  SafetensorsHeader header = handler.take(source);
  for (const SafetensorsEntry& entry : header.entries) check_size(entry, source);
  std::sort(header.entries.begin(), header.entries.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  return header;
}

}  // namespace accrete
