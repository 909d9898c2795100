// A question and a fact that it may ask for, as a cross-encoder reads them (model/reader.h).
//
// Non-goals: which pairs are read (acceptance.h, fact_store.h).
#pragma once

#include <string>
#include <vector>

namespace accrete {

struct ReadPair {
  std::string question;
  std::vector<std::string> wordings;  // of the fact, the nearest first
  std::string answer;
};

}  // namespace accrete
