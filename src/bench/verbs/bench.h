// The benchmarks that `accrete bench` is made of.
#pragma once

#include "cli/cli.h"
#include "model/open_options.h"

namespace accrete::cli {

// As the library opens models.
inline OpenOptions open_options(const Common& common) {
  OpenOptions open;
  open.device = common.open.device;
  open.dtype = common.open.dtype;
  open.threads = common.open.threads;
  return open;
}

// `bench` and all below it.
void add_bench(CLI::App& app, Common& common, Run& run);
void add_bench_forecast(CLI::App& bench, Common& common, Run& run);
void add_bench_sequence(CLI::App& bench, Common& common, Run& run);
void add_bench_documents(CLI::App& bench, Common& common, Run& run);
void add_bench_explain(CLI::App& bench, Common& common, Run& run);
void add_bench_domains(CLI::App& bench, Common& common, Run& run);
void add_bench_forgetting(CLI::App& bench, Common& common, Run& run);
void add_bench_desk(CLI::App& bench, Common& common, Run& run);

}  // namespace accrete::cli
