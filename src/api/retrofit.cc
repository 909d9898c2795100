#include <chrono>

#include "accrete/model.h"
#include "api/facade.h"
#include "api/find_reader.h"
#include "api/upgrade.h"
#include "learn/retrofit_facts.h"
#include "vector/vector_teach.h"

namespace accrete::api {
namespace {

RetrofitFactsOptions inner_options(const RetrofitOptions& given) {
  RetrofitFactsOptions inner;
  inner.reader = find_reader(given.reader.string());
  inner.block = given.block;
  if (!given.tell.empty()) inner.tell = parse_tell(given.tell);
  inner.caution = given.caution;
  inner.tool_version = version();
  inner.open.device = given.device;
  inner.open.dtype = given.dtype;
  inner.open.threads = given.threads;
  return inner;
}

RetrofitReport retrofit_of_vectors(const std::filesystem::path& source,
                                   const std::filesystem::path& folder,
                                   const RetrofitOptions& options, const Callbacks& callbacks) {
  RetrofitVectorsOptions inner;
  inner.columns = options.columns;
  inner.winners = options.winners;
  inner.ridge = options.ridge;
  inner.seed = options.seed;
  inner.background = options.background;
  inner.tool_version = version();
  const auto made = retrofit_vectors(source, folder, inner, reporter_of(callbacks));
  RetrofitReport report;
  report.model = folder.string();
  report.columns = made.columns;
  report.winners = made.winners;
  return report;
}

}  // namespace

RetrofitReport retrofit(const std::filesystem::path& source, const std::filesystem::path& folder,
                        const RetrofitOptions& options, const Callbacks& callbacks) {
  return with_errors([&] {
    const auto start = std::chrono::steady_clock::now();
    if (is_vector_folder(source)) {
      RetrofitReport report = retrofit_of_vectors(source, folder, options, callbacks);
      report.seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      return report;
    }
    const auto made =
        retrofit_facts(source, folder, inner_options(options), reporter_of(callbacks));
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    return RetrofitReport{
        folder.string(), made.block, tell_name(made.tell), made.reader_digest, took.count(), 0, 0};
  });
}

UpgradeReport upgrade(const std::filesystem::path& source, const std::filesystem::path& folder,
                      const RetrofitOptions& options, uint64_t seed, const Callbacks& callbacks) {
  return with_errors([&] {
    accrete::TeachOptions how;
    how.seed = seed;
    how.tool_version = version();
    const UpgradeResult made =
        accrete::upgrade(source, folder, inner_options(options), how, reporter_of(callbacks));
    UpgradeReport report;
    report.model = folder.string();
    for (const UpgradedUpdate& u : made.updates)
      report.updates.push_back({u.old, u.id, u.source, u.facts});
    for (const LeftLesson& l : made.left)
      report.left.push_back({l.update, l.source, l.line, l.what, l.why});
    report.probes = made.probes;
    return report;
  });
}

}  // namespace accrete::api
