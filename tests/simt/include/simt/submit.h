// Where launches go in the emulator: the model of the CUDA runtime runs them at once, or keeps them while a stream is captured.
#pragma once

#include <functional>

namespace darkroom::simt {

void submit(void* stream, const void* kernel, std::function<void()> work);
// As the driver does at a kernel's first launch: of one that was never loaded, a capture is broken.
void load(const void* kernel);

}  // namespace darkroom::simt
