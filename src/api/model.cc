// The public interface is the workspace's face.
#include "accrete/model.h"

#include "api/facade.h"
#include "io/documents.h"
#include "model/language_model.h"
#include "workspace/overlays.h"
#include "workspace/workspace.h"

namespace accrete::api {
namespace {

std::optional<Dataset> read_if_given(const std::filesystem::path& file) {
  if (file.empty()) return std::nullopt;
  return read_dataset(file);
}

}  // namespace

struct Model::Impl {
  Workspace workspace;

  Answer ask(const Request& request, const AskOptions& options,
             const std::function<void(std::string_view)>& stream,
             const Callbacks& callbacks) const {
    Workspace::Stream pieces;
    if (stream) pieces = [&stream](size_t, std::string_view text) { stream(text); };
    return workspace.ask(request, options, pieces, reporter_of(callbacks));
  }
};

Model::Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;
Model::~Model() = default;

Model Model::open(const std::filesystem::path& folder, const OpenOptions& options) {
  return with_errors([&] {
    auto impl = std::unique_ptr<Impl>(new Impl{Workspace::open(folder, options)});
    (void)impl->workspace.now();  // opened here and not at its first use
    return Model(std::move(impl));
  });
}

const std::filesystem::path& Model::folder() const {
  return impl_->workspace.folder();
}

Info Model::info() const {
  return with_errors([&] { return impl_->workspace.info(); });
}

Answer Model::ask(const std::string& prompt, const AskOptions& options,
                  const std::function<void(std::string_view)>& stream,
                  const Callbacks& callbacks) const {
  return with_errors([&] { return impl_->ask({prompt, {}}, options, stream, callbacks); });
}

Answer Model::ask(const std::vector<Message>& messages, const AskOptions& options,
                  const std::function<void(std::string_view)>& stream,
                  const Callbacks& callbacks) const {
  return with_errors([&] {
    impl_->workspace.require_chat();
    return impl_->ask({{}, messages}, options, stream, callbacks);
  });
}

Explanation Model::explain(const std::string& prompt, const std::string& answer,
                           const AskOptions& options) const {
  return with_errors([&] { return impl_->workspace.explain({prompt, {}}, answer, options); });
}

EvalReport Model::eval(const std::filesystem::path& file, const EvalOptions& options,
                       const Callbacks& callbacks) const {
  return with_errors([&] {
    return impl_->workspace.eval_file(file, options, std::nullopt, reporter_of(callbacks));
  });
}

TeachReport Model::teach(const std::filesystem::path& file, const TeachOptions& options,
                         const Callbacks& callbacks) {
  return with_errors([&] {
    return impl_->workspace.teach(read_teach_sets({&file, 1}), options, reporter_of(callbacks));
  });
}

MadeReport Model::make_questions(const std::filesystem::path& documents,
                                 const std::filesystem::path& file, const Callbacks& callbacks) {
  return with_errors([&] {
    return impl_->workspace.make_questions(read_teach_sets({&documents, 1}), file,
                                           reporter_of(callbacks));
  });
}

ForgetReport Model::forget(const std::string& source) {
  return with_errors([&] { return impl_->workspace.forget(source); });
}

TeachReport Model::teach(const std::vector<Item>& items, const TeachOptions& options,
                         const Callbacks& callbacks) {
  return with_errors(
      [&] { return impl_->workspace.teach(dataset_of(items), options, reporter_of(callbacks)); });
}

PlanReport Model::plan(const std::filesystem::path& file, const TeachOptions& options,
                       const Callbacks& callbacks) const {
  return with_errors(
      [&] { return impl_->workspace.plan(read_dataset(file), options, reporter_of(callbacks)); });
}

PlanReport Model::plan(const std::vector<Item>& items, const TeachOptions& options,
                       const Callbacks& callbacks) const {
  return with_errors(
      [&] { return impl_->workspace.plan(dataset_of(items), options, reporter_of(callbacks)); });
}

std::vector<std::string> Model::undo(int64_t n) {
  return with_errors([&] { return impl_->workspace.undo(n).ids; });
}

std::vector<std::string> Model::redo(int64_t n) {
  return with_errors([&] { return impl_->workspace.redo(n).ids; });
}

std::string Model::revert(const std::string& update, bool again) {
  return with_errors([&] { return impl_->workspace.revert(update, again).ids.front(); });
}

void Model::tag(const std::string& update, const std::string& name) {
  with_errors([&] { impl_->workspace.history().tag(update, name); });
}

std::vector<UpdateInfo> Model::log() const {
  return with_errors([&] {
    const auto now = impl_->workspace.now();
    if (!now->has_memory() && !now->has_facts()) return std::vector<UpdateInfo>();
    return impl_->workspace.history().log();
  });
}

UpdateDetails Model::show(const std::string& update) const {
  return with_errors([&] { return impl_->workspace.history().show(update); });
}

DiffReport Model::diff(const std::string& a, const std::string& b) const {
  return with_errors([&] { return impl_->workspace.diff(a, b); });
}

AuditReport Model::audit(size_t most) const {
  return with_errors([&] { return impl_->workspace.audit(most); });
}

CompactReport Model::compact(const Callbacks& callbacks, bool erase) {
  return with_errors([&] { return impl_->workspace.compact(reporter_of(callbacks), erase); });
}

ExportReport Model::export_to(const std::filesystem::path& folder,
                              const Callbacks& callbacks) const {
  return with_errors([&] { return impl_->workspace.export_to(folder, reporter_of(callbacks)); });
}

Digest Model::digest() const {
  return with_errors([&] { return impl_->workspace.digest(); });
}

ProbeInfo Model::add_probe(const std::filesystem::path& file, const ProbeOptions& options,
                           const Callbacks& callbacks) {
  return with_errors([&] {
    return impl_->workspace.add_probe(read_dataset(file), options, reporter_of(callbacks));
  });
}

DiscoverReport Model::discover_probe(const std::filesystem::path& file, const ProbeOptions& options,
                                     const std::filesystem::path& demonstrations,
                                     const Callbacks& callbacks) {
  return with_errors([&] {
    return impl_->workspace.discover_probe(read_dataset(file), options,
                                           read_if_given(demonstrations), reporter_of(callbacks));
  });
}

std::vector<ProbeInfo> Model::probes() const {
  return with_errors([&] { return impl_->workspace.history().probes(); });
}

void Model::remove_probe(const std::string& name) {
  with_errors([&] { impl_->workspace.history().remove_probe(name); });
}

CheckReport Model::check(const Callbacks& callbacks) const {
  return with_errors([&] { return impl_->workspace.check(reporter_of(callbacks)); });
}

MergeReport Model::merge(const std::vector<std::filesystem::path>& files,
                         const MergeOptions& options, const Callbacks& callbacks) {
  return with_errors(
      [&] { return impl_->workspace.merge(files, options, reporter_of(callbacks)); });
}

FactsFile Model::facts_file(const std::filesystem::path& file) const {
  return with_errors([&] { return impl_->workspace.facts_file(file); });
}

OverlayInfo Model::create_overlay(const std::string& name) {
  return with_errors([&] { return Overlays(folder()).create(name); });
}

std::vector<OverlayInfo> Model::overlays() const {
  return with_errors([&] { return Overlays(folder()).list(); });
}

ErasedOverlay Model::erase_overlay(const std::string& name) {
  return with_errors([&] { return Overlays(folder()).erase(name); });
}

void Model::reload() {
  with_errors([&] { impl_->workspace.refresh(); });
}

}  // namespace accrete::api
