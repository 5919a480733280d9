#include "model/layers.h"

#include <cmath>

namespace darkroom {

ValueId Scope::linear(const std::string& name, ValueId x, int64_t out, bool bias, DType dtype) const {
  const Scope s = child(name);
  const ValueId weight = s.weight("weight", {out, shape(x).channels()});
  const ValueId b = bias ? s.weight("bias", {out}) : kNoValue;
  return graph_->add(s.node(""), GemmAttrs{}, {x, weight, b}, dtype);
}

ValueId Scope::conv(const std::string& name, ValueId x, int64_t out, const Conv2dAttrs& attrs, DType dtype,
                    bool bias) const {
  const Scope s = child(name);
  const ValueId weight = s.weight("weight", {out, shape(x).channels(), attrs.kernel, attrs.kernel});
  return graph_->add(s.node(""), attrs, {x, kNoValue, weight, bias ? s.weight("bias", {out}) : kNoValue}, dtype);
}

ValueId Scope::conv3x3(const std::string& name, ValueId x, int64_t out, int stride, DType dtype, bool bias) const {
  Conv2dAttrs attrs;
  attrs.stride = stride;
  return conv(name, x, out, attrs, dtype, bias);
}

ValueId Scope::conv1x1(const std::string& name, ValueId x, int64_t out, DType dtype) const {
  Conv2dAttrs attrs;
  attrs.kernel = 1;
  attrs.pad_top = attrs.pad_left = attrs.pad_bottom = attrs.pad_right = 0;
  return conv(name, x, out, attrs, dtype);
}

ValueId Scope::group_norm(const std::string& name, ValueId x, int64_t groups, float eps) const {
  const Scope s = child(name);
  const Shape channels{shape(x).channels()};
  GroupNormAttrs attrs;
  attrs.groups = int(groups);
  attrs.eps = eps;
  return graph_->add(s.node(""), attrs, {x, kNoValue, s.weight("weight", channels), s.weight("bias", channels)});
}

ValueId Scope::layer_norm(const std::string& name, ValueId x, float eps) const {
  const Scope s = child(name);
  const Shape channels{shape(x).channels()};
  return graph_->add(s.node(""), LayerNormAttrs{eps}, {x, s.weight("weight", channels), s.weight("bias", channels)});
}

ValueId Scope::activation(const std::string& name, ValueId x, Activation activation, DType dtype) const {
  return graph_->add(node(name), UnaryAttrs{activation, 1.0f}, {x}, dtype);
}

ValueId Scope::add(const std::string& name, ValueId a, ValueId b, DType dtype) const {
  return graph_->add(node(name), AddAttrs{}, {a, b}, dtype);
}

ValueId Scope::attention(const std::string& name, ValueId q, ValueId k, ValueId v, int64_t heads, bool causal) const {
  AttentionAttrs attrs;
  attrs.heads = int(heads);
  attrs.scale = float(1.0 / std::sqrt(double(shape(q).channels()) / double(heads)));
  attrs.causal = causal;
  return graph_->add(node(name), attrs, {q, k, v});
}

}  // namespace darkroom
