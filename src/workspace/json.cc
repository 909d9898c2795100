#include "workspace/json.h"

#include <nlohmann/json.hpp>

namespace accrete {
namespace {

using Json = nlohmann::ordered_json;

Json or_null(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json change(const api::Change& c) {
  return {{"before", c.before}, {"after", c.after}};
}

Json forecast(const api::Forecast& f) {
  return {{"predicted", f.predicted},
          {"low", f.low},
          {"high", f.high},
          {"now", f.now},
          {"first_order", f.first_order},
          {"second_order", f.second_order},
          {"examples", f.examples},
          {"touched", f.touched},
          {"tried", f.tried}};
}

Json candidate(const api::FactExplanation::Candidate& c) {
  Json json = {{"update", c.update},
               {"source", c.source},
               {"line", c.line},
               {"wording", c.wording},
               {"subject", c.subject},
               {"probability", c.probability},
               {"masked_cosine", c.masked_cosine},
               {"whole_cosine", c.whole_cosine},
               {"contrast", c.contrast}};
  if (c.cross) json["cross_encoder"] = *c.cross;
  if (!c.overlay.empty()) json["overlay"] = c.overlay;
  if (!c.leave) json["answer"] = c.answer;
  return json;
}

Json source(const api::PassageSource& s) {
  Json json = {{"source", s.source}, {"section", s.section},         {"quote", s.quote},
               {"update", s.update}, {"probability", s.probability}, {"covered", s.covered},
               {"cosine", s.cosine}};
  if (s.read) json["read_together"] = *s.read;
  if (s.line > 0) json["line"] = s.line;
  if (!s.overlay.empty()) json["overlay"] = s.overlay;
  return json;
}

Json documents(const api::Documents& d) {
  return {{"taught", d.taught},
          {"replaced", d.replaced},
          {"unchanged", d.unchanged},
          {"passages", d.passages}};
}
bool any(const api::Documents& d) {
  return d.taught > 0 || d.unchanged > 0;
}

Json overlaps(const std::vector<api::Overlap>& all) {
  Json json = Json::array();
  for (const api::Overlap& o : all)
    json.push_back({{"update", o.update},
                    {"tag", o.tag},
                    {"source", o.source},
                    {"shared", o.shared},
                    {"share", o.share},
                    {"cosine", o.cosine}});
  return json;
}

Json conflicts(const std::vector<api::Conflict>& all) {
  Json json = Json::array();
  for (const api::Conflict& c : all) {
    json.push_back({{"question", c.question},
                    {"answer", c.answer},
                    {"line", c.line},
                    {"update", c.update},
                    {"update_line", c.update_line},
                    {"update_answer", c.update_answer},
                    {"update_source", c.update_source}});
    if (!c.taken.empty()) json.back()["taken"] = c.taken;
  }
  return json;
}

Json lines(const std::vector<api::DiffReport::Line>& all) {
  Json json = Json::array();
  for (const auto& l : all) {
    Json one = {{"question", l.question}};
    if (!l.a.empty()) one["a"] = l.a;
    if (!l.b.empty()) one["b"] = l.b;
    json.push_back(one);
  }
  return json;
}

Json of_vectors(const api::AuditReport::Vectors& v, const std::vector<std::string>& anomalies) {
  Json json = {{"outputs", v.outputs},  {"columns", v.columns}, {"used", v.used},
               {"rows", v.rows},        {"bytes", v.bytes},     {"updates", Json::array()},
               {"anomalies", anomalies}};
  for (const auto& u : v.updates)
    json["updates"].push_back({{"id", u.id},
                               {"tag", u.tag},
                               {"source", u.source},
                               {"task", u.task},
                               {"rows", u.rows},
                               {"outputs", u.outputs},
                               {"sums", u.sums},
                               {"bytes", u.bytes}});
  return json;
}

}  // namespace

Json to_json(const api::RetrofitReport& r) {
  if (r.columns > 0)
    return {
        {"model", r.model}, {"columns", r.columns}, {"winners", r.winners}, {"seconds", r.seconds}};
  return {{"model", r.model},
          {"block", r.block},
          {"tell", r.tell},
          {"reader", r.reader},
          {"seconds", r.seconds}};
}

Json to_json(const api::UpgradeReport& r) {
  Json updates = Json::array(), left = Json::array();
  for (const auto& u : r.updates)
    updates.push_back({{"old", u.old}, {"update", u.id}, {"source", u.source}, {"facts", u.facts}});
  for (const auto& l : r.left)
    left.push_back({{"update", l.update},
                    {"source", l.source},
                    {"line", l.line},
                    {"what", l.what},
                    {"why", l.why}});
  return {{"model", r.model}, {"updates", updates}, {"left", left}, {"probes", r.probes}};
}

Json to_json(const api::Info& i) {
  Json json = {{"base", i.base}, {"memory", i.kind}};
  if (i.kind == "questions") {
    json["reader"] = i.reader;
    json["tell"] = i.tell;
    json["block"] = i.block;
    json["caution"] = i.caution;
    json["facts"] = i.facts;
    json["wordings"] = i.wordings;
    json["documents"] = i.documents;
    json["passages"] = i.passages;
  }
  if (i.kind == "winners") json["outputs"] = i.outputs;
  json["state"] = i.state;
  json["updates"] = i.updates;
  json["chat"] = i.chat;
  if (!i.overlay.empty()) {
    json["overlay"] = i.overlay;
    json["shared_facts"] = i.shared_facts;
  }
  return json;
}

Json to_json(const api::Explanation& e) {
  if (e.fact) {
    Json json = {{"accepted", e.fact->accepted}};
    if (e.fact->nearest) {
      json[e.fact->accepted ? "fact" : "nearest"] = candidate(*e.fact->nearest);
      json["read"] = e.fact->read;
      json["needed"] = e.fact->needed;
    }
    for (const auto& other : e.fact->also) json["also"].push_back(candidate(other));
    if (e.fact->left) json["left"] = true;
    if (e.fact->only_told) json["only_told"] = true;
    if (e.fact->about > 0) json["facts_beside"] = e.fact->about;
    if (e.fact->runner_up) json["runner_up"] = candidate(*e.fact->runner_up);
    if (e.nearest_passage) json["nearest_passage"] = source(*e.nearest_passage);
    return json;
  }
  Json updates = Json::array();
  if (!e.rows) return updates;
  for (const auto& u : e.rows->updates) {
    Json lines = Json::array();
    for (const auto& line : u.lines)
      lines.push_back({{"line", line.line},
                       {"question", line.question},
                       {"answer", line.answer},
                       {"similarity", line.similarity}});
    updates.push_back({{"id", u.update},
                       {"tag", u.tag},
                       {"source", u.source},
                       {"effect", u.effect},
                       {"lines", lines}});
  }
  return {{"log_probability", e.rows->log_probability},
          {"base_log_probability", e.rows->base_log_probability},
          {"updates", updates}};
}

Json to_json(const api::Answer& a) {
  Json json = {{"text", a.text}, {"tokens", a.tokens}, {"finish_reason", a.finish_reason}};
  if (a.has_facts) {
    json["fact"] = a.fact;
    json["passage"] = !a.sources.empty();
  }
  for (const api::PassageSource& s : a.sources) json["sources"].push_back(source(s));
  if (a.explanation) json["explain"] = to_json(*a.explanation);
  return json;
}

Json to_json(const api::EvalReport& r) {
  Json json = {{"items", r.items}};
  if (r.bits_per_byte) json["bits_per_byte"] = *r.bits_per_byte;
  if (r.accuracy) json["accuracy"] = *r.accuracy;
  if (!r.shares) return json;
  json["exact"] = r.shares->exact;
  json["f1"] = r.shares->f1;
  json["begins"] = r.shares->begins;
  if (r.shares->by_facts) json["by_facts"] = *r.shares->by_facts;
  if (r.shares->by_documents) json["by_documents"] = *r.shares->by_documents;
  return json;
}

Json to_json(const api::EvalReport::Question& q) {
  if (!q.logprobs.empty())
    return {{"prompt", q.prompt},
            {"answer", q.answer},
            {"output", q.output},
            {"exact", q.exact},
            {"logprobs", q.logprobs}};
  return {{"prompt", q.prompt}, {"answer", q.answer}, {"output", q.output},
          {"exact", q.exact},   {"f1", q.f1},         {"begins", q.begins}};
}

Json to_json(const api::TeachReport& r) {
  Json json = {{"update", r.update}, {"items", r.items}, {"learned", change(r.learned)}};
  if (!r.metric.empty()) json["metric"] = r.metric;
  if (r.asked) json["asked"] = change(*r.asked);
  json["kept"] = Json::object();
  for (const auto& [name, k] : r.kept)
    json["kept"][name] = {
        {"before", k.before}, {"after", k.after}, {"kept", k.kept}, {"floor", or_null(k.floor)}};
  json["conflicts"] = conflicts(r.conflicts);
  json["companions"] = r.companions;
  json["forecast"] = Json::object();
  for (const auto& [name, f] : r.forecast) json["forecast"][name] = forecast(f);
  json["overlaps"] = overlaps(r.overlaps);
  json["change"] = r.change;
  json["dropped"] = r.dropped;
  json["remarks"] = r.remarks;
  if (!r.subjects.empty()) json["subjects"] = r.subjects;
  if (r.left > 0) json["left"] = r.left;
  if (any(r.documents)) json["documents"] = documents(r.documents);
  json["check_share"] = r.check_share;
  json["rows"] = r.rows;
  json["parameters"] = r.parameters;
  json["teach_tokens"] = r.teach_tokens;
  json["seconds"] = r.seconds;
  json["measuring_seconds"] = r.measuring_seconds;
  json["peak_bytes"] = r.peak_bytes;
  return json;
}

Json to_json(const api::PlanReport& r) {
  Json json = {{"items", r.items}, {"forecast", Json::object()}};
  for (const auto& [name, probe] : r.probes) {
    json["forecast"][name] = forecast(probe.forecast);
    json["forecast"][name]["floor"] = or_null(probe.floor);
    json["forecast"][name]["holds"] = probe.holds;
  }
  json["rows"] = r.rows;
  json["parameters"] = r.parameters;
  json["overlaps"] = overlaps(r.overlaps);
  json["conflicts"] = conflicts(r.conflicts);
  json["companions"] = r.companions;
  json["remarks"] = r.remarks;
  if (!r.subjects.empty()) json["subjects"] = r.subjects;
  if (any(r.documents)) json["documents"] = documents(r.documents);
  json["seconds"] = r.seconds;
  return json;
}

Json to_json(const api::UpdateInfo& u) {
  return {{"id", u.id},
          {"order", u.order},
          {"time", u.time},
          {"items", u.items},
          {"active", u.active},
          {"source", u.source},
          {"digest", u.digest},
          {"parent", u.parent},
          {"seed", u.seed},
          {"method", u.method},
          {"rows", u.rows},
          {"tag", u.tag},
          {"tool_version", u.tool_version},
          {"measurements", Json::parse(u.measurements)}};
}

Json to_json(const std::vector<api::UpdateInfo>& log) {
  Json updates = Json::array();
  for (const api::UpdateInfo& update : log) updates.push_back(to_json(update));
  return {{"updates", updates}};
}

Json to_json(const api::UpdateDetails& u) {
  Json json = to_json(u.update);
  json["taught"] = Json::array();
  for (const auto& lesson : u.taught) {
    Json entry = {{"line", lesson.line}};
    if (!lesson.prompts.empty()) {
      entry["prompts"] = lesson.prompts;
      entry["answers"] = lesson.answers;
    }
    if (!lesson.subject.empty()) entry["subject"] = lesson.subject;
    if (!lesson.excerpt.empty()) entry["excerpt"] = lesson.excerpt;
    if (lesson.verbatim) entry["verbatim"] = true;
    if (lesson.leave) entry["leave"] = true;
    if (!lesson.document.empty()) entry["document"] = lesson.document;
    if (!lesson.section.empty()) entry["section"] = lesson.section;
    if (lesson.forgotten > 0) entry["forgotten"] = lesson.forgotten;
    json["taught"].push_back(entry);
  }
  return json;
}

Json to_json(const api::ActiveReport& r) {
  return {{r.done, r.ids}, {"active", r.active}};
}

Json to_json(const api::TagReport& r) {
  return {{"id", r.id}, {"tag", r.tag}};
}

Json to_json(const api::Digest& d) {
  return {{"base", d.base}, {"state", d.state}};
}

Json to_json(const api::DiffReport& r) {
  Json json = {{"a", r.a}, {"b", r.b}};
  if (r.facts) {
    json["facts"] = {r.facts->a, r.facts->b};
    json["shared"] = r.facts->shared;
    json["changed"] = lines(r.facts->changed);
    json["only_a"] = lines(r.facts->only_a);
    json["only_b"] = lines(r.facts->only_b);
  }
  if (!r.rows) return json;
  Json blocks = Json::array();
  for (const auto& x : r.rows->blocks)
    blocks.push_back({{"block", x.block},
                      {"rows", {x.rows_a, x.rows_b}},
                      {"shared", x.shared},
                      {"norm", {x.norm_a, x.norm_b}},
                      {"norm_difference", x.norm_difference}});
  const auto& all = r.rows->all;
  json["rows"] = {all.rows_a, all.rows_b};
  json["shared"] = all.shared;
  json["norm"] = {all.norm_a, all.norm_b};
  json["norm_difference"] = all.norm_difference;
  json["cosine"] = r.rows->cosine;
  json["anchors"] = {r.rows->anchors_a, r.rows->anchors_b};
  json["anchors_near"] = r.rows->anchors_near;
  json["blocks"] = blocks;
  return json;
}

Json to_json(const api::AuditReport& r) {
  if (r.vectors) return of_vectors(*r.vectors, r.anomalies);
  if (r.facts) {
    Json json = {{"facts", r.facts->facts},
                 {"wordings", r.facts->wordings},
                 {"documents", Json::array()},
                 {"passages", r.facts->passages},
                 {"left_to_the_model", r.facts->left},
                 {"bytes", r.facts->bytes},
                 {"updates", Json::array()},
                 {"subjects", Json::array()},
                 {"anomalies", r.anomalies}};
    for (const auto& d : r.facts->documents)
      json["documents"].push_back(
          {{"source", d.source}, {"passages", d.passages}, {"update", d.update}});
    for (const auto& u : r.facts->updates)
      json["updates"].push_back({{"id", u.id},
                                 {"tag", u.tag},
                                 {"source", u.source},
                                 {"facts", u.facts},
                                 {"taught", u.taught},
                                 {"wordings", u.wordings},
                                 {"bytes", u.bytes}});
    for (const auto& s : r.facts->subjects)
      json["subjects"].push_back({{"subject", s.subject}, {"facts", s.facts}});
    return json;
  }
  Json json = {{"updates", Json::array()},
               {"blocks", Json::array()},
               {"overlaps", Json::array()},
               {"contested", Json::array()},
               {"anomalies", r.anomalies}};
  if (!r.rows) return json;
  for (const auto& u : r.rows->updates)
    json["updates"].push_back({{"id", u.id},
                               {"tag", u.tag},
                               {"source", u.source},
                               {"items", u.items},
                               {"rows", u.rows},
                               {"exclusive", u.exclusive},
                               {"anchors", u.anchors},
                               {"norm", u.norm},
                               {"largest_row", u.largest_row}});
  for (const auto& b : r.rows->blocks)
    json["blocks"].push_back({{"block", b.block},
                              {"used", b.used},
                              {"slots", b.slots},
                              {"left", b.slots - b.used},
                              {"norm", b.norm},
                              {"largest_row", b.largest_row}});
  for (const auto& s : r.rows->overlaps)
    json["overlaps"].push_back(
        {{"a", s.a}, {"b", s.b}, {"shared", s.shared}, {"cosine", s.cosine}});
  for (const auto& c : r.rows->contested)
    json["contested"].push_back({{"block", c.block},
                                 {"slot", c.slot},
                                 {"updates", c.updates},
                                 {"norm", c.norm},
                                 {"sum_of_norms", c.sum_of_norms}});
  return json;
}

Json to_json(const api::CompactReport& r) {
  return {{"updates", r.updates},
          {"folded", r.folded},
          {"digest", {{"before", r.digest_before}, {"after", r.digest_after}}},
          {"identical", r.digest_before == r.digest_after},
          {"rows", {{"before", r.rows_before}, {"after", r.rows_after}}},
          {"bytes", {{"before", r.bytes_before}, {"after", r.bytes_after}}},
          {"erased", {{"updates", r.erased}, {"bytes", r.erased_bytes}}}};
}

Json to_json(const api::MadeReport& r) {
  return {{"passages", r.passages}, {"before", r.before}, {"asked", r.asked}, {"kept", r.kept}};
}

Json to_json(const api::ForgetReport& r) {
  return {{"update", r.update}, {"documents", r.documents}, {"passages", r.passages}};
}

Json to_json(const api::ExportReport& r) {
  return {{"folder", r.folder}, {"updates", r.updates}, {"files", r.files}};
}

Json to_json(const api::OverlayInfo& o) {
  Json json = {{"name", o.name},   {"created", o.created},   {"updates", o.updates},
               {"facts", o.facts}, {"passages", o.passages}, {"bytes", o.bytes}};
  if (!o.problem.empty()) json["problem"] = o.problem;
  return json;
}

Json to_json(const std::vector<api::OverlayInfo>& overlays) {
  Json all = Json::array();
  for (const api::OverlayInfo& overlay : overlays) all.push_back(to_json(overlay));
  return {{"overlays", all}};
}

Json to_json(const api::ErasedOverlay& r) {
  return {{"erased", r.name}, {"files", r.files}, {"bytes", r.bytes}};
}

Json to_json(const api::FactsFile& r) {
  return {{"file", r.file}, {"id", r.id}, {"facts", r.facts}, {"bytes", r.bytes}};
}

Json to_json(const api::MergeReport& r) {
  Json clashes = Json::array();
  for (const auto& c : r.clashes)
    clashes.push_back({{"question", c.question},
                       {"answer", c.answer},
                       {"file", c.file},
                       {"own_answer", c.own_answer},
                       {"update", c.update}});
  return {{"update", r.update.empty() ? Json() : Json(r.update)},
          {"files", r.files},
          {"facts", r.facts},
          {"taken", r.taken},
          {"there", r.there},
          {"kept", r.kept},
          {"replaced", r.replaced},
          {"conflicts", clashes}};
}

Json to_json(const api::ProbeInfo& p) {
  return {{"name", p.name}, {"items", p.items}, {"base", p.base}};
}

Json to_json(const std::vector<api::ProbeInfo>& probes) {
  Json json = Json::array();
  for (const auto& p : probes) {
    json.push_back(to_json(p));
    json.back()["floor"] = or_null(p.floor);
  }
  return {{"probes", json}};
}

Json to_json(const api::DiscoverReport& r) {
  return {{"name", r.name}, {"asked", r.asked}, {"kept", r.kept}};
}

Json to_json(const api::CheckReport& r) {
  Json json = Json::object();
  for (const auto& p : r.probes)
    json[p.name] = {{"base", p.base},
                    {"now", p.now},
                    {"kept", p.kept},
                    {"floor", or_null(p.floor)},
                    {"holds", p.holds}};
  return {{"probes", json}};
}

}  // namespace accrete
