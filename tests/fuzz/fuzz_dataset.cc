// Data sets from memory: the first byte says in which form the rest is read.
#include "fuzz_testing.h"
#include "io/dataset.h"
#include "io/dataset_formats.h"
#include "io/utf8.h"

namespace {

using accrete::Item;
namespace fuzz = accrete::fuzz;

void check_text(const std::string& text) {
  fuzz::require(!accrete::is_blank(text) && accrete::is_utf8(text));
}

void check_item(const Item& item) {
  fuzz::require(item.line >= 1);
  for (const auto& prompt : item.prompts) check_text(prompt);
  for (const auto& answer : item.answers) check_text(answer);
  for (const auto& asked : item.asked) check_text(asked);
  switch (item.kind) {
    case Item::Kind::kFact:
      fuzz::require(!item.answers.empty() && item.prompts.size() + item.asked.size() > 0);
      break;
    case Item::Kind::kMessages:
      fuzz::require(!item.messages.empty() && item.messages.back().role == "assistant");
      for (const auto& message : item.messages) check_text(message.content);
      break;
    case Item::Kind::kText:
      check_text(item.text);
      break;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto text = fuzz::text_of(data + 1, size - 1);
  std::vector<Item> items;
  fuzz::allow_errors([&] {
    switch (data[0] % 5) {
      case 0:
        items.push_back(accrete::parse_item(text, "fuzz", 1));
        break;
      case 1:
        items = accrete::parse_item_lines(text, "fuzz");
        break;
      case 2:
        items = accrete::parse_item_array(text, "fuzz");
        break;
      case 3:
        items = accrete::parse_documents(text, "fuzz");
        break;
      case 4:
        fuzz::require(
            accrete::unpack_zstd(fuzz::bytes_of(data + 1, size - 1), 1 << 16, "fuzz").size() <=
            1 << 16);
        break;
    }
  });
  for (const Item& item : items) check_item(item);
  return 0;
}
