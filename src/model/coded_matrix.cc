#include "model/coded_matrix.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "base/format.h"
#include "model/fused.h"

namespace accrete {
namespace {

using Kind = kernels::CodedRows::Kind;
constexpr int64_t kGrain = 1 << 16;  // multiplications: some ten microseconds
// Few rows cost what reading the weights costs, which is less of their codes. Above this number
// products in float32 are faster (SmolLM2, two threads).
constexpr int64_t kFew = 32;
// Values that are turned into float32 at once: the product then finds them in the cache.
constexpr int64_t kPart = 1 << 20;

// Whether the first `columns` values of row `r` are those that are stored.
bool row_is(const kernels::CodedRows& w, int64_t r, int64_t columns, const float* stored) {
  const auto* bytes = static_cast<const uint8_t*>(w.codes);
  for (int64_t c = 0; c < columns; ++c) {
    const int64_t block = c / w.block, within = c % w.block;
    const int64_t at = r * (w.columns / w.block) + block;
    int code = 0;
    if (w.kind == Kind::kCodes8) {
      code = static_cast<int8_t>(bytes[r * w.columns + c]);
    } else {
      const int64_t half = w.block / 2;
      const uint8_t both = bytes[(r * w.columns + block * w.block) / 2 + within % half];
      code = within < half ? both & 15 : both >> 4;
    }
    const float value =
        std::fma(w.scales[at], static_cast<float>(code), w.minima != nullptr ? w.minima[at] : 0.0F);
    if (value != stored[c]) return false;
  }
  return true;
}

}  // namespace

bool CodedMatrix::applies(const at::Tensor& x) const {
  return fused_applies(x) && x.numel() > 0 &&
         (rows_.kind != Kind::kBFloat16 || x.numel() <= kFew * x.size(-1));
}

at::Tensor CodedMatrix::product(const at::Tensor& x) const {
  auto shape = x.sizes().vec();
  shape.back() = rows_.rows;
  auto out = at::empty(shape, x.options());
  auto rows = out.view({-1, rows_.rows});
  product_to(rows, x.reshape({-1, rows_.columns}).contiguous());
  return out;
}

void CodedMatrix::product_to(at::Tensor& out, const at::Tensor& x) const {
  const int64_t n = x.size(0);
  if (n > kFew)
    return each_part([&](int64_t r, const at::Tensor& values) {
      auto columns = out.narrow(1, r, values.size(0));
      at::mm_out(columns, x, values.t());
    });
  const float* from = x.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  at::parallel_for(
      0, rows_.rows, std::max<int64_t>(1, kGrain / (n * rows_.columns)),
      [&](int64_t begin, int64_t end) { kernels::coded_product(rows_, begin, end, from, n, to); });
}

void CodedMatrix::each_product_to(at::Tensor& out, const at::Tensor& x) const {
  const int64_t n = x.size(0);
  const float* from = x.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  at::parallel_for(
      0, rows_.rows, std::max<int64_t>(1, kGrain / (n * rows_.columns)),
      [&](int64_t begin, int64_t end) { kernels::coded_products(rows_, begin, end, from, n, to); });
}

void CodedMatrix::back_product_to(at::Tensor& out, const at::Tensor& y) const {
  const int64_t n = y.size(0);
  if (n > kFew)
    return each_part([&](int64_t r, const at::Tensor& values) {
      const auto columns = y.narrow(1, r, values.size(0));
      if (r == 0)
        at::mm_out(out, columns, values);
      else
        out.addmm_(columns, values);
    });
  const float* from = y.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  at::parallel_for(0, rows_.columns / 32, std::max<int64_t>(1, kGrain / (n * rows_.rows * 32)),
                   [&](int64_t begin, int64_t end) {
                     kernels::coded_back_product(rows_, 32 * begin, 32 * end, from, n, to);
                   });
}

at::Tensor CodedMatrix::values() const {
  auto out = at::empty({rows_.rows, rows_.columns}, at::kFloat);
  values_to(out, 0);
  return out;
}

at::Tensor CodedMatrix::low_values() const {
  auto out = at::empty({rows_.rows, rows_.columns}, at::kBFloat16);
  each_part(
      [&](int64_t r, const at::Tensor& values) { out.narrow(0, r, values.size(0)).copy_(values); });
  return out;
}

void CodedMatrix::each_part(const std::function<void(int64_t, const at::Tensor&)>& f) const {
  const int64_t some = std::clamp<int64_t>(kPart / rows_.columns, 1, rows_.rows);
  auto room = at::empty({some, rows_.columns}, at::kFloat);
  for (int64_t r = 0; r < rows_.rows; r += some) {
    auto values = room.narrow(0, 0, std::min(some, rows_.rows - r));
    values_to(values, r);
    f(r, values);
  }
}

void CodedMatrix::values_to(at::Tensor& out, int64_t begin) const {
  float* to = out.mutable_data_ptr<float>();
  at::parallel_for(
      0, out.size(0), std::max<int64_t>(1, kGrain / rows_.columns), [&](int64_t from, int64_t end) {
        kernels::coded_values(rows_, begin + from, begin + end, to + from * rows_.columns);
      });
}

CodedWeights CodedWeights::open(const std::filesystem::path& folder) {
  CodedWeights out;
  out.path_ = folder / "accrete" / "codes.safetensors";
  if (std::filesystem::exists(out.path_))
    out.file_ = std::make_shared<const SafetensorsFile>(SafetensorsFile::open(out.path_));
  return out;
}

Error CodedWeights::refusal(const std::string& name, const std::string& what) const {
  return Error(ErrorCode::kFormat, accrete::format("{}: {}: {}", path_.string(), name, what),
               "delete the file: the model works without it");
}

std::optional<kernels::CodedRows> CodedWeights::rows_of(const std::string& name,
                                                        const TensorView& stored) const {
  if (stored.shape.size() != 2 || stored.shape[1] % 32 != 0 || stored.shape[1] == 0)
    return std::nullopt;
  kernels::CodedRows rows;
  rows.rows = stored.shape[0];
  rows.columns = stored.shape[1];
  if (stored.dtype == DType::kBF16) {
    rows.kind = Kind::kBFloat16;
    rows.codes = stored.bytes.data();
    return rows;
  }
  const TensorView* codes = file_ ? file_->find(name + ".codes") : nullptr;
  if (codes == nullptr || stored.dtype != DType::kF32) return std::nullopt;
  const auto refuse = [&](const char* what) { return refusal(name, what); };
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
  // Of the same model? The first block tells, and costs a page of each file.
  if (!row_is(rows, 0, 32, reinterpret_cast<const float*>(stored.bytes.data())))
    throw refuse("these are the codes of other weights");
  return rows;
}

std::shared_ptr<const CodedMatrix> CodedWeights::find(const std::string& name,
                                                      const TensorView& stored) const {
  const auto rows = rows_of(name, stored);
  return rows ? std::make_shared<const CodedMatrix>(*rows) : nullptr;
}

void CodedWeights::check(const std::string& name, const TensorView& stored) const {
  const auto rows = rows_of(name, stored);
  if (!rows || rows->kind == Kind::kBFloat16) return;
  const auto* values = reinterpret_cast<const float*>(stored.bytes.data());
  std::atomic<int64_t> first = rows->rows;  // row that differs
  at::parallel_for(
      0, rows->rows, std::max<int64_t>(1, kGrain / rows->columns), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end && r < first; ++r)
          if (!row_is(*rows, r, rows->columns, values + r * rows->columns))
            for (int64_t was = first; r < was && !first.compare_exchange_weak(was, r);) {
            }
      });
  if (first < rows->rows)
    throw refusal(name, accrete::format("row {} is not that of the weight", first.load()));
}

}  // namespace accrete
