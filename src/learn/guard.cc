#include "learn/guard.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"
#include "base/format.h"

namespace accrete {
namespace {

// What a candidate does to one probe.
struct Found {
  std::vector<int64_t> touched;
  std::vector<ExampleState> states;
  double after = 0;
};

// A probe in relation to its floor: how much damage it can take, in units of its examples.
double worst_score(const WatchedProbe& probe) {
  const ProbeRecord& r = probe.probe().record;
  const double floor = r.floor.value_or(0) - 1e-12;
  return probe.probe().is_text() ? r.base / std::max(floor, 1e-9) : r.base * floor;
}

bool is_broken(const WatchedProbe& probe, double after) {
  return !probe_holds(probe.probe(), after);
}

std::optional<BrokenFloor> broken_floor(const WatchedProbe& probe, double after) {
  if (!is_broken(probe, after)) return std::nullopt;
  const ProbeRecord& r = probe.probe().record;
  return BrokenFloor{r.name, probe_kept(probe.probe(), after), *r.floor};
}

class Search {
 public:
  Search(const GuardSetup& setup, const Proposal& proposal, const Reporter& reporter)
      : setup_(setup), proposal_(proposal), reporter_(reporter) {
    suspects_.resize(setup.probes->size());
  }

  Guarded run() {
    Guarded whole = candidate({}, proposal_.update, "");
    const auto broken = check(whole);
    whole.candidates = tried_;
    if (!broken) {
      whole.learned = setup_.learned(whole.overlay);
      return whole;
    }
    first_broken_ = *broken;
    const double learned_whole = setup_.learned(whole.overlay);
    const double least = setup_.learned_before +
                         setup_.least_share * std::max(0.0, learned_whole - setup_.learned_before);
    std::optional<Guarded> best;
    const auto consider = [&](Guarded g) {
      g.learned = setup_.learned(g.overlay);
      const bool enough = g.learned > setup_.learned_before && g.learned >= least;
      if (enough && (!best || g.learned > best->learned)) best = std::move(g);
    };
    if (auto g = drop_facts()) consider(std::move(*g));
    for (const Variant& v : milder()) {
      if (tried_ >= setup_.most_candidates) break;
      // Dropping nothing is better only if it teaches more: no need once everything is learned.
      if (best && best->learned >= learned_whole) break;
      Guarded g = candidate(v, make_variant(proposal_, v), describe(v));
      if (!check(g)) consider(std::move(g));
    }
    if (!best) refuse();
    best->candidates = tried_;
    return std::move(*best);
  }

 private:
  Guarded candidate(const Variant& variant, Update update, std::string change) {
    reporter_.check_cancelled();
    Guarded g;
    g.variant = variant;
    g.update = std::move(update);
    g.change = std::move(change);
    g.overlay = setup_.model->overlay_with(g.update);
    ++tried_;
    return g;
  }

  // Suspects first: most candidates that break, break there.
  std::optional<BrokenFloor> check(Guarded& g) {
    found_.assign(setup_.probes->size(), {});
    for (size_t i = 0; i < setup_.probes->size(); ++i) {
      WatchedProbe& probe = *(*setup_.probes)[i];
      if (suspects_[i].empty() || !probe.probe().record.floor) continue;
      const std::vector<int64_t> which(suspects_[i].begin(), suspects_[i].end());
      const auto states = probe.states(g.overlay, which, reporter_);
      // Others could only make it worse for questions; of a text the rest may have improved.
      if (!probe.probe().is_text())
        if (const auto broken = broken_floor(probe, probe.score_with(which, states, reporter_)))
          return broken;
    }
    std::optional<BrokenFloor> worst;
    for (size_t i = 0; i < setup_.probes->size(); ++i) {
      WatchedProbe& probe = *(*setup_.probes)[i];
      Found& f = found_[i];
      f.touched = probe.touched(g.overlay, g.update, reporter_);
      f.states = probe.states(g.overlay, f.touched, reporter_);
      f.after = probe.score_with(f.touched, f.states, reporter_);
      g.after[probe.probe().record.name] = f.after;
      if (const auto broken = broken_floor(probe, f.after)) {
        if (!worst || broken->kept - broken->floor < worst->kept - worst->floor) worst = broken;
        remember(i);
      }
    }
    return worst;
  }

  // Damage of each touched example of probe `i`: 1 for a lost answer, nats for text.
  std::vector<double> damage(size_t i) {
    WatchedProbe& probe = *(*setup_.probes)[i];
    const Found& f = found_[i];
    const auto before = probe.states_now(f.touched, reporter_);
    std::vector<double> out;
    for (size_t k = 0; k < f.touched.size(); ++k)
      out.push_back(probe.probe().is_text()
                        ? std::max(0.0, f.states[k].nll - before[k].nll)
                        : static_cast<double>(before[k].exact && !f.states[k].exact));
    return out;
  }

  void remember(size_t i) {
    const auto harm = damage(i);
    for (size_t k = 0; k < harm.size(); ++k)
      if (harm[k] > 0) suspects_[i].insert(found_[i].touched[k]);
  }

  // Which items speak at the tokens of an example: those it comes near to, or failing a gate all.
  std::vector<int64_t> speakers(WatchedProbe& probe, int64_t example) {
    std::vector<int64_t> out;
    const auto q = probe.queries(example);
    const Gate& gate = setup_.model->memory().gate;
    for (size_t f = 0; f < proposal_.item_queries.size(); ++f) {
      const auto& anchors = proposal_.item_queries[f];
      if (anchors.defined() && anchors.size(0) > 0 &&
          gate.distance(q, anchors).min().item<double>() < gate.radius)
        out.push_back(static_cast<int64_t>(f));
    }
    return out;
  }

  // Leaves out the facts that do the most damage, until every floor holds.
  std::optional<Guarded> drop_facts() {
    if (!proposal_.deposit_again || proposal_.item_queries.empty()) return std::nullopt;
    const auto items = static_cast<int64_t>(proposal_.item_queries.size());
    const auto most = static_cast<int64_t>(
        std::floor(static_cast<double>(items) * (1 - setup_.least_share) + 1e-9));
    std::set<int64_t> dropped;
    for (int round = 0; round < 4; ++round) {
      // What each fact is to blame for, over the probes that are broken.
      std::map<int64_t, double> blame;
      struct Harm {
        double amount = 0;
        std::vector<int64_t> by;
      };
      std::vector<std::pair<double, std::vector<Harm>>> broken;  // how much has to go, by whom
      for (size_t i = 0; i < setup_.probes->size(); ++i) {
        WatchedProbe& probe = *(*setup_.probes)[i];
        if (found_[i].touched.empty() || !is_broken(probe, found_[i].after)) continue;
        const double excess = std::abs(worst_score(probe) - found_[i].after) / probe.unit();
        std::vector<Harm> harms;
        const auto harm = damage(i);
        for (size_t k = 0; k < harm.size(); ++k)
          if (harm[k] > 0) harms.push_back({harm[k], speakers(probe, found_[i].touched[k])});
        broken.emplace_back(excess, std::move(harms));
      }
      if (broken.empty()) return std::nullopt;
      for (auto& [excess, harms] : broken) {
        double left = excess;
        while (left > 0) {
          blame.clear();
          for (const Harm& h : harms)
            for (const int64_t f : h.by)
              if (!dropped.contains(f)) blame[f] += h.amount;
          if (blame.empty()) break;
          const auto worst =
              std::max_element(blame.begin(), blame.end(),
                               [](const auto& a, const auto& b) { return a.second < b.second; });
          dropped.insert(worst->first);
          left -= worst->second;
          std::erase_if(harms, [&](const Harm& h) {
            return std::find(h.by.begin(), h.by.end(), worst->first) != h.by.end();
          });
        }
      }
      if (dropped.size() == blamed_.size()) return std::nullopt;  // nobody else to blame
      blamed_ = dropped;
      if (static_cast<int64_t>(dropped.size()) > most ||
          static_cast<int64_t>(dropped.size()) >= items || tried_ >= setup_.most_candidates)
        return std::nullopt;
      Variant v;
      v.dropped.assign(dropped.begin(), dropped.end());
      Guarded g = candidate(v, make_variant(proposal_, v), describe(v));
      if (!check_whole(g)) return g;
    }
    return std::nullopt;
  }

  // Without the short cut over suspects: its findings are needed for the next round.
  std::optional<BrokenFloor> check_whole(Guarded& g) {
    const auto keep = suspects_;
    suspects_.assign(suspects_.size(), {});
    auto broken = check(g);
    for (size_t i = 0; i < keep.size(); ++i) suspects_[i].insert(keep[i].begin(), keep[i].end());
    return broken;
  }

  std::vector<Variant> milder() const {
    std::vector<Variant> out;
    if (proposal_.deposit_again)
      for (const double factor : {10.0, 100.0}) out.push_back({1, factor, {}});
    for (const double scale : {0.8, 0.6, 0.4}) out.push_back({scale, 1, {}});
    return out;
  }

  std::vector<int64_t> lines(const std::set<int64_t>& items) const {
    std::vector<int64_t> out;
    for (const int64_t i : items)
      out.push_back(proposal_.update.taught.items[static_cast<size_t>(i)].line);
    return out;
  }

  std::string describe(const Variant& v) const {
    std::string out;
    if (!v.dropped.empty())
      out = accrete::format("left out line {}",
                            accrete::joined(lines({v.dropped.begin(), v.dropped.end()}), ", "));
    if (v.lambda_factor != 1) out = accrete::format("lambda x {:g}", v.lambda_factor);
    if (v.scale != 1) out = accrete::format("rows x {:g}", v.scale);
    return out;
  }

  [[noreturn]] void refuse() const {
    std::string why;
    if (!blamed_.empty()) {
      auto who = lines(blamed_);
      const size_t all = who.size();
      if (who.size() > 8) who.resize(8);
      why = accrete::format(
          "; what it loses is answered by line {}{}", accrete::joined(who, ", "),
          all > who.size() ? accrete::format(" and {} more", all - who.size()) : "");
    }
    throw Error(
        ErrorCode::kRefused,
        accrete::format("probe \"{}\" would keep {:.4f} of its base, its floor is {:.4f}, and no "
                        "smaller change holds it and still teaches enough ({} tried); nothing "
                        "was changed{}",
                        first_broken_.probe, first_broken_.kept, first_broken_.floor, tried_, why),
        "check these lines, teach fewer items at once, raise --lambda, or lower the floor");
  }

  const GuardSetup& setup_;
  const Proposal& proposal_;
  const Reporter& reporter_;
  std::vector<Found> found_;                 // of the last candidate that was checked whole
  std::vector<std::set<int64_t>> suspects_;  // examples that some candidate broke
  std::set<int64_t> blamed_;
  BrokenFloor first_broken_;
  int64_t tried_ = 0;
};

}  // namespace

Guarded guard_floors(const GuardSetup& setup, const Proposal& proposal, const Reporter& reporter) {
  return Search(setup, proposal, reporter).run();
}

RollingCheck::RollingCheck(WatchedProbes& probes, int64_t examples, uint64_t seed)
    : probes_(probes), examples_(static_cast<size_t>(examples)) {
  for (size_t i = 0; i < probes.size(); ++i) {
    Roll roll;
    for (size_t e = 0; e < probes[i]->examples().size(); ++e)
      roll.order.push_back(static_cast<int64_t>(e));
    Rng rng = Rng(seed).split(31 + i);
    rng.shuffle(std::span(roll.order));
    rolls_.push_back(std::move(roll));
  }
}

size_t RollingCheck::examples_of(const WatchedProbe& probe) const {
  if (!probe.probe().record.floor) return 0;
  const size_t most = probe.probe().is_text() ? std::max<size_t>(examples_ / 4, 1) : examples_;
  return std::min(most, probe.examples().size());
}

double RollingCheck::tokens() const {
  double sum = 0;
  for (const auto& probe : probes_) {
    const auto& examples = probe->examples();
    if (examples.empty()) continue;
    double all = 0;
    for (const Example& e : examples) all += static_cast<double>(e.tokens.size());
    // With what is tried, and without.
    sum +=
        2 * all / static_cast<double>(examples.size()) * static_cast<double>(examples_of(*probe));
  }
  return sum;
}

bool RollingCheck::holds(const Overlay& overlay, const Reporter& reporter) {
  for (size_t i = 0; i < probes_.size(); ++i) {
    WatchedProbe& probe = *probes_[i];
    Roll& roll = rolls_[i];
    const size_t examples = examples_of(probe);
    if (examples == 0) continue;
    const bool text = probe.probe().is_text();
    std::set<int64_t> fresh;
    for (size_t k = 0; k < examples; ++k) {
      fresh.insert(roll.order[roll.next]);
      roll.next = (roll.next + 1) % roll.order.size();
    }
    std::set<int64_t> which = fresh;
    which.insert(roll.suspects.begin(), roll.suspects.end());
    const std::vector<int64_t> sample(which.begin(), which.end());
    const auto before = probe.states_now(sample, reporter);
    const auto after = probe.states(overlay, sample, reporter);
    double lost = 0, lost_fresh = 0, size_fresh = 0;
    for (size_t k = 0; k < sample.size(); ++k) {
      const double harm = text ? after[k].nll - before[k].nll
                               : static_cast<double>(before[k].exact) - after[k].exact;
      lost += harm;
      if (fresh.contains(sample[k])) {
        lost_fresh += harm;
        size_fresh += text ? before[k].nll : 1;
      } else if (text) {
        lost -= harm;
      }
      if (!text && harm > 0 && roll.suspects.size() < 4 * examples_)
        roll.suspects.insert(sample[k]);
    }
    // What the whole probe may lose, in its own units, and the fresh sample's part of it and as
    // much again, since a few examples say little.
    const double now = probe.score_now(reporter);
    const double may =
        std::max(0.0, text ? worst_score(probe) - now : now - worst_score(probe)) / probe.unit();
    const double whole = text ? now / probe.unit() : static_cast<double>(roll.order.size());
    const double part = may * size_fresh / std::max(whole, 1e-9);
    if (lost > (text ? 2 * part : may) || lost_fresh > 2 * part + (text ? 0 : 1)) return false;
  }
  return true;
}

}  // namespace accrete
