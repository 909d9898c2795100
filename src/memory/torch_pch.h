// What the tensor layers share of libtorch, precompiled once: ATen and the autograd entry points
// (torch/torch.h alone would cost 24 s a file).
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/variable.h>
