#include "serve/page.h"

#include <algorithm>

#include "base/sha256.h"

namespace accrete::serve {
namespace {

constexpr std::string_view kPage =
#include "page.inc"
    ;

std::string_view between(std::string_view from, std::string_view to) {
  const size_t at = kPage.find(from) + from.size();
  return kPage.substr(at, kPage.find(to, at) - at);
}

std::string hash_of(std::string_view text) {
  const std::string hex = sha256_hex(text);
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return "'sha256-" + base64(bytes) + "'";
}

}  // namespace

std::string_view page_text() {
  return kPage;
}

const std::string& page_policy() {
  static const std::string policy =
      "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
      "frame-ancestors 'none'; style-src " +
      hash_of(between("<style>", "</style>")) + "; script-src " +
      hash_of(between("<script>", "</script>"));
  return policy;
}

std::string base64(std::string_view bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t at = 0; at < bytes.size(); at += 3) {
    const size_t n = std::min<size_t>(3, bytes.size() - at);
    const auto byte = [&](size_t i) {
      return i < n ? static_cast<unsigned>(static_cast<unsigned char>(bytes[at + i])) : 0U;
    };
    const unsigned v = byte(0) << 16 | byte(1) << 8 | byte(2);
    out += kDigits[v >> 18];
    out += kDigits[v >> 12 & 63];
    out += n > 1 ? kDigits[v >> 6 & 63] : '=';
    out += n > 2 ? kDigits[v & 63] : '=';
  }
  return out;
}

}  // namespace accrete::serve
