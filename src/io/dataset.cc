#include "io/dataset.h"

#include <zstd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"
#include "io/dataset_array.h"
#include "io/utf8.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPacked = ".zst";
constexpr std::string_view kSeparator = "<|endoftext|>";
constexpr size_t kTextLimit = size_t{4} << 30;

[[noreturn]] void fail(std::string_view source, int64_t line, const std::string& what) {
  throw Error(ErrorCode::kFormat, fmt::format("{}:{}: {}", source, line, what),
              "correct this line and run the command again");
}

std::string unpack(std::span<const std::byte> packed, size_t limit, const fs::path& path) {
  const auto fail_packed = [&](const std::string& what) {
    throw Error(ErrorCode::kFormat, fmt::format("{}: {}", path.string(), what),
                "the file is damaged or not packed by zstd; test it with `zstd -t`");
  };
  const std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(),
                                                                     &ZSTD_freeDCtx);
  if (context == nullptr) throw std::bad_alloc();
  // A header may claim any size, so the buffer grows with what really comes out.
  const std::unique_ptr<char[]> buffer(new char[ZSTD_DStreamOutSize()]);
  std::string text;
  ZSTD_inBuffer in = {packed.data(), packed.size(), 0};
  size_t left = 1;  // 0 at the end of a frame
  for (;;) {
    ZSTD_outBuffer out = {buffer.get(), ZSTD_DStreamOutSize(), 0};
    const size_t read_before = in.pos;
    left = ZSTD_decompressStream(context.get(), &out, &in);
    if (ZSTD_isError(left) != 0)
      fail_packed(fmt::format("cannot unpack: {}", ZSTD_getErrorName(left)));
    if (out.pos > limit - text.size())
      fail_packed(fmt::format("unpacks to more than {} bytes", limit));
    text.append(buffer.get(), out.pos);
    if (in.pos == in.size && (left == 0 || out.pos == 0)) break;
    if (in.pos == read_before && out.pos == 0) break;
  }
  if (left != 0 || in.pos != in.size) fail_packed("the packed data end too early");
  return text;
}

std::string text_of(const MappedFile& file, size_t limit) {
  const fs::path& path = file.path();
  if (path.extension() == kPacked) return unpack(file.bytes(), limit, path);
  if (file.bytes().size() > limit)
    throw Error(ErrorCode::kFormat, fmt::format("{}: over {} bytes", path.string(), limit),
                "split the file");
  const auto bytes = file.bytes();
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n\v\f") == std::string_view::npos;
}

// Calls line(text, number) for each, without its end ("\n" or "\r\n").
template <typename Line>
void for_each_line(std::string_view text, Line line) {
  int64_t number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view one = text.substr(0, end);
    if (one.ends_with('\r')) one.remove_suffix(1);
    line(one, ++number);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

std::vector<Item> parse_lines(std::string_view text, std::string_view source) {
  std::vector<Item> items;
  for_each_line(text, [&](std::string_view line, int64_t number) {
    if (!is_blank(line)) items.push_back(parse_item(line, source, number));
  });
  return items;
}

std::vector<Item> parse_documents(std::string_view text, std::string_view source) {
  std::vector<Item> items;
  Item current;
  const auto finish = [&] {
    if (current.text.ends_with('\n')) current.text.pop_back();
    if (!is_blank(current.text)) {
      current.kind = Item::Kind::kText;
      items.push_back(std::move(current));
    }
    current = {};
  };
  for_each_line(text, [&](std::string_view line, int64_t number) {
    if (!is_utf8(line)) fail(source, number, "not UTF-8");
    if (line == kSeparator) return finish();
    if (current.line == 0) current.line = number;
    current.text.append(line).push_back('\n');
  });
  finish();
  return items;
}

std::vector<Item> parse_all(std::string_view text, const fs::path& path) {
  fs::path name = path.filename();
  if (name.extension() == kPacked) name = name.stem();
  const std::string extension = name.extension().string();
  text.remove_prefix(after_byte_order_mark(text));
  if (extension == ".jsonl") return parse_lines(text, path.string());
  if (extension == ".json") return parse_item_array(text, path.string());
  if (extension == ".txt") return parse_documents(text, path.string());
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{}: not a kind of file that holds items", path.string()),
              "name a .jsonl, .json or .txt file, or one of these packed as .zst");
}

}  // namespace

std::string read_text(const fs::path& path, size_t limit) {
  return text_of(MappedFile(path), limit);
}

Dataset read_dataset(const fs::path& path) {
  const MappedFile file(path);
  Dataset dataset;
  dataset.path = path;
  dataset.items = parse_all(text_of(file, kTextLimit), path);
  if (dataset.items.empty())
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: no item in it", path.string()),
                "give at least one line, such as {\"prompt\": \"...\", \"completion\": \"...\"}");
  dataset.digest = sha256_hex(file.bytes());
  return dataset;
}

std::vector<std::string> read_corpus(const fs::path& path) {
  Dataset dataset = read_dataset(path);
  std::vector<std::string> documents;
  documents.reserve(dataset.items.size());
  for (Item& item : dataset.items) {
    if (item.kind == Item::Kind::kText) {
      documents.push_back(std::move(item.text));
      continue;
    }
    std::string text;
    const auto add = [&](const std::string& line) {
      if (!text.empty()) text += '\n';
      text += line;
    };
    for (const Message& message : item.messages) add(message.content);
    for (const std::string& prompt : item.prompts) add(join_prompt(prompt, item.answers.front()));
    // A fact that is only asked teaches nothing, here neither.
    if (!text.empty()) documents.push_back(std::move(text));
  }
  if (documents.empty())
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: no text in it", path.string()),
                "give a .txt file, or items that hold more than \"asked\"");
  return documents;
}

}  // namespace accrete
