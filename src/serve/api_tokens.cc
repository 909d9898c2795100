// Tokens and vectors: the routes that lm-evaluation-harness and searchers need.
#include "base/format.h"
#include "serve/api.h"
#include "serve/page.h"

namespace accrete::serve {
namespace {

void with_ignored(const Fields& body, std::vector<std::pair<std::string, std::string>>& headers) {
  const std::string ignored = body.ignored();
  if (!ignored.empty()) headers.emplace_back("X-Accrete-Ignored", ignored);
}

}  // namespace

void Api::tokenize(Call call) {
  Fields body = Fields::of_body(call.request.body);
  (void)body.text("model");
  auto text = body.text("prompt");
  if (!text) text = body.text("content");
  if (!text) throw body.wrong("prompt", "a text is expected");
  const bool opening = body.flag("add_special_tokens").value_or(true);
  const auto tokens = service_->tokenize(*text, opening);
  std::vector<std::pair<std::string, std::string>> headers;
  with_ignored(body, headers);
  answer(call, 200,
         {{"tokens", tokens}, {"count", tokens.size()}, {"max_model_len", service_->positions()}},
         std::move(headers));
}

void Api::detokenize(Call call) {
  Fields body = Fields::of_body(call.request.body);
  (void)body.text("model");
  const auto& tokens = body.any("tokens");
  if (!tokens.is_array()) throw body.wrong("tokens", "a list of token ids is expected");
  std::vector<int32_t> ids;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (!tokens[i].is_number_integer() || tokens[i].get<int64_t>() < 0 ||
        tokens[i].get<int64_t>() > INT32_MAX)
      throw body.wrong(accrete::format("tokens[{}]", i), "a token id is expected");
    ids.push_back(tokens[i].get<int32_t>());
  }
  answer(call, 200, {{"prompt", service_->detokenize(ids)}});
}

void Api::tokenizer_info(Call call) {
  answer(call, 200, service_->tokenizer_info());
}

void Api::embeddings(Call call) {
  Fields body = Fields::of_body(call.request.body);
  (void)body.text("model");
  (void)body.text("user");
  const auto texts = body.texts("input", 2048);
  if (!texts || texts->empty()) throw body.wrong("input", "a text or a list of texts is expected");
  const std::string format = body.text("encoding_format").value_or("float");
  if (format != "float" && format != "base64")
    throw body.wrong("encoding_format", "float or base64 is expected");
  aside(std::move(call), [this, texts = *texts, format](const Call& c) {
    auto data = nlohmann::ordered_json::array();
    int64_t tokens = 0;
    const auto vectors = service_->embed(texts);
    for (size_t i = 0; i < vectors.size(); ++i) {
      nlohmann::ordered_json one = {{"object", "embedding"}, {"index", i}};
      if (format == "float") {
        one["embedding"] = vectors[i];
      } else {  // little-endian floats, as the openai package asks for
        one["embedding"] = base64(
            {reinterpret_cast<const char*>(vectors[i].data()), vectors[i].size() * sizeof(float)});
      }
      data.push_back(std::move(one));
      tokens += static_cast<int64_t>(service_->tokenize(texts[i], false).size());
    }
    answer(c, 200,
           {{"object", "list"},
            {"data", data},
            {"model", service_->name()},
            {"usage", {{"prompt_tokens", tokens}, {"total_tokens", tokens}}}});
  });
}

}  // namespace accrete::serve
