#include "io/dataset.h"

#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/sha256.h"
#include "io/dataset_formats.h"
#include "io/utf8.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPacked = ".zst";
constexpr size_t kTextLimit = size_t{4} << 30;

std::string text_of(std::span<const std::byte> bytes, const fs::path& path, size_t limit) {
  if (path.extension() == kPacked) return unpack_zstd(bytes, limit, path.string());
  if (bytes.size() > limit)
    throw Error(ErrorCode::kFormat, accrete::format("{}: over {} bytes", path.string(), limit),
                "split the file");
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

using ParseFn = std::vector<Item> (*)(std::string_view text, std::string_view source);

// By the name alone, before anything is read.
ParseFn parser_of(const fs::path& path) {
  fs::path name = path.filename();
  if (name.extension() == kPacked) name = name.stem();
  const std::string extension = name.extension().string();
  if (extension == ".jsonl") return parse_item_lines;
  if (extension == ".json") return parse_item_array;
  if (extension == ".txt") return parse_documents;
  throw Error(ErrorCode::kInvalidArgument,
              accrete::format("{}: neither a .jsonl nor a .json nor a .txt file", path.string()),
              "name a file of one of these kinds, or one packed by zstd (.jsonl.zst, ...)");
}

}  // namespace

std::string read_text(const fs::path& path, size_t limit) {
  return text_of(MappedFile(path).bytes(), path, limit);
}

Dataset read_dataset(const fs::path& path) {
  (void)parser_of(path);  // a name of no kind is refused before anything is read
  return parse_dataset(MappedFile(path).bytes(), path);
}

Dataset parse_dataset(std::span<const std::byte> bytes, const fs::path& path) {
  const ParseFn parse = parser_of(path);
  const std::string text = text_of(bytes, path, kTextLimit);
  Dataset dataset;
  dataset.path = path;
  dataset.items = parse(std::string_view(text).substr(after_byte_order_mark(text)), path.string());
  if (dataset.items.empty())
    throw Error(ErrorCode::kInvalidArgument, accrete::format("{}: no item in it", path.string()),
                "give at least one line, such as {\"prompt\": \"...\", \"completion\": \"...\"}");
  dataset.digest = sha256_hex(bytes);
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
    if (item.leave) continue;
    for (const std::string& prompt : item.prompts) add(join_prompt(prompt, item.answers.front()));
    // A fact that is only asked teaches nothing, here neither.
    if (!text.empty()) documents.push_back(std::move(text));
  }
  if (documents.empty())
    throw Error(ErrorCode::kInvalidArgument, accrete::format("{}: no text in it", path.string()),
                "give a .txt file, or items that hold more than \"asked\"");
  return documents;
}

}  // namespace accrete
