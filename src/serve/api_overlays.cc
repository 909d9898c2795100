// Overlays: which one a request reaches, and the routes that make, show, export and erase them.
#include <algorithm>

#include "base/format.h"
#include "ledger/overlay_folder.h"
#include "serve/api.h"

namespace accrete::serve {

bool Api::may_reach(const Call& call, const std::string& overlay) const {
  return call.any || overlay == call.bound;
}

std::string Api::asked_overlay(const Call& call, const std::string& model) const {
  const std::string& name = service_->name();
  if (model == name) return call.bound;
  // What a key may not reach is not there for it: nobody learns which names there are.
  if (model.size() > name.size() + 1 && model.starts_with(name + ":"))
    if (std::string overlay = model.substr(name.size() + 1);
        is_overlay_name(overlay) && may_reach(call, overlay))
      return overlay;
  throw RequestError(404, "model_not_found", "model",
                     accrete::format("there is no model \"{}\"", model.substr(0, 100)),
                     accrete::format("GET /v1/models lists what this key may use; \"{}\" is there",
                                     service_->model_name(call.bound)));
}

std::string Api::overlay_of(const Call& call, const std::optional<std::string>& named) const {
  std::optional<std::string> wanted = named;
  if (const std::string* parameter = call.request.parameter("overlay")) {
    if (named && *named != *parameter)
      throw RequestError(400, "invalid_value", "overlay",
                         "overlay: the address and the body name two overlays");
    wanted = *parameter;
  }
  if (!wanted) return call.bound;
  if (wanted->empty())
    throw RequestError(400, "invalid_value", "overlay", "overlay: a name is expected",
                       "leave it out for what the key reaches");
  if (!may_reach(call, *wanted))
    throw RequestError(403, "foreign_overlay", "overlay", "this key may not use that overlay",
                       "leave it out: the key says which overlay is meant");
  return *wanted;
}

std::vector<std::string> Api::reachable(const Call& call) const {
  if (call.any) return service_->overlay_names();
  const auto all = service_->overlay_names();
  if (std::find(all.begin(), all.end(), call.bound) == all.end()) return {};
  return {call.bound};
}

void Api::overlays(Call call) {
  aside(std::move(call), [this](const Call& c) {
    auto data = nlohmann::ordered_json::array();
    for (const std::string& name : reachable(c)) {
      try {
        data.push_back(service_->overlay(name));
      } catch (const Error& error) {  // the others are listed all the same
        data.push_back({{"name", name}, {"object", "overlay"}, {"problem", error.what()}});
      }
    }
    answer(c, 200, {{"object", "list"}, {"data", data}});
  });
}

void Api::overlay(Call call) {
  (void)overlay_of(call, call.id);
  aside(std::move(call), [this](const Call& c) { answer(c, 200, service_->overlay(c.id)); });
}

void Api::create_overlay(Call call) {
  aside(std::move(call), [this](const Call& c) {
    Fields body = Fields::of_body(c.request.body);
    const auto name = body.text("name");
    if (!name || name->empty())
      throw RequestError(400, "missing_field", "name", "name: the overlay's name is expected",
                         "small letters, digits, '_', '.' and '-', a letter or digit first");
    answer(c, 201, noted(c, *name, "create", {}, [&] { return service_->create_overlay(*name); }));
  });
}

void Api::erase_overlay(Call call) {
  aside(std::move(call), [this](const Call& c) {
    jobs_.erase(c.id);  // what is being taught to it is stopped, and forgotten
    answer(c, 200, noted(c, c.id, "erase", {}, [&] {
             auto erased = service_->erase_overlay(c.id);
             if (proposals_) proposals_->erase(c.id);
             return erased;
           }));
  });
}

void Api::export_overlay(Call call) {
  (void)overlay_of(call, call.id);
  aside(std::move(call), [this](const Call& c) {
    HttpResponse response;
    response.type = "application/octet-stream";
    response.body = service_->export_overlay(c.id);
    response.headers = {
        {"Content-Disposition", accrete::format("attachment; filename=\"{}.safetensors\"", c.id)}};
    answer(c, std::move(response));
  });
}

}  // namespace accrete::serve
