#include "bench/common/model.h"

#include "model/family_configs.h"
#include "model/synthetic.h"

namespace darkroom::bench {

std::unique_ptr<Checkpoint> open_model(const std::string& model) {
  for (const FamilyText& t : kFamilyTexts)
    if (model == t.family) return std::make_unique<SyntheticCheckpoint>(model);
  return open_checkpoint(model);
}

}  // namespace darkroom::bench
