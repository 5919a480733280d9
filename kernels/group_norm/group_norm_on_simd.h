// On any instruction set: group_norm and group_norm_silu in two readings of x, the first for the statistics, the second for the result;
// group_norm_stats is the first alone.
//
//   chunks    a sample's pixels in runs of about 32 Ki elements, which stay in L2: the size follows from the shape of one
//             sample alone, so that neither the team nor the batch changes a bit
//   1. chunk  per channel the mean (f32), then Σd and Σd² of the deviations from it, while the chunk is in L2; per group
//             the mean and the sum of square deviations, in double
//   2. group  Chan's combination of the chunks, in double; per channel what the last pass needs
//   3. row    y = (x − mean) · scale + shift: the subtraction comes first, so that a large mean does no harm
//
// Where the kernels that wrote x left its moments (KernelCall::moments), these are the chunks, and x is not read for the statistics:
//
//   1. vector of channels   the mean of all slabs, then the sum of square deviations around it
//   2. group                its channels, in double
//
// Source of the combination: Chan, Golub, LeVeque, Updating Formulae and a Pairwise Algorithm for Sample Variances (1979).
//
// Simd is what an instruction set brings: Lanes of simd_avx2.h, simd_avx512.h. Every function here is static: each translation
// unit, compiled for its own instruction set, has its own.
#pragma once

#include <immintrin.h>

#include <cstring>
#include <type_traits>

#include "kernels/core/kernel.h"
#include "kernels/core/reject.h"
#include "kernels/core/rows.h"

namespace darkroom::kernels {
namespace {

constexpr int64_t kChunkElements = 32 << 10;

inline int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

struct Tiling {
  int64_t B, pixels, C, C1, G;
  int64_t rows;    // pixels of a chunk
  int64_t chunks;  // of a sample
  int64_t padded;  // C rounded up to cache lines, and one more: vectors may reach beyond the last channel
};

inline Tiling tiling(const KernelCall& call, int groups) {
  Tiling t;
  t.B = call.out.shape[0];
  t.pixels = call.in[GroupNormAttrs::kX].rows() / t.B;
  t.C = call.in[GroupNormAttrs::kGamma].channels();
  t.C1 = call.in[GroupNormAttrs::kX].channels();
  t.G = groups;
  t.rows = kChunkElements / t.C;
  t.rows = t.rows < 8 ? 8 : t.rows;
  t.chunks = (t.pixels + t.rows - 1) / t.rows;
  t.padded = round_up(t.C, 16) + 16;
  return t;
}

// The moments of a group in a chunk.
struct Moments {
  double mean, squares;
};

// Shared by the team: moments [B][chunks][G] (of given ones, by channel [B][3][padded]), then mean, scale, shift [B][3][padded].
// Each member's own: [3][padded].
struct Scratch {
  Moments* moments;
  float* by_channel;  // in the same place
  float* coefficients;
  float* own;

  static size_t moment_bytes(const Tiling& t) {
    const int64_t of_chunks = t.chunks * t.G * int64_t(sizeof(Moments)),
                  of_channels = 3 * t.padded * int64_t(sizeof(float));
    return size_t(round_up(t.B * (of_chunks > of_channels ? of_chunks : of_channels), 64));
  }
  static size_t bytes(const Tiling& t, int team) {
    return moment_bytes(t) + size_t((t.B + team) * 3 * t.padded) * sizeof(float);
  }
  Scratch(const Tiling& t, void* base, int index) {
    moments = static_cast<Moments*>(base);
    by_channel = static_cast<float*>(base);
    coefficients = reinterpret_cast<float*>(static_cast<char*>(base) + moment_bytes(t));
    own = coefficients + (t.B + index) * 3 * t.padded;
  }
};

// Calls segment(x of the row, first channel, channels) for the one or two sources of row r.
template <typename In, typename Segment>
inline void for_segments(const KernelCall& call, const Tiling& t, int64_t r, Segment segment) {
  const TensorView& x = call.in[GroupNormAttrs::kX];
  segment(x.as<In>() + row_offset(x, r), int64_t(0), t.C1);
  if (t.C1 == t.C) return;
  const TensorView& x2 = call.in[GroupNormAttrs::kX2];
  segment(x2.as<In>() + row_offset(x2, r), t.C1, t.C - t.C1);
}

// Σ over R rows of x − mean, and of its square, are added to sums and squares, each [C]; without a mean only Σ x to sums.
// Lanes beyond the n channels count as zero and change nothing. With a mean what lies `ahead` elements behind x comes to L2: the
// second reading of a chunk leaves memory time for the first of the next.
template <typename Simd, int R, typename In>
inline void add_rows(const In* const (&x)[R], int64_t n, const float* mean, float* sums, float* squares,
                     int64_t ahead) {
  using Vector = typename Simd::Vector;
  for (int64_t c = 0; c < n; c += Simd::kLanes) {
    const int64_t lanes = n - c;
    Vector sum = Simd::load(sums + c), square = mean ? Simd::load(squares + c) : sum;
    const Vector m = mean ? Simd::load(mean + c, lanes) : Simd::set(0.0f);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      if (mean) _mm_prefetch(reinterpret_cast<const char*>(x[r] + c + ahead), _MM_HINT_T1);
      const Vector d = Simd::load(x[r] + c, lanes) - m;
      sum = sum + d;
      square = Simd::fmadd(d, d, square);
    }
    Simd::store(sums + c, sum);
    if (mean) Simd::store(squares + c, square);
  }
}

// The same for all rows of a chunk, four at a time: the sums then travel to memory and back a quarter as often.
template <typename Simd, typename In>
void add_chunk(const KernelCall& call, const Tiling& t, int64_t begin, int64_t rows, const float* mean, float* sums,
               float* squares) {
  const auto add_source = [&](const TensorView& x, int64_t first, int64_t n) {
    const float* m = mean ? mean + first : nullptr;
    const auto row = [&](int64_t r) { return x.as<In>() + row_offset(x, r); };
    const int64_t ahead = rows * x.stride[size_t(x.rank()) - 2];
    int64_t r = begin;
    for (; r + 4 <= begin + rows; r += 4)
      add_rows<Simd, 4, In>({row(r), row(r + 1), row(r + 2), row(r + 3)}, n, m, sums + first, squares + first, ahead);
    for (; r < begin + rows; ++r) add_rows<Simd, 1, In>({row(r)}, n, m, sums + first, squares + first, ahead);
  };
  add_source(call.in[GroupNormAttrs::kX], 0, t.C1);
  if (t.C1 < t.C) add_source(call.in[GroupNormAttrs::kX2], t.C1, t.C - t.C1);
}

template <typename Simd, typename In>
void chunk_moments(const KernelCall& call, const Tiling& t, int64_t b, int64_t chunk, float* own, Moments* moments) {
  const int64_t begin = b * t.pixels + chunk * t.rows;
  const int64_t rows = (chunk + 1) * t.rows < t.pixels ? t.rows : t.pixels - chunk * t.rows;
  float *mean = own, *deviations = own + t.padded, *squares = own + 2 * t.padded;
  memset(own, 0, size_t(3 * t.padded) * sizeof(float));
  add_chunk<Simd, In>(call, t, begin, rows, nullptr, mean, squares);
  const typename Simd::Vector inverse = Simd::set(1.0f / float(rows));
  for (int64_t c = 0; c < t.padded; c += Simd::kLanes) Simd::store(mean + c, Simd::load(mean + c) * inverse);
  add_chunk<Simd, In>(call, t, begin, rows, mean, deviations, squares);

  const int64_t channels = t.C / t.G;
  const double n = double(rows), of_group = double(channels);
  for (int64_t g = 0; g < t.G; ++g) {
    double sum = 0;
    for (int64_t c = g * channels; c < (g + 1) * channels; ++c) sum += double(mean[c]) + double(deviations[c]) / n;
    const double group_mean = sum / of_group;
    double total = 0;
    for (int64_t c = g * channels; c < (g + 1) * channels; ++c) {
      // Around the group's mean: Σ(x−μ)² = Σd² + 2·(m−μ)·Σd + n·(m−μ)².
      const double offset = double(mean[c]) - group_mean;
      total += double(squares[c]) + 2 * offset * double(deviations[c]) + n * offset * offset;
    }
    moments[g] = {group_mean, total};
  }
}

// What the slabs of one sample say of `lanes` channels from c on: to[0] + to[padded] is their mean, to[2 padded] the sum of square
// deviations from it. The mean is a distance from that of the first slab, so that a large one costs no digits.
template <typename Simd>
void add_slabs(const TensorView& slabs, int64_t b, int64_t c, int64_t lanes, float* to, int64_t padded) {
  using Vector = typename Simd::Vector;
  const int64_t n = slabs.shape[1], row = slabs.stride[2];
  const float* first = slabs.as<float>() + b * slabs.stride[0] + c;
  const Vector base = Simd::load(first + row, lanes);
  Vector count = Simd::set(0.0f), sum = count, squares = count;
  for (int64_t i = 0; i < n; ++i) {
    const float* slab = first + i * slabs.stride[1];
    const Vector pixels = Simd::load(slab, lanes);
    count = count + pixels;
    sum = Simd::fmadd(pixels, Simd::load(slab + row, lanes) - base, sum);
  }
  float of_counts[16], offset[16];
  Simd::store(of_counts, count);
  Simd::store(offset, sum);
  for (int64_t i = 0; i < lanes; ++i) offset[i] /= of_counts[i];
  const Vector mean = Simd::load(offset, lanes);
  for (int64_t i = 0; i < n; ++i) {
    const float* slab = first + i * slabs.stride[1];
    const Vector d = (Simd::load(slab + row, lanes) - base) - mean;
    squares = Simd::fmadd(Simd::load(slab, lanes) * d, d, squares + Simd::load(slab + 2 * row, lanes));
  }
  Simd::store(to, base, lanes);
  Simd::store(to + padded, mean, lanes);
  Simd::store(to + 2 * padded, squares, lanes);
}

// All channels of all samples; the vectors of channels are shared out.
template <typename Simd>
void given_moments(const KernelCall& call, const Team& team, const Tiling& t, const Scratch& scratch) {
  int64_t first_channel = 0;
  for (const int slot : {GroupNormAttrs::kMoments, GroupNormAttrs::kMoments2}) {
    const TensorView& slabs = call.in[slot];
    if (!slabs.present()) continue;
    const int64_t C = slabs.channels(), vectors = (C + Simd::kLanes - 1) / Simd::kLanes;
    const auto [first, last] = team.range(t.B * vectors);
    for (int64_t i = first; i < last; ++i) {
      const int64_t b = i / vectors, c = i % vectors * Simd::kLanes,
                    lanes = C - c < Simd::kLanes ? C - c : Simd::kLanes;
      add_slabs<Simd>(slabs, b, c, lanes, scratch.by_channel + b * 3 * t.padded + first_channel + c, t.padded);
    }
    first_channel += C;
  }
}

// Mean, scale and shift of the channels of one group, to rows `stride` floats apart.
inline void write_coefficients(const KernelCall& call, const Tiling& t, float eps, int64_t g, double mean,
                               double variance, float* to, int64_t stride) {
  const float *gamma = call.in[GroupNormAttrs::kGamma].as<float>(), *beta = call.in[GroupNormAttrs::kBeta].as<float>();
  const int64_t channels = t.C / t.G;
  const double scale = 1.0 / __builtin_sqrt((variance < 0 ? 0.0 : variance) + double(eps));
  const float rounded = float(mean);
  for (int64_t c = g * channels; c < (g + 1) * channels; ++c) {
    const double a = scale * double(gamma[c]);
    to[c] = rounded;
    to[stride + c] = float(a);
    to[2 * stride + c] = float(double(beta[c]) - (mean - double(rounded)) * a);
  }
}

// The same where the moments were given.
inline void combine_channels(const KernelCall& call, const Tiling& t, float eps, int64_t b, int64_t g,
                             const float* by_channel, float* to, int64_t stride) {
  const float *base = by_channel + b * 3 * t.padded, *offset = base + t.padded, *squares = offset + t.padded;
  const int64_t channels = t.C / t.G, begin = g * channels, end = begin + channels;
  double sum = 0, total = 0;
  for (int64_t c = begin; c < end; ++c) sum += double(base[c]) + double(offset[c]);
  const double mean = sum / double(channels), pixels = double(t.pixels);
  for (int64_t c = begin; c < end; ++c) {
    const double d = double(base[c]) + double(offset[c]) - mean;
    total += double(squares[c]) + pixels * d * d;
  }
  write_coefficients(call, t, eps, g, mean, total / (pixels * double(channels)), to, stride);
}

// Of the chunks.
inline void combine(const KernelCall& call, const Tiling& t, float eps, int64_t b, int64_t g, const Moments* moments,
                    float* to, int64_t stride) {
  const int64_t channels = t.C / t.G;
  double mean = 0, squares = 0, count = 0;
  for (int64_t chunk = 0; chunk < t.chunks; ++chunk) {
    const Moments& m = moments[(b * t.chunks + chunk) * t.G + g];
    const int64_t rows = (chunk + 1) * t.rows < t.pixels ? t.rows : t.pixels - chunk * t.rows;
    const double n = double(rows * channels), delta = m.mean - mean, total = count + n;
    mean += delta * n / total;
    squares += m.squares + delta * delta * count * n / total;
    count = total;
  }
  write_coefficients(call, t, eps, g, mean, squares / count, to, stride);
}

// Mean, scale and shift of every channel: sample b's rows at to + b · sample, `stride` floats apart. The team's members may
// return before the others.
template <typename Simd, typename In>
void statistics(const KernelCall& call, const Team& team, const GroupNormAttrs& attrs, const Tiling& t,
                const Scratch& scratch, float* to, int64_t sample, int64_t stride) {
  const bool given = call.in[GroupNormAttrs::kMoments].present();
  if (given) {
    given_moments<Simd>(call, team, t, scratch);
  } else {
    const auto [first, last] = team.range(t.B * t.chunks);
    for (int64_t i = first; i < last; ++i)
      chunk_moments<Simd, In>(call, t, i / t.chunks, i % t.chunks, scratch.own, scratch.moments + i * t.G);
  }
  team.sync();
  const auto [first, last] = team.range(t.B * t.G);
  for (int64_t i = first; i < last; ++i) {
    const int64_t b = i / t.G, g = i % t.G;
    if (given)
      combine_channels(call, t, attrs.eps, b, g, scratch.by_channel, to + b * sample, stride);
    else
      combine(call, t, attrs.eps, b, g, scratch.moments, to + b * sample, stride);
  }
}

template <typename Simd, bool kSilu, typename In, typename Out>
void run(const KernelCall& call, const Team& team, const GroupNormAttrs& attrs) {
  const Tiling t = tiling(call, attrs.groups);
  const Scratch scratch(t, call.scratch, team.index);
  statistics<Simd, In>(call, team, attrs, t, scratch, scratch.coefficients, 3 * t.padded, t.padded);
  team.sync();
  const auto [first, last] = team.range(t.B * t.pixels);
  for (int64_t r = first; r < last; ++r) {
    const float* mean = scratch.coefficients + r / t.pixels * 3 * t.padded;
    Out* out = call.out.as<Out>() + row_offset(call.out, r);
    for_segments<In>(call, t, r, [&](const In* x, int64_t begin, int64_t n) {
      const float *m = mean + begin, *scale = m + t.padded, *shift = scale + t.padded;
      const auto value = [&](int64_t c, auto... lanes) {
        const auto d = Simd::load(x + c, lanes...) - Simd::load(m + c, lanes...);
        const auto y = Simd::fmadd(d, Simd::load(scale + c, lanes...), Simd::load(shift + c, lanes...));
        return kSilu ? Simd::silu(y) : y;
      };
      int64_t c = 0;
      for (; c + Simd::kLanes <= n; c += Simd::kLanes) Simd::store(out + begin + c, value(c));
      if (c < n) Simd::store(out + begin + c, value(c, n - c), n - c);
    });
  }
}

template <typename Simd, bool kSilu>
void dispatch(const KernelCall& call, const Team& team, const GroupNormAttrs& attrs) {
  const bool out_f32 = call.out.dtype == DType::f32;
  if (call.in[GroupNormAttrs::kX].dtype == DType::f32)
    return out_f32 ? run<Simd, kSilu, float, float>(call, team, attrs)
                   : run<Simd, kSilu, float, bf16_t>(call, team, attrs);
  return out_f32 ? run<Simd, kSilu, bf16_t, float>(call, team, attrs)
                 : run<Simd, kSilu, bf16_t, bf16_t>(call, team, attrs);
}

inline const char* reject(const KernelCall& call) {
  const TensorView &x = call.in[GroupNormAttrs::kX], &x2 = call.in[GroupNormAttrs::kX2];
  if (!is_activation_type(call.out.dtype) || !is_activation_type(x.dtype)) return "x and out must be f32 or bf16";
  if (x2.present() && x2.dtype != x.dtype) return "both sources must be of one dtype";
  return nullptr;
}

template <typename Attrs>
size_t scratch_bytes(const KernelCall& call, int team) {
  return Scratch::bytes(tiling(call, call.attributes<Attrs>().groups), team);
}

template <typename Simd>
void launch(const KernelCall& call, const Team& team) {
  dispatch<Simd, false>(call, team, call.attributes<GroupNormAttrs>());
}
template <typename Simd>
void launch_silu(const KernelCall& call, const Team& team) {
  dispatch<Simd, true>(call, team, call.attributes<GroupNormSiluAttrs>());
}

template <typename Simd>
void launch_stats(const KernelCall& call, const Team& team) {
  const auto& attrs = call.attributes<GroupNormStatsAttrs>();
  const Tiling t = tiling(call, attrs.groups);
  const Scratch scratch(t, call.scratch, team.index);
  const auto run_as =
      call.in[GroupNormAttrs::kX].dtype == DType::f32 ? statistics<Simd, float> : statistics<Simd, bf16_t>;
  run_as(call, team, attrs, t, scratch, call.out.as<float>(), call.out.stride[0], call.out.stride[1]);
}

inline const char* reject_stats(const KernelCall& call) {
  return call.out.dtype == DType::f32 ? reject(call) : "out must be f32";
}

// One kernel for each of the three ops.
template <typename Simd, typename Attrs>
constexpr KernelDef kernel_of(OpKind op, const char* variant, Isa isa) {
  constexpr bool kStats = std::is_same_v<Attrs, GroupNormStatsAttrs>,
                 kIsSilu = std::is_same_v<Attrs, GroupNormSiluAttrs>;
  return {
      .op = op,
      .variant = variant,
      .isa = isa,
      .reject = kStats ? reject_stats : reject,
      .scratch_bytes = scratch_bytes<Attrs>,
      .pack_format = {},
      .packed_bytes = nullptr,
      .pack = nullptr,
      .launch = kStats    ? launch_stats<Simd>
                : kIsSilu ? launch_silu<Simd>
                          : launch<Simd>,
  };
}

}  // namespace
}  // namespace darkroom::kernels
