#include "text/pretokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>

#include "base/format.h"
#include "text/json_fields.h"
#include "text/regex.h"
#include "text/scanners.h"
#include "text/unicode.h"

namespace accrete::text {
namespace {

constexpr int kMaxDepth = 16;
constexpr size_t kMaxStages = 64;

}  // namespace

class PreTokenizer::Stage {
 public:
  // The stages behind this one, and the sink behind the last.
  class Rest {
   public:
    Rest(std::span<const std::shared_ptr<const Stage>> stages, PieceSink& sink)
        : stages_(stages), sink_(&sink) {}
    void operator()(std::string_view piece) const {
      if (piece.empty()) return;
      if (stages_.empty())
        sink_->piece(piece);
      else
        stages_.front()->split(piece, Rest(stages_.subspan(1), *sink_));
    }

   private:
    std::span<const std::shared_ptr<const Stage>> stages_;
    PieceSink* sink_;
  };

  virtual ~Stage() = default;
  virtual void split(std::string_view text, const Rest& rest) const = 0;
};

namespace {

using Stage = PreTokenizer::Stage;
using Rest = Stage::Rest;

class PrefixSpace : public Stage {
 public:
  void split(std::string_view text, const Rest& rest) const override {
    if (text.starts_with(' '))
      rest(text);
    else
      rest(std::string(1, ' ').append(text));
  }
};

class Digits : public Stage {
 public:
  explicit Digits(bool individual) : individual_(individual) {}

  void split(std::string_view text, const Rest& rest) const override {
    const uint8_t* properties = unicode::properties();
    size_t begin = 0;
    bool in_digits = false;
    for (size_t at = 0; at < text.size();) {
      const auto [c, size] = unicode::decode(text.data() + at);
      const bool digit = properties[c] & unicode::kNumeric;
      if (digit != in_digits || (digit && individual_)) {
        rest(text.substr(begin, at - begin));
        begin = at;
        in_digits = digit;
      }
      at += size;
    }
    rest(text.substr(begin));
  }

 private:
  bool individual_;
};

class Gpt2 : public Stage {
 public:
  void split(std::string_view text, const Rest& rest) const override {
    for (size_t at = 0; at < text.size();) {
      const size_t end = gpt2_match(text, at);
      rest(text.substr(at, end - at));
      at = end;
    }
  }
};

class Cl100k : public Stage {
 public:
  explicit Cl100k(int most_digits) : most_digits_(most_digits) {}

  void split(std::string_view text, const Rest& rest) const override {
    for (size_t at = 0; at < text.size();) {
      const size_t end = cl100k_match(text, at, most_digits_);
      rest(text.substr(at, end - at));
      at = end;
    }
  }

 private:
  int most_digits_;
};

enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

class Split : public Stage {
 public:
  Split(Regex regex, Behavior behavior, bool invert)
      : regex_(std::move(regex)), behavior_(behavior), invert_(invert) {}

  void split(std::string_view text, const Rest& rest) const override {
    std::vector<Regex::Match> matches;
    regex_.find_all(text, matches);
    // The text as parts, each a match or what lies between two.
    std::vector<Part> parts;
    size_t at = 0;
    for (const auto& [begin, end] : matches) {
      if (begin > at) parts.push_back({at, begin, invert_});
      parts.push_back({begin, end, !invert_});
      at = end;
    }
    if (at < text.size()) parts.push_back({at, text.size(), invert_});
    merge(parts);
    for (const Part& part : parts)
      if (!(behavior_ == Behavior::kRemoved && part.match))
        rest(text.substr(part.begin, part.end - part.begin));
  }

 private:
  struct Part {
    size_t begin;
    size_t end;
    bool match;
  };

  void merge(std::vector<Part>& parts) const {
    if (behavior_ == Behavior::kRemoved || behavior_ == Behavior::kIsolated || parts.empty())
      return;
    std::vector<Part> merged = {parts.front()};
    for (size_t i = 1; i < parts.size(); ++i) {
      const bool before = parts[i - 1].match, now = parts[i].match;
      const bool joins = behavior_ == Behavior::kContiguous           ? before == now
                         : behavior_ == Behavior::kMergedWithPrevious ? now && !before
                                                                      : before && !now;
      if (joins)
        merged.back().end = parts[i].end;
      else
        merged.push_back(parts[i]);
    }
    parts = std::move(merged);
  }

  Regex regex_;
  Behavior behavior_;
  bool invert_;
};

Behavior behavior_of(const std::string& name) {
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  fail_unsupported("pre_tokenizer", accrete::format("the Split behavior {:?}", name));
}

std::shared_ptr<const Stage> split_stage(const Json& part) {
  const char* where = "pre_tokenizer Split";
  const Behavior behavior = behavior_of(string_at(part, "behavior", where));
  const bool invert = bool_or(part, "invert", false, where);
  const Json& pattern = member(part, "pattern");
  if (!pattern.is_object()) fail_format(where, "no pattern");
  if (pattern.contains("String")) {
    const std::string text = string_at(pattern, "String", where);
    if (text.empty()) fail_unsupported(where, "an empty pattern");
    if (unicode::valid_prefix(text) != text.size()) fail_format(where, "a pattern is not UTF-8");
    return std::make_shared<Split>(Regex::literal(text), behavior, invert);
  }
  const std::string regex = string_at(pattern, "Regex", where);
  // These match every character, so that merged or not their matches stand alone.
  if (behavior == Behavior::kIsolated || (behavior == Behavior::kRemoved && invert)) {
    if (regex == kGpt2Pattern) return std::make_shared<Gpt2>();
    if (regex == kLlama3Pattern) return std::make_shared<Cl100k>(3);
    if (regex == kQwen2Pattern) return std::make_shared<Cl100k>(1);
  }
  return std::make_shared<Split>(Regex::compile(regex), behavior, invert);
}

}  // namespace

PreTokenizer::PreTokenizer(const Json& json) {
  if (json.is_null()) fail_unsupported("pre_tokenizer", "none, so it is not byte-level");
  add(json, 0);
  if (!byte_level_) fail_unsupported("pre_tokenizer", "no ByteLevel, so it is not byte-level");
}

void PreTokenizer::add(const Json& part, int depth) {
  const std::string type = type_of(part, "pre_tokenizer");
  if (type == "Sequence") {
    const Json& parts = member(part, "pretokenizers");
    if (!parts.is_array()) fail_format("pre_tokenizer Sequence", "no list of pretokenizers");
    if (depth > kMaxDepth) fail_unsupported("pre_tokenizer", "sequences nested too deeply");
    for (const Json& inner : parts) add(inner, depth + 1);
    return;
  }
  if (byte_level_)
    fail_unsupported("pre_tokenizer", accrete::format("{:?} behind ByteLevel", type));
  if (stages_.size() >= kMaxStages) fail_unsupported("pre_tokenizer", "too many parts");
  if (type == "ByteLevel") {
    byte_level_ = true;
    if (bool_or(part, "add_prefix_space", true, "pre_tokenizer ByteLevel"))
      stages_.push_back(std::make_shared<PrefixSpace>());
    if (bool_or(part, "use_regex", true, "pre_tokenizer ByteLevel"))
      stages_.push_back(std::make_shared<Gpt2>());
  } else if (type == "Digits") {
    stages_.push_back(std::make_shared<Digits>(
        bool_or(part, "individual_digits", false, "pre_tokenizer Digits")));
  } else if (type == "Split") {
    stages_.push_back(split_stage(part));
  } else {
    fail_unsupported("pre_tokenizer", accrete::format("the type {:?}", type));
  }
}

void PreTokenizer::split(std::string_view text, PieceSink& sink) const {
  Rest(stages_, sink)(text);
}

}  // namespace accrete::text
