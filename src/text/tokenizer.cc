#include "text/tokenizer.h"

#include <algorithm>
#include <deque>
#include <nlohmann/json.hpp>

#include "base/format.h"
#include "io/strict_json.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/json_fields.h"
#include "text/normalizer.h"
#include "text/pretokenizer.h"
#include "text/unicode.h"

namespace accrete {
namespace {

using text::fail_format;
using text::fail_unsupported;
using text::Json;
using text::member;

// The ids of a special token that a template names.
void add_named(const Json& tokens, const std::string& name, std::vector<int32_t>& out) {
  const Json& ids = member(member(tokens, name.c_str()), "ids");
  if (!ids.is_array())
    fail_format("post_processor", accrete::format("the token {:?} has no ids", name));
  for (const Json& id : ids) {
    if (!id.is_number_integer()) fail_format("post_processor", "an id that is no integer");
    out.push_back(id.get<int32_t>());
  }
}

// Post-processors put special tokens round a text or trim offsets. Adds those before it to `out`.
void read_post_processor(const Json& part, std::vector<int32_t>& out, int depth = 0) {
  if (part.is_null()) return;
  const std::string type = text::type_of(part, "post_processor");
  if (type == "Sequence") {
    const Json& parts = member(part, "processors");
    if (!parts.is_array()) fail_format("post_processor Sequence", "no list of processors");
    if (depth > 16) fail_unsupported("post_processor", "sequences nested too deeply");
    for (const Json& inner : parts) read_post_processor(inner, out, depth + 1);
  } else if (type == "TemplateProcessing") {
    const Json& single = member(part, "single");
    if (!single.is_array()) fail_format("post_processor TemplateProcessing", "no \"single\"");
    for (const Json& piece : single) {
      const Json& token = member(piece, "SpecialToken");
      if (token.is_null()) break;  // the text
      add_named(member(part, "special_tokens"), text::string_at(token, "id", "post_processor"),
                out);
    }
  } else if (type == "RobertaProcessing" || type == "BertProcessing") {
    const Json& first = member(part, "cls");
    if (!first.is_array() || first.size() != 2 || !first[1].is_number_integer())
      fail_format("post_processor", "\"cls\" is no token");
    out.push_back(first[1].get<int32_t>());
  } else if (type != "ByteLevel") {
    fail_unsupported("post_processor", accrete::format("the type {:?}", type));
  }
}

void check_decoder(const Json& part) {
  if (part.is_null()) fail_unsupported("decoder", "none, so it is not byte-level");
  std::string type = text::type_of(part, "decoder");
  if (type == "Sequence") {
    const Json& parts = member(part, "decoders");
    if (parts.is_array() && parts.size() == 1) type = text::type_of(parts[0], "decoder");
  }
  if (type != "ByteLevel") fail_unsupported("decoder", accrete::format("the type {:?}", type));
}

// A special token of tokenizer_config.json.
std::optional<std::string> role(const Json& config, const char* key) {
  const Json& value = member(config, key);
  auto token = text::token_text(value);
  if (!token && !value.is_null())
    fail_format("tokenizer_config.json", accrete::format("{:?} is no token", key));
  return token;
}

}  // namespace

struct Tokenizer::Impl {
  explicit Impl(const Json& json);

  text::Bpe bpe;
  text::Normalizer normalizer;
  text::AddedTokens added;
  text::PreTokenizer pre_tokenizer;
  int32_t size = 0;
  std::string bytes;              // of all tokens, one behind the other
  std::vector<uint32_t> offsets;  // size + 1
  std::vector<bool> special;
  std::optional<int32_t> bos, eos;
  std::vector<int32_t> opening;
};

Tokenizer::Impl::Impl(const Json& json)
    : bpe(member(json, "model")),
      normalizer(member(json, "normalizer")),
      added(member(json, "added_tokens"), bpe.vocabulary(), normalizer),
      pre_tokenizer(member(json, "pre_tokenizer")),
      size(bpe.id_limit()) {
  for (const auto& [id, token] : added.by_id()) size = std::max(size, id + 1);
  special.resize(size);
  std::vector<const std::string*> tokens(size);  // an id that no token has decodes to nothing
  for (const auto& [token, id] : bpe.vocabulary()) tokens[id] = &token;
  for (const auto& [id, token] : added.by_id()) {
    tokens[id] = &token.content;
    special[id] = token.special;
  }
  offsets.push_back(0);
  for (const std::string* token : tokens) {
    if (token) bytes += text::bytes_of_token(*token).value_or(*token);
    if (bytes.size() > UINT32_MAX) fail_format("model vocab", "more than 4 GiB of tokens");
    offsets.push_back(static_cast<uint32_t>(bytes.size()));
  }
}

Tokenizer Tokenizer::from_json(const Json& json) {
  if (!json.is_object()) fail_format("tokenizer.json", "not an object");
  check_decoder(member(json, "decoder"));
  Tokenizer tokenizer;
  auto impl = std::make_shared<Impl>(json);
  read_post_processor(member(json, "post_processor"), impl->opening);
  for (const int32_t id : impl->opening)
    if (id < 0 || id >= impl->size)
      fail_format("post_processor", accrete::format("the id {} of no token", id));
  tokenizer.impl_ = std::move(impl);
  return tokenizer;
}

Tokenizer Tokenizer::from_folder(const std::filesystem::path& folder) {
  Tokenizer tokenizer = from_json(read_json_object(folder / "tokenizer.json"));
  const std::filesystem::path config_path = folder / "tokenizer_config.json";
  if (!std::filesystem::exists(config_path)) return tokenizer;
  const Json config = read_json_object(config_path);

  // `transformers` adds the tokens listed here to those of tokenizer.json: they must be there.
  const Json& listed = member(config, "added_tokens_decoder");
  if (listed.is_object()) {
    for (const auto& [id, entry] : listed.items()) {
      const std::string content = text::string_at(entry, "content", "added_tokens_decoder");
      const std::optional<int32_t> known = tokenizer.token_id(content);
      if (!known || std::to_string(*known) != id) {
        throw Error(
            ErrorCode::kConflict,
            accrete::format("{}: the token {:?} with id {} is not the one of tokenizer.json",
                            config_path.string(), content, id),
            "the two files belong to different models; fetch both again");
      }
    }
  }
  auto impl = std::make_shared<Impl>(*tokenizer.impl_);
  for (auto [key, id] : {std::pair("bos_token", &impl->bos), std::pair("eos_token", &impl->eos)}) {
    if (const std::optional<std::string> content = role(config, key)) {
      *id = tokenizer.token_id(*content);
      if (!*id) {
        throw Error(ErrorCode::kConflict,
                    accrete::format("{}: the {} {:?} is not in tokenizer.json",
                                    config_path.string(), key, *content),
                    "the two files belong to different models; fetch both again");
      }
    }
  }
  tokenizer.impl_ = std::move(impl);
  return tokenizer;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool parse_special) const {
  struct Encoder : text::PieceSink {
    const text::Bpe& bpe;
    std::vector<int32_t> ids;
    explicit Encoder(const text::Bpe& bpe) : bpe(bpe) {}
    void piece(std::string_view bytes) override { bpe.encode_word(bytes, ids); }
  } encoder(impl_->bpe);

  encoder.ids.reserve(text.size() / 3 + 8);
  std::deque<std::string> storage;
  while (!text.empty()) {
    const size_t valid = unicode::valid_prefix(text);
    for (const text::TextPart& part :
         impl_->added.split(text.substr(0, valid), parse_special, storage)) {
      if (part.id >= 0)
        encoder.ids.push_back(part.id);
      else
        impl_->pre_tokenizer.split(part.text, encoder);
    }
    storage.clear();
    text.remove_prefix(valid);
    if (text.empty()) break;
    const size_t broken = unicode::step(text).size;
    for (size_t i = 0; i < broken; ++i) encoder.piece(text.substr(i, 1));
    text.remove_prefix(broken);
  }
  return std::move(encoder.ids);
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string out;
  for (const int32_t id : ids) {
    if (id < 0 || id >= impl_->size) {
      throw Error(ErrorCode::kInvalidArgument,
                  accrete::format("token id {} is not in [0, {})", id, impl_->size),
                  "the ids come from another tokenizer");
    }
    if (skip_special && impl_->special[id]) continue;
    out.append(impl_->bytes, impl_->offsets[id], impl_->offsets[id + 1] - impl_->offsets[id]);
  }
  return out;
}

const std::vector<int32_t>& Tokenizer::opening() const {
  return impl_->opening;
}

std::vector<int32_t> Tokenizer::encode_text(std::string_view text) const {
  std::vector<int32_t> ids = encode(text);
  const auto& first = opening();
  if (ids.size() < first.size() || !std::equal(first.begin(), first.end(), ids.begin()))
    ids.insert(ids.begin(), first.begin(), first.end());
  return ids;
}

int32_t Tokenizer::vocab_size() const {
  return impl_->size;
}

std::optional<int32_t> Tokenizer::token_id(std::string_view token) const {
  for (const text::Vocabulary* ids : {&impl_->added.ids(), &impl_->bpe.vocabulary()}) {
    const auto found = ids->find(token);
    if (found != ids->end()) return found->second;
  }
  return std::nullopt;
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && id < impl_->size && impl_->special[id];
}

std::optional<int32_t> Tokenizer::bos() const {
  return impl_->bos;
}
std::optional<int32_t> Tokenizer::eos() const {
  return impl_->eos;
}

std::string StreamDecoder::push(int32_t id) {
  pending_ += tokenizer_.decode(std::span(&id, 1), skip_special_);
  std::string out;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const unicode::Step step = unicode::step(rest);
    if (step.kind == unicode::Step::kCutOff) break;
    if (step.kind == unicode::Step::kCharacter)
      out += rest.substr(0, step.size);
    else
      unicode::append_utf8(out, 0xFFFD);
    rest.remove_prefix(step.size);
  }
  pending_.erase(0, pending_.size() - rest.size());  // at most 3 bytes stay
  return out;
}

std::string StreamDecoder::finish() {
  // What is pending began a character and is cut off: one U+FFFD.
  const bool broken = !pending_.empty();
  pending_.clear();
  return broken ? "\uFFFD" : "";
}

}  // namespace accrete
