// The frame of the CPU's GEMM kernels, for gemm, matmul and conv2d on every instruction set: prologue → micro-kernel →
// epilogue.
//
//   out[m, n] = epilogue( Σ_k A[m, k] · W[n, k] )
//
// The method is that of Goto and van de Geijn (Anatomy of High-Performance Matrix Multiplication, 2008), with one change:
// A is not transposed while it is packed. The prologue copies (gathers, converts) a block of A, MC rows × KC, row by row
// into scratch that stays in L2; the micro-kernel broadcasts from its rows. A row-wise copy runs at the speed of memcpy: in f32
// packing costs 1-3 % even where N is only 128. AMX is so fast that it costs up to a third (gemm/NOTES.md): there A is read where
// it lies, if it can be. A convolution needs no im2col buffer.
//
//   weights   panels of kNr output channels, [panel][K / kGroup][kNr][kGroup]; kGroup is how many products a lane adds at
//             once (1 in f32, 2 for pairs of bf16). With GEGLU a panel holds kNr/2 value channels and their gates, so
//             that both halves meet in one tile.
//   threads   items of rows × panels, cut by partition().
//
// An output element is the sum over blocks of KC, in order, of sums of KC products, in order. KC follows from K and the
// core alone: the bits of the result depend neither on the number of threads nor on what else is in the batch.
//
// What an instruction set brings is a core, gemm_core_*.h: a struct with
//
//   Cell, Sum                          element of the copied A, and of a tile of sums
//   kMr, kNr                           the tile of the micro-kernel
//   kGroup, kUnit                      as above; K is padded with zeros to whole units, a multiple of groups
//   kMaxKc, kMaxMc, kMaxNcPanels       limits of the blocks: elements of K, rows, panels
//   kHeldRows                          rows of copied A that there is room for, at least kMaxMc: of one block's several chunks of K
//   kAbreast, kAbreastOfSums           how many panels are computed in turn for each tile of rows, so that what is stored lies together: where K
//                                      is one block, and in the last of several. 1: a panel of weights stays in L1 for all rows
//   kLda                               cells from one row of the copied A to the next
//   kCycles                            estimated cycles for one row of one panel and one k
//   packed_type(stored)                the type that weights of a stored type are packed in
//   kReadsRows                         whether it can read rows of A where they lie; it does where they lie evenly and K is one block. A core
//                                      that cannot has the rows it copies next fetched while it computes
//   micro_kernel(packed, rows, abreast)   for tiles of 1 to kMr rows, a MicroKernel<Core>; where panels change with every tile or not
//   copy(from, n, to)                  n elements, f32 or bf16, to cells (not in int8: gemm_int8.h)
//   store_tile<Out>(store, table, tile, row, rows, panel)    the epilogue of a tile
//
// Every function here is static: each translation unit, compiled for its own instruction set, has its own.
#pragma once

#include <immintrin.h>

#include <cstring>
#include <type_traits>

#include "kernels/core/kernel.h"
#include "kernels/core/rows.h"

namespace darkroom::gemm_frame {

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// n cut into the fewest equal pieces of at most `limit`, each a multiple of `unit`.
static inline int64_t even_block(int64_t n, int64_t limit, int64_t unit) {
  return n <= 0 ? unit : round_up(ceil_div(n, ceil_div(n, limit)), unit);
}

// Whether a core multiplies int8: its sums are whole numbers.
template <typename Core>
inline constexpr bool kInt8 = std::is_same_v<typename Core::Sum, int32_t>;

// c [rows, kNr] = (accumulate ? c : 0) + a [rows, k] (row stride kLda) · w [k / kGroup, kNr, kGroup]; k is a multiple of kUnit.
template <typename Core>
using MicroKernelOf = void (*)(const typename Core::Cell* a, const void* w, int64_t k, typename Core::Sum* c,
                               bool accumulate);
// The same with rows of A `stride` cells apart; it may read sixteen rows where there are fewer.
template <typename Core>
using RowKernelOf = void (*)(const typename Core::Cell* a, int64_t stride, const void* w, int64_t k,
                             typename Core::Sum* c, bool accumulate);
template <typename Core>
using MicroKernel = std::conditional_t<Core::kReadsRows, RowKernelOf<Core>, MicroKernelOf<Core>>;

// --- weights ----------------------------------------------------------------------------------------------------------

// Output channels are padded with zeros to whole panels, K to whole units.
template <typename Core>
static int64_t panels_of(int64_t channels, bool geglu) {
  return geglu ? ceil_div(channels / 2, Core::kNr / 2) : ceil_div(channels, Core::kNr);
}
template <typename Core>
static size_t panel_bytes(int64_t k, DType stored) {
  return size_t(round_up(k, Core::kUnit) * Core::kNr) * dtype_size(Core::packed_type(stored));
}
template <typename Core>
static size_t packed_bytes(int64_t channels, int64_t k, bool geglu, DType stored) {
  return size_t(panels_of<Core>(channels, geglu)) * panel_bytes<Core>(k, stored);
}

// Which output channel lane `lane` of a panel holds; -1 where it is padding.
template <typename Core>
static int64_t channel_of(int64_t panel, int64_t lane, int64_t channels, bool geglu) {
  if (!geglu) {
    const int64_t n = panel * Core::kNr + lane;
    return n < channels ? n : -1;
  }
  const int64_t n = panel * (Core::kNr / 2) + lane % (Core::kNr / 2);
  if (n >= channels / 2) return -1;
  return lane < Core::kNr / 2 ? n : n + channels / 2;
}

// Any stored element in any weight type; the same type on both sides keeps the bits.
static inline void convert_element(const void* from, DType from_type, int64_t i, void* to, DType to_type, int64_t j) {
  if (from_type == to_type) {
    const size_t size = dtype_size(to_type);
    memcpy(static_cast<char*>(to) + size_t(j) * size, static_cast<const char*>(from) + size_t(i) * size, size);
    return;
  }
  float x = 0;
  if (from_type == DType::f32) x = static_cast<const float*>(from)[i];
  if (from_type == DType::f16) x = to_float(static_cast<const f16_t*>(from)[i]);
  if (from_type == DType::bf16) x = to_float(static_cast<const bf16_t*>(from)[i]);
  if (to_type == DType::f32) static_cast<float*>(to)[j] = x;
  if (to_type == DType::f16) static_cast<f16_t*>(to)[j] = to_f16(x);
  if (to_type == DType::bf16) static_cast<bf16_t*>(to)[j] = to_bf16(x);
}

// Where element k of a panel's lane lies, in elements from the panel's beginning.
template <typename Core>
static int64_t place_in_panel(int64_t k, int64_t lane) {
  return (k / Core::kGroup * Core::kNr + lane) * Core::kGroup + k % Core::kGroup;
}

// Packs `parts`, dense tensors of `inner` inputs × `taps` (1 for linear layers; KH·KW for O I KH KW kernels), stacked along
// the output channels. K runs over (tap, input). Rows of parts that lie beyond `channels` are not read.
template <typename Core>
static void pack_panels(std::span<const TensorView> parts, int64_t channels, int64_t inner, int64_t taps, bool geglu,
                        DType stored, void* packed, const Team& team) {
  const int64_t panels = panels_of<Core>(channels, geglu);
  const size_t bytes = panel_bytes<Core>(inner * taps, stored);
  for (int64_t panel = panels * team.index / team.count; panel < panels * (team.index + 1) / team.count; ++panel) {
    char* block = static_cast<char*>(packed) + size_t(panel) * bytes;
    memset(block, 0, bytes);
    for (int64_t lane = 0; lane < Core::kNr; ++lane) {
      int64_t n = channel_of<Core>(panel, lane, channels, geglu);
      if (n < 0) continue;
      size_t part = 0;
      while (part < parts.size() && n >= parts[part].shape[0]) n -= parts[part++].shape[0];
      if (part == parts.size()) continue;
      for (int64_t tap = 0; tap < taps; ++tap)
        for (int64_t c = 0; c < inner; ++c)
          convert_element(parts[part].data, parts[part].dtype, (n * inner + c) * taps + tap, block,
                          Core::packed_type(stored), place_in_panel<Core>(tap * inner + c, lane));
    }
  }
  team.sync();
}

// --- epilogue ---------------------------------------------------------------------------------------------------------

// Offsets of rows [first, first + count). Uniform rows, the common case, need no divisions.
static inline void row_offsets(const TensorView& v, int64_t first, int64_t count, int64_t* offset) {
  if (v.rows_uniform()) {
    const int64_t step = v.row_stride();
    for (int64_t i = 0; i < count; ++i) offset[i] = (first + i) * step;
  } else {
    for (int64_t i = 0; i < count; ++i) offset[i] = row_offset(v, first + i);
  }
}

// Where the rows of the block at hand go, and what is added to them.
template <typename Core>
struct RowTable {
  int64_t out[Core::kMaxMc];
  int64_t residual[Core::kMaxMc];
  const float* row_bias[Core::kMaxMc];
};

struct Store {
  TensorView out, bias, row_bias, residual;  // any but out may be absent
  int64_t rows_per_sample = 1;               // rows that share one row of row_bias
  Activation activation = Activation::none;
  bool geglu = false;
  float alpha = 1.0f;  // scales the sum first of all (matmul)
};

template <typename Core>
static void fill_row_table(const Store& s, int64_t first, int64_t count, RowTable<Core>& table) {
  row_offsets(s.out, first, count, table.out);
  if (s.residual.present()) row_offsets(s.residual, first, count, table.residual);
  if (s.row_bias.present()) {
    int64_t sample = first / s.rows_per_sample, next = (sample + 1) * s.rows_per_sample;
    for (int64_t i = 0; i < count; ++i) {
      if (first + i == next) ++sample, next += s.rows_per_sample;
      table.row_bias[i] = static_cast<const float*>(s.row_bias.data) + sample * s.row_bias.stride[0];
    }
  }
}

// What the epilogue of a tile will read and write comes to L1 while its products are computed: rows lie far apart, no hardware
// prefetcher follows.
template <typename Core>
static void prefetch_tile(const Store& s, const RowTable<Core>& table, int64_t row, int64_t rows, int64_t panel) {
  const int64_t width = s.geglu ? Core::kNr / 2 : Core::kNr, element = int64_t(dtype_size(s.out.dtype));
  const auto fetch = [&](const TensorView& v, const int64_t* offset) {
    const char* first = v.as<char>() + panel * width * element;
    for (int64_t r = row; r < row + rows; ++r)
      for (int64_t i = 0; i < width * element; i += 64) _mm_prefetch(first + offset[r] * element + i, _MM_HINT_T0);
  };
  fetch(s.out, table.out);
  if (s.residual.present()) fetch(s.residual, table.residual);
}

// --- prologue ---------------------------------------------------------------------------------------------------------

// All rows of A where they lie in memory as those of a matrix, `step` bytes apart. Null where they do not.
struct LyingRows {
  const char* first = nullptr;
  int64_t step = 0;
  DType dtype = DType::f32;

  explicit operator bool() const { return first != nullptr; }
};
template <typename Prologue>
static LyingRows lying_rows(const Prologue&) {
  return {};
}

// Prologue of gemm and matmul: rows of a matrix.
template <typename Core>
struct MatrixRows {
  TensorView a;
  int64_t rows;
  int64_t offset[Core::kMaxMc];
};
template <typename Core>
static void begin(MatrixRows<Core>& p, int64_t first, int64_t rows) {
  p.rows = rows;
  row_offsets(p.a, first, rows, p.offset);
}
template <typename Core>
static LyingRows lying_rows(const MatrixRows<Core>& p) {
  if (!p.a.rows_uniform()) return {};
  return {p.a.template as<char>(), p.a.row_stride() * int64_t(dtype_size(p.a.dtype)), p.a.dtype};
}
template <typename Core>
static void gather(const MatrixRows<Core>& p, int64_t k_begin, int64_t k_end, typename Core::Cell* block) {
  for (int64_t r = 0; r < p.rows; ++r) {
    const int64_t from = p.offset[r] + k_begin;
    if (p.a.dtype == DType::bf16)
      Core::copy(static_cast<const bf16_t*>(p.a.data) + from, k_end - k_begin, block + r * Core::kLda);
    else
      Core::copy(static_cast<const float*>(p.a.data) + from, k_end - k_begin, block + r * Core::kLda);
  }
}

// --- the loops around -------------------------------------------------------------------------------------------------

struct Product {
  int64_t m = 0, k = 0;
  int64_t panels = 0;
  const void* weight = nullptr;    // as pack_panels() wrote it
  DType weight_type = DType::f32;  // as it is stored
};

// The work as items that members take (Items of team.h): blocks of rows × groups of panels. Strips of panels follow each other, in a
// strip blocks, in a block groups, so that a member's own items have rows or weights in common.
struct Partition {
  int64_t mc, blocks;    // rows of a block
  int64_t strips;        // of panels
  int64_t nc, groups;    // panels of a group; groups of a strip, at most
  int64_t strip_panels;  // at most
  int64_t kc, chunks;    // of K
  bool holds;            // all chunks of a block of A at a time: it is gathered once for all groups

  int64_t items() const { return strips * blocks * groups; }
};

// Takes the grid of members with the least estimated time for the largest rectangle, in cycles: arithmetic, copying A, and the part
// of reading the weights that arithmetic does not hide. Rows are split first where there are many of them; the deep layers
// (few pixels, thousands of channels) split the channels, so that each weight is read from memory once.
template <typename Core>
static Partition partition(const Product& p, int team) {
  constexpr int64_t kMr = Core::kMr;
  const int64_t tiles = ceil_div(p.m, kMr);
  const double read = 0.1 * double(panel_bytes<Core>(p.k, p.weight_type)) / double(p.k);
  int64_t by_rows = 1;
  double best_cost = 0;
  for (int64_t i = 1; i <= team; ++i) {
    if (team % i != 0) continue;
    const int64_t rows = ceil_div(tiles, i) * kMr;
    const double panels = double(ceil_div(p.panels, team / i));
    const double cost = double(rows) * panels * Core::kCycles + 0.3 * double(rows) +
                        double(ceil_div(rows, Core::kMaxMc)) * panels * read;
    if (i == 1 || cost < best_cost) best_cost = cost, by_rows = i;
  }
  Partition d;
  d.kc = even_block(p.k, Core::kMaxKc, Core::kUnit > 8 ? Core::kUnit : 8);
  d.chunks = ceil_div(p.k, d.kc);
  d.strips = smaller(team / by_rows, p.panels);
  d.strip_panels = ceil_div(p.panels, d.strips);
  // Enough items that the last ones do not matter: smaller blocks, down to half, where members share out rows; then smaller groups
  // where A is held.
  const int64_t rows = ceil_div(tiles, by_rows) * kMr, enough = team == 1 ? 1 : 8;
  d.mc = even_block(rows, by_rows > 1 && rows < 4 * Core::kMaxMc ? Core::kMaxMc / 2 : Core::kMaxMc, kMr);
  d.blocks = ceil_div(p.m, d.mc);
  d.holds = d.chunks * d.mc <= Core::kHeldRows;
  const int64_t limit = d.chunks == 1 ? d.strip_panels : smaller(Core::kMaxNcPanels, d.strip_panels);
  const int64_t wanted = d.holds ? ceil_div(d.strip_panels * ceil_div(d.blocks, by_rows), enough) : limit;
  d.nc = even_block(d.strip_panels, smaller(limit, wanted > 2 ? wanted : 2), 1);
  d.groups = ceil_div(d.strip_panels, d.nc);
  return d;
}

// One item: rows [m, m + rows) and panels [n, n_end) of the strip [strip_begin, strip_end). It is empty where n_end <= n.
struct Item {
  int64_t block, m, rows;
  int64_t strip_begin, strip_end, n, n_end;
};
static inline Item item_of(const Partition& d, const Product& p, int64_t number) {
  Item i;
  const int64_t strip = number / d.groups / d.blocks;
  i.block = number / d.groups % d.blocks;
  i.m = i.block * d.mc;
  i.rows = smaller(d.mc, p.m - i.m);
  i.strip_begin = p.panels * strip / d.strips;
  i.strip_end = p.panels * (strip + 1) / d.strips;
  i.n = i.strip_begin + number % d.groups * d.nc;
  i.n_end = smaller(i.n + d.nc, i.strip_end);
  return i;
}

// Work memory of one member: the block of A, and the partial sums where K takes more than one block.
template <typename Core>
static size_t scratch_bytes_per_member(int64_t k) {
  const size_t sums = k > Core::kMaxKc ? size_t(Core::kMaxMc * Core::kMaxNcPanels * Core::kNr) : 0;
  return size_t(Core::kHeldRows * Core::kLda) * sizeof(typename Core::Cell) + sums * sizeof(typename Core::Sum);
}

// A tile of sums as the epilogue wants them. Whole numbers need scales, which their prologue knows: gemm_int8.h.
template <typename Prologue>
static const float* finish_sums(const Prologue&, const float* tile, int64_t, int64_t, int64_t) {
  return tile;
}

// For a prologue that wants something of a tile that was stored: rows [row, row + rows) of the block that begins with row `first`.
template <typename Core, typename Prologue>
static void tile_stored(const Prologue&, const Store&, const RowTable<Core>&, int64_t, int64_t, int64_t, int64_t) {}

// The rows of A that are read next, or columns [k, k_end) of them: they come to L2 a few lines with each of `tiles` tiles.
struct NextRows {
  const char* first = nullptr;
  int64_t step = 0, bytes = 0, rows = 0;  // bytes from row to row, and of a row
  int64_t lines = 0;                      // with each tile
  int64_t row = 0, at = 0;

  NextRows() = default;
  NextRows(const LyingRows& all, int64_t row, int64_t rows, int64_t k, int64_t k_end, int64_t tiles)
      : first(all.first + row * all.step + k * int64_t(dtype_size(all.dtype))),
        step(all.step),
        bytes((k_end - k) * int64_t(dtype_size(all.dtype))),
        rows(rows),
        lines(ceil_div(rows * ceil_div(bytes, 64), tiles)) {}

  void fetch() {
    for (int64_t line = 0; line < lines && row < rows; ++line) {
      _mm_prefetch(first + row * step + at, _MM_HINT_T1);
      if ((at += 64) >= bytes) at = 0, ++row;
    }
  }
};

// What is read after a chunk of an item, while `tiles` tiles are computed: the next chunk of its rows, else the first of the next item's.
// Nothing where that is held; `gathered` chunks of these rows are.
static inline NextRows rows_after(const LyingRows& all, const Product& p, const Partition& d, const Item& item,
                                  int64_t next_block, int64_t chunk, int64_t gathered, int64_t tiles) {
  const bool same_rows = chunk + 1 < d.chunks && (!d.holds || chunk + 1 == gathered);
  if (!same_rows && d.holds && next_block == item.block) return {};
  const int64_t m = (same_rows ? item.block : next_block) * d.mc, k = same_rows ? (chunk + 1) * d.kc : 0;
  return NextRows(all, m, smaller(d.mc, p.m - m), k, smaller(k + d.kc, p.k), tiles);
}

// A prologue is a struct with two functions: begin(prologue, first row, rows) when a block of rows starts, then
// gather(prologue, k_begin, k_end, block), which writes those columns of these rows as cells, row stride kLda; and with
// lying_rows(prologue) where rows may need no gathering.
template <typename Core, typename Prologue>
static void run(const Product& p, const Store& store, Prologue& prologue, void* scratch, const Team& team) {
  using Cell = typename Core::Cell;
  using Sum = typename Core::Sum;
  constexpr int64_t kMr = Core::kMr, kNr = Core::kNr;
  if (p.m <= 0 || p.panels <= 0) return;

  const Partition d = partition<Core>(p, team.count);
  Cell* const a =
      reinterpret_cast<Cell*>(static_cast<char*>(scratch) + size_t(team.index) * scratch_bytes_per_member<Core>(p.k));
  Sum* sums = reinterpret_cast<Sum*>(a + Core::kHeldRows * Core::kLda);
  const DType packed = Core::packed_type(p.weight_type);
  const size_t panel_size = panel_bytes<Core>(p.k, p.weight_type), k_size = size_t(kNr) * dtype_size(packed);
  auto* store_tile = Core::template store_tile<float>;
  if (store.out.dtype == DType::bf16) store_tile = Core::template store_tile<bf16_t>;

  const auto weights = [&](int64_t panel, int64_t chunk) {
    return static_cast<const char*>(p.weight) + size_t(panel) * panel_size + size_t(chunk * d.kc) * k_size;
  };
  const LyingRows all = lying_rows(prologue);
  const bool reads_rows =
      Core::kReadsRows && all && all.dtype == DType::bf16 && d.chunks == 1 && p.k % Core::kUnit == 0;
  RowTable<Core> table;
  int64_t at = -1, gathered = 0;  // the block at hand, and how many of its chunks are held
  Items items(team, d.items());
  for (int64_t number; (number = items.take()) < d.items();) {
    const Item item = item_of(d, p, number);
    if (item.n >= item.n_end) continue;
    const int64_t tiles = ceil_div(item.rows, kMr), last_rows = item.rows - (tiles - 1) * kMr;
    const bool lies = reads_rows && last_rows % 16 == 0;
    if (item.block != at) {
      fill_row_table(store, item.m, item.rows, table);
      begin(prologue, item.m, item.rows);
      at = item.block;
      gathered = 0;
    }
    for (int64_t chunk = 0; chunk < d.chunks; ++chunk) {
      const int64_t k = chunk * d.kc, k_end = smaller(k + d.kc, p.k), depth = round_up(k_end - k, Core::kUnit);
      Cell* const copied = d.holds ? a + chunk * d.mc * Core::kLda : a;
      if (!lies && (!d.holds || chunk == gathered)) {
        gather(prologue, k, k_end, copied);
        for (int64_t r = 0; k_end - k < depth && r < item.rows; ++r)  // the weights there are zeros: so must these be
          memset(copied + r * Core::kLda + (k_end - k), 0, size_t(depth - (k_end - k)) * sizeof(Cell));
        gathered = chunk + 1;
      }
      NextRows next_rows;
      if (all && (lies || !Core::kReadsRows))
        next_rows = rows_after(all, p, d, item, (number + 1) / d.groups % d.blocks, chunk, gathered,
                               tiles * (item.n_end - item.n));
      const Cell* rows = copied;
      int64_t stride = Core::kLda;
      if constexpr (Core::kReadsRows)
        if (lies) {
          rows = reinterpret_cast<const Cell*>(all.first + item.m * all.step);
          stride = all.step / int64_t(sizeof(Cell));
        }
      const bool last_chunk = k_end == p.k;
      const int64_t most = !last_chunk ? 1 : d.chunks == 1 ? Core::kAbreast : Core::kAbreastOfSums;
      const int64_t abreast = smaller(most, item.n_end - item.n);
      const MicroKernel<Core> whole = Core::micro_kernel(packed, kMr, abreast > 1);
      const MicroKernel<Core> last = Core::micro_kernel(packed, last_rows, abreast > 1);
      for (int64_t first = item.n; first < item.n_end; first += abreast) {
        const int64_t end = smaller(first + abreast, item.n_end);
        // The next weights come to L2 meanwhile, a part with each tile: deep layers' come from memory. They are those of the next
        // panels, else the next chunk, else the next group.
        const int64_t next_chunk = end < item.n_end ? chunk : (chunk + 1) % d.chunks;
        const int64_t next_group = item.n_end < item.strip_end ? item.n_end : item.strip_begin;
        const int64_t next_first = end < item.n_end ? end : next_chunk > 0 ? item.n : next_group;
        const int64_t bytes = depth * int64_t(k_size), fetch = round_up(ceil_div(bytes, tiles), 64);
        for (int64_t t = 0; t < tiles; ++t)
          for (int64_t panel = first; panel < end; ++panel) {
            const char* next = weights(next_first + panel - first, next_chunk);
            for (int64_t i = t * fetch; i < smaller((t + 1) * fetch, bytes); i += 64)
              _mm_prefetch(next + i, _MM_HINT_T1);
            next_rows.fetch();
            alignas(64) Sum one_tile[kMr * kNr];
            Sum* tile = d.chunks == 1 ? one_tile : sums + ((panel - item.n) * tiles + t) * kMr * kNr;
            const int64_t row = t * kMr, tile_rows = t + 1 < tiles ? kMr : last_rows;
            if (last_chunk) prefetch_tile(store, table, row, tile_rows, panel);
            const MicroKernel<Core> multiply = t + 1 < tiles ? whole : last;
            if constexpr (Core::kReadsRows)
              multiply(rows + row * stride, stride, weights(panel, chunk), depth, tile, chunk > 0);
            else
              multiply(rows + row * Core::kLda, weights(panel, chunk), depth, tile, chunk > 0);
            if (!last_chunk) continue;
            store_tile(store, table, finish_sums(prologue, tile, row, tile_rows, panel), row, tile_rows, panel);
            tile_stored(prologue, store, table, item.m, row, tile_rows, panel);
          }
      }
    }
  }
}

}  // namespace darkroom::gemm_frame
