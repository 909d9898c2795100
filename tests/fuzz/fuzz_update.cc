// Bytes as an update file: refused with an Error, or an update that keeps its promises.
#include <algorithm>
#include <cmath>
#include <functional>
#include <span>
#include <string>

#include "fuzz_testing.h"
#include "ledger/update_file.h"

namespace accrete::fuzz {
namespace {

bool all_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

void check(const Update& update) {
  require(!update.layers.empty());
  require(!update.metadata.contains(std::string(kUpdateFormatKey)));
  int previous = -1;
  for (const LayerDelta& layer : update.layers) {
    require(layer.block > previous);
    previous = layer.block;
    require(!layer.indices.empty() && layer.width > 0 && layer.indices.front() >= 0);
    require(layer.delta.size() == layer.indices.size() * static_cast<size_t>(layer.width));
    require(std::adjacent_find(layer.indices.begin(), layer.indices.end(),
                               std::greater_equal<>()) == layer.indices.end());
    require(all_finite(layer.delta));
  }
  const GateAnchors& anchors = update.anchors;
  require(all_finite(anchors.queries));
  if (!anchors.queries.empty())
    require(anchors.width > 0 && anchors.queries.size() % static_cast<size_t>(anchors.width) == 0);
  if (!anchors.parts.empty())
    require(anchors.parts.size() * static_cast<size_t>(anchors.width) == anchors.queries.size());
  for (const LayerDelta& layer : update.layers)
    require(part_of(layer.indices.back()) < parts_of(update));
}

}  // namespace
}  // namespace accrete::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace accrete;
  const auto bytes = fuzz::bytes_of(data, size);
  fuzz::allow_errors([&] { fuzz::check(parse_update(bytes, "fuzz")); });
  // The same without values: what the state file keeps.
  fuzz::allow_errors([&] {
    for (const LayerDelta& layer : parse_outline(bytes, "fuzz").layers)
      fuzz::require(!layer.indices.empty() && layer.delta.empty());
  });
  return 0;
}
