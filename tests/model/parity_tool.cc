// Writes the logits of a prompt's tokens and a greedy continuation: the helper of parity_model.py.
// usage: parity_tool MODEL OUT MAX_TOKENS ID...
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "model/generate.h"

int main(int argc, char** argv) {
  if (argc < 5) return 2;
  const auto model = accrete::LanguageModel::open(argv[1]);
  std::vector<int32_t> ids;
  for (int i = 4; i < argc; ++i) ids.push_back(std::stoi(argv[i]));
  const c10::InferenceMode inference;
  const auto input = at::tensor(std::vector<int64_t>(ids.begin(), ids.end()), at::kLong);
  const accrete::FfnSide side = model.side();
  accrete::ForwardOptions forward;
  forward.side = &side;
  const auto logits = model.net().forward(input.unsqueeze(0), forward)[0].contiguous();
  std::ofstream(std::string(argv[2]) + ".logits", std::ios::binary)
      .write(static_cast<const char*>(logits.data_ptr()),
             static_cast<std::streamsize>(logits.nbytes()));
  accrete::GenerateOptions options;
  options.max_tokens = std::stoi(argv[3]);
  const auto out =
      accrete::generate(model, std::vector<std::vector<int32_t>>{ids}, options).front();
  std::ofstream(std::string(argv[2]) + ".tokens", std::ios::binary)
      .write(reinterpret_cast<const char*>(out.tokens.data()),
             static_cast<std::streamsize>(out.tokens.size() * sizeof(int32_t)));
  return 0;
}
