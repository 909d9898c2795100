#include "model/answer_pass.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace accrete {
namespace {

// The network's last states [B T, d].
at::Tensor last_states(const LanguageModel& model, const AnswerPass::Input& in, KvCache* cache,
                       const SideOptions& options) {
  const Transformer& net = model.net();
  const FfnSide side = in.side != nullptr ? *in.side : model.side(options);
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

std::vector<int64_t> subjects_of(std::span<const std::vector<int64_t>> heard,
                                 std::set<int64_t> before) {
  for (const auto& at_token : heard) before.insert(at_token.begin(), at_token.end());
  return {before.begin(), before.end()};
}

at::Tensor scope_states(const LanguageModel& model, const at::Tensor& h) {
  const Transformer& net = model.net();
  return model.memory().scope.states(rms_norm(h, net.final_norm(), net.config().norm_eps));
}

at::Tensor within_scope(const LanguageModel& model, const Overlay& overlay, const at::Tensor& h,
                        std::span<const int64_t> place, const at::Tensor& other,
                        std::span<const std::vector<int64_t>> subjects) {
  const auto in_scope =
      overlay.in_scope(scope_states(model, other), subjects, model.memory().scope.radius);
  std::vector<int64_t> out, from;
  for (size_t i = 0; i < place.size(); ++i)
    if (!in_scope[i]) {
      out.push_back(place[i]);
      from.push_back(static_cast<int64_t>(i));
    }
  if (out.empty()) return h;
  return h.index_copy(0, at::tensor(out, at::kLong).to(h.device()),
                      other.index_select(0, at::tensor(from, at::kLong).to(h.device())));
}

at::Tensor AnswerPass::run(const Input& in, const at::Tensor& wanted) {
  const Transformer& net = model_.net();
  const int64_t B = in.ids.size(0), T = in.ids.size(1);
  const auto at_wanted = wanted.to(net.device());
  const bool scoped = model_.has_memory() && model_.memory().overlay.scoped();
  if (!scoped)
    return last_states(model_, in, cached_ ? &with_ : nullptr, {in.mask, false, nullptr})
        .index_select(0, at_wanted);

  const int64_t before = with_.length;
  std::vector<std::vector<int64_t>> heard;
  const auto h = last_states(model_, in, cached_ ? &with_ : nullptr, {in.mask, false, &heard})
                     .index_select(0, at_wanted);
  if (!cached_) subjects_.clear();
  subjects_.resize(static_cast<size_t>(B));

  const auto of_tokens = [&heard](int64_t from, int64_t to) {
    return std::span(heard).subspan(static_cast<size_t>(from), static_cast<size_t>(to - from));
  };
  // Of each wanted token the subjects that were heard up to it.
  const auto flat = wanted.to(at::kCPU).contiguous();
  const int64_t L = flat.size(0);
  std::vector<std::vector<int64_t>> asked(static_cast<size_t>(L));
  for (int64_t l = 0; l < L; ++l) {
    const int64_t at = flat.const_data_ptr<int64_t>()[l], row = at / T;
    asked[static_cast<size_t>(l)] =
        subjects_of(of_tokens(row * T, at + 1), subjects_[static_cast<size_t>(row)]);
  }
  std::vector<int64_t> rows;  // with something scoped in them
  for (int64_t b = 0; b < B; ++b) {
    auto& all = subjects_[static_cast<size_t>(b)];
    for (const auto& at_token : of_tokens(b * T, (b + 1) * T))
      all.insert(at_token.begin(), at_token.end());
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
               rows_of(in.key_mask, some), nullptr};
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
  return within_scope(model_, model_.memory().overlay, h, place, other, subjects);
}

void AnswerPass::repeat(int64_t rows) {
  with_ = with_.repeated(rows);
  if (without_) without_ = without_->repeated(rows);
  if (!subjects_.empty())
    subjects_.assign(static_cast<size_t>(rows), std::set<int64_t>(subjects_.front()));
}

}  // namespace accrete
