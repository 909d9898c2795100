// Giving back the memory of weights that are mapped from the model's file: whoever reads them again
// gets them back, from the system's cache where it still has them.
//
// Non-goals: weights that were converted or put in (transformer.h): they stay.
#pragma once

#include "model/transformer.h"

namespace accrete {

void forget_weights(const Transformer& net);
void forget_weight(const Transformer& net, const at::Tensor& weight);

}  // namespace accrete
