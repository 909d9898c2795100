// How a model is opened. Apart from language_model.h, so that the command line's options need no
// tensors.
//
// Non-goals: defaults of a machine.
#pragma once

#include <string>

namespace accrete {

struct OpenOptions {
  std::string device = "cpu";     // "cpu", "cuda", "cuda:N"
  std::string dtype = "float32";  // "float32", "bfloat16", "float16"
  int threads = 0;                // 0: every core this process may use
  bool with_updates = true;       // false: the base alone
  // Sum the update files even where the state file has their sum: what a digest is taken of.
  bool from_updates = false;
};

}  // namespace accrete
