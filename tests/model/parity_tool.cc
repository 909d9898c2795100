// Writes the logits of each prompt's tokens and its greedy continuation, all prompts in one batch:
// the helper of the parity tests. usage: parity_tool MODEL OUT MAX_TOKENS ID... [/ ID...]... writes
// OUT.0.logits, OUT.0.tokens, OUT.1.logits ...
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "model/answer_pass.h"
#include "model/generate.h"

int main(int argc, char** argv) {
  if (argc < 5) return 2;
  const auto model = accrete::LanguageModel::open(argv[1]);
  std::vector<std::vector<int32_t>> prompts(1);
  for (int i = 4; i < argc; ++i) {
    if (std::string(argv[i]) == "/") {
      prompts.emplace_back();
    } else {
      prompts.back().push_back(std::stoi(argv[i]));
    }
  }
  const auto file = [&](std::size_t i, const char* kind) {
    return std::ofstream(std::string(argv[2]) + "." + std::to_string(i) + kind, std::ios::binary);
  };
  const c10::InferenceMode inference;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const auto input =
        at::tensor(std::vector<int64_t>(prompts[i].begin(), prompts[i].end()), at::kLong);
    const auto h = accrete::AnswerPass(model).run({input.unsqueeze(0), {}, {}, {}},
                                                  at::arange(input.size(0), at::kLong));
    const auto logits = model.net().logits(h).contiguous();
    file(i, ".logits")
        .write(static_cast<const char*>(logits.data_ptr()),
               static_cast<std::streamsize>(logits.nbytes()));
  }
  accrete::GenerateOptions options;
  options.max_tokens = std::stoi(argv[3]);
  const auto answers = accrete::generate(model, prompts, options);
  for (std::size_t i = 0; i < answers.size(); ++i)
    file(i, ".tokens")
        .write(reinterpret_cast<const char*>(answers[i].tokens.data()),
               static_cast<std::streamsize>(answers[i].tokens.size() * sizeof(int32_t)));
  return 0;
}
