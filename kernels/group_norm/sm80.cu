// group_norm and group_norm_silu for GPUs, two grids: moments of chunks of the sample, then one pass that applies them. Where the
// kernels that wrote x left its moments (KernelCall::moments), the first grid reads those alone: x is read once.
//
//   statistics  grid (chunks, B). A thread owns eight channels and every `lanes`-th pixel of the chunk; it sums x − x₀ and
//               (x − x₀)², x₀ the first element of the sample's group: means are kept as distances from it, so that a large
//               mean costs no digits. Channels of a group and lanes meet in shared memory by the pairwise rule of Chan, Golub
//               and LeVeque (1979): mean and squared deviations of each chunk and group go to scratch.
//   combine     in its place, of given moments: grid (chunks, runs of groups, B); a chunk is a share of each source's slabs, a run
//               as many groups as make whole sectors. A thread owns a channel and every `lanes`-th slab; it sums n · d and
//               squares + n · d², d the distance of a slab's mean from the first one's, then as above.
//   apply       grid (blocks of pixels, B). Each block merges its sample's chunks, then normalises; a thread keeps its eight channels,
//               and what they are multiplied by, for all of its pixels.
//
// Where a group's moments are merged, `parts` neighbouring threads each take every parts-th of them and meet by shuffle: a merge
// divides, and 32 groups alone would leave 7 of 8 warps waiting for 60 in a row.
//
// Bytes: x twice, out once; the second reading comes from L2 where the sample fits it. With moments x once, out once, and of a source
// left by an implicit GEMM 8 bytes for 64 pixels of a channel. Shared memory: of the statistics 8 bytes for a channel of each lane, at
// most 20 KB (C = 2560); of given moments 12 bytes, under 5 KB with 32 groups. Chunks and the order of all sums follow from the shapes
// alone.
#include <algorithm>

#include "kernels/core/cuda/moments.h"
#include "kernels/core/cuda/rows.h"

namespace darkroom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
constexpr int kMaxGroups = 256, kMaxChannels = 4096;
// Of a sample, of a block: blocks for 132 SMs, with work for each thread.
constexpr int64_t kMaxBlocks = 256, kMinPixels = 8;

// Pixels that one block takes in the second pass.
int64_t applied_of(int64_t pixels) { return std::max(kMinPixels, ceil_div(pixels, kMaxBlocks)); }
// And for the statistics. Every block of the second pass reads the moments of all chunks, 256 bytes of each with 32 groups: 256 chunks
// of 64×64×320 would be six times the bytes that it normalises.
int64_t chunk_of(int64_t pixels, int64_t channels) {
  constexpr int64_t kMinChunks = 64, kElements = 40 << 10;
  const int64_t chunks = std::clamp(pixels * channels / kElements, kMinChunks, kMaxBlocks);
  return std::max(kMinPixels, ceil_div(pixels, chunks));
}
// Of given moments: what a block takes of the slabs, and as many chunks as every block of the second pass may read.
constexpr int64_t kSlabsOfChunk = 16, kMaxChunks = 64;

// The moments of a source, [B][slabs][count, mean, squares][channels]. Of a slab all channels have the same count.
struct Slabs {
  Global<const float> moments;
  int64_t sample, slab, kind;  // strides
  uint32_t slabs;
};

template <typename In, typename Out>
struct Params {
  Global<const In> x, x2;
  Global<const float> gamma, beta;
  Global<Out> out;
  Global<float> mean, squares, count;  // [B, G, chunks], scratch; count: of given moments alone
  Slabs given[2];
  RowMap x_rows, x2_rows, out_rows;
  uint32_t pixels, chunk, chunks, applied, groups, eights, lanes;  // chunk, applied: pixels of a block
  uint32_t parts;                                                  // threads that share a group, a power of two
  // Of given moments: groups of a block; threads of a channel, of a group; from lane to lane in threads, and in shared memory.
  uint32_t run, run_lanes, run_parts, run_step, run_pitch;
  int64_t first_channels, channels;
  float eps;
  bool vectors, silu;
};

// Channels c … c + 7 of a pixel of the concat of both sources.
template <typename In, typename Out>
DARKROOM_DEVICE void load_channels(float (&v)[8], const Params<In, Out>& p, uint32_t row, int64_t c) {
  if (p.vectors) {
    if (c < p.first_channels)
      load8<In>(v, p.x + (row_offset(p.x_rows, row) + c), true, 8);
    else
      load8<In>(v, p.x2 + (row_offset(p.x2_rows, row) + c - p.first_channels), true, 8);
    return;
  }
  DARKROOM_UNROLL
  for (int i = 0; i < 8; ++i) {
    v[i] = 0;
    if (c + i < p.first_channels)
      v[i] = widen(load(p.x + (row_offset(p.x_rows, row) + c + i)));
    else if (c + i < p.channels)
      v[i] = widen(load(p.x2 + (row_offset(p.x2_rows, row) + c + i - p.first_channels)));
  }
}

// The first element of group g of the sample whose rows begin at first_row.
template <typename In, typename Out>
DARKROOM_DEVICE float origin_of(const Params<In, Out>& p, uint32_t first_row, int64_t g) {
  const int64_t c = g * (p.channels / p.groups);
  if (c < p.first_channels) return widen(load(p.x + (row_offset(p.x_rows, first_row) + c)));
  return widen(load(p.x2 + (row_offset(p.x2_rows, first_row) + c - p.first_channels)));
}

// The groups of channels c, c + 1, …: one division, then comparisons.
struct GroupWalk {
  uint32_t group, end, width;
};
DARKROOM_DEVICE GroupWalk walk_groups(int64_t c, int64_t width) {
  const uint32_t group = uint32_t(c) / uint32_t(width);
  return {group, (group + 1) * uint32_t(width), uint32_t(width)};
}
DARKROOM_DEVICE uint32_t group_of(GroupWalk& walk, int64_t c) {  // c: that of before, or the next
  if (uint32_t(c) == walk.end) {
    ++walk.group;
    walk.end += walk.width;
  }
  return walk.group;
}

template <typename In, typename Out>
__global__ void __launch_bounds__(kThreads) statistics(const __grid_constant__ Params<In, Out> p) {
  const Shared<float> mean = dynamic_shared<float>();  // [lanes][C]
  const Shared<float> squares = mean + int64_t(p.lanes) * p.channels;
  const uint32_t begin = blockIdx.x * p.chunk;
  const uint32_t end = begin + p.chunk < p.pixels ? begin + p.chunk : p.pixels;
  const uint32_t first_row = blockIdx.y * p.pixels;
  const int64_t width = p.channels / p.groups;

  for (uint32_t item = threadIdx.x; item < p.lanes * p.eights; item += kThreads) {
    const uint32_t lane = item / p.eights;
    const int64_t c = int64_t(item % p.eights) * 8;
    float origin[8] = {}, sum[8] = {}, square[8] = {}, v[8];
    GroupWalk walk = walk_groups(c, width);
    uint32_t before = ~0u;
    DARKROOM_UNROLL
    for (int i = 0; i < 8; ++i) {
      if (c + i >= p.channels) break;
      const uint32_t g = group_of(walk, c + i);
      origin[i] = g == before ? origin[i > 0 ? i - 1 : 0] : origin_of(p, first_row, g);
      before = g;
    }
    float count = 0;
    for (uint32_t pixel = begin + lane; pixel < end; pixel += p.lanes) {
      load_channels(v, p, first_row + pixel, c);
      DARKROOM_UNROLL
      for (int i = 0; i < 8; ++i) {
        const float d = v[i] - origin[i];
        sum[i] += d;
        square[i] += d * d;
      }
      count += 1;
    }
    if (count == 0) continue;
    DARKROOM_UNROLL
    for (int i = 0; i < 8; ++i) {
      const float d = sum[i] / count;
      square[i] -= sum[i] * d;
      sum[i] = d;
    }
    const int64_t at = lane * p.channels + c;
    DARKROOM_UNROLL
    for (int i = 0; i < 8; i += 4) {
      if (p.vectors) {  // four at once: one by one, eight lanes would meet in a bank
        store(as<Vec<float, 4>>(mean + (at + i)), Vec<float, 4>{{sum[i], sum[i + 1], sum[i + 2], sum[i + 3]}});
        store(as<Vec<float, 4>>(squares + (at + i)),
              Vec<float, 4>{{square[i], square[i + 1], square[i + 2], square[i + 3]}});
        continue;
      }
      DARKROOM_UNROLL
      for (int j = i; j < i + 4; ++j) {
        if (c + j >= p.channels) break;
        store(mean + (at + j), sum[j]);
        store(squares + (at + j), square[j]);
      }
    }
  }
  sync_block();
  const uint32_t g = threadIdx.x / p.parts, part = threadIdx.x % p.parts;
  Moments all{0, 0, 0};
  const uint32_t items = g < p.groups ? p.lanes * uint32_t(width) : 0;  // [lane][channel of the group]
  for (uint32_t i = part; i < items; i += p.parts) {
    const uint32_t lane = i / uint32_t(width);
    if (begin + lane >= end) break;  // neither this lane nor the next had a pixel
    const float count = float((end - begin - lane + p.lanes - 1) / p.lanes);
    const int64_t at = lane * p.channels + g * width + i % uint32_t(width);
    all = merge(all, {count, load(mean + at), load(squares + at)});
  }
  all = merge_parts(all, p.parts);
  if (part == 0 && g < p.groups) {
    const int64_t at = (int64_t(blockIdx.y) * p.groups + g) * p.chunks + blockIdx.x;
    store(p.mean + at, all.mean);
    store(p.squares + at, all.squares);
  }
}

// What a thread's slabs say of channel c: every run_lanes-th of the chunk's, from `lane` on.
template <typename In, typename Out>
DARKROOM_DEVICE Moments of_slabs(const Params<In, Out>& p, uint32_t lane, int64_t c) {
  const bool second = c >= p.first_channels;
  const Slabs& s = p.given[second ? 1 : 0];
  const uint32_t begin = uint32_t(int64_t(s.slabs) * blockIdx.x / p.chunks) + lane;
  const uint32_t end = uint32_t(int64_t(s.slabs) * (blockIdx.x + 1) / p.chunks);
  if (begin >= end) return {0, 0, 0};
  const Global<const float> counts = s.moments + (blockIdx.z * s.sample + begin * s.slab);
  Global<const float> means = counts + (s.kind + (second ? c - p.first_channels : c)), count = counts;
  const float first = load(means);
  float pixels = 0, sum = 0, squares = 0;
  for (uint32_t slab = begin; slab < end; slab += p.run_lanes) {
    const float n = load(count), d = load(means) - first;
    squares += load(means + s.kind) + n * d * d;
    sum += n * d;
    pixels += n;
    count += p.run_lanes * s.slab;
    means += p.run_lanes * s.slab;
  }
  const float d = sum / pixels;
  const float origin = origin_of(p, blockIdx.z * p.pixels, c / (p.channels / p.groups));
  return {pixels, (first - origin) + d, squares - sum * d};
}

template <typename In, typename Out>
__global__ void __launch_bounds__(kThreads) combine(const __grid_constant__ Params<In, Out> p) {
  const uint32_t width = uint32_t(p.channels / p.groups), first_group = blockIdx.y * p.run;
  const uint32_t groups = first_group + p.run < p.groups ? p.run : p.groups - first_group, channels = groups * width;
  const uint32_t kind = p.run_lanes * p.run_pitch;  // [lane][channel], and a gap
  const Shared<float> count = dynamic_shared<float>(), mean = count + kind, squares = mean + kind;
  for (uint32_t item = threadIdx.x; item < p.run_lanes * p.run_step; item += kThreads) {
    const uint32_t lane = item / p.run_step, channel = item % p.run_step, at = lane * p.run_pitch + channel;
    if (channel >= channels) continue;
    const Moments m = of_slabs(p, lane, int64_t(first_group) * width + channel);
    store(count + at, m.count);
    store(mean + at, m.mean);
    store(squares + at, m.squares);
  }
  sync_block();
  const uint32_t g = threadIdx.x / p.run_parts, part = threadIdx.x % p.run_parts;
  Moments all{0, 0, 0};
  for (uint32_t i = part; i < p.run_lanes * width && g < groups; i += p.run_parts) {
    const uint32_t at = i / width * p.run_pitch + g * width + i % width;
    all = merge(all, {load(count + at), load(mean + at), load(squares + at)});
  }
  all = merge_parts(all, p.run_parts);
  if (part > 0 || g >= groups) return;
  const int64_t at = (int64_t(blockIdx.z) * p.groups + first_group + g) * p.chunks + blockIdx.x;
  store(p.count + at, all.count);
  store(p.mean + at, all.mean);
  store(p.squares + at, all.squares);
}

// The blocks of an SM: a fourth one of f32 would spill.
template <typename In, typename Out>
__global__ void __launch_bounds__(kThreads, sizeof(In) + sizeof(Out) == 8 ? 3 : 4)
    apply(const __grid_constant__ Params<In, Out> p) {
  const Shared<float> mean = shared_array<float, kMaxGroups, 0>(), scale = shared_array<float, kMaxGroups, 1>();
  const Shared<float> origin = shared_array<float, kMaxGroups, 2>();
  const int64_t width = p.channels / p.groups;
  const uint32_t group = threadIdx.x / p.parts, part = threadIdx.x % p.parts;
  Moments all{0, 0, 0};
  for (uint32_t chunk = part; chunk < p.chunks && group < p.groups; chunk += p.parts) {
    const uint32_t left = p.pixels - chunk * p.chunk, pixels = left < p.chunk ? left : p.chunk;
    const int64_t at = (int64_t(blockIdx.y) * p.groups + group) * p.chunks + chunk;
    const float count = p.count == nullptr ? float(pixels) * float(width) : load(p.count + at);
    all = merge(all, {count, load(p.mean + at), load(p.squares + at)});
  }
  all = merge_parts(all, p.parts);
  if (part == 0 && group < p.groups) {
    store(origin + group, origin_of(p, blockIdx.y * p.pixels, group));
    store(mean + group, all.mean);
    store(scale + group, 1.0f / sqrtf(all.squares / all.count + p.eps));
  }
  sync_block();
  const uint32_t begin = blockIdx.x * p.applied;
  const uint32_t end = begin + p.applied < p.pixels ? begin + p.applied : p.pixels;
  for (uint32_t item = threadIdx.x; item < p.lanes * p.eights; item += kThreads) {
    const int64_t c = int64_t(item % p.eights) * 8, n = p.channels - c;
    float v[8], of_origin[8] = {}, of_mean[8] = {}, gamma[8], beta[8];
    load8<float>(gamma, p.gamma + c, p.vectors, n);
    load8<float>(beta, p.beta + c, p.vectors, n);
    GroupWalk walk = walk_groups(c, width);
    DARKROOM_UNROLL
    for (int i = 0; i < 8; ++i) {
      if (c + i >= p.channels) break;
      const uint32_t g = group_of(walk, c + i);
      of_origin[i] = load(origin + g);
      of_mean[i] = load(mean + g);
      gamma[i] *= load(scale + g);
    }
    for (uint32_t pixel = begin + item / p.eights; pixel < end; pixel += p.lanes) {
      const uint32_t row = blockIdx.y * p.pixels + pixel;
      load_channels(v, p, row, c);
      DARKROOM_UNROLL
      for (int i = 0; i < 8; ++i) {
        v[i] = (v[i] - of_origin[i] - of_mean[i]) * gamma[i] + beta[i];
        if (p.silu) v[i] = silu(v[i]);
      }
      store8<Out>(p.out + (row_offset(p.out_rows, row) + c), v, p.vectors, n);
    }
  }
}

const char* reject(const KernelCall& call) {
  const TensorView &x = call.in[GroupNormAttrs::kX], &x2 = call.in[GroupNormAttrs::kX2];
  if (!is_type_pair(x.dtype, call.out.dtype)) return "x and out must be f32, bf16 or f16, not bf16 and f16";
  if (x2.present() && x2.dtype != x.dtype) return "both sources must be of one dtype";
  if (!fits_32_bits(call.out)) return "too large for 32-bit row numbers";
  if (call.out.channels() > kMaxChannels) return "more than 4096 channels";
  if (call.out.shape[0] > 65535) return "more than 65535 samples";
  return nullptr;
}
template <typename Attrs>
const char* reject_op(const KernelCall& call) {
  if (call.attributes<Attrs>().groups > kMaxGroups) return "more than 256 groups";
  return reject(call);
}

struct Sizes {
  bool given;
  int64_t pixels, chunk, chunks, applied;
  size_t moments, kinds;  // floats of each kind in scratch
};
Sizes sizes_of(const KernelCall& call, int groups) {
  using S = GroupNormAttrs;
  const int64_t pixels = call.out.rows() / call.out.shape[0];
  Sizes s{call.in[S::kMoments].present(), pixels, 0, 0, applied_of(pixels), 0, 2};
  if (s.given) {
    s.kinds = 3;
    for (const int slot : {S::kMoments, S::kMoments2})
      if (const TensorView& v = call.in[slot]; v.present())
        s.chunks = std::max(s.chunks, std::min(kMaxChunks, ceil_div(v.shape[1], kSlabsOfChunk)));
  } else {
    s.chunk = chunk_of(pixels, call.out.channels());
    s.chunks = ceil_div(pixels, s.chunk);
  }
  s.moments = size_t(call.out.shape[0] * s.chunks * groups);
  return s;
}
template <typename Attrs>
size_t scratch_bytes(const KernelCall& call, int) {
  const Sizes s = sizes_of(call, call.attributes<Attrs>().groups);
  return s.moments * s.kinds * sizeof(float);
}

// As many groups as end with a sector, and have work for a warp.
uint32_t groups_of_run(uint32_t groups, int64_t width) {
  constexpr int64_t kSector = 8;
  uint32_t run = 1;
  while (run < groups && (run * width < kWarp || run * width % kSector != 0)) ++run;
  return run;
}
Slabs slabs_of(const TensorView& v, const char* name) {
  if (!v.present()) return {};
  return {global<const float>(v, name), v.stride[0], v.stride[1], v.stride[2], uint32_t(v.shape[1])};
}
// The largest power of two, up to a warp, of threads that each of n may have.
uint32_t parts_for(uint32_t n) {
  uint32_t parts = 1;
  while (parts < kWarp && 2 * parts * n <= kThreads) parts *= 2;
  return parts;
}

void enqueue(const KernelCall& call, const Stream& stream, const GroupNormAttrs& attrs, bool silu) {
  using S = GroupNormAttrs;
  const TensorView &x = call.in[S::kX], &x2 = call.in[S::kX2];
  const Sizes sizes = sizes_of(call, attrs.groups);
  by_types(x.dtype, call.out.dtype, [&](auto in, auto out) {
    using In = decltype(in);
    using Out = decltype(out);
    Params<In, Out> p{};
    p.x = global<const In>(x, "x");
    p.x2 = global<const In>(x2, "x2");
    p.gamma = global<const float>(call.in[S::kGamma], "gamma");
    p.beta = global<const float>(call.in[S::kBeta], "beta");
    p.out = global<Out>(call.out, "out");
    float* const scratch = static_cast<float*>(call.scratch);
    p.mean = global<float>(scratch, sizes.moments, "scratch mean");
    p.squares = global<float>(scratch + sizes.moments, sizes.moments, "scratch squares");
    p.x_rows = row_map(x);
    p.x2_rows = row_map(x2);
    p.out_rows = row_map(call.out);
    p.pixels = uint32_t(sizes.pixels);
    p.chunk = uint32_t(sizes.chunk);
    p.chunks = uint32_t(sizes.chunks);
    p.applied = uint32_t(sizes.applied);
    p.groups = uint32_t(attrs.groups);
    p.first_channels = x.channels();
    p.channels = call.out.channels();
    p.eights = blocks_for(p.channels, 8);
    p.lanes = p.eights < kThreads ? kThreads / p.eights : 1;
    p.parts = parts_for(p.groups);
    p.eps = attrs.eps;
    p.vectors = rows_of_eights(x) && rows_of_eights(x2) && rows_of_eights(call.out) &&
                rows_of_eights(call.in[S::kGamma]) && rows_of_eights(call.in[S::kBeta]);
    p.silu = silu;
    const uint32_t samples = uint32_t(call.out.shape[0]);
    if (sizes.given) {
      p.count = global<float>(scratch + 2 * sizes.moments, sizes.moments, "scratch count");
      p.given[0] = slabs_of(call.in[S::kMoments], "moments");
      p.given[1] = slabs_of(call.in[S::kMoments2], "moments2");
      p.run = groups_of_run(p.groups, p.channels / p.groups);
      // A warp takes channels of one slab; and reads a group's from banks that follow upon each other, lane after lane.
      const uint32_t width = uint32_t(p.channels / p.groups), channels = p.run * width;
      p.run_step = uint32_t(round_up(channels, kWarp));
      p.run_pitch = channels + (width + kWarp - channels % kWarp) % kWarp;
      p.run_lanes = p.run_step < kThreads ? kThreads / p.run_step : 1;
      p.run_parts = parts_for(p.run);
      launch_grid(stream, "group_norm_combine", {p.chunks, blocks_for(p.groups, p.run), samples}, kThreads,
                  size_t(p.run_lanes * p.run_pitch) * 3 * sizeof(float), combine<In, Out>, p);
    } else {
      launch_grid(stream, "group_norm_statistics", {p.chunks, samples}, kThreads,
                  size_t(p.lanes) * size_t(p.channels) * 2 * sizeof(float), statistics<In, Out>, p);
    }
    launch_grid(stream, "group_norm_apply", {blocks_for(sizes.pixels, sizes.applied), samples}, kThreads, 0,
                apply<In, Out>, p);
  });
}
void enqueue_plain(const KernelCall& call, const Stream& stream) {
  enqueue(call, stream, call.attributes<GroupNormAttrs>(), false);
}
void enqueue_silu(const KernelCall& call, const Stream& stream) {
  enqueue(call, stream, call.attributes<GroupNormSiluAttrs>(), true);
}

}  // namespace

extern const KernelDef group_norm_sm80, group_norm_silu_sm80;
const KernelDef group_norm_sm80 = {
    .op = OpKind::group_norm,
    .variant = "sm80",
    .isa = Isa::sm80,
    .reject = reject_op<GroupNormAttrs>,
    .scratch_bytes = scratch_bytes<GroupNormAttrs>,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .enqueue = enqueue_plain,
};
const KernelDef group_norm_silu_sm80 = {
    .op = OpKind::group_norm_silu,
    .variant = "sm80",
    .isa = Isa::sm80,
    .reject = reject_op<GroupNormSiluAttrs>,
    .scratch_bytes = scratch_bytes<GroupNormSiluAttrs>,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .enqueue = enqueue_silu,
};

}  // namespace darkroom::kernels
