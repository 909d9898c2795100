#include "io/dataset.h"
#include "io_testing.h"

namespace accrete {
namespace {

using testing::expect_error;
using testing::ScratchFolder;
using Strings = std::vector<std::string>;

TEST(Corpus, DocumentsOfATextFile) {
  const ScratchFolder folder;
  EXPECT_EQ(read_corpus(folder.write("c.txt", "a\nb\n<|endoftext|>\nc\n")), (Strings{"a\nb", "c"}));
}

TEST(Corpus, TextOfItems) {
  const ScratchFolder folder;
  EXPECT_EQ(read_corpus(folder.write(
                "c.jsonl",
                "{\"text\":\"t\"}\n"
                "{\"prompts\":[\"p is\",\"q is \"],\"answers\":[\"a\",\"b\"],\"asked\":[\"x\"]}\n"
                "{\"prompt\":\"r\",\"completion\":\"\\na\"}\n"
                "{\"asked\":[\"only\"],\"answer\":\"a\"}\n"
                "{\"messages\":[{\"role\":\"user\",\"content\":\"u\"},"
                "{\"role\":\"assistant\",\"content\":\"v\"}]}\n")),
            (Strings{"t", "p is a\nq is a", "r\na", "u\nv"}));
}

TEST(Corpus, RefusesOneWithoutText) {
  const ScratchFolder folder;
  expect_error(ErrorCode::kInvalidArgument, {"c.jsonl"}, [&] {
    read_corpus(folder.write("c.jsonl", "{\"asked\":[\"only\"],\"answer\":\"a\"}\n"));
  });
  expect_error(ErrorCode::kInvalidArgument, {"c.txt"},
               [&] { read_corpus(folder.write("c.txt", "")); });
  expect_error(ErrorCode::kFormat, {"c.jsonl:1: "},
               [&] { read_corpus(folder.write("c.jsonl", "text\n")); });
}

}  // namespace
}  // namespace accrete
