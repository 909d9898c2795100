// Tools of a chat: what a request offers, the calls that stand in its messages, and those that the
// model writes.
//
// A model that was made for tools writes `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`
// (Qwen2.5 and others), or nothing but one object with "name" and "parameters" (Llama 3.x). Both
// become calls. What only looks like one stays text, so nothing that was written is lost.
//
// Non-goals: calling them, whether arguments fit their schema, templates (text/chat_template.h).
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "serve/fields.h"

namespace accrete::serve {

struct OfferedTools {
  std::string json;                // the list as it was sent; empty: none are offered
  std::vector<std::string> names;  // of its functions
};
// Of a body's "tools" and "tool_choice" ("auto", or "none", which offers none). `ordered` is the
// same body with its fields in order, as the template is to see them. Throws RequestError.
OfferedTools offered_tools(Fields& body, const nlohmann::ordered_json& ordered);

// What templates are told of a message beside its role and content: an assistant's "tool_calls", a
// tool's "tool_call_id" and "name". Arguments become objects. Empty: nothing. Throws RequestError.
std::string message_fields(Fields& message, const nlohmann::ordered_json& ordered);

struct ToolCall {
  std::string name;
  std::string arguments;  // a JSON object as text
};

// Finds the calls in an answer as it comes. Pieces of text come out as they went in, but for the
// space around calls; the beginning of what may become a call is kept back.
class ToolCallReader {
 public:
  struct Piece {
    std::string text;
    std::vector<ToolCall> calls;
  };
  explicit ToolCallReader(std::vector<std::string> names) : names_(std::move(names)) {}

  Piece push(std::string_view text);
  // The end of the answer: what was kept back.
  Piece finish();
  bool called() const { return called_; }

 private:
  enum class State { kBegin, kText, kCall, kObject };
  void advance(Piece& out);
  void write(Piece& out, std::string_view text);
  bool call(Piece& out, std::string_view json, bool known);

  std::vector<std::string> names_;
  State state_ = State::kBegin;
  std::string pending_;
  bool called_ = false;
};

}  // namespace accrete::serve
