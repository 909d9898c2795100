#include <chrono>

#include "api/facade.h"
#include "api/find_reader.h"
#include "learn/retrofit_facts.h"

namespace accrete::api {

RetrofitReport retrofit(const std::filesystem::path& source, const std::filesystem::path& folder,
                        const RetrofitOptions& options, const Callbacks& callbacks) {
  return with_errors([&] {
    const auto start = std::chrono::steady_clock::now();
    accrete::RetrofitFactsOptions inner;
    inner.reader = find_reader(options.reader.string());
    inner.block = options.block;
    if (!options.tell.empty()) inner.tell = parse_tell(options.tell);
    inner.caution = options.caution;
    inner.tool_version = version();
    inner.open.device = options.device;
    inner.open.threads = options.threads;
    const auto result = retrofit_facts(source, folder, inner, reporter_of(callbacks));
    RetrofitReport report;
    report.block = result.block;
    report.tell = tell_name(result.tell);
    report.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return report;
  });
}

}  // namespace accrete::api
