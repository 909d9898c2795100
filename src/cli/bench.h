// The benchmarks that `accrete bench` is made of.
#pragma once

#include "cli/cli.h"

namespace accrete::cli {

void add_bench_forgetting(CLI::App& bench, Common& common, Run& run);
void add_bench_desk(CLI::App& bench, Common& common, Run& run);

}  // namespace accrete::cli
