#include "bench/gpu_model/model.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "kernels/core/gpu_model.h"
#include "kernels/core/mma_plan.h"

namespace darkroom::bench {

namespace {

using namespace gpu_model;

constexpr double kBestGemm = 790e12;  // FLOPs a second that an H200 measured on random bf16 numbers: the floor's rate

double ceil_div(double a, double b) { return std::ceil(a / b); }

struct Clocks {
  double clocks = 0;
  std::string bound;
};
Clocks longest(std::initializer_list<Clocks> candidates) {
  return *std::ranges::max_element(candidates, {}, &Clocks::clocks);
}

// Bytes that must move: from L2 where what the layer touches fits half of it, as after the layer that wrote it.
Clocks moving(double bytes) {
  if (bytes < kL2Size / 2) return {bytes / kL2Bytes, "L2"};
  return {bytes / (0.9 * kDramBytes), "DRAM"};
}

Clocks gemm_by_mma(const GemmCall& c, const Cost& cost) {
  const MmaPlan plan = mma_plan(c);
  // Weights are read once a step: they come from DRAM whatever fits L2.
  const double weights = double(c.padded_columns() * c.k_blocks(kMmaBlock) * kMmaBlock) * 2;
  return longest({{mma_clocks(c, plan), "mma"}, {weights / (0.9 * kDramBytes) + kFill, "DRAM"}, moving(cost.bytes)});
}

// kernels/gemm/sm80_fma.cu and what shares its tile: 64 × 64, two loads of 16 bytes for 16 multiply-adds.
Clocks by_fma(const cuda::Launch& launch, const Cost& cost) {
  const double of_sm = ceil_div(double(launch.blocks()), kSms) * kSms / double(launch.blocks());
  return longest({{cost.flops / 2 / (kSms * kFma / 2) * of_sm + kFill, "fma"}, moving(cost.bytes)});
}

// A block's tile of keys: the products, the exponentials, and the arithmetic of the softmax beside them (five instructions a
// logit, one a number of the output that is scaled).
Clocks flash(const KernelCall& call, const cuda::Launch& launch) {
  using S = AttentionAttrs;
  const int64_t head_dim = call.out.channels() / call.attributes<S>().heads;
  const double dim = double(head_dim);
  const double keys = double(call.in[S::kK].shape[1]), tile = dim > 160 ? 32 : 64, tiles = ceil_div(keys, tile);
  const double queries = dim > 160 ? 32 : dim <= 64 ? 128 : 64;
  const double products = 2 * queries * tile * dim / kTensor, exponentials = queries * tile / kExp;
  const double softmax = (5 * queries * tile + queries * dim) / kFma;
  // Each fragment of keys serves 16 or 32 queries of a warp; of one wide head 16 and 32.
  const double of_warp = dim <= 64 ? 32 : 16;
  const double shared = (queries / of_warp * 2 * tile * dim * 2 + 2 * tile * dim * 2) / kSharedBytes;
  const double longest_of = std::max({products, exponentials, softmax, shared});
  // One warp's products hide another's exponentials, in part: half of what is not the longest shows.
  const double one =
      longest_of + (products + exponentials + softmax - std::min(longest_of, products + exponentials + softmax)) / 2;
  const double of_sm = ceil_div(double(launch.blocks()), kSms);
  const char* bound = longest_of == products       ? "tensor"
                      : longest_of == shared       ? "shared"
                      : longest_of == exponentials ? "exp"
                                                   : "fma";
  return {of_sm * tiles * one + kFill, bound};
}

// Everything that streams: bytes, each grid of it its own pass.
Clocks streaming(const Cost& cost, double share) {
  const Clocks moved = moving(cost.bytes * share);
  return {moved.clocks + kFill, moved.bound};
}

// A norm: x for the statistics, unless they come from moments, x again, and out. Each block of the second grid reads what the first
// has found of every chunk, from L2.
template <typename Attrs>
Clocks norm(const KernelCall& call, const Cost& cost, const std::vector<cuda::Launch>& launches) {
  const bool given = call.in[GroupNormAttrs::kMoments].present();
  const double of_chunk = double(call.attributes<Attrs>().groups) * (given ? 3 : 2) * sizeof(float);
  Clocks time = streaming(cost, given ? 1.0 : 1.5);
  time.clocks += double(launches[1].blocks()) * launches[0].grid[0] * of_chunk / kL2Bytes;
  return time;
}

}  // namespace

ModelledStep model_step(const KernelDef& kernel, const KernelCall& call) {
  const Cost cost = op_cost(*call.attrs, call.in, call.out);
  ModelledStep step;
  step.launches = cuda::launches_of(kernel, call);
  step.floor = std::max(cost.flops / kBestGemm, cost.bytes / (kDramBytes * kClock));
  Clocks time;
  const bool mma = kernel.variant.find("mma") != std::string_view::npos;
  if (mma)
    time = gemm_by_mma(kernel.op == OpKind::gemm ? gemm_call(call) : conv2d_call(call), cost);
  else if (kernel.variant.starts_with("sm80_flash"))
    time = flash(call, step.launches.front());
  else if (cost.flops > 0)
    time = by_fma(step.launches.front(), cost);
  else if (kernel.op == OpKind::group_norm)
    time = norm<GroupNormAttrs>(call, cost, step.launches);
  else if (kernel.op == OpKind::group_norm_silu)
    time = norm<GroupNormSiluAttrs>(call, cost, step.launches);
  else
    time = streaming(cost, 1.0);
  if (call.moments.present()) time.clocks += double(call.moments.shape.elements()) * sizeof(float) / kL2Bytes;
  // The gap in front of the first grid; a split GEMM's second one is in its model.
  const double gaps = kLaunch * (mma ? 1.0 : double(step.launches.size()));
  step.seconds = (time.clocks + gaps) / kClock;
  step.bound = gaps > time.clocks ? "launch" : time.bound;
  return step;
}

}  // namespace darkroom::bench
