#include "learn/fact_keys.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/format.h"
#include "learn/fact_lessons.h"
#include "ledger/taught.h"
#include "model/ask.h"
#include "text/wording.h"

namespace accrete {

std::string quoted(const std::string& text) {
  return accrete::format("\"{}\"", excerpt_of(text, 80));
}

void append_keys(const Reader& reader, std::span<const TaughtItem> items, UpdateFacts& facts) {
  std::vector<std::string> texts;
  std::vector<size_t> whole, masked, answers;  // indices of texts: by wording, by fact
  for (const TaughtItem& item : items) {
    for (const std::string& prompt : item.prompts) {
      const std::string text = plain_question(question_of(request_of(item, prompt)).text);
      std::string without = mask_name(text, item.subject);
      whole.push_back(texts.size());
      texts.push_back(text);
      masked.push_back(without == text ? whole.back() : texts.size());
      if (without != text) texts.push_back(std::move(without));
    }
    answers.push_back(texts.size());
    texts.push_back(item.leave ? std::string()
                               : mask_name(plain_question(item.answers.front()), item.subject));
  }
  if (texts.empty()) return;
  const auto vectors = reader.read(texts, /*words_only=*/true).contiguous();
  const int64_t w = vectors.size(1);
  const float* rows = vectors.const_data_ptr<float>();
  facts.key_width = w;
  std::vector<int8_t> key(static_cast<size_t>(w));
  const auto append = [&](size_t text, std::vector<int8_t>& to, std::vector<float>& scales) {
    scales.push_back(quantize_key(rows + static_cast<int64_t>(text) * w, w, key.data()));
    to.insert(to.end(), key.begin(), key.end());
  };
  for (size_t i = 0; i < whole.size(); ++i) {
    append(whole[i], facts.whole, facts.scales);
    append(masked[i], facts.masked, facts.scales);
  }
  for (const size_t text : answers) append(text, facts.answers, facts.answer_scales);
}

void remark_on_keys(const UpdateFacts& facts, const std::vector<TaughtItem>& items,
                    std::vector<std::string>& remarks) {
  constexpr double kFar = 0.25, kNear = 0.80;
  const int64_t w = facts.key_width;
  struct Wording {
    size_t item, prompt;
  };
  std::map<std::string, std::vector<int64_t>> by_subject;
  std::vector<Wording> wordings;
  for (size_t i = 0; i < items.size(); ++i)
    for (size_t p = 0; p < items[i].prompts.size(); ++p) {
      if (!items[i].passage())
        by_subject[(items[i].raw ? "raw " : "") + name_key(items[i].subject)].push_back(
            static_cast<int64_t>(wordings.size()));
      wordings.push_back({i, p});
    }
  const auto all =
      at::from_blob(const_cast<int8_t*>(facts.masked.data()), {facts.keys(), w}, at::kChar)
          .to(at::kFloat);
  const auto scales =
      at::from_blob(const_cast<float*>(facts.scales.data()), {facts.keys(), 2}, at::kFloat);
  const auto keys = all * scales.select(1, 1).unsqueeze(1);
  std::set<std::pair<size_t, size_t>> told;
  for (const auto& [subject, which] : by_subject) {
    constexpr size_t kMost = 4000;  // of one subject: beyond that the pairs are too many
    if (which.size() < 2 || which.size() > kMost) continue;
    const auto own = keys.index_select(0, at::tensor(which, at::kLong));
    const auto cosine = own.matmul(own.t()).contiguous();
    const auto n = static_cast<int64_t>(which.size());
    const float* c = cosine.const_data_ptr<float>();
    for (int64_t a = 0; a < n; ++a) {
      const Wording& wa = wordings[static_cast<size_t>(which[static_cast<size_t>(a)])];
      double mine = -1, other = -1;
      size_t whose = 0;
      for (int64_t b = 0; b < n; ++b) {
        if (a == b) continue;
        const Wording& wb = wordings[static_cast<size_t>(which[static_cast<size_t>(b)])];
        const double x = c[a * n + b];
        if (wb.item == wa.item) {
          mine = std::max(mine, x);
        } else if (x > other) {
          other = x;
          whose = wb.item;
        }
      }
      const TaughtItem& item = items[wa.item];
      if (remarks.size() >= kMostRemarks) return;
      if (mine > -1 && mine < kFar)
        remarks.push_back(
            accrete::format("line {}: {} seems to ask something else than its other wordings",
                            item.line, quoted(item.prompts[wa.prompt])));
      if (other > kNear && other > mine && !item.leave && !items[whose].leave &&
          !same_text(item.answers.front(), items[whose].answers.front()) &&
          told.insert(std::minmax(wa.item, whose)).second)
        remarks.push_back(accrete::format(
            "lines {} and {} lie close to one another ({} and {}): more wordings of both help to "
            "tell them apart",
            item.line, items[whose].line, quoted(item.prompts[wa.prompt]),
            quoted(items[whose].prompts.front())));
    }
  }
}

}  // namespace accrete
