#include "runtime/plan_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

namespace darkroom {

namespace {

constexpr double kMiB = 1 << 20;

// "1x64x64x320 f32 + 1x64x64x320 f32 -> 1x64x64x640 f32": the activations that a step reads and writes.
std::string shapes(const Plan& plan, const Node& node) {
  std::string s;
  const OpDef& op = op_def(node.kind());
  for (int slot = 0; slot < op.inputs; ++slot) {
    const ValueId v = node.inputs[size_t(slot)];
    if (v == kNoValue || op.role(slot) != SlotRole::activation) continue;
    s += fmt::format("{}{}", s.empty() ? "" : " + ", plan.graph.shape(v).to_string());
  }
  s = fmt::format("{} -> {} {}", s, plan.graph.shape(node.output).to_string(),
                  dtype_name(plan.graph.value(node.output).dtype));
  return node.moments == kNoValue ? s : s + " + " + plan.graph.shape(node.moments).to_string();
}

const char* place_name(Place place) {
  switch (place) {
    case Place::unused:
      return "unused";
    case Place::arena:
      return "arena";
    case Place::external:
      return "external";
    case Place::weight:
      return "weight";
  }
  return "?";
}

// Where a step's result lies: "@ 1234 KiB", "external".
std::string place_text(const Plan& plan, const Node& node) {
  const Placement& p = plan.placements[size_t(plan.graph.root(node.output))];
  if (p.place != Place::arena) return place_name(p.place);
  const int64_t within = plan.graph.offset(node.output) * int64_t(dtype_size(plan.graph.value(node.output).dtype));
  return fmt::format("@{}{} {}..{}", p.offset, within ? fmt::format("+{}", within) : "", p.first, p.last);
}

std::string totals(const Plan& plan) {
  const Cost cost = plan.total_cost();
  return fmt::format(
      "{} steps, {:.2f} GFLOP, {:.1f} MB moved at least; arena {:.2f} MiB (lower bound {:.2f}, without reuse {:.2f})",
      plan.steps.size(), cost.flops / 1e9, cost.bytes / 1e6, double(plan.arena_bytes) / kMiB,
      double(plan.lower_bound) / kMiB, double(plan.naive_bytes) / kMiB);
}

std::string joined(const std::vector<std::string>& parts, const char* with) {
  std::string s;
  for (const std::string& p : parts) s += (s.empty() ? "" : with) + p;
  return s;
}

std::string escaped(std::string_view text) {
  std::string s;
  for (char c : text)
    s += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : c == '"' ? "&quot;" : std::string(1, c);
  return s;
}

}  // namespace

std::string plan_text(const ReportedPlan& reported, bool refused) {
  const Plan& plan = reported.plan;
  std::string s = fmt::format("{}: {}\n", plan.graph.name(), totals(plan));
  for (const PassReport& p : reported.passes)
    fmt::format_to(std::back_inserter(s), "  pass {:<16} {} {}\n", p.name, p.enabled ? "on " : "off", p.count);
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    const Step& step = plan.steps[i];
    const Node& node = plan.graph.nodes()[size_t(step.node)];
    fmt::format_to(std::back_inserter(s), "  {:>4} {:<20} {:<14} {:<28} {:<44} {:>8.3f} GFLOP {:>8.2f} MB  {:<26} {}\n",
                   i, op_def(node.kind()).name, step.selection.kernel->variant, step.what, shapes(plan, node),
                   step.cost.flops / 1e9, step.cost.bytes / 1e6, place_text(plan, node), node.name);
    if (node.provenance.size() > 1)
      fmt::format_to(std::back_inserter(s), "         <- {}\n", joined(node.provenance, " + "));
    if (refused)
      for (const Refusal& r : step.selection.refused)
        fmt::format_to(std::back_inserter(s), "         not {}: {}\n", r.variant, r.reason);
  }
  return s;
}

std::string plan_json(std::span<const ReportedPlan> plans) {
  using nlohmann::json;
  json all = json::array();
  for (const ReportedPlan& reported : plans) {
    const Plan& plan = reported.plan;
    const Cost cost = plan.total_cost();
    json p = {{"name", plan.graph.name()},
              {"dtype", dtype_name(plan.graph.dtype())},
              {"threads", plan.threads},
              {"arena_bytes", plan.arena_bytes},
              {"lower_bound_bytes", plan.lower_bound},
              {"naive_bytes", plan.naive_bytes},
              {"flops", cost.flops},
              {"bytes", cost.bytes}};
    for (const PassReport& pass : reported.passes)
      p["passes"].push_back({{"name", pass.name}, {"enabled", pass.enabled}, {"count", pass.count}});
    for (const Step& step : plan.steps) {
      const Node& node = plan.graph.nodes()[size_t(step.node)];
      const OpDef& op = op_def(node.kind());
      json inputs = json::array();
      for (int slot = 0; slot < op.inputs; ++slot) {
        const ValueId v = node.inputs[size_t(slot)];
        if (v == kNoValue) continue;
        const Value& value = plan.graph.value(v);
        inputs.push_back({{"slot", slot},
                          {"value", v},
                          {"shape", value.shape.to_string()},
                          {"dtype", dtype_name(value.dtype)},
                          {"name", value.name}});
      }
      json refused = json::array();
      for (const Refusal& r : step.selection.refused) refused.push_back({{"variant", r.variant}, {"reason", r.reason}});
      const Placement& place = plan.placements[size_t(plan.graph.root(node.output))];
      p["steps"].push_back({{"node", node.name},
                            {"op", op.name},
                            {"variant", step.selection.kernel->variant},
                            {"what", step.what},
                            {"inputs", inputs},
                            {"output",
                             {{"value", node.output},
                              {"shape", plan.graph.shape(node.output).to_string()},
                              {"dtype", dtype_name(plan.graph.value(node.output).dtype)},
                              {"place", place_name(place.place)},
                              {"offset", place.offset},
                              {"bytes", place.bytes},
                              {"first", place.first},
                              {"last", place.last}}},
                            {"flops", step.cost.flops},
                            {"bytes", step.cost.bytes},
                            {"scratch_bytes", step.scratch_bytes},
                            {"scratch_offset", step.scratch_offset},
                            {"provenance", node.provenance},
                            {"refused", refused}});
      if (node.moments != kNoValue) p["steps"].back()["moments"] = node.moments;
    }
    all.push_back(std::move(p));
  }
  return all.dump(1);
}

namespace {

// Time runs to the right, offset upwards; a rectangle a value, scratch in grey.
std::string arena_map(const Plan& plan) {
  constexpr double kWidth = 1160, kHeight = 320;
  if (plan.arena_bytes == 0) return "";
  const double x_scale = kWidth / double(std::max<size_t>(plan.steps.size(), 1)),
               y_scale = kHeight / double(plan.arena_bytes);
  std::string s =
      fmt::format("<svg viewBox=\"0 0 {} {}\" class=\"map\" preserveAspectRatio=\"none\">\n", kWidth, kHeight);
  const auto rectangle = [&](size_t offset, size_t bytes, int first, int last, const char* style,
                             const std::string& title) {
    fmt::format_to(std::back_inserter(s),
                   "<rect x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\" {}><title>{}</title></rect>\n",
                   first * x_scale, kHeight - double(offset + bytes) * y_scale, (last - first + 1) * x_scale,
                   double(bytes) * y_scale, style, escaped(title));
  };
  for (size_t v = 0; v < plan.placements.size(); ++v) {
    const Placement& p = plan.placements[v];
    if (p.place != Place::arena) continue;
    const Value& value = plan.graph.value(ValueId(v));
    std::string name = value.name;
    if (value.producer >= 0) {
      const Node& node = plan.graph.nodes()[size_t(value.producer)];
      name = ValueId(v) == node.moments ? "moments of " + node.name : node.name;
    }
    const std::string style = fmt::format("fill=\"hsl({},55%,62%)\"", int(v * 47 % 360));
    rectangle(p.offset, p.bytes, p.first, p.last, style.c_str(),
              fmt::format("{}: {} {}, {:.2f} MiB at {}, steps {} to {}", name, value.shape.to_string(),
                          dtype_name(value.dtype), double(p.bytes) / kMiB, p.offset, p.first, p.last));
  }
  for (const Step& step : plan.steps)
    if (step.scratch_bytes)
      rectangle(step.scratch_offset, step.scratch_bytes, step.node, step.node, "fill=\"#888\"",
                fmt::format("scratch of {}: {:.2f} MiB", plan.graph.nodes()[size_t(step.node)].name,
                            double(step.scratch_bytes) / kMiB));
  return s + "</svg>\n";
}

}  // namespace

std::string plan_html(std::span<const ReportedPlan> plans, const std::string& title) {
  std::string s = fmt::format(
      "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{0}</title>\n<style>\n"
      "body{{font:14px/1.4 system-ui,sans-serif;margin:2em "
      "auto;max-width:1200px;color:#222}}table{{border-collapse:collapse;width:100%;font-size:12px}}\n"
      "td,th{{padding:2px 6px;border-bottom:1px solid "
      "#ddd;text-align:left;vertical-align:top}}td.n{{text-align:right;font-variant-numeric:tabular-nums}}\n"
      ".map{{width:100%;height:320px;background:#f4f4f4;border:1px solid "
      "#ccc}}rect{{stroke:#fff;stroke-width:.4}}rect:hover{{stroke:#000}}\n"
      "small{{color:#666}}summary{{cursor:pointer}}</style>\n<h1>{0}</h1>\n",
      escaped(title));
  for (const ReportedPlan& reported : plans) {
    const Plan& plan = reported.plan;
    fmt::format_to(std::back_inserter(s), "<h2>{}</h2><p>{}</p>\n", escaped(plan.graph.name()), escaped(totals(plan)));
    if (!reported.passes.empty()) {
      s += "<p>Passes:";
      for (const PassReport& p : reported.passes)
        fmt::format_to(std::back_inserter(s), " {} <b>{}</b>{}", p.name, p.enabled ? fmt::format("{}", p.count) : "off",
                       " ");
      s += "</p>\n";
    }
    s += "<p><small>The arena: time runs to the right, offset upwards. Point at a rectangle to see what it "
         "is.</small></p>\n" +
         arena_map(plan);
    s += "<details><summary>Steps</"
         "summary><table><tr><th>#<th>op<th>kernel<th>what<th>shapes<th>GFLOP<th>MB<th>result<th>node</tr>\n";
    for (size_t i = 0; i < plan.steps.size(); ++i) {
      const Step& step = plan.steps[i];
      const Node& node = plan.graph.nodes()[size_t(step.node)];
      std::string refused;
      for (const Refusal& r : step.selection.refused)
        refused += fmt::format("<br><small>not {}: {}</small>", r.variant, escaped(r.reason));
      const std::string from =
          node.provenance.size() > 1 ? "<br><small>&larr; " + escaped(joined(node.provenance, " + ")) + "</small>" : "";
      fmt::format_to(
          std::back_inserter(s),
          "<tr><td class=n>{}<td>{}<td>{}{}<td>{}<td>{}<td class=n>{:.3f}<td class=n>{:.2f}<td>{}<td>{}{}</tr>\n", i,
          op_def(node.kind()).name, step.selection.kernel->variant, refused, escaped(step.what),
          escaped(shapes(plan, node)), step.cost.flops / 1e9, step.cost.bytes / 1e6, place_text(plan, node),
          escaped(node.name), from);
    }
    s += "</table></details>\n";
  }
  return s + "</html>\n";
}

}  // namespace darkroom
