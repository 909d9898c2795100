// Corrections said in conversations: noticed, listed, confirmed or dropped.
#include "base/format.h"
#include "serve/api.h"

namespace accrete::serve {

void Api::propose(const Call& call, const Query& query) {
  if (!proposals_) return;
  auto found = service_->correction(query);
  if (!found) return;
  found->key = call.key;
  // Written beside the step loop, and never in the way of an answer.
  const std::lock_guard lock(mutex_);
  constexpr size_t kWaiting = 1000;
  if (stopping_ || aside_.size() >= kWaiting) return;
  aside_.push_back([this, found = std::move(*found)] {
    try {
      proposals_->add(found);
    } catch (const Error&) {
      metrics_.add("accrete_proposals_lost_total", "");
    }
  });
  wake_.notify_all();
}

namespace {

RequestError no_proposals() {
  return {404, "not_found", "", "this server keeps no proposals",
          "whoever runs the server can have it keep them"};
}

}  // namespace

// One of what the key does not reach is not there for it.
Proposal Api::proposal_of(const Call& call) const {
  if (!proposals_) throw no_proposals();
  if (auto found = proposals_->find(call.id); found && may_reach(call, found->overlay))
    return *found;
  throw RequestError(404, "not_found", "id",
                     accrete::format("there is no proposal \"{}\"", call.id),
                     "GET /v1/memory/proposals lists them");
}

void Api::proposals(Call call) {
  if (!proposals_) throw no_proposals();
  std::optional<std::string> overlay = overlay_of(call);
  if (call.any && call.request.parameter("overlay") == nullptr) overlay.reset();  // all
  auto data = nlohmann::ordered_json::array();
  for (const Proposal& p : proposals_->list(overlay)) data.push_back(p.json());
  answer(call, 200, {{"object", "list"}, {"data", std::move(data)}});
}

void Api::proposal(Call call) {
  answer(call, 200, proposal_of(call).json());
}

void Api::decide_proposal(Call call) {
  (void)proposal_of(call);
  const double wait = wait_of(call.request, 0);
  aside(std::move(call), [this, wait](const Call& c) {
    Proposal p = proposal_of(c);
    Fields body = Fields::of_body(c.request.body);
    const std::string action = body.text("action").value_or("");
    if (action != "confirm" && action != "drop")
      throw body.wrong("action", "\"confirm\" or \"drop\" is expected");
    if (p.state != "open")
      throw RequestError(409, "ended", "id", accrete::format("proposal {} is {}", p.id, p.state));
    if (action == "drop") {
      (void)noted(c, p.overlay, "drop", {{"proposal", p.id}}, [&] {
        (void)proposals_->move(p.id, "open", "dropped");
        return nlohmann::ordered_json();
      });
      return answer(c, 200, proposals_->find(p.id).value_or(p).json());
    }
    // Whoever confirms may put it better.
    if (const auto text = body.text("answer")) p.answer = *text;
    if (const auto questions = body.texts("questions", 64)) p.questions = *questions;
    const std::string line = p.line();
    const int64_t items = service_->check_set(line, "proposal.jsonl");
    std::string job;
    start_job(c, JobKind::kTeach, p.overlay, line, items, wait, [&](const std::string& id) {
      job = id;
      (void)proposals_->move(p.id, "open", "teaching", id);
    });
    // A repeated Idempotency-Key names a job of earlier, which may have ended.
    if (const auto now = jobs_.find(job); now && now->ended())
      proposals_->ended(job, now->state == "committed", "");
  });
}

}  // namespace accrete::serve
