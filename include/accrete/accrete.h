// accrete as a library: give a language model a memory, teach it facts, ask it, take them back.
//
//   accrete::retrofit("SmolLM2-135M-Instruct.gguf", "my-model");
//   auto model = accrete::Model::open("my-model");
//   model.teach("facts.jsonl");
//   std::cout << model.ask("Where was Ada Lovelace born?").text;
//   model.undo();
//
// What the command line does, without a tensor in it: compiling against it needs the standard
// library alone, linking needs libtorch (find_package(accrete) sees to it). Options and reports are
// in types.h, the calls in model.h. Everything fails with accrete::Error (error.h): a code, a
// message, a hint; a call that threw has changed nothing. The codes named at a call are those a
// caller may want to tell apart; any call may also throw kIo, kFormat (damaged files) and
// kInternal.
//
// On a machine that has other work to do, run your program with OMP_WAIT_POLICY=passive (the
// command line sees to it itself): libtorch's idle threads spin otherwise, and teaching may take
// several times as long.
//
// Non-goals: tensors, benchmarks (the command line has them), a stable binary interface.
#pragma once

#include "accrete/error.h"
#include "accrete/model.h"
#include "accrete/types.h"

// The names live in accrete::api. The library's own sources have other types of some of them, and
// include model.h and types.h alone.
namespace accrete {
using namespace api;  // NOLINT(google-build-using-namespace)
}
