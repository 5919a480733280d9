// Measured choices of kernels: what was measured to be faster is what plans take, and the file that keeps it is read with care.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/unet.h"
#include "runtime/fusion.h"
#include "runtime/tune.h"
#include "tests/support/files.h"
#include "tests/support/graph_run.h"

namespace darkroom::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Field;
using ::testing::HasSubstr;

Plan small_plan(const SelectOptions& selection = {}, int64_t batch = 2) {
  const UNetConfig c = small_unet_config();
  Graph graph = build_unet(c, {batch, 8, 8, 11, DType::f32});
  run_fusion(graph, {}, selection);
  for (Value& v : graph.mutable_values())
    if (v.kind == ValueKind::weight) v.dtype = DType::f32;
  PlanOptions options;
  static_cast<SelectOptions&>(options) = selection;
  return make_plan(std::move(graph), options);
}

// A step that two kernels could run, and both of them. The call points into its plan.
struct Choice {
  KernelCall call;
  std::string taken, other;
};
Choice choice_of(const Plan& plan) {
  for (const Step& step : plan.steps) {
    const KernelCall call = plan.call(step);
    for (const KernelDef* kernel : kernels_of(step.selection.kernel->op))
      if (kernel != step.selection.kernel && kernel->variant != "ref" && !is_cuda(kernel->isa) &&
          refusal(*kernel, call, {}).empty())
        return {call, std::string(step.selection.kernel->variant), std::string(kernel->variant)};
  }
  return {};
}

Choice choice_of(const Plan&&) = delete;

TEST(Tuning, TheFasterByMeasurementRuns) {
  const Plan plan = small_plan();
  const Choice choice = choice_of(plan);
  if (choice.other.empty()) GTEST_SKIP() << "this machine has but one kernel for everything";
  Tuning tuning;
  tuning.set(Tuning::key(choice.call), {{choice.taken, 2e-3}, {choice.other, 1e-3}});
  SelectOptions options;
  options.tuning = &tuning;
  Selection selection = select_kernel(choice.call, options, "here");
  EXPECT_EQ(selection.kernel->variant, choice.other);
  EXPECT_THAT(selection.refused, Contains(AllOf(Field(&Refusal::variant, choice.taken),
                                                Field(&Refusal::reason, "measured to take 2.00 times as long"))));

  tuning.set(Tuning::key(choice.call), {{choice.other, 3e-3}});
  EXPECT_EQ(select_kernel(choice.call, options, "here").kernel->variant, choice.taken);
  options.kernels["conv2d"] = options.kernels["norm_conv2d"] = choice.other;
  options.kernels["gemm"] = options.kernels["matmul"] = choice.other;
  EXPECT_EQ(select_kernel(choice.call, options, "here").kernel->variant, choice.other)
      << "what is asked for comes first";
}

TEST(Tuning, TheBatchIsNoPartOfACall) {
  const Plan two = small_plan({}, 2), three = small_plan({}, 3);
  ASSERT_EQ(two.steps.size(), three.steps.size());
  std::set<std::string> keys;
  for (size_t s = 0; s < two.steps.size(); ++s) {
    const std::string key = Tuning::key(two.call(two.steps[s]));
    EXPECT_EQ(key, Tuning::key(three.call(three.steps[s])));
    keys.insert(key);
  }
  EXPECT_GT(keys.size(), 20u);
}

TEST(Tuning, MeasuresWhereThereIsAChoiceAndOnlyOnce) {
  const Plan plan = small_plan();
  if (choice_of(plan).other.empty()) GTEST_SKIP() << "this machine has but one kernel for everything";
  const std::unique_ptr<Backend> backend = make_cpu_backend(2);
  Tuning tuning;
  size_t measured = 0;
  const auto count = [&](const std::string& key, const Tuning::Times& times) {
    EXPECT_GE(times.size(), 2u) << key;
    for (const auto& [variant, seconds] : times) EXPECT_GT(seconds, 0) << key << " " << variant;
    ++measured;
    return true;
  };
  tune(plan, *backend, {}, 1, tuning, count);
  EXPECT_GT(measured, 0u);
  EXPECT_EQ(measured, tuning.size());
  tune(plan, *backend, {}, 1, tuning, count);
  EXPECT_EQ(measured, tuning.size()) << "what is known is not measured again";

  SelectOptions tuned;
  tuned.tuning = &tuning;
  for (const Plan again = small_plan(tuned); const Step& step : again.steps) {
    const Tuning::Times* times = tuning.find(again.call(step));
    if (!times) continue;
    for (const auto& [variant, seconds] : *times)
      EXPECT_LE(times->at(std::string(step.selection.kernel->variant)), seconds) << variant;
  }
}

TEST(Tuning, AFileGivesBackWhatWasSaved) {
  TemporaryFolder f;
  const Plan plan = small_plan();
  const Choice choice = choice_of(plan);
  Tuning tuning;
  tuning.set(Tuning::key(choice.call), {{"fast", 0.5e-3}, {"slow", 1e-3}});
  tuning.save(f.file("t.json"), "a machine");
  const Tuning again = Tuning::load(f.file("t.json"));
  ASSERT_NE(again.find(choice.call), nullptr);
  EXPECT_EQ(*again.find(choice.call), (Tuning::Times{{"fast", 0.5e-3}, {"slow", 1e-3}}));
}

TEST(Tuning, ADamagedFileIsRefusedByName) {
  TemporaryFolder f;
  const std::string path = f.file("t.json");
  const auto refused = [&](const std::string& text) {
    write_file(path, text);
    return error_of([&] { Tuning::load(path); });
  };
  const std::string head = R"({"format": "darkroom tuning 1")";
  EXPECT_THAT(refused(head), AllOf(HasSubstr("3: "), HasSubstr(path), HasSubstr("darkroom tuning 1")));
  EXPECT_THAT(refused("[1, 2]"), HasSubstr("is no 'darkroom tuning 1'"));
  EXPECT_THAT(refused(R"({"format": "darkroom tuning 2", "calls": {}})"), HasSubstr("is no 'darkroom tuning 1'"));
  EXPECT_THAT(refused(R"({"format": 1, "calls": {}})"), HasSubstr("is no 'darkroom tuning 1'"));
  EXPECT_THAT(refused(head + "}"), HasSubstr("has no calls"));
  EXPECT_THAT(refused(head + R"(, "calls": {"gemm": {}}})"), HasSubstr("the call 'gemm' has no times"));
  EXPECT_THAT(refused(head + R"(, "calls": {"gemm": {"x": -1}}})"), HasSubstr("the time of x for 'gemm'"));
  EXPECT_THAT(refused(head + R"(, "calls": {"gemm": {"x": "1"}}})"), HasSubstr("the time of x for 'gemm'"));
}

}  // namespace
}  // namespace darkroom::testing
