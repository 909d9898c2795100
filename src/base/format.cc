#include "base/format.h"

// {fmt}'s code is compiled into this file, under a name of our own that no library shows: a program
// may have another {fmt}, and libtorch does.
#ifndef FMT_HEADER_ONLY
#define FMT_HEADER_ONLY
#endif
#define FMT_BEGIN_NAMESPACE \
  namespace fmt {           \
  inline namespace accrete_private __attribute__((visibility("hidden"))) {
#define FMT_END_NAMESPACE \
  }                       \
  }
#include <fmt/args.h>
#include <fmt/format.h>

#include "base/error.h"

namespace accrete {

std::string vformat(std::string_view pattern, std::initializer_list<FormatArg> values) {
  using Kind = FormatArg::Kind;
  fmt::dynamic_format_arg_store<fmt::format_context> store;
  store.reserve(values.size(), 0);
  for (const FormatArg& value : values) {
    switch (value.kind_) {
      case Kind::kBool:
        store.push_back(value.integer_ != 0);
        break;
      case Kind::kChar:
        store.push_back(static_cast<char>(value.integer_));
        break;
      case Kind::kInteger:
        store.push_back(value.integer_);
        break;
      case Kind::kUnsigned:
        store.push_back(value.unsigned_);
        break;
      case Kind::kFloat:
        store.push_back(static_cast<float>(value.number_));
        break;
      case Kind::kDouble:
        store.push_back(value.number_);
        break;
      case Kind::kText:
        store.push_back(value.text_);
        break;
      case Kind::kNone:
        break;
    }
  }
  try {
    return fmt::vformat(fmt::string_view(pattern.data(), pattern.size()), store);
  } catch (const fmt::format_error& e) {
    throw Error(ErrorCode::kInternal, "the pattern '" + std::string(pattern) + "': " + e.what());
  }
}

}  // namespace accrete
