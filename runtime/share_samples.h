// The pass that computes once what is the same for every sample of a batch.
#pragma once

#include "runtime/graph.h"

namespace darkroom {

// A node all of whose activations are broadcasts of one sample (Graph::broadcast) computes that one sample, and its result
// becomes a broadcast of it. With guidance that is everything before the first cross-attention: both halves of the batch see
// the same latents. Returns the nodes that now do so.
int share_samples(Graph& graph);

}  // namespace darkroom
