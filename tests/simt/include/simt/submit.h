// Where launches go in the emulator: the model of the CUDA runtime runs them at once, or keeps them while a stream is captured.
#pragma once

#include <functional>

namespace darkroom::simt {

void submit(void* stream, std::function<void()> work);

}  // namespace darkroom::simt
