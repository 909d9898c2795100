#include "model/chat_tokens.h"

#include <algorithm>

#include "base/error.h"
#include "text/unicode.h"

namespace accrete {
namespace {

// Stands for a control-like text in a message while the template runs: a private character, its
// number in the list, another private character.
constexpr char32_t kOpen = 0xF5A3C, kClose = 0xF5A3D;

std::string mark(size_t number) {
  std::string out;
  unicode::append_utf8(out, kOpen);
  out += std::to_string(number);
  unicode::append_utf8(out, kClose);
  return out;
}

// The control tokens that `text` holds when it is read as control, in order.
std::vector<std::string> controls_in(const LanguageModel& model, std::string_view text) {
  std::vector<std::string> out;
  const Tokenizer& tokenizer = model.tokenizer();
  for (const int32_t id : tokenizer.encode(text, /*parse_special=*/true)) {
    if (!tokenizer.is_special(id)) continue;
    std::string name = tokenizer.decode(std::span(&id, 1));
    if (!name.empty() && std::find(out.begin(), out.end(), name) == out.end())
      out.push_back(std::move(name));
  }
  // Longer ones first: none is found inside another.
  std::sort(out.begin(), out.end(), [](const std::string& a, const std::string& b) {
    return a.size() != b.size() ? a.size() > b.size() : a < b;
  });
  return out;
}

}  // namespace

bool looks_like_control(const LanguageModel& model, std::string_view text) {
  return !controls_in(model, text).empty();
}

std::vector<int32_t> encode_written(const LanguageModel& model, std::string_view text) {
  return model.tokenizer().encode(text, /*parse_special=*/false);
}

std::vector<int32_t> encode_chat(const LanguageModel& model, std::span<const Message> messages,
                                 std::string_view tools) {
  if (!model.uses_chat(false))
    throw Error(ErrorCode::kUnsupported, "this model has no chat template", "use it with --raw");
  const Tokenizer& tokenizer = model.tokenizer();
  std::string open, close;
  unicode::append_utf8(open, kOpen);
  unicode::append_utf8(close, kClose);
  std::vector<std::string> controls;
  std::vector<Message> marked(messages.begin(), messages.end());
  const auto put_marks = [&](std::string& content) {
    auto names = controls_in(model, content);
    // First of all the stand-in's own mark, should somebody write it.
    if (content.find(open) != std::string::npos) names.insert(names.begin(), open);
    for (const std::string& control : names) {
      const size_t number = controls.size();
      controls.push_back(control);
      const std::string stand_in = mark(number);
      for (size_t at = 0; (at = content.find(control, at)) != std::string::npos;
           at += stand_in.size())
        content.replace(at, control.size(), stand_in);
    }
  };
  for (Message& message : marked) {
    put_marks(message.content);
    put_marks(message.more);
  }
  std::string offered(tools);
  put_marks(offered);
  const std::string text = model.chat()->render(marked, /*add_generation_prompt=*/true, offered);
  if (controls.empty()) return tokenizer.encode(text);
  std::vector<int32_t> out;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = std::min(text.find(open, at), text.size());
    const auto before = tokenizer.encode(std::string_view(text).substr(at, begin - at));
    out.insert(out.end(), before.begin(), before.end());
    if (begin == text.size()) break;
    const size_t end = text.find(close, begin);
    const size_t number = std::stoul(text.substr(begin + open.size(), end - begin - open.size()));
    const auto own = encode_written(model, controls.at(number));
    out.insert(out.end(), own.begin(), own.end());
    at = end + close.size();
  }
  return out;
}

int32_t end_token(const LanguageModel& model, bool chat) {
  if (chat && model.chat() && !model.chat()->end_of_turn().empty()) {
    if (const auto id = model.tokenizer().token_id(model.chat()->end_of_turn())) return *id;
  }
  const auto stops = model.stop_ids();
  if (const auto eos = model.tokenizer().eos())
    if (std::find(stops.begin(), stops.end(), *eos) != stops.end()) return *eos;
  return stops.empty() ? -1 : static_cast<int32_t>(stops.front());
}

}  // namespace accrete
