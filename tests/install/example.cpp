// example MODEL PROMPT OUT.ppm
#include <fstream>
#include <iostream>

#include "model/pipeline.h"

int main(int argc, char** argv) try {
  if (argc != 4) return 2;
  darkroom::PipelineOptions options;
  options.session.threads = darkroom::default_threads();
  darkroom::Pipeline pipeline(darkroom::open_checkpoint(argv[1]), options);
  darkroom::Request request;
  request.prompt = argv[2];
  request.steps = 4;
  const auto image = pipeline.generate(pipeline.resolve(request));
  std::ofstream out(argv[3], std::ios::binary);
  out << "P6 " << image->width << " " << image->height << " 255\n";
  out.write(reinterpret_cast<const char*>(image->pixels.data()), std::streamsize(image->pixels.size()));
  return out ? 0 : 3;
} catch (const std::exception& e) {
  std::cerr << "example: " << e.what() << "\n";
  return 1;
}
