// A letter that says which, then the text of a config file.
#include "model/configs.h"
#include "model/schedule.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace darkroom;
  if (size == 0) return 0;
  const std::string_view text = fuzzing::text_of(data + 1, size - 1);
  fuzzing::run([&] {
    switch (data[0] % 4) {
      case 0:
        parse_unet_config(text, "unet");
        break;
      case 1:
        parse_vae_config(text, "vae");
        break;
      case 2:
        parse_clip_text_config(text, "text_encoder");
        break;
      default:
        parse_scheduler_config(text, "scheduler");
    }
  });
  return 0;
}
