// accrete::Error, the one exception type, under its public name. There is one definition: the
// library's own base/error.h, which `cmake --install` puts here in place of this file.
#pragma once

#include "base/error.h"
