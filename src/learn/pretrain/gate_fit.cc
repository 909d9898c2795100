#include "learn/pretrain/gate_fit.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "learn/reading.h"
#include "learn/subjects.h"
#include "model/examples.h"

namespace accrete {
namespace {

constexpr double kReach = 0.15;  // of the way from one subject to the next, chosen on dev facts

// The phrasing up to the subject's last token, where updates are written; nullopt when the subject
// is not found in it.
std::optional<ReadRequest> up_to_subject(const LanguageModel& model, const Item& fact,
                                         const std::string& prompt) {
  ExampleOptions raw;
  raw.raw = true;
  const Example e = make_example(model, prompt, fact.answers.front(), fact.subject, raw);
  for (size_t i = e.subject.size(); i-- > 0;)
    if (e.subject[i] != 0)
      return ReadRequest{{e.tokens.begin(), e.tokens.begin() + static_cast<std::ptrdiff_t>(i) + 1},
                         static_cast<int64_t>(i)};
  return std::nullopt;
}

double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

}  // namespace

Gate gate_between(double same, double other) {
  Gate gate;
  if (other > same) {
    gate.radius = same + kReach * (other - same);
    gate.softness = kReach * (other - same);
  } else {
    gate.radius = 1.1 * 0.5 * (same + other);
    gate.softness = 0.2 * 0.5 * (same + other);
  }
  return gate;
}

GateFit fit_gate(const LanguageModel& model, std::vector<Item> facts, const at::Tensor& queries,
                 int64_t limit, const Reporter& reporter) {
  fill_subjects(facts);
  // Per subject the wordings that it is known by, and one that it is to be known in.
  std::vector<ReadRequest> known, again;
  std::vector<int64_t> owner;  // of each known wording
  std::vector<std::string> subjects;
  for (const Item& fact : facts) {
    if (static_cast<int64_t>(subjects.size()) == limit) break;
    if (fact.subject.empty() ||
        std::find(subjects.begin(), subjects.end(), fact.subject) != subjects.end())
      continue;
    auto prompts = fact.prompts;
    prompts.insert(prompts.end(), fact.asked.begin(), fact.asked.end());
    std::vector<ReadRequest> found;
    for (const auto& prompt : prompts) {
      auto request = up_to_subject(model, fact, prompt);
      // Phrasings that are one up to the subject say nothing: their queries are the same.
      if (request && std::none_of(found.begin(), found.end(), [&](const ReadRequest& other) {
            return other.tokens == request->tokens;
          }))
        found.push_back(std::move(*request));
    }
    if (found.size() < 2) continue;
    again.push_back(std::move(found.back()));
    found.pop_back();
    for (auto& request : found) {
      known.push_back(std::move(request));
      owner.push_back(static_cast<int64_t>(subjects.size()));
    }
    subjects.push_back(fact.subject);
  }
  GateFit fit;
  fit.subjects = static_cast<int64_t>(subjects.size());
  if (fit.subjects < 8) {
    // Whitened queries, for which the defaults were chosen, are 1 in every direction.
    const double spread = queries.numel() == 0 ? 1 : queries.var(0, false).mean().item<double>();
    const double scale = std::max(1e-6, std::sqrt(spread));
    fit.gate.radius *= scale;
    fit.gate.softness *= scale;
    return fit;
  }
  const auto anchors = read_prompts(model, known, true, reporter, "fit the gate").queries;
  const auto asked = read_prompts(model, again, true, reporter, "fit the gate").queries;
  const auto distances = at::cdist(asked, anchors).to(at::kDouble).contiguous();
  std::vector<double> same, other;
  for (int64_t s = 0; s < fit.subjects; ++s) {
    double own = INFINITY, nearest = INFINITY;
    for (size_t a = 0; a < owner.size(); ++a) {
      const double distance =
          distances.const_data_ptr<double>()[s * distances.size(1) + static_cast<int64_t>(a)];
      double& smallest = owner[a] == s ? own : nearest;
      smallest = std::min(smallest, distance);
    }
    same.push_back(own);
    other.push_back(nearest);
  }
  fit.same = quantile(same, 0.9);
  fit.other = quantile(other, 0.1);
  fit.gate = gate_between(fit.same, fit.other);
  // Subjects that nothing tells apart.
  fit.gate.radius = std::max(fit.gate.radius, 1e-3);
  fit.gate.softness = std::max(fit.gate.softness, 1e-4);
  return fit;
}

}  // namespace accrete
