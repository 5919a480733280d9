// The GPU that plans are made for where nothing was measured: an H200, whose SMs are an H100's. Estimates from public
// figures; bench_kernels --device cuda measures what they shall be replaced by.
#pragma once

namespace darkroom::gpu_model {

inline constexpr double kSms = 132;
inline constexpr double kClock = 1.755e9;    // of an SM under load, Hz
inline constexpr double kTensor = 1270;      // multiply-adds of bf16 a clock of an SM by mma.sync: 62 % of wgmma's 2048
inline constexpr double kFma = 128;          // f32 multiply-adds a clock of an SM
inline constexpr double kExp = 16;           // exponentials a clock of an SM
inline constexpr double kSharedBytes = 128;  // a clock of an SM
inline constexpr double kL2Bytes = 4000;     // a clock of the card, read by SMs
inline constexpr double kDramBytes = 4.3e12 / kClock;  // a clock of the card; a copy measured 4.3 TB/s
inline constexpr double kL2Size = 50e6;
inline constexpr double kLaunch =
    1.2e-6 * kClock;                   // from the end of a grid to the next one's first instructions, in a graph
inline constexpr double kFill = 1500;  // clocks until a block's first data has come through L2, and its end

}  // namespace darkroom::gpu_model
