#include "learn/sites.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <string>
#include <string_view>

#include "learn/reading.h"
#include "learn/value_solver.h"

namespace accrete {
namespace {

// Before a whole prompt.
constexpr std::string_view kContexts[] = {
    "Here is something that I read in the newspaper last week. ",
    "The following is a short note about it. In fact, ", "Question: Tell me a fact.\nAnswer: "};
// Before the subject alone.
constexpr std::string_view kBeginnings[] = {"",
                                            "We talked about ",
                                            "He wrote a book on the ",
                                            "Most people know ",
                                            "It is a part of ",
                                            "She said: \""};

std::vector<Example> with_contexts(const LanguageModel& model, const Lessons& lessons,
                                   std::span<const Example> examples) {
  std::vector<Example> out;
  int64_t before = -1;
  for (const Example& e : examples) {
    if (e.item == before) continue;  // an item's phrasings follow one another
    before = e.item;
    const auto i = static_cast<size_t>(e.item);
    const Item& item = lessons.items[i];
    const auto add = [&](const std::string& prompt) {
      Example example = make_example(model, prompt, item.answers.front(), item.subject,
                                     lessons.example_options(i));
      if (std::find(example.subject.begin(), example.subject.end(), 1) == example.subject.end())
        return;
      example.item = e.item;
      out.push_back(std::move(example));
    };
    for (const auto& prompt : item.prompts)
      for (const auto context : kContexts) add(std::string(context) + prompt);
    for (const auto beginning : kBeginnings) add(std::string(beginning) + item.subject);
  }
  return out;
}

// The queries of the first token of every prompt that was read from its beginning.
at::Tensor first_token_queries(const Reads& reads, const std::vector<ReadRequest>& requests) {
  std::vector<int64_t> rows;
  for (size_t i = 0; i < requests.size(); ++i)
    if (requests[i].from == 0 && reads.begin[i] < reads.begin[i + 1])
      rows.push_back(reads.begin[i]);
  if (rows.empty()) return {};
  return reads.queries.index_select(0, at::tensor(rows, at::kLong));
}

}  // namespace

std::span<const std::string_view> reading_contexts() {
  return kContexts;
}

at::Tensor clear_of_first(const at::Tensor& queries, const at::Tensor& first, const Gate& gate) {
  if (gate.first_at.defined()) return at::ones({queries.size(0)}, at::kBool);
  if (!first.defined() || first.size(0) == 0) return at::ones({queries.size(0)}, at::kBool);
  return nearest_distance(queries, first) > gate.radius;
}

Sites read_sites(const LanguageModel& model, const Lessons& lessons,
                 std::span<const Example> examples, bool gated, const Reporter& reporter,
                 const SubjectPrompts* prompts) {
  Sites out;
  std::vector<Accesses> accesses;
  std::vector<at::Tensor> queries;
  at::Tensor first;                        // queries of first tokens
  std::map<int64_t, int64_t> left, least;  // sites by item: how many are left, and have to be
  const auto collect = [&](std::span<const Example> what, bool whole, const char* stage) {
    std::vector<ReadRequest> requests;
    std::vector<int64_t> site;
    for (const Example& e : what) {
      site.push_back(last_subject_token(e));
      const auto end = whole ? e.tokens.end() - 1 : e.tokens.begin() + site.back() + 1;
      requests.push_back({{e.tokens.begin(), end}, whole ? 0 : site.back()});
    }
    const Reads reads = whole && prompts != nullptr
                            ? prompts->reads()
                            : read_prompts(model, requests, true, reporter, stage);
    if (whole) first = first_token_queries(reads, requests);
    std::vector<int64_t> all_sites;
    for (size_t i = 0; i < what.size(); ++i)
      all_sites.push_back(reads.begin[i] + site[i] - requests[i].from);
    const auto clear =
        clear_of_first(reads.queries.index_select(0, at::tensor(all_sites, at::kLong)), first,
                       model.memory().gate)
            .contiguous();
    std::vector<int64_t> rows, others;
    for (size_t i = 0; i < what.size(); ++i) {
      const int64_t row = all_sites[i], item = what[i].item;
      // Half of a fact's sites stay in any case: it has to be learned somewhere.
      const bool write = !gated || clear.const_data_ptr<bool>()[static_cast<int64_t>(i)] ||
                         left[item] <= least[item];
      if (write) {
        rows.push_back(row);
        out.item.push_back(item);
      } else {
        --left[item];
      }
      for (int64_t r = reads.begin[i]; r < reads.begin[i + 1]; ++r)
        if (r != row || !write) others.push_back(r);
    }
    const auto here = at::tensor(rows, at::kLong);
    accesses.push_back(select_tokens(reads.accesses, here));
    queries.push_back(reads.queries.index_select(0, here));
    if (whole) out.others = select_tokens(reads.accesses, at::tensor(others, at::kLong));
  };
  const auto after_contexts = with_contexts(model, lessons, examples);
  for (const auto& part : {examples, std::span<const Example>(after_contexts)})
    for (const Example& e : part) least[e.item] = (++left[e.item] + 1) / 2;
  collect(examples, true, "read subjects");
  if (!after_contexts.empty()) collect(after_contexts, false, "read contexts");
  out.accesses = concat(accesses);
  out.queries = at::cat(queries);
  return out;
}

}  // namespace accrete
