#include <zstd.h>

#include <memory>
#include <new>

#include "base/error.h"
#include "base/format.h"
#include "io/dataset_formats.h"

namespace accrete {

std::string unpack_zstd(std::span<const std::byte> packed, size_t limit, std::string_view source) {
  const auto fail_packed = [&](const std::string& what) {
    throw Error(ErrorCode::kFormat, accrete::format("{}: {}", source, what),
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
      fail_packed(accrete::format("cannot unpack: {}", ZSTD_getErrorName(left)));
    if (out.pos > limit - text.size())
      fail_packed(accrete::format("unpacks to more than {} bytes", limit));
    text.append(buffer.get(), out.pos);
    if (in.pos == in.size && (left == 0 || out.pos == 0)) break;
    if (in.pos == read_before && out.pos == 0) break;
  }
  if (left != 0 || in.pos != in.size) fail_packed("the packed data end too early");
  return text;
}

}  // namespace accrete
