// What the tensor layers share, precompiled once: fmt, ATen and the autograd entry points
// (torch/torch.h alone would cost 24 s a file). Files still include what they use.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/variable.h>
