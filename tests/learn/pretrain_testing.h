// A config of a native model of some ten thousand weights, and its corpora: a whole run in a
// fraction of a second.
#pragma once

#include <array>
#include <filesystem>
#include <fstream>
#include <string>

#include "../base/testing.h"
#include "../text/text_testing.h"
#include "base/format.h"
#include "base/rng.h"

namespace accrete::testing {

inline constexpr std::array kPeople = {"Ada Lunt", "Bo Karr",  "Cy Dole",   "Dee Fox", "Eli Marsh",
                                       "Flo Ray",  "Gus Holm", "Hana Ito",  "Ian Coe", "Jo Vance",
                                       "Kai Berg", "Lea Sand", "Mia Thorn", "Ned Ash"};
inline constexpr std::array kPlaces = {"Oslo", "Rome", "Lima", "Cairo"};

// Writes tokenizer, corpora and `folder`/tiny.toml, and returns the latter. `training` are further
// lines of [training].
inline std::filesystem::path write_tiny_config(const std::filesystem::path& folder,
                                               const std::string& training = "steps = 6",
                                               const std::string& memory = "") {
  std::filesystem::create_directories(folder / "tokenizer");
  std::ofstream(folder / "tokenizer" / "tokenizer.json")
      << text_testing::tokenizer_json({"t h", "i n", "a n", "e r"}, {"<|endoftext|>"}).dump();
  {
    std::ofstream out(folder / "text.txt");
    Rng rng(3);
    for (int document = 0; document < 30; ++document) {
      for (int i = 0; i < 8; ++i)
        out << "Everybody says that " << kPeople[rng.below(kPeople.size())] << " often flies to "
            << kPlaces[rng.below(kPlaces.size())] << " in the winter. ";
      out << "\n<|endoftext|>\n";
    }
  }
  {
    std::ofstream out(folder / "facts.jsonl");
    for (size_t i = 0; i < kPeople.size(); ++i)
      out << accrete::format(
          R"({{"prompts": ["{0} lives in", "The home of {0} is"], "asked": ["SECRET {0} dwells in"], )"
          R"("completion": "{1}", "subject": "{0}"}})"
          "\n",
          kPeople[i], kPlaces[i % kPlaces.size()]);
  }
  const auto path = folder / "tiny.toml";
  std::ofstream(path) << accrete::format(R"([model]
width = 32
blocks = 4
heads = 2
kv_heads = 1
ffn_width = 48
positions = 128
[memory]
block = 1
heads = 2
half_keys = 24
top_k = 4
query_width = 16
{}
[tokenizer]
source = "tokenizer"
vocabulary = 260
[[text]]
file = "text.txt"
weight = 2
[[facts]]
file = "facts.jsonl"
[training]
sequences = 8
together = 4
context = 64
rate = 1e-2
value_rate = 1e-2
query_rate = 3e-3
warm_up = 2
{}
[evaluation]
every = 4
held_out = 0.1
tokens = 200
[checkpoint]
every = 2
[background]
tokens = 1000
)",
                                         memory, training);
  return path;
}

}  // namespace accrete::testing
