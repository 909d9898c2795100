// A libtorch device that is not the CPU, though the CPU computes for it: whoever forgets that the
// network may compute elsewhere mixes its tensors with those of the CPU, and is told. So what is
// meant for a GPU is tested where there is none.
//
// Its memory is ordinary memory; an operation takes copies of its arguments to the CPU and brings
// the result back (at::native::cpu_fallback).
//
// Non-goals: kernels, streams, speed.
#pragma once

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/native/TensorFactories.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <cstdlib>

namespace accrete::testing {

inline constexpr const char* kPretend = "pretend";

struct PretendAllocator final : at::Allocator {
  at::DataPtr allocate(size_t bytes) override {
    void* p = std::aligned_alloc(64, (bytes + 64) / 64 * 64);
    return {p, p, &std::free, at::Device(at::kPrivateUse1, 0)};
  }
  at::DeleterFnPtr raw_deleter() const override { return &std::free; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};
inline PretendAllocator pretend_allocator;

struct PretendHooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(at::DeviceIndex) const override { return true; }
  void init() const override {}
  at::DeviceIndex deviceCount() const override { return 1; }
  at::DeviceIndex getCurrentDevice() const override { return 0; }
};

// One device, always the current one.
struct PretendGuard final : c10::impl::NoOpDeviceGuardImpl<at::kPrivateUse1> {
  at::Device exchangeDevice(at::Device) const override { return {at::kPrivateUse1, 0}; }
  at::Device getDevice() const override { return {at::kPrivateUse1, 0}; }
  c10::Stream getStream(at::Device) const noexcept override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return stream(); }
  // Everything is done when a call returns.
  void record(void**, const c10::Stream&, const at::DeviceIndex,
              const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }

 private:
  static c10::Stream stream() {
    return c10::Stream(c10::Stream::DEFAULT, at::Device(at::kPrivateUse1, 0));
  }
};

// The same memory as a tensor of the CPU.
inline at::Tensor seen_from_cpu(const at::Tensor& t) {
  if (t.is_cpu() || t.numel() == 0)
    return t.is_cpu() ? t : at::empty(t.sizes(), t.options().device(at::kCPU));
  return at::from_blob(t.data_ptr(), t.sizes(), t.strides(), at::TensorOptions(t.scalar_type()));
}

inline at::Tensor pretend_empty(at::IntArrayRef size, std::optional<at::ScalarType> type,
                                std::optional<at::Layout>, std::optional<at::Device>,
                                std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &pretend_allocator,
                                   c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   at::dtype_or_default(type), format);
}
inline at::Tensor pretend_empty_strided(at::IntArrayRef size, at::IntArrayRef stride,
                                        std::optional<at::ScalarType> type,
                                        std::optional<at::Layout>, std::optional<at::Device>,
                                        std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &pretend_allocator,
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           at::dtype_or_default(type));
}
inline at::Tensor pretend_copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  seen_from_cpu(to).copy_(seen_from_cpu(from));
  return to;
}
inline at::Tensor pretend_copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (to.sizes() != from.sizes()) {
    TORCH_CHECK(to.numel() == 0, "the pretend device cannot resize what is in use");
    to.unsafeGetTensorImpl()->set_storage_keep_dtype(
        at::empty(from.sizes(), to.options()).storage());
    to.unsafeGetTensorImpl()->set_sizes_contiguous(from.sizes());
  }
  return pretend_copy_from(from, to, false);
}
inline int64_t pretend_attention(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                 const std::optional<at::Tensor>&, double, bool,
                                 std::optional<double>, bool) {
  return 0;  // plain products
}
inline void pretend_fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  at::native::cpu_fallback(op, stack);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &pretend_empty);
  m.impl("empty_strided", &pretend_empty_strided);
  m.impl("_copy_from", &pretend_copy_from);
  m.impl("_copy_from_and_resize", &pretend_copy_from_and_resize);
  m.impl("_fused_sdp_choice", &pretend_attention);
  m.impl("as_strided", torch::CppFunction(TORCH_FN(at::native::as_strided_tensorimpl)));
  m.impl("view", torch::CppFunction(TORCH_FN(at::native::view)));
  m.impl("_reshape_alias", torch::CppFunction(TORCH_FN(at::native::_reshape_alias)));
}
TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&pretend_fallback>());
}
C10_REGISTER_GUARD_IMPL(PrivateUse1, PretendGuard)

inline const bool pretend_hooks_registered = [] {
  c10::register_privateuse1_backend(kPretend);
  static PretendHooks hooks;
  at::RegisterPrivateUse1HooksInterface(&hooks);
  return true;
}();

}  // namespace accrete::testing
