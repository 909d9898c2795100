#include "model/coded_matrix.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "base/error.h"
#include "model/fused.h"

namespace accrete {
namespace {

using Kind = kernels::CodedRows::Kind;
constexpr int64_t kGrain = 1 << 16;  // multiplications: some ten microseconds

}  // namespace

bool CodedMatrix::applies(const at::Tensor& x) {
  return fused_applies(x) && x.numel() > 0 && x.numel() <= kMostRows * x.size(-1);
}

at::Tensor CodedMatrix::product(const at::Tensor& x) const {
  const auto input = x.contiguous();
  const int64_t n = input.numel() / rows_.columns;
  auto shape = x.sizes().vec();
  shape.back() = rows_.rows;
  auto out = at::empty(shape, x.options());
  const float* from = input.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  at::parallel_for(
      0, rows_.rows, std::max<int64_t>(1, kGrain / (n * rows_.columns)),
      [&](int64_t begin, int64_t end) { kernels::coded_product(rows_, begin, end, from, n, to); });
  return out;
}

CodedWeights CodedWeights::open(const std::filesystem::path& folder) {
  CodedWeights out;
  out.path_ = folder / "accrete" / "codes.safetensors";
  if (std::filesystem::exists(out.path_))
    out.file_ = std::make_shared<const SafetensorsFile>(SafetensorsFile::open(out.path_));
  return out;
}

std::shared_ptr<const CodedMatrix> CodedWeights::find(const std::string& name,
                                                      const TensorView& stored) const {
  if (stored.shape.size() != 2 || stored.shape[1] % 32 != 0 || stored.shape[1] == 0) return nullptr;
  kernels::CodedRows rows;
  rows.rows = stored.shape[0];
  rows.columns = stored.shape[1];
  if (stored.dtype == DType::kBF16) {
    rows.kind = Kind::kBFloat16;
    rows.codes = stored.bytes.data();
    return std::make_shared<const CodedMatrix>(rows);
  }
  const TensorView* codes = file_ ? file_->find(name + ".codes") : nullptr;
  if (codes == nullptr || stored.dtype != DType::kF32) return nullptr;
  const auto refuse = [&](const char* what) -> Error {
    return Error(ErrorCode::kFormat, fmt::format("{}: {}: {}", path_.string(), name, what),
                 "delete the file: the model works without it");
  };
  const TensorView& scales = file_->at(name + ".scales");
  const TensorView* minima = file_->find(name + ".minima");
  const bool four_bits = codes->dtype == DType::kU8;
  if (!four_bits && codes->dtype != DType::kI8) throw refuse("codes must be U8 or I8");
  if (codes->shape != std::vector<int64_t>{rows.rows, rows.columns / (four_bits ? 2 : 1)})
    throw refuse("the codes' shape is not the weight's");
  if (scales.dtype != DType::kF32 || scales.shape.size() != 2 || scales.shape[0] != rows.rows ||
      scales.shape[1] < 1)
    throw refuse("the scales' shape is not the weight's");
  rows.block = rows.columns / scales.shape[1];
  if ((rows.block != 32 && (rows.block != 16 || four_bits)) ||
      rows.block * scales.shape[1] != rows.columns)
    throw refuse("blocks must have 32 values, or 16 of 8 bits");
  if (minima == nullptr ? four_bits : minima->dtype != DType::kF32 || minima->shape != scales.shape)
    throw refuse("the minima's shape is not that of the scales");
  rows.kind = four_bits ? Kind::kCodes4 : Kind::kCodes8;
  rows.codes = codes->bytes.data();
  rows.scales = reinterpret_cast<const float*>(scales.bytes.data());
  if (minima != nullptr) rows.minima = reinterpret_cast<const float*>(minima->bytes.data());
  // Of the same model? The first block tells, and costs a page of each file: products with unit
  // vectors have one summand that is not 0.
  auto first = rows;
  first.rows = 1;
  first.columns = 32;
  const auto values = CodedMatrix(first).product(at::eye(32, at::kFloat));
  const auto* expected = reinterpret_cast<const float*>(stored.bytes.data());
  if (!std::equal(expected, expected + 32, values.const_data_ptr<float>()))
    throw refuse("these are the codes of other weights");
  return std::make_shared<const CodedMatrix>(rows);
}

}  // namespace accrete
