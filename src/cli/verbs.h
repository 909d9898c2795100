// Between the program and the library of all verbs, which it loads when a verb needs tensors.
//
// Non-goals: an interface for others (include/accrete/accrete.h).
#pragma once

// Runs a command line with all verbs; returns the exit status. With the two arguments
// `--write-texts` and FILE it writes there what the program prints without loading this library:
// the help of every verb and the completion scripts.
extern "C" int accrete_verbs_main(int argc, char** argv);

namespace accrete::cli {

inline constexpr const char* kVerbsLibrary = "libaccrete_verbs.so";
inline constexpr const char* kTextsFile = "texts.json";

}  // namespace accrete::cli
