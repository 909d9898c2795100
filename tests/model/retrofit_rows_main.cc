// Gives a model memory layers whose keys are fitted to a corpus (learn/retrofit.h), for the parity
// test of their export: `accrete retrofit` makes a memory of facts instead.
//
// usage: retrofit_rows SOURCE MODEL CORPUS BACKGROUND_TOKENS
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include "base/error.h"
#include "learn/retrofit.h"

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  try {
    accrete::RetrofitOptions options;
    options.background_tokens = std::atoll(argv[4]);
    const std::vector<std::filesystem::path> corpus = {argv[3]};
    accrete::retrofit(argv[1], argv[2], corpus, options);
  } catch (const accrete::Error& e) {
    std::fprintf(stderr, "%s\n  try: %s\n", e.what(), e.hint().c_str());
    return 1;
  }
  return 0;
}
