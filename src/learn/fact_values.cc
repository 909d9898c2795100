#include "learn/fact_values.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/format.h"
#include "model/packed_pass.h"

namespace accrete {
namespace {

// Examples [begin, end) are of facts [first_fact, last_fact).
struct Group {
  size_t begin = 0, end = 0;
  int64_t first_fact = 0, last_fact = 0;
};

int64_t tokens_kept(const FactExample& e) {
  return static_cast<int64_t>(e.tokens.size());
}

// Groups of whole facts. What examples of one group share is kept once, so this is the worst case.
std::vector<Group> groups_of(const Transformer& net, std::span<const FactExample> examples,
                             int64_t bytes) {
  const ModelConfig& c = net.config();
  const int64_t token_bytes = c.blocks * 2 * c.kv_heads * c.head_dim * 4;
  // A third of a prompt is its own, by experience with chat templates.
  const int64_t most = std::max<int64_t>(1, 3 * bytes / token_bytes);
  std::vector<Group> out;
  int64_t tokens = 0;
  for (size_t i = 0; i < examples.size();) {
    size_t end = i;
    int64_t own = 0;
    while (end < examples.size() && examples[end].fact == examples[i].fact)
      own += tokens_kept(examples[end++]);
    if (out.empty() || tokens + own > most) {
      out.push_back({i, i, examples[i].fact, examples[i].fact});
      tokens = 0;
    }
    tokens += own;
    out.back().end = end;
    out.back().last_fact = examples[i].fact + 1;
    i = end;
  }
  return out;
}

// Examples of a group with facts counted from 0.
std::vector<FactExample> local(std::span<const FactExample> examples, const Group& group) {
  std::vector<FactExample> out(examples.begin() + static_cast<ptrdiff_t>(group.begin),
                               examples.begin() + static_cast<ptrdiff_t>(group.end));
  for (FactExample& e : out) e.fact -= group.first_fact;
  return out;
}

FactPassOptions pass_options(const FactSites& sites, const FactValueOptions& options,
                             const Transformer& net) {
  FactPassOptions out;
  out.sites = sites;
  out.low_precision = options.low_precision && PackedPass::fast_low_precision(net);
  out.reference = options.reference;
  return out;
}

// One fact's examples and how they stand.
struct Shown {
  std::vector<int64_t> examples;
  size_t next = 0;          // by turns
  std::vector<double> nll;  // last seen
  bool resting = false;
  int64_t steps = 0;  // taken in this round
};

// As they are stored: bfloat16, to the nearest.
at::Tensor rounded(const at::Tensor& vectors) {
  return vectors.to(at::kBFloat16).to(at::kFloat);
}

}  // namespace

FactValues no_values(std::span<const FactExample> examples, int64_t facts, const FactSites& sites,
                     int64_t width) {
  FactValues out;
  out.first.assign(static_cast<size_t>(facts) + 1, 0);
  for (const FactExample& e : examples) {
    const int64_t n = sites.vectors(static_cast<int64_t>(e.tokens.size()) - e.prompt);
    int64_t& count = out.first[static_cast<size_t>(e.fact) + 1];
    count = std::max(count, n);
  }
  for (size_t f = 1; f < out.first.size(); ++f) out.first[f] += out.first[f - 1];
  out.vectors.assign(static_cast<size_t>(out.first.back() * width), 0);
  return out;
}

FactValues solve_fact_values(const Transformer& net, std::span<const FactExample> examples,
                             int64_t facts, const FactSites& sites, const FactValueOptions& options,
                             const Reporter& reporter) {
  const at::NoGradGuard no_grad;
  const int64_t d = net.config().width;
  FactValues out = no_values(examples, facts, sites, d);
  out.exact.assign(examples.size(), 0);
  out.before.assign(examples.size(), 0);
  const auto groups = groups_of(net, examples, options.cache_bytes);
  Reporter inner = reporter;
  inner.progress = nullptr;
  int64_t done = 0;
  // In thousandths of a fact, and never backwards: how many steps are needed is not known before.
  int64_t shown_so_far = 0;
  const auto report = [&](double learned) {
    shown_so_far = std::max(shown_so_far, static_cast<int64_t>(1000 * learned));
    reporter.report("teach", shown_so_far, 1000 * facts, accrete::format("{} facts", facts));
  };
  for (const Group& group : groups) {
    const auto own = local(examples, group);
    const int64_t F = group.last_fact - group.first_fact;
    const FactPassOptions how = pass_options(sites, options, net);
    report(static_cast<double>(done));
    FactPasses passes(net, own, how, inner, "read prompts");
    std::vector<int64_t> first;
    for (int64_t f = group.first_fact; f <= group.last_fact; ++f)
      first.push_back(out.first[static_cast<size_t>(f)] -
                      out.first[static_cast<size_t>(group.first_fact)]);
    auto vectors = at::zeros({first.back(), d}, at::kFloat);
    auto m = at::zeros_like(vectors), v = at::zeros_like(vectors);
    auto gradient = at::zeros_like(vectors);
    std::vector<Shown> shown(static_cast<size_t>(F));
    for (size_t i = 0; i < own.size(); ++i)
      shown[static_cast<size_t>(own[i].fact)].examples.push_back(static_cast<int64_t>(i));
    for (Shown& s : shown) s.nll.assign(s.examples.size(), INFINITY);
    std::vector<FactPasses::Outcome> last(own.size());
    std::vector<int64_t> all(own.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
    const auto without = passes.run(all, vectors, first, nullptr, 0, /*exactly=*/true);
    for (size_t i = 0; i < own.size(); ++i) out.before[group.begin + i] = without[i].exact;

    const auto round = [&](int64_t steps) {
      for (int64_t step = 0; step < steps; ++step) {
        reporter.check_cancelled();
        std::vector<int64_t> which;
        std::vector<std::pair<size_t, size_t>> of;  // fact, its example
        for (size_t f = 0; f < shown.size(); ++f) {
          Shown& s = shown[f];
          if (s.resting) continue;
          const size_t n =
              std::min(s.examples.size(), static_cast<size_t>(std::max<int64_t>(1, options.shown)));
          for (size_t k = 0; k < n; ++k) {
            of.emplace_back(f, s.next);
            which.push_back(s.examples[s.next]);
            s.next = (s.next + 1) % s.examples.size();
          }
        }
        if (which.empty()) break;
        gradient.zero_();
        const auto outcome = passes.run(which, vectors, first, &gradient, options.settled);
        out.steps += static_cast<int64_t>(which.size());
        std::vector<int64_t> rows;
        std::vector<uint8_t> moving(shown.size(), 0);
        for (size_t i = 0; i < which.size(); ++i) {
          const auto [f, k] = of[i];
          out.tokens += static_cast<int64_t>(own[static_cast<size_t>(which[i])].tokens.size()) -
                        own[static_cast<size_t>(which[i])].prompt + sites.at_end;
          shown[f].nll[k] = outcome[i].nll;
          moving[f] |= outcome[i].nll > options.settled;
        }
        double total = 0;
        for (size_t f = 0; f < shown.size(); ++f) {
          Shown& s = shown[f];
          s.resting = std::all_of(s.nll.begin(), s.nll.end(),
                                  [&](double x) { return x <= options.settled; });
          if (!moving[f]) continue;
          ++s.steps;
          for (const double x : s.nll) total += std::isfinite(x) ? x : 0;
          for (int64_t r = first[f]; r < first[f + 1]; ++r) rows.push_back(r);
        }
        if (!rows.empty()) {
          // Adam of the moving facts' rows, each with its own count of steps.
          const auto index = at::tensor(rows, at::kLong);
          const auto g = gradient.index_select(0, index);
          auto mr = m.index_select(0, index).mul_(options.beta1).add_(g, 1 - options.beta1);
          auto vr = v.index_select(0, index).mul_(options.beta2).addcmul_(g, g, 1 - options.beta2);
          m.index_copy_(0, index, mr);
          v.index_copy_(0, index, vr);
          std::vector<float> c1, c2;
          for (size_t f = 0; f < shown.size(); ++f) {
            if (!moving[f]) continue;
            const auto t = static_cast<double>(shown[f].steps);
            for (int64_t r = first[f]; r < first[f + 1]; ++r) {
              c1.push_back(static_cast<float>(1 - std::pow(options.beta1, t)));
              c2.push_back(static_cast<float>(1 - std::pow(options.beta2, t)));
            }
          }
          const double share = static_cast<double>(step) / static_cast<double>(steps);
          const double rate =
              options.rate * passes.scale() * (1 - (1 - options.final_rate) * share);
          const auto column = [&](std::vector<float>& c) {
            return at::tensor(c, at::kFloat).unsqueeze(1);
          };
          const auto move =
              mr.div(column(c1)).div_(vr.div(column(c2)).sqrt_().add_(1e-8)).mul_(-rate);
          vectors.index_add_(0, index, move);
        }
        constexpr double kFirstRound = 0.9;  // of a group's time, about
        report(static_cast<double>(done) +
               kFirstRound * static_cast<double>((step + 1) * F) / static_cast<double>(steps));
      }
    };
    round(options.steps);
    // As stored and in full precision: what is not said exactly goes on.
    for (int64_t more = 0;; ++more) {
      last = passes.run(all, rounded(vectors), first, nullptr, 0, /*exactly=*/true);
      bool complete = true;
      for (Shown& s : shown) {
        const bool said = std::all_of(s.examples.begin(), s.examples.end(), [&](int64_t i) {
          return last[static_cast<size_t>(i)].exact;
        });
        s.resting = said;
        complete = complete && said;
        s.steps = 0;
        if (!said) std::fill(s.nll.begin(), s.nll.end(), INFINITY);
      }
      if (complete || more == options.rounds) break;
      m.zero_();
      v.zero_();
      round(options.more_steps);
    }
    for (size_t i = 0; i < own.size(); ++i) out.exact[group.begin + i] = last[i].exact;
    const auto bits = vectors.to(at::kBFloat16).contiguous();
    std::memcpy(out.vectors.data() + out.first[static_cast<size_t>(group.first_fact)] * d,
                bits.const_data_ptr(), bits.nbytes());
    done += F;
  }
  report(static_cast<double>(facts));
  return out;
}

std::vector<uint8_t> said_exactly(const Transformer& net, std::span<const FactExample> examples,
                                  const FactSites& sites, const FactValues& values,
                                  const FactValueOptions& options, const Reporter& reporter) {
  const at::NoGradGuard no_grad;
  std::vector<uint8_t> out;
  if (values.first.back() == 0) return std::vector<uint8_t>(examples.size(), 0);
  const auto vectors = at::from_blob(const_cast<uint16_t*>(values.vectors.data()),
                                     {values.first.back(), net.config().width}, at::kBFloat16)
                           .to(at::kFloat);
  for (const Group& group : groups_of(net, examples, options.cache_bytes)) {
    const auto own = local(examples, group);
    FactPasses passes(net, own, pass_options(sites, options, net), reporter, "ask");
    std::vector<int64_t> all(own.size()), first;
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
    for (int64_t f = group.first_fact; f <= group.last_fact; ++f)
      first.push_back(values.first[static_cast<size_t>(f)]);
    for (const auto& o : passes.run(all, vectors, first, nullptr, 0, /*exactly=*/true))
      out.push_back(o.exact);
  }
  return out;
}

}  // namespace accrete
