// The text layer behind a pipe, for parity_text.py: one JSON request a line, one JSON answer a
// line.
//
//   {"encode": T, "special": B}           -> {"ids": [...]}
//   {"decode": [id, ...], "skip": B}      -> {"text": T}, broken UTF-8 replaced
//   {"stream": [id, ...], "skip": B}      -> {"pieces": [...]}, the last one from finish()
//   {"tokenizer": TOKENIZER_JSON_FILE}    -> {}, and from now on that tokenizer
//   {"chat": JINJA, "messages": [{"role", "content", ...}], "prompt": B, "tools": [...]}
//                                         -> {"text": T}; without "tools" none are offered
//   {"bench": FILE, "rounds": N}          -> {"seconds": best of N rounds, "tokens": N}
// Errors answer {"error": code, "message": M}.
#include <algorithm>
#include <ctime>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace {

using accrete::ChatTemplate;
using accrete::Message;
using accrete::StreamDecoder;
using accrete::Tokenizer;
using json = nlohmann::ordered_json;

struct State {
  std::optional<Tokenizer> tokenizer;
  std::map<std::string, ChatTemplate> templates;
};

json answer(State& state, const json& request) {
  if (request.contains("tokenizer")) {
    const std::string path = request["tokenizer"];
    state.tokenizer.reset();
    state.tokenizer = Tokenizer::from_json(nlohmann::json::parse(accrete::read_file(path)));
    return json::object();
  }
  if (request.contains("chat")) {
    const std::string jinja = request["chat"];
    auto found = state.templates.find(jinja);
    if (found == state.templates.end())
      found = state.templates
                  .emplace(jinja, ChatTemplate::from_jinja(
                                      jinja, {{"bos_token", "<s>"}, {"eos_token", "</s>"}}))
                  .first;
    std::vector<Message> messages;
    for (const json& m : request["messages"]) {
      messages.push_back({m["role"], m["content"]});
      json more = m;
      more.erase("role");
      more.erase("content");
      if (!more.empty()) messages.back().more = more.dump();
    }
    const std::string tools = request.contains("tools") ? request["tools"].dump() : "";
    return {{"text", found->second.render(messages, request["prompt"], tools)}};
  }
  if (!state.tokenizer)
    throw accrete::Error(accrete::ErrorCode::kInvalidArgument, "no tokenizer was loaded");
  const Tokenizer& tokenizer = *state.tokenizer;
  if (request.contains("encode"))
    return {{"ids", tokenizer.encode(request["encode"].get_ref<const std::string&>(),
                                     request.value("special", true))}};
  if (request.contains("decode")) {
    const std::vector<int32_t> ids = request["decode"];
    return {{"text", tokenizer.decode(ids, request.value("skip", false))}};
  }
  if (request.contains("stream")) {
    StreamDecoder decoder(tokenizer, request.value("skip", false));
    json pieces = json::array();
    for (const int32_t id : request["stream"]) pieces.push_back(decoder.push(id));
    pieces.push_back(decoder.finish());
    return {{"pieces", pieces}};
  }
  if (request.contains("bench")) {
    const std::string text = accrete::read_file(request["bench"].get<std::string>());
    double best = 1e9;
    size_t tokens = 0;
    for (int round = 0; round < request.value("rounds", 3); ++round) {
      const std::clock_t start = std::clock();  // processor time: other processes do not count
      tokens = tokenizer.encode(text).size();
      best = std::min(best, static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
    }
    return {{"seconds", best}, {"tokens", tokens}};
  }
  throw accrete::Error(accrete::ErrorCode::kInvalidArgument, "an unknown request");
}

}  // namespace

int main() {
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
    // Broken UTF-8 is replaced as Python's errors="replace" does.
    std::cout << reply.dump(-1, ' ', true, json::error_handler_t::replace) << std::endl;
  }
}
