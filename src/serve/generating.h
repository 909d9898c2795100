// One request for text on its way through the engine: its choices, and how they become a reply.
//
// Non-goals: reading requests (api_generate.cc).
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "serve/api.h"
#include "serve/tools.h"

namespace accrete::serve {

// What was asked, read and checked.
struct GenerateRequest {
  bool chat = true;
  std::string overlay;             // that is asked; empty: what all share
  std::vector<Query> queries;      // one a prompt
  std::vector<std::string> tools;  // that a chat offers, by name
  GenerateOptions options;
  int64_t n = 1;
  bool stream = false, usage = false, echo = false, explain = false;
  bool write = true;    // false: max_tokens 0
  int64_t top = -1;     // -1: no log-probabilities
  std::string ignored;  // fields that are not known
};

// After prepare() all of it runs on the engine's thread.
class Generating : public std::enable_shared_from_this<Generating> {
 public:
  Generating(Api& api, Call call, GenerateRequest request)
      : api_(api), call_(std::move(call)), request_(std::move(request)) {}

  // Hands it to the engine; answers 429 when that is full.
  void start();

 private:
  struct Choice {
    size_t query = 0;
    std::string text, prompt_text, finish_reason;
    std::vector<TokenScore> scores, prompt_scores;
    size_t offset = 0;                     // of the text streamed so far
    std::optional<ToolCallReader> reader;  // where the model may call tools
    nlohmann::ordered_json calls = nlohmann::ordered_json::array();
  };
  std::vector<StepRequest> prepare();
  void fail(std::exception_ptr error);
  void begin();
  std::vector<std::pair<std::string, std::string>> headers() const;
  void on_text(size_t choice, std::string_view text, std::span<const TokenScore> scores);
  void on_done(size_t choice, StepAnswer answer);
  // Adds to the choice's calls; as OpenAI writes those that are new.
  nlohmann::ordered_json add_calls(Choice& choice, const std::vector<ToolCall>& calls) const;
  void send_piece(size_t choice, std::string_view text, nlohmann::ordered_json calls,
                  std::span<const TokenScore> scores);
  void end();
  void beat();
  nlohmann::ordered_json frame(nlohmann::ordered_json choices) const;
  nlohmann::ordered_json usage() const;
  nlohmann::ordered_json logprobs(const Choice& choice, std::span<const TokenScore> scores,
                                  size_t offset, bool with_prompt) const;
  void send_event(const nlohmann::ordered_json& json);

  Api& api_;
  Call call_;
  GenerateRequest request_;
  std::vector<Choice> choices_;
  size_t open_ = 0;
  std::string id_, fingerprint_, updates_;
  int64_t created_ = 0, prompt_tokens_ = 0, written_ = 0;
  nlohmann::ordered_json explanation_;
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now(), last_{};
  bool begun_ = false, failed_ = false;
  std::shared_ptr<std::atomic<bool>> finished_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace accrete::serve
