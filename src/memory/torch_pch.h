// What the tensor layers share, precompiled once: ATen (torch/torch.h alone would cost 24 s a file)
// and JSON. The headers of autograd, which few files need, are not among it. Files still include
// what they use.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>

#include <nlohmann/json.hpp>
