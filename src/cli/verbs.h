// Between the program and the library of all verbs, which it loads when a verb needs tensors.
//
// Non-goals: an interface for others (include/accrete/accrete.h).
#pragma once

// Runs a command line with all verbs but `bench`; returns the exit status.
extern "C" int accrete_verbs_main(int argc, char** argv);

namespace accrete::cli {

inline constexpr const char* kVerbsLibrary = "libaccrete_verbs.so";
// Beside the library: the program of `accrete bench`, and what it wrote when it was built, the help
// of every verb and the completion scripts.
inline constexpr const char* kBenchProgram = "accrete-bench";
inline constexpr const char* kTextsFile = "texts.json";

}  // namespace accrete::cli
