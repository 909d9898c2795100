// The reader behind a pipe, for parity_reader.py: one JSON request a line, one JSON answer a line.
//
//   {"reader": FOLDER}                 -> {"width", "max_tokens", "digest", "full_digest"}
//   {"ids": [T, ...], "length": N}     -> {"ids": [[...], ...]}
//   {"read": [T, ...], "into": FILE}   -> {}; FILE holds the vectors as float32
//   {"bench pairs": as "judge", "rounds": N} -> {"each": median seconds of a pair read alone,
//                                          "three": of three at once}; of processor time
//   {"judge": [[Q, [W, ...], A], ...]} -> {"odds": [...]}
//   {"judge passages": [[Q, SECTION, [PIECE, ...]], ...]} -> {"odds", "pieces": [[...]], "seconds"}
//   {"bench": [T, ...], "rounds": N}   -> {"each": median seconds of a text read alone,
//                                          "all": least seconds of all at once}; of processor time
// Errors answer {"error": code, "message": M, "hint": H}.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "model/reader.h"
#include "text/wordpiece.h"

namespace {

using accrete::Reader;
using accrete::WordPiece;
using nlohmann::json;

struct State {
  std::optional<Reader> reader;
  std::optional<WordPiece> tokenizer;
};

// Processor time: other processes do not count.
double now() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

double median(std::vector<double> seconds) {
  const auto middle = seconds.begin() + static_cast<long>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

json bench(const Reader& reader, const std::vector<std::string>& texts, int rounds) {
  std::vector<double> each;
  double all = 1e9;
  for (int round = 0; round < rounds; ++round) {
    for (const std::string& text : texts) {
      const double start = now();
      reader.read({&text, 1});
      each.push_back(now() - start);
    }
    const double start = now();
    reader.read(texts);
    all = std::min(all, now() - start);
  }
  return {{"each", median(each)}, {"all", all}};
}

std::vector<accrete::ReadPair> pairs_of(const json& lines) {
  std::vector<accrete::ReadPair> out;
  for (const json& one : lines) out.push_back({one[0], one[1], one[2]});
  return out;
}

json bench_pairs(const Reader& reader, const std::vector<accrete::ReadPair>& pairs, int rounds) {
  std::vector<double> each, three;
  for (int round = 0; round < rounds; ++round)
    for (size_t i = 0; i + 3 <= pairs.size(); ++i) {
      const double start = now();
      reader.judge({&pairs[i], 1});
      const double middle = now();
      reader.judge({&pairs[i], 3});
      each.push_back(middle - start);
      three.push_back(now() - middle);
    }
  return {{"each", median(each)}, {"three", median(three)}};
}

json answer(State& state, const json& request) {
  if (request.contains("reader")) {
    const std::string folder = request["reader"];
    state.tokenizer = WordPiece::from_file(folder + "/tokenizer.json");
    const double start = now();
    state.reader = Reader::open(folder);
    const double seconds = now() - start;
    return {{"width", state.reader->width()},
            {"max_tokens", state.reader->max_tokens()},
            {"digest", state.reader->digest()},
            {"full_digest", state.reader->full_digest()},
            {"seconds", seconds}};
  }
  if (!state.reader)
    throw accrete::Error(accrete::ErrorCode::kInvalidArgument, "no reader was opened");
  if (request.contains("ids")) {
    json ids = json::array();
    for (const std::string text : request["ids"])
      ids.push_back(state.tokenizer->encode(text, request["length"]));
    return {{"ids", ids}};
  }
  if (request.contains("read")) {
    const std::vector<std::string> texts = request["read"];
    const at::Tensor vectors = state.reader->read(texts);
    accrete::write_file_atomically(request["into"].get<std::string>(),
                                   {static_cast<const char*>(vectors.const_data_ptr()),
                                    static_cast<size_t>(vectors.nbytes())});
    return json::object();
  }
  if (request.contains("judge")) return {{"odds", state.reader->judge(pairs_of(request["judge"]))}};
  if (request.contains("judge passages")) {
    std::vector<accrete::ReadPassage> passages;
    for (const json& one : request["judge passages"]) passages.push_back({one[0], one[1], one[2]});
    json odds = json::array(), pieces = json::array();
    const double start = now();
    for (const auto& said : state.reader->judge(passages)) {
      odds.push_back(said.log_odds);
      pieces.push_back(said.pieces);
    }
    return {{"odds", odds}, {"pieces", pieces}, {"seconds", now() - start}};
  }
  if (request.contains("bench pairs"))
    return bench_pairs(*state.reader, pairs_of(request["bench pairs"]), request["rounds"]);
  if (request.contains("bench")) return bench(*state.reader, request["bench"], request["rounds"]);
  throw accrete::Error(accrete::ErrorCode::kInvalidArgument, "an unknown request");
}

}  // namespace

int main() {
  if (const char* threads = std::getenv("OMP_NUM_THREADS"))
    at::set_num_threads(std::max(1, std::atoi(threads)));
  State state;
  for (std::string line; std::getline(std::cin, line);) {
    json reply;
    try {
      reply = answer(state, json::parse(line));
    } catch (const accrete::Error& error) {
      reply = {{"error", accrete::error_code_name(error.code())},
               {"message", error.what()},
               {"hint", error.hint()}};
    }
    std::cout << reply.dump() << std::endl;
  }
}
