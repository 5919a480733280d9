// What every program's main() does around its work.
#pragma once

#include <atomic>
#include <string>

namespace CLI {
class App;
}

namespace darkroom {

// Runs `body` and returns the process's exit code: what it returns, or the kind of the error that it throws, which is printed
// as one line on stderr. 0 done · 2 wrong arguments · 3 a bad or missing file · 4 memory or device · 130 interrupted.
int run_main(const char* program, int argc, char** argv, int (*body)(int argc, char** argv));

// Parses; true where the program should go on. Else *exit_code is set: 0 after --help and --version, 2 after an error.
bool parse_arguments(CLI::App& app, int argc, char** argv, int* exit_code);

// Becomes true on Ctrl-C (and on a request to terminate). A second Ctrl-C, a quarter of a second later or more, ends the
// process at once.
const std::atomic<bool>* interrupted();

std::string version_text();

}  // namespace darkroom
