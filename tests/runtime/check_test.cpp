// --check: a plan that agrees with ref passes, and a kernel that is wrong in one place is named.
#include "runtime/check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/core/error.h"
#include "model/unet.h"
#include "runtime/fusion.h"
#include "tests/support/graph_run.h"

namespace darkroom::testing {
namespace {

Graph small_unet(DType dtype) {
  const UNetConfig c = small_unet_config();
  Graph graph = build_unet(c, {2, 9, 6, 11, dtype});
  run_fusion(graph, {});
  return graph;
}

TEST(Check, AgreesWithRefAndLeavesTheResultsOfARun) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Graph graph = small_unet(dtype);
    NamedWeights weights;
    weights.add(graph);
    const Named inputs = random_inputs(graph);
    PlanOptions options;
    options.threads = 2;
    PlanCheck check(weights, 2);
    const Named checked = run_graph(graph, weights, inputs, options, &check);
    EXPECT_EQ(checked, run_graph(graph, weights, inputs, options)) << dtype_name(dtype);
    EXPECT_THAT(check.summary(),
                ::testing::StartsWith(std::to_string(graph.nodes().size()) + " steps of 1 plans agree with ref"));
  }
}

// Wrong in one element of one op: the last one of the output, by as much as it is large, or not a number.
enum class Fault { one_element, nan };
Fault fault;
const KernelDef* honest = nullptr;
void launch_wrong(const KernelCall& call, const Team& team) {
  honest->launch(call, team);
  team.sync();
  if (team.index != 0) return;
  float& last = call.out.as<float>()[call.out.extent() - 1];
  last = fault == Fault::nan ? NAN : last + 1.0f;
}

TEST(Check, NamesTheStepThatIsWrong) {
  const Graph graph = small_unet(DType::f32);
  NamedWeights weights;
  weights.add(graph);
  const std::unique_ptr<Backend> backend = make_cpu_backend(2);
  for (const Fault f : {Fault::one_element, Fault::nan}) {
    fault = f;
    WeightStore store(weights, *backend);
    Graph resolved = graph;
    store.resolve(resolved);
    PlanOptions options;
    options.threads = 2;
    Plan plan = make_plan(std::move(resolved), options);
    size_t broken = 0;
    for (size_t s = 0; s < plan.steps.size(); ++s)
      if (plan.graph.nodes()[s].kind() == OpKind::attention) broken = s;
    ASSERT_GT(broken, 0u);
    honest = plan.steps[broken].selection.kernel;
    KernelDef wrong = *honest;
    wrong.variant = "wrong";
    wrong.launch = launch_wrong;
    plan.steps[broken].selection.kernel = &wrong;

    Arena arena(*backend);
    Executable executable(plan, *backend, arena, store);
    for (const auto& [name, values] : random_inputs(graph)) executable.write(name, std::as_bytes(std::span(values)));
    PlanCheck check(weights, 2);
    Runner runner(*backend, {&executable}, nullptr, &check);
    try {
      runner.run();
      FAIL() << "nothing was found";
    } catch (const Error& e) {
      const std::string text = e.what();
      EXPECT_THAT(text, ::testing::HasSubstr(plan.graph.nodes()[broken].name));
      EXPECT_THAT(text, ::testing::HasSubstr("attention wrong"));
      EXPECT_THAT(text, ::testing::HasSubstr("step " + std::to_string(broken + 1) + " of"));
    }
  }
}

}  // namespace
}  // namespace darkroom::testing
