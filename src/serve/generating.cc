#include "serve/generating.h"

#include <algorithm>

#include "base/format.h"

namespace accrete::serve {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point then) {
  return std::chrono::duration<double>(Clock::now() - then).count();
}

std::string new_id(const char* kind) {
  static std::atomic<uint64_t> count{0};
  static const auto start =
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                std::chrono::system_clock::now().time_since_epoch())
                                .count());
  return accrete::format("{}-{:x}-{:x}", kind, start, ++count);
}

// Characters before which a text of UTF-8 ends, as clients count them.
size_t characters(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

}  // namespace

void Generating::start() {
  const auto self = shared_from_this();
  id_ = new_id(request_.chat ? "chatcmpl" : "cmpl");
  created_ = std::chrono::duration_cast<std::chrono::seconds>(
                 std::chrono::system_clock::now().time_since_epoch())
                 .count();
  const bool taken =
      api_.engine_.submit({call_.key, [self] { return self->prepare(); },
                           [self](std::exception_ptr e) { self->fail(std::move(e)); },
                           [self] { return self->call_.reply->gone(); }});
  if (taken) return;
  api_.answer(call_, api_.draining_
                         ? error_response(503, "the server is ending", "", "", "draining", "")
                         : error_response(429, "too many requests wait", "", "", "queue_full",
                                          "try again in a moment"));
}

std::vector<StepRequest> Generating::prepare() {
  Service& service = *api_.service_;
  std::vector<StepRequest> rows;
  std::vector<std::pair<size_t, Generation>> said;
  for (size_t q = 0; q < request_.queries.size(); ++q) {
    const auto too_long = [&](int64_t count, const char* what) {
      return RequestError(400, "context_length_exceeded", request_.chat ? "messages" : "prompt",
                          accrete::format("the prompt has {} {}, the model {} positions", count,
                                          what, service.positions()),
                          "shorten the prompt");
    };
    // A book is not cut into tokens to find that it is one.
    auto bytes = static_cast<int64_t>(request_.queries[q].text.size());
    for (const Message& message : request_.queries[q].messages)
      bytes += static_cast<int64_t>(message.content.size());
    if (bytes > service.most_bytes()) throw too_long(bytes, "bytes");
    PreparedQuery ready = service.prepare(request_.queries[q]);
    if (request_.chat) api_.propose(call_, request_.queries[q]);
    const auto tokens = static_cast<int64_t>(ready.prompt.size());
    if (!ready.word_for_word && tokens + (request_.write ? 1 : 0) > service.positions())
      throw too_long(tokens, "tokens");
    if (q == 0) {
      fingerprint_ = ready.fingerprint;
      updates_ = ready.updates;
      explanation_ = std::move(ready.explanation);
    }
    prompt_tokens_ += tokens;
    api_.metrics_.add(
        ready.accepted ? "accrete_facts_accepted_total" : "accrete_facts_rejected_total", "");
    for (int64_t k = 0; k < request_.n; ++k) {
      const size_t index = choices_.size();
      Choice& choice = choices_.emplace_back();
      choice.query = q;
      // A taught answer is said as it stands, whatever it looks like.
      if (!request_.tools.empty() && !ready.accepted && !ready.word_for_word)
        choice.reader.emplace(request_.tools);
      if (request_.echo)
        choice.prompt_text = request_.queries[q].tokens.empty()
                                 ? request_.queries[q].text
                                 : service.detokenize(request_.queries[q].tokens);
      if (ready.word_for_word) {
        said.emplace_back(index, *ready.word_for_word);
        continue;
      }
      StepRequest row;
      row.model = ready.model;
      row.prompt = ready.prompt;
      row.fact = ready.fact;
      row.options = request_.options;
      row.stream = static_cast<uint64_t>(k);
      row.write = request_.write;
      row.top = request_.top;
      row.score_prompt = request_.echo && request_.top >= 0;
      const auto self = shared_from_this();
      row.on_text = [self, index](std::string_view text, std::span<const TokenScore> scores) {
        self->on_text(index, text, scores);
      };
      row.on_done = [self, index](StepAnswer answer) { self->on_done(index, std::move(answer)); };
      row.cancelled = [self] { return self->failed_ || self->call_.reply->gone(); };
      rows.push_back(std::move(row));
    }
  }
  open_ = choices_.size();
  if (request_.stream) begin();
  for (auto& [index, generation] : said) {
    if (request_.stream) on_text(index, generation.text, {});
    StepAnswer answer;
    answer.generation = std::move(generation);
    on_done(index, std::move(answer));
  }
  return rows;
}

void Generating::fail(std::exception_ptr error) {
  if (failed_) return;
  failed_ = true;
  *finished_ = true;
  HttpResponse response = error_response(std::move(error));
  if (!begun_) return api_.answer(call_, std::move(response));
  call_.reply->write("data: " + response.body + "\n");
  call_.reply->end();
}

nlohmann::ordered_json Generating::frame(nlohmann::ordered_json choices) const {
  const char* kind = !request_.chat    ? "text_completion"
                     : request_.stream ? "chat.completion.chunk"
                                       : "chat.completion";
  return {{"id", id_},
          {"object", kind},
          {"created", created_},
          {"model", api_.service_->model_name(request_.overlay)},
          {"system_fingerprint", fingerprint_},
          {"choices", std::move(choices)}};
}

nlohmann::ordered_json Generating::usage() const {
  return {{"prompt_tokens", prompt_tokens_},
          {"completion_tokens", written_},
          {"total_tokens", prompt_tokens_ + written_}};
}

void Generating::send_event(const nlohmann::ordered_json& json) {
  call_.reply->write("data: " + dump(json) + "\n\n");
}

std::vector<std::pair<std::string, std::string>> Generating::headers() const {
  std::vector<std::pair<std::string, std::string>> out = {{"X-Accrete-Updates", updates_}};
  if (!request_.ignored.empty()) out.emplace_back("X-Accrete-Ignored", request_.ignored);
  return out;
}

void Generating::begin() {
  begun_ = true;
  HttpResponse head;
  head.type = "text/event-stream; charset=utf-8";
  head.headers = headers();
  api_.metrics_.add("accrete_requests_total",
                    accrete::format("route=\"{}\",code=\"200\"", call_.route));
  call_.reply->begin(std::move(head));
  for (size_t i = 0; request_.chat && i < choices_.size(); ++i)
    send_event(
        frame(nlohmann::ordered_json::array({{{"index", i},
                                              {"delta", {{"role", "assistant"}, {"content", ""}}},
                                              {"logprobs", nullptr},
                                              {"finish_reason", nullptr}}})));
  if (request_.echo && !request_.chat && request_.top < 0)
    for (size_t i = 0; i < choices_.size(); ++i) on_text(i, choices_[i].prompt_text, {});
  beat();
}

// A comment now and then, so that nobody between here and the client takes the stream for dead.
void Generating::beat() {
  call_.reply->after(std::chrono::seconds(30), [weak = weak_from_this(), finished = finished_] {
    const auto self = weak.lock();
    if (!self || *finished) return;
    self->call_.reply->write(": still here\n\n");
    self->beat();
  });
}

nlohmann::ordered_json Generating::logprobs(const Choice& choice,
                                            std::span<const TokenScore> scores, size_t offset,
                                            bool with_prompt) const {
  const Service& service = *api_.service_;
  if (request_.chat) {
    auto content = nlohmann::ordered_json::array();
    const auto one = [&](int32_t id, double logprob) -> nlohmann::ordered_json {
      const std::string text = service.token_text(id);
      std::vector<int> bytes;
      for (const char c : service.detokenize({id})) bytes.push_back(static_cast<unsigned char>(c));
      return {{"token", text}, {"logprob", logprob}, {"bytes", bytes}};
    };
    for (const TokenScore& score : scores) {
      content.push_back(one(score.id, score.logprob));
      content.back()["top_logprobs"] = nlohmann::ordered_json::array();
      for (const auto& [id, logprob] : score.top)
        content.back()["top_logprobs"].push_back(one(id, logprob));
    }
    return {{"content", content}};
  }
  nlohmann::ordered_json out = {{"tokens", nlohmann::ordered_json::array()},
                                {"token_logprobs", nlohmann::ordered_json::array()},
                                {"top_logprobs", nlohmann::ordered_json::array()},
                                {"text_offset", nlohmann::ordered_json::array()}};
  const auto add = [&](const TokenScore& score, bool first) {
    const std::string text = service.token_text(score.id);
    out["tokens"].push_back(text);
    out["text_offset"].push_back(offset);
    offset += characters(service.detokenize({score.id}));
    if (first) {  // nothing stands before it
      out["token_logprobs"].push_back(nullptr);
      out["top_logprobs"].push_back(nullptr);
      return;
    }
    out["token_logprobs"].push_back(score.logprob);
    auto top = nlohmann::ordered_json::object();
    for (const auto& [id, logprob] : score.top) {
      const std::string name = service.token_text(id);
      if (!top.contains(name)) top[name] = logprob;  // best first
    }
    out["top_logprobs"].push_back(std::move(top));
  };
  for (size_t i = 0; with_prompt && i < choice.prompt_scores.size(); ++i)
    add(choice.prompt_scores[i], i == 0);
  for (const TokenScore& score : scores) add(score, false);
  return out;
}

void Generating::on_text(size_t index, std::string_view text, std::span<const TokenScore> scores) {
  const auto now = Clock::now();
  if (last_ == Clock::time_point{})
    api_.metrics_.observe("accrete_ttft_seconds", seconds_since(began_));
  else
    api_.metrics_.observe("accrete_itl_seconds",
                          std::chrono::duration<double>(now - last_).count());
  last_ = now;
  if (!request_.stream || failed_) return;
  Choice& choice = choices_[index];
  if (!choice.reader) return send_piece(index, text, nullptr, scores);
  const ToolCallReader::Piece piece = choice.reader->push(text);
  send_piece(index, piece.text, add_calls(choice, piece.calls), scores);
}

nlohmann::ordered_json Generating::add_calls(Choice& choice,
                                             const std::vector<ToolCall>& calls) const {
  nlohmann::ordered_json out;
  for (const ToolCall& call : calls) {
    nlohmann::ordered_json one = {
        {"id", new_id("call")},
        {"type", "function"},
        {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
    choice.calls.push_back(one);
    one["index"] = choice.calls.size() - 1;
    out.push_back(std::move(one));
  }
  return out;
}

void Generating::send_piece(size_t index, std::string_view text, nlohmann::ordered_json calls,
                            std::span<const TokenScore> scores) {
  Choice& choice = choices_[index];
  if (choice.reader && text.empty() && calls.is_null() && (scores.empty() || request_.top < 0))
    return;
  nlohmann::ordered_json one = {{"index", index}};
  if (request_.chat)
    one["delta"] = {{"content", text}};
  else
    one["text"] = text;
  if (!calls.is_null()) {
    if (text.empty()) one["delta"].erase("content");
    one["delta"]["tool_calls"] = std::move(calls);
  }
  one["logprobs"] = request_.top >= 0 && !scores.empty()
                        ? logprobs(choice, scores, choice.offset, false)
                        : nlohmann::ordered_json();
  one["finish_reason"] = nullptr;
  choice.offset += characters(text);
  send_event(frame(nlohmann::ordered_json::array({std::move(one)})));
}

void Generating::on_done(size_t index, StepAnswer answer) {
  Choice& choice = choices_[index];
  choice.text = std::move(answer.generation.text);
  choice.finish_reason = answer.generation.finish_reason;
  choice.scores = std::move(answer.scores);
  choice.prompt_scores = std::move(answer.prompt);
  written_ += static_cast<int64_t>(answer.generation.tokens.size());
  if (choice.reader) {
    ToolCallReader::Piece piece;
    if (!request_.stream) piece = choice.reader->push(choice.text);
    (void)add_calls(choice, piece.calls);
    ToolCallReader::Piece last = choice.reader->finish();
    const auto more = add_calls(choice, last.calls);
    if (request_.stream && !failed_) send_piece(index, last.text, more, {});
    choice.text = piece.text + last.text;
    if (choice.reader->called()) choice.finish_reason = "tool_calls";
  }
  if (request_.stream && !failed_) {
    nlohmann::ordered_json one = {{"index", index}};
    if (request_.chat)
      one["delta"] = nlohmann::ordered_json::object();
    else
      one["text"] = "";
    one["logprobs"] = nullptr;
    one["finish_reason"] = choice.finish_reason;
    auto json = frame(nlohmann::ordered_json::array({std::move(one)}));
    if (request_.explain && !explanation_.is_null()) json["accrete"] = explanation_;
    send_event(json);
  }
  if (--open_ == 0) end();
}

void Generating::end() {
  *finished_ = true;
  if (failed_) return;
  api_.metrics_.add("accrete_tokens_total", "kind=\"prompt\"", static_cast<double>(prompt_tokens_));
  api_.metrics_.add("accrete_tokens_total", "kind=\"completion\"", static_cast<double>(written_));
  if (request_.stream) {
    if (request_.usage) {
      auto json = frame(nlohmann::ordered_json::array());
      json["usage"] = usage();
      send_event(json);
    }
    call_.reply->write("data: [DONE]\n\n");
    return call_.reply->end();
  }
  auto choices = nlohmann::ordered_json::array();
  for (size_t i = 0; i < choices_.size(); ++i) {
    const Choice& choice = choices_[i];
    nlohmann::ordered_json one = {{"index", i}};
    if (request_.chat)
      one["message"] = {{"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}};
    else
      one["text"] = choice.prompt_text + choice.text;
    if (!choice.calls.empty()) {
      if (choice.text.empty()) one["message"]["content"] = nullptr;
      one["message"]["tool_calls"] = choice.calls;
    }
    one["logprobs"] = request_.top >= 0 ? logprobs(choice, choice.scores, 0, request_.echo)
                                        : nlohmann::ordered_json();
    one["finish_reason"] = choice.finish_reason;
    choices.push_back(std::move(one));
  }
  auto json = frame(std::move(choices));
  json["usage"] = usage();
  if (request_.explain && !explanation_.is_null()) json["accrete"] = explanation_;
  api_.answer(call_, 200, json, headers());
}

}  // namespace accrete::serve
