// Planted bugs: each kernel here is wrong in one way that hardware may well let pass, and the emulator must say so in words
// that lead to it. And that it computes what the instructions are said to compute.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <algorithm>
#include <array>

#include <random>
#include <vector>

#include <simt/report.h>

#include "kernels/core/cuda/device.h"

namespace darkroom::testing {
namespace {

using namespace cuda;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

struct Params {
  Global<const float> in;
  Global<float> out;
};

std::vector<float> numbers(size_t n) {
  std::vector<float> v(n);
  for (size_t i = 0; i < n; ++i) v[i] = float(i);
  return v;
}

// What is said of a kernel that should not get through; empty where it does. 64 threads, 1 KiB of dynamic shared memory.
std::string complaint(void (*kernel)(Params), Grid grid = {1}, int threads = 64) {
  // As device memory is: from the beginning of a sector.
  alignas(256) std::array<float, 256> in, out = {};
  std::ranges::copy(numbers(256), in.begin());
  const Params p{global<const float>(in.data(), in.size(), "in"), global<float>(out.data(), out.size(), "out")};
  try {
    launch_grid({}, "planted", grid, threads, 1024, kernel, p);
  } catch (const simt::Violation& v) {
    return v.what();
  }
  return "";
}

__global__ void reads_past_the_end(const __grid_constant__ Params p) {
  const int i = int(blockIdx.x) * 64 + int(threadIdx.x);
  store(p.out + i % 256, load(p.in + i));
}
TEST(PlantedBugs, GlobalReadOutOfBounds) {
  EXPECT_EQ(complaint(reads_past_the_end, {4}), "");
  EXPECT_THAT(complaint(reads_past_the_end, {5}),
              AllOf(HasSubstr("planted: block (4, 0, 0) thread 0"), HasSubstr("reads 4 bytes out of bounds at in+1024"),
                    HasSubstr("which has 1024 bytes"), HasSubstr("emulator_test.cpp:")));
}

__global__ void writes_before_the_start(const __grid_constant__ Params p) {
  store(p.out + (int(threadIdx.x) - 1), 1.0f);
}
TEST(PlantedBugs, GlobalWriteOutOfBounds) {
  EXPECT_THAT(complaint(writes_before_the_start), HasSubstr("thread 0: writes 4 bytes out of bounds at out-4"));
}

__global__ void loads_a_vector_at_an_odd_place(const __grid_constant__ Params p) {
  const auto v = load(as<Vec<float, 4>>(p.in + (1 + 4 * int(threadIdx.x % 8))));
  store(p.out + threadIdx.x, v.v[0]);
}
TEST(PlantedBugs, MisalignedVector) {
  EXPECT_THAT(complaint(loads_a_vector_at_an_odd_place), HasSubstr("misaligned: reads 16 bytes at in+4"));
}

__global__ void reads_an_absent_operand(const __grid_constant__ Params p) {
  const Global<const float> bias{nullptr, {"bias", 0, 0}};
  store(p.out + threadIdx.x, load(bias + threadIdx.x));
}
TEST(PlantedBugs, AbsentOperand) {
  EXPECT_THAT(complaint(reads_an_absent_operand), HasSubstr("reads bias, which the call does not have"));
}

__global__ void indexes_past_shared_memory(const __grid_constant__ Params p) {
  store(dynamic_shared<float>() + 4 * int(threadIdx.x) + 4, load(p.in + threadIdx.x));
}
TEST(PlantedBugs, SharedOutOfBounds) {
  EXPECT_THAT(complaint(indexes_past_shared_memory),
              AllOf(HasSubstr("thread 63"),
                    HasSubstr("writes 4 bytes out of bounds of shared memory at dynamic shared +1024")));
}

__global__ void runs_out_of_a_static_array(const __grid_constant__ Params p) {
  const Shared<float> a = shared_array<float, 64>();
  store(a + (int(threadIdx.x) + 1), load(p.in + threadIdx.x));
}
TEST(PlantedBugs, StaticSharedOutOfBounds) {
  EXPECT_THAT(complaint(runs_out_of_a_static_array), HasSubstr("out of bounds of shared memory at static shared +256"));
}

__global__ void sums_what_nobody_wrote(const __grid_constant__ Params p) {
  const Shared<float> a = shared_array<float, 64>();
  if (threadIdx.x < 60) store(a + threadIdx.x, load(p.in + threadIdx.x));
  sync_block();
  float sum = 0;
  for (int i = 0; i < 64; ++i) sum += load(a + i);
  store(p.out + threadIdx.x, sum);
}
TEST(PlantedBugs, UninitialisedShared) {
  EXPECT_THAT(complaint(sums_what_nobody_wrote), HasSubstr("reads static shared +240, which nobody wrote"));
}

__global__ void reads_a_neighbour_too_early(const __grid_constant__ Params p) {
  const Shared<float> a = shared_array<float, 64>();
  store(a + threadIdx.x, load(p.in + threadIdx.x));
  store(p.out + threadIdx.x, load(a + (threadIdx.x == 0 ? 0 : threadIdx.x - 1)));
}
__global__ void reads_a_neighbour_in_time(const __grid_constant__ Params p) {
  const Shared<float> a = shared_array<float, 64>();
  store(a + threadIdx.x, load(p.in + threadIdx.x));
  sync_block();
  store(p.out + threadIdx.x, load(a + (threadIdx.x + 63) % 64));
}
TEST(PlantedBugs, RaceReadAfterWrite) {
  EXPECT_EQ(complaint(reads_a_neighbour_in_time), "");
  EXPECT_THAT(complaint(reads_a_neighbour_too_early), AllOf(HasSubstr("thread 1: race: reads static shared +0"),
                                                            HasSubstr("which thread 0 wrote with no barrier between")));
}

// The barrier that a pipeline forgets: a stage is filled again while others may still read it.
__global__ void fills_a_buffer_in_use(const __grid_constant__ Params p) {
  const Shared<float> a = shared_array<float, 64>();
  float sum = 0;
  for (int step = 0; step < 2; ++step) {
    store(a + threadIdx.x, load(p.in + threadIdx.x) + float(step));
    sync_block();
    sum += load(a + (threadIdx.x + 1) % 64);
  }
  store(p.out + threadIdx.x, sum);
}
TEST(PlantedBugs, RaceWriteAfterRead) {
  EXPECT_THAT(complaint(fills_a_buffer_in_use),
              AllOf(HasSubstr("race: writes static shared"), HasSubstr("read with no barrier between")));
}

__global__ void two_threads_write_one_place(const __grid_constant__ Params p) {
  const Shared<float> a = shared_array<float, 32>();
  store(a + threadIdx.x % 32, 1.0f);
  sync_block();
  store(p.out + threadIdx.x, load(a + threadIdx.x % 32));
}
TEST(PlantedBugs, RaceWriteAfterWrite) {
  EXPECT_THAT(complaint(two_threads_write_one_place),
              HasSubstr("thread 32: race: writes static shared +0, which thread 0 wrote"));
}

// A warp in step is no barrier; sync_warp() is one, for its lanes.
template <bool kSync>
__global__ void exchanges_within_a_warp(const __grid_constant__ Params p) {
  const Shared<float> a = shared_array<float, 64>();
  store(a + threadIdx.x, load(p.in + threadIdx.x));
  const float other = shuffle_xor(1.0f, 1);
  if (kSync) sync_warp();
  store(p.out + threadIdx.x, other + load(a + (int(threadIdx.x) ^ 1)));
}
TEST(PlantedBugs, RaceWithinAWarp) {
  EXPECT_EQ(complaint(exchanges_within_a_warp<true>), "");
  EXPECT_THAT(complaint(exchanges_within_a_warp<false>), HasSubstr("race: reads"));
}

__global__ void half_meets(const __grid_constant__ Params p) {
  if (threadIdx.x < 32) sync_block();
  store(p.out + threadIdx.x, 1.0f);
}
__global__ void two_barriers_for_one(const __grid_constant__ Params p) {
  if (threadIdx.x % 2 == 0) {
    sync_block();
  } else {
    sync_block();
  }
  store(p.out + threadIdx.x, 1.0f);
}
TEST(PlantedBugs, DivergentBarrier) {
  EXPECT_THAT(complaint(half_meets), HasSubstr("divergent barrier: waits in sync_block while thread 32 has ended"));
  EXPECT_THAT(complaint(two_barriers_for_one),
              HasSubstr("divergent barrier: waits in sync_block while thread 1 is in sync_block"));
}

__global__ void shuffles_among_some(const __grid_constant__ Params p) {
  float v = 1;
  if (threadIdx.x % 32 < 24) v = shuffle_xor(v, 1);
  store(p.out + threadIdx.x, v);
}
TEST(PlantedBugs, DivergentCollective) {
  EXPECT_THAT(complaint(shuffles_among_some),
              HasSubstr("divergent collective: waits in shuffle while thread 24 has ended"));
}

// cp.async: the thread must wait for its own copies, and a barrier must follow for those of others.
template <bool kWait, bool kBarrier>
__global__ void copies(const __grid_constant__ Params p) {
  const Shared<float> a = dynamic_shared<float>();
  cp_async<4>(a + threadIdx.x, p.in + threadIdx.x, true);
  cp_async_commit();
  if (kWait) cp_async_wait<0>();
  if (kBarrier) sync_block();
  store(p.out + threadIdx.x, load(a + (kBarrier ? 63 - threadIdx.x : threadIdx.x)));
  cp_async_wait<0>();
}
template <bool kDrain>
__global__ void copies_in_groups(const __grid_constant__ Params p) {
  const Shared<float> a = dynamic_shared<float>();
  cp_async<4>(a + threadIdx.x, p.in + threadIdx.x, true);
  cp_async_commit();
  cp_async<4>(a + (64 + threadIdx.x), p.in + threadIdx.x, false);
  cp_async_commit();
  cp_async_wait<1>();  // the first has arrived, the second need not have
  float sum = load(a + threadIdx.x);
  if (kDrain) cp_async_wait<0>();
  sum += load(a + (64 + threadIdx.x));
  store(p.out + threadIdx.x, sum);
}
__global__ void leaves_a_copy(const __grid_constant__ Params p) {
  cp_async<4>(dynamic_shared<float>() + threadIdx.x, p.in + threadIdx.x, true);
}
TEST(PlantedBugs, AsynchronousCopies) {
  EXPECT_EQ((complaint(copies<true, true>)), "");
  EXPECT_EQ((complaint(copies<true, false>)), "");
  EXPECT_EQ(complaint(copies_in_groups<true>), "");
  EXPECT_THAT((complaint(copies<false, false>)),
              HasSubstr("asynchronous copy of thread 0 has not arrived: wait for it first"));
  EXPECT_THAT((complaint(copies<false, true>)), HasSubstr("has not arrived: wait for it first"));
  EXPECT_THAT(complaint(copies_in_groups<false>), HasSubstr("reads dynamic shared +256, where an asynchronous copy"));
  EXPECT_THAT(complaint(leaves_a_copy), HasSubstr("ends with 1 asynchronous copies on their way"));
}

__global__ void copies_for_others(const __grid_constant__ Params p) {
  const Shared<float> a = dynamic_shared<float>();
  cp_async<4>(a + threadIdx.x, p.in + threadIdx.x, true);
  cp_async_commit();
  cp_async_wait<0>();
  store(p.out + threadIdx.x, load(a + threadIdx.x % 32));
}
TEST(PlantedBugs, CopyOfAnotherThreadWithoutBarrier) {
  EXPECT_THAT(complaint(copies_for_others),
              HasSubstr("thread 32: race: reads dynamic shared +0, which thread 0 wrote"));
}

__global__ void ldmatrix_at_an_odd_row(const __grid_constant__ Params p) {
  const Shared<bf16_t> a = dynamic_shared<bf16_t>();
  for (int i = 0; i < 8; ++i) store(a + (i * 64 + int(threadIdx.x)), narrow<bf16_t>(1.0f));
  sync_block();
  uint32_t r[4];
  ldmatrix<4>(r, a + lane_index() * 12);
  store(p.out + threadIdx.x, float(r[0]));
}
TEST(PlantedBugs, MisalignedMatrixRow) {
  EXPECT_THAT(complaint(ldmatrix_at_an_odd_row),
              AllOf(HasSubstr("thread 1:"), HasSubstr("misaligned: reads 16 bytes at dynamic shared +24")));
}

TEST(PlantedBugs, ImpossibleLaunches) {
  EXPECT_THAT(complaint(reads_a_neighbour_in_time, {1}, 48), HasSubstr("launched with 48 threads"));
  EXPECT_THAT(complaint(reads_a_neighbour_in_time, {0}), HasSubstr("launched with a grid of 0"));
}

// --- what is right ----------------------------------------------------------------------------------------------------

struct MatrixParams {
  Global<const bf16_t> a, b;
  Global<float> out;
};

// One warp: out [16, 8] = a [16, 16] · b [16, 8], through shared memory and both kinds of ldmatrix.
__global__ void one_product(const __grid_constant__ MatrixParams p) {
  const Shared<bf16_t> a = shared_array<bf16_t, 256, 0>(), b = shared_array<bf16_t, 128, 1>();
  const int lane = lane_index();
  cp_async<16>(a + 8 * lane, p.a + 8 * lane, true);
  if (lane < 16) cp_async<16>(b + 8 * lane, p.b + 8 * lane, true);
  cp_async_commit();
  cp_async_wait<0>();
  sync_warp();
  uint32_t fragment_a[4], fragment_b[2];
  ldmatrix<4>(fragment_a, a + (lane % 16 * 16 + lane / 16 * 8));
  ldmatrix<2, true>(fragment_b, b + lane % 16 * 8);
  float d[4] = {};
  mma_16816<bf16_t>(d, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) store(p.out + ((lane / 4 + 8 * (i / 2)) * 8 + 2 * (lane % 4) + i % 2), d[i]);
}

TEST(Emulator, MatrixProduct) {
  std::mt19937 generator(7);
  std::uniform_int_distribution<int> digit(-8, 8);
  std::vector<bf16_t> a(256), b(128);
  for (bf16_t& x : a) x = to_bf16(float(digit(generator)));
  for (bf16_t& x : b) x = to_bf16(float(digit(generator)));
  std::vector<float> out(128);
  const MatrixParams p{global<const bf16_t>(a.data(), 256, "a"), global<const bf16_t>(b.data(), 128, "b"),
                       global<float>(out.data(), 128, "out")};
  launch_grid({}, "one_product", {1}, 32, 0, one_product, p);
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 8; ++j) {
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += to_float(a[size_t(i * 16 + k)]) * to_float(b[size_t(k * 8 + j)]);
      EXPECT_EQ(out[size_t(i * 8 + j)], sum) << i << ", " << j;
    }
}

// A column of a matrix 32 wide lies in one bank; a row lies in all, and in whole sectors.
template <int kPitch>
__global__ void reads_columns(const __grid_constant__ Params p) {
  const Shared<float> a = shared_array<float, 33 * 32>();
  const int lane = lane_index();
  for (int i = 0; i < 8; ++i) store(a + (i * kPitch + lane), load(p.in + lane));
  for (int i = 8; i < 32; ++i) store(a + (i * kPitch + lane), 0.0f);
  sync_block();
  store(p.out + 8 * lane, load(a + lane * kPitch));
}
TEST(Emulator, CountsBankConflictsAndSectors) {
  simt::reports().clear();
  EXPECT_EQ(complaint(reads_columns<32>, {1}, 32), "");
  simt::KernelReport report = simt::reports()["planted"];
  EXPECT_EQ(report.shared.needed, 33u);
  EXPECT_EQ(report.shared.used, 32u + 32u);
  EXPECT_EQ(report.global.needed, 8u * 4 + 4);
  EXPECT_EQ(report.global.used, 8u * 4 + 32);
  EXPECT_THAT(simt::report_text(),
              AllOf(HasSubstr("bank conflicts: 32 wavefronts for 1"), HasSubstr("uncoalesced: 32 sectors for 4")));
  simt::reports().clear();
  EXPECT_EQ(complaint(reads_columns<33>, {1}, 32), "");
  EXPECT_EQ(simt::reports()["planted"].shared.used, 33u);
  EXPECT_THAT(simt::report_text(), Not(HasSubstr("bank conflicts")));
}

// What lanes do at one place is one instruction, whatever else some of them did before; another operand is another one.
__global__ void some_do_more(const __grid_constant__ Params p) {
  const int lane = lane_index();
  float sum = 0;
  if (lane % 2 == 0) sum = load(p.in + 64);
  for (int i = 0; i < 2; ++i) sum += load(p.in + 32 * i + lane);
  store(p.out + lane, sum);
}
TEST(Emulator, CountsInstructionsOfLanesThatWentDifferentWays) {
  simt::reports().clear();
  EXPECT_EQ(complaint(some_do_more, {1}, 32), "");
  const simt::KernelReport& report = simt::reports()["planted"];
  EXPECT_EQ(report.global.instructions, 1u + 2u + 1u);
  EXPECT_EQ(report.global.used, 1u + 8u + 4u);
  EXPECT_EQ(report.global.needed, 1u + 8u + 4u);
  EXPECT_EQ(report.global_by_line.size(), 3u);
  EXPECT_THAT(report.global_by_line.rbegin()->first, HasSubstr("writes out"));
  EXPECT_THAT(report.global_by_line.begin()->first, HasSubstr("reads in"));
}

__global__ void marks_its_block(const __grid_constant__ Params p) {
  const Shared<float> a = shared_array<float, 32>();
  store(a + threadIdx.x, 1.0f);
  store(p.out + blockIdx.x, load(a + threadIdx.x));
}
TEST(Emulator, RunsAFewBlocksWhereASampleWillDo) {
  alignas(256) std::array<float, 256> out = {};
  const Params p{{}, global<float>(out.data(), out.size(), "out")};
  simt::reports().clear();
  simt::sample_blocks(3);
  launch_grid({}, "planted", {9, 3}, 32, 64, marks_its_block, p);
  EXPECT_EQ(std::ranges::count(out, 1.0f), 3);  // blocks 0, 13 = (4, 1) and 26 = (8, 2)
  EXPECT_EQ(out[4] + out[8], 2.0f);
  launch_grid({}, "small", {2}, 32, 0, marks_its_block, p);
  simt::sample_blocks(0);
  EXPECT_EQ(simt::reports()["planted"].global.instructions, 3u);
  EXPECT_EQ(simt::reports()["planted"].shared_bytes, 64u + 128u);
  EXPECT_EQ(simt::reports()["small"].global.instructions, 2u);
  launch_grid({}, "all", {9}, 32, 0, marks_its_block, p);
  EXPECT_EQ(simt::reports()["all"].global.instructions, 1u);
  EXPECT_EQ(std::ranges::count(out, 1.0f), 9);
}

__global__ void lanes_talk(const __grid_constant__ Params p) {
  const float x = load(p.in + threadIdx.x);
  float sum = x;
  for (int m = 16; m > 0; m /= 2) sum += shuffle_xor(sum, m);
  const uint32_t odd = ballot(int(x) % 2 == 1);
  store(p.out + threadIdx.x, sum + shuffle(x, 5) + shuffle_down(x, 1) + (odd == 0xaaaaaaaau ? 0.0f : 1e6f));
}
TEST(Emulator, Collectives) {
  const std::vector<float> in = numbers(64);
  std::vector<float> out(64);
  launch_grid({}, "lanes_talk", {1}, 64, 0, lanes_talk,
              Params{global<const float>(in.data(), 64, "in"), global<float>(out.data(), 64, "out")});
  EXPECT_EQ(out[0], 496 + 5 + 1);
  EXPECT_EQ(out[31], 496 + 5 + 31);
  EXPECT_EQ(out[32], 496 + 32 * 32 + 37 + 33);
}

}  // namespace
}  // namespace darkroom::testing
