// Every verb includes cli.h, and with it CLI11 and json, and most use tensors: 20 s a file unless
// precompiled.
#pragma once

#include "cli/cli.h"
#include "memory/torch_pch.h"
