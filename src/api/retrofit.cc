#include "learn/retrofit.h"

#include <chrono>

#include "api/facade.h"
#include "api/installation.h"

namespace accrete::api {

RetrofitReport retrofit(const std::filesystem::path& source, const std::filesystem::path& folder,
                        const RetrofitOptions& options, const Callbacks& callbacks) {
  return with_errors([&] {
    const auto start = std::chrono::steady_clock::now();
    auto corpus = options.corpus;
    if (corpus.empty()) corpus.push_back(data_folder() / "background.txt.zst");
    accrete::RetrofitOptions inner;
    inner.blocks = options.blocks;
    inner.keys.heads = options.heads;
    inner.keys.half_keys = options.half_keys;
    inner.background_tokens = options.background_tokens;
    inner.seed = options.seed;
    inner.tool_version = version();
    inner.open.device = options.device;
    inner.open.threads = options.threads;
    const auto result = accrete::retrofit(source, folder, corpus, inner, reporter_of(callbacks));
    RetrofitReport report;
    report.blocks = result.blocks;
    report.slots = result.slots;
    report.background_tokens = result.background_tokens;
    report.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return report;
  });
}

}  // namespace accrete::api
