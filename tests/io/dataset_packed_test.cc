#include <zstd.h>

#include "base/sha256.h"
#include "io/dataset.h"
#include "io_testing.h"

namespace accrete {
namespace {

using testing::expect_error;
using testing::ScratchFolder;

std::string pack(const std::string& text, bool checksum = true) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, checksum ? 1 : 0);
  out.resize(ZSTD_compress2(context, out.data(), out.size(), text.data(), text.size()));
  ZSTD_freeCCtx(context);
  return out;
}

TEST(DatasetPacked, ReadsPackedFilesOfEveryKind) {
  const ScratchFolder folder;
  const std::string packed = pack("{\"text\":\"t\"}\n");
  const Dataset lines = read_dataset(folder.write("d.jsonl.zst", packed));
  EXPECT_EQ(lines.items.at(0).text, "t");
  EXPECT_EQ(lines.digest, sha256_hex(packed));  // of the file, not of what is in it
  EXPECT_EQ(read_dataset(folder.write("d.json.zst", pack("[{\"text\":\"t\"}]"))).items.size(), 1u);
  EXPECT_EQ(read_dataset(folder.write("d.txt.zst", pack("a\n<|endoftext|>\nb"))).items.size(), 2u);
}

TEST(DatasetPacked, ErrorsNameTheLineOfTheText) {
  const ScratchFolder folder;
  expect_error(ErrorCode::kFormat, {"d.jsonl.zst:2: "},
               [&] { read_dataset(folder.write("d.jsonl.zst", pack("{\"text\":\"t\"}\n{}"))); });
}

TEST(DatasetPacked, ReadsTextOfEverySize) {
  const ScratchFolder folder;
  for (const size_t size :
       {size_t{0}, size_t{1}, size_t{131072}, size_t{131073}, size_t{3000000}}) {
    std::string text(size, ' ');
    uint32_t state = 1;
    for (char& c : text) c = static_cast<char>('a' + (state = state * 1664525 + 1013904223) % 7);
    EXPECT_EQ(read_text(folder.write("t.zst", pack(text))), text);
    EXPECT_EQ(read_text(folder.write("t.txt", text)), text);
  }
}

TEST(DatasetPacked, ReadsFrameAfterFrame) {
  const ScratchFolder folder;
  const std::string skippable("\x50\x2a\x4d\x18\x02\0\0\0xy", 10);
  EXPECT_EQ(read_text(folder.write("t.zst", pack("one ") + skippable + pack("") + pack("two"))),
            "one two");
}

TEST(DatasetPacked, RefusesEveryTruncation) {
  const ScratchFolder folder;
  const std::string packed = pack("some text that is packed, some text that is packed again");
  for (size_t n = 0; n < packed.size(); ++n)
    expect_error(ErrorCode::kFormat, {"t.zst"},
                 [&] { read_text(folder.write("t.zst", packed.substr(0, n))); });
}

TEST(DatasetPacked, RefusesDamage) {
  const ScratchFolder folder;
  const std::string packed = pack("some text that is packed, some text that is packed again");
  for (size_t i = 0; i < packed.size(); ++i) {
    std::string damaged = packed;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x55);
    expect_error(ErrorCode::kFormat, {"t.zst"}, [&] { read_text(folder.write("t.zst", damaged)); });
  }
  expect_error(ErrorCode::kFormat, {"t.zst"},
               [&] { read_text(folder.write("t.zst", packed + "x")); });
  expect_error(ErrorCode::kFormat, {"d.jsonl.zst"},
               [&] { read_dataset(folder.write("d.jsonl.zst", "{\"text\":\"not packed\"}")); });
}

TEST(DatasetPacked, StopsAtTheLimit) {
  const ScratchFolder folder;
  const auto bomb = folder.write("bomb.zst", pack(std::string(50000000, '\0')));
  ASSERT_LT(std::filesystem::file_size(bomb), 10000u);
  expect_error(ErrorCode::kFormat, {"bomb.zst", "more than 1000000 bytes"},
               [&] { read_text(bomb, 1000000); });
  EXPECT_EQ(read_text(bomb, 50000000).size(), 50000000u);
  expect_error(ErrorCode::kFormat, {"over 3 bytes"},
               [&] { read_text(folder.write("t.txt", "four"), 3); });
}

}  // namespace
}  // namespace accrete
