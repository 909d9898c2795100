// Shared by product_keys.cc and product_keys_fit.cc.
#pragma once

#include "base/error.h"
#include "memory/product_keys.h"

namespace accrete {

// Throws `code` on options that no product keys can have.
void check_options(const ProductKeyOptions& options, ErrorCode code);

}  // namespace accrete
