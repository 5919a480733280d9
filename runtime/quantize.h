// Which layers multiply int8 where that is asked for.
#pragma once

#include "runtime/graph.h"

namespace darkroom {

// Marks linear layers and 1×1 or strided convolutions that are worth it: at least 16 rows a sample, 64 inputs and 32
// outputs. Others stay as they are: time embeddings, the first and the last convolution, and the 3×3 convolutions, which
// Winograd's F(4×4) runs with a quarter of the multiplications at full precision. Attention is no product of weights.
// Returns how many were marked.
int quantize_int8(Graph& graph);

}  // namespace darkroom
