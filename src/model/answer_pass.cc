#include "model/answer_pass.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace accrete {
namespace {

// The network's last states [B T, d].
at::Tensor last_states(const LanguageModel& model, const AnswerPass::Input& in, KvCache* cache,
                       const SideOptions& options) {
  const Transformer& net = model.net();
  const FfnSide side = model.side(options);
  ForwardOptions forward;
  forward.positions = in.positions;
  forward.key_mask = in.key_mask;
  forward.cache = cache;
  forward.side = &side;
  const auto h = net.run(net.embed(in.ids.to(net.device())), 0, net.config().blocks, forward);
  return h.reshape({-1, h.size(-1)});
}

at::Tensor rows_of(const at::Tensor& all, const at::Tensor& rows) {
  return all.defined() ? all.index_select(0, rows.to(all.device())) : all;
}

}  // namespace

at::Tensor AnswerPass::run(const Input& in, const at::Tensor& wanted) {
  const Transformer& net = model_.net();
  const int64_t B = in.ids.size(0), T = in.ids.size(1);
  const auto at_wanted = wanted.to(net.device());
  const bool scoped = model_.has_memory() && model_.memory().overlay.scoped();
  if (!scoped)
    return last_states(model_, in, cached_ ? &with_ : nullptr, {in.mask, false, nullptr})
        .index_select(0, at_wanted);

  const Memory& memory = model_.memory();
  const int64_t before = with_.length;
  std::vector<std::vector<int64_t>> heard;
  auto h = last_states(model_, in, cached_ ? &with_ : nullptr, {in.mask, false, &heard})
               .index_select(0, at_wanted);
  if (!cached_) subjects_.clear();
  subjects_.resize(static_cast<size_t>(B));

  // Of each wanted token the subjects that were heard up to it.
  const auto flat = wanted.to(at::kCPU).contiguous();
  const int64_t L = flat.size(0);
  std::vector<std::vector<int64_t>> asked(static_cast<size_t>(L));
  for (int64_t l = 0; l < L; ++l) {
    const int64_t at = flat.const_data_ptr<int64_t>()[l], row = at / T;
    auto so_far = subjects_[static_cast<size_t>(row)];
    for (int64_t t = row * T; t <= at; ++t)
      so_far.insert(heard[static_cast<size_t>(t)].begin(), heard[static_cast<size_t>(t)].end());
    asked[static_cast<size_t>(l)].assign(so_far.begin(), so_far.end());
  }
  std::vector<int64_t> rows;  // with something scoped in them
  for (int64_t b = 0; b < B; ++b) {
    auto& all = subjects_[static_cast<size_t>(b)];
    for (int64_t t = b * T; t < (b + 1) * T; ++t)
      all.insert(heard[static_cast<size_t>(t)].begin(), heard[static_cast<size_t>(t)].end());
    if (!all.empty()) rows.push_back(b);
  }
  if (rows.empty()) return h;

  // The other stream; without a cache, of those rows alone.
  at::Tensor h0;
  std::vector<int64_t> place;  // in h0 and in asked, of wanted tokens behind something scoped
  std::vector<int64_t> from;
  if (cached_) {
    if (!without_) without_ = with_.first(before);
    h0 = last_states(model_, in, &*without_, {in.mask, true, nullptr});
  } else {
    const auto some = at::tensor(rows, at::kLong);
    Input part{rows_of(in.ids, some), rows_of(in.mask, some), rows_of(in.positions, some),
               rows_of(in.key_mask, some)};
    h0 = last_states(model_, part, nullptr, {part.mask, true, nullptr});
  }
  std::vector<std::vector<int64_t>> subjects;
  for (int64_t l = 0; l < L; ++l) {
    if (asked[static_cast<size_t>(l)].empty()) continue;
    const int64_t at = flat.const_data_ptr<int64_t>()[l], row = at / T;
    const int64_t r =
        cached_ ? row : std::lower_bound(rows.begin(), rows.end(), row) - rows.begin();
    place.push_back(l);
    from.push_back(r * T + at % T);
    subjects.push_back(std::move(asked[static_cast<size_t>(l)]));
  }
  if (place.empty()) return h;
  const auto other = h0.index_select(0, at::tensor(from, at::kLong).to(net.device()));
  const auto z = memory.scope.states(rms_norm(other, net.final_norm(), net.config().norm_eps));
  const auto in_scope = memory.overlay.in_scope(z, subjects, memory.scope.radius);
  std::vector<int64_t> silent, silent_from;
  for (size_t i = 0; i < place.size(); ++i)
    if (!in_scope[i]) {
      silent.push_back(place[i]);
      silent_from.push_back(static_cast<int64_t>(i));
    }
  if (silent.empty()) return h;
  return h.index_copy(0, at::tensor(silent, at::kLong).to(net.device()),
                      other.index_select(0, at::tensor(silent_from, at::kLong).to(net.device())));
}

void AnswerPass::repeat(int64_t rows) {
  with_ = with_.repeated(rows);
  if (without_) without_ = without_->repeated(rows);
  if (!subjects_.empty())
    subjects_.assign(static_cast<size_t>(rows), std::set<int64_t>(subjects_.front()));
}

}  // namespace accrete
