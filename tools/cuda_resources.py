#!/usr/bin/env python3
"""What every CUDA kernel takes of an SM, for each chip that it is compiled for, as Markdown:

    tools/cuda_resources.py build/cuda/libdarkroom_kernels.a [--out FILE]

Reads the machine code that nvcc has put into objects or libraries; wants neither nvcc nor a GPU. Registers a thread, shared memory a
block (static and what the kernel is launched with), how full an SM is with as many blocks as fit it, what limits them; and bytes of
local memory, which are spilled registers or arrays that no registers can hold. Ends with 1 where a kernel has any.
"""

import argparse
import pathlib
import re
import struct
import subprocess
import sys

# Of an SM: shared memory in KB, threads, blocks (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability").
# A block takes 1 KB of shared memory more than it asks for; a warp takes registers by 256.
SMS = {
    80: (164, 2048, 32),
    86: (100, 1536, 16),
    89: (100, 1536, 24),
    90: (228, 2048, 32),
    100: (228, 2048, 32),
    120: (100, 1536, 24),
}
REGISTERS = 65536

# Shared memory that a kernel is launched with, in bytes: the first pattern that "FILE: NAME" matches.
DYNAMIC_SHARED = (
    (r"mma_gemm<.*Tile<256, 128", 98304),
    (r"mma_gemm<.*Tile<128, 128", 65536),
    (r"mma_gemm<.*Tile<128, 64", 49152),
    (r"mma_gemm<.*Tile<64, 64", 32768),
    (r"sm80_flash_wide.cu: attention", (2 * 32 * 520 + 32 * 40) * 2),
    (r"sm80_flash.cu: attention<.*\b40>", 4 * 64 * 40 * 2),
    (r"sm80_flash.cu: attention<.*\b64>", 4 * 64 * 72 * 2),
    (r"sm80_flash.cu: attention<.*\b80>", 4 * 64 * 88 * 2),
    (r"sm80_flash.cu: attention<.*\b160>", 4 * 64 * 168 * 2),
    (r"sm80.cu: statistics", 20480),  # at 2560 channels
    (r"sm80.cu: combine", 8 * 48 * 12),  # at 512 channels
    (r"", 0),
)

# NVIDIA's format, as far as it is read here: a fat binary has a header and entries; those of kind 2 are ELF files for one chip.
FAT_BINARY, ELF_ENTRY, COMPRESSED_ZSTD = 0xBA55ED50, 2, 0x8000
REGISTER_COUNT, FRAME_SIZE, MAX_THREADS = 0x2F, 0x11, 0x05  # attributes of .nv.info
SIZED_VALUE = 4  # how such an attribute is stored


def cubins(data):
    """(chip, ELF file) of each."""
    for found in re.finditer(re.escape(struct.pack("<I", FAT_BINARY)), data):
        begin = found.start()
        _, version, header, size = struct.unpack_from("<IHHQ", data, begin)
        if version != 1 or begin + header + size > len(data):
            continue
        at, end = begin + header, begin + header + size
        while at + 64 <= end:
            kind, _, entry_header, bytes_ = struct.unpack_from("<HHIQ", data, at)
            (chip,) = struct.unpack_from("<I", data, at + 28)
            (flags,) = struct.unpack_from("<Q", data, at + 40)
            body = data[at + entry_header : at + entry_header + bytes_]
            if kind == ELF_ENTRY:
                if flags & COMPRESSED_ZSTD:
                    body = subprocess.run(["zstd", "-dc"], input=body, capture_output=True, check=False).stdout
                yield chip, body
            at += entry_header + bytes_


class Elf:
    def __init__(self, data):
        self.data = data
        (table,) = struct.unpack_from("<Q", data, 40)
        size, count, names = struct.unpack_from("<HHH", data, 58)
        self.sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + i * size) for i in range(count)]
        self.names = self.sections[names][4]

    def text(self, at):
        return self.data[at : self.data.index(b"\0", at)].decode()

    def named(self):
        """(name, offset, size) of every section."""
        return [(self.text(self.names + s[0]), s[4], s[5]) for s in self.sections]

    def symbols(self):
        table = next(s for s in self.sections if self.text(self.names + s[0]) == ".symtab")
        strings = self.sections[table[6]][4]
        return [self.text(strings + struct.unpack_from("<I", self.data, table[4] + 24 * i)[0]) for i in range(table[5] // 24)]

    def attributes(self, offset, size):
        """(attribute, values) of a section .nv.info."""
        at = offset
        while at < offset + size:
            form, attribute, value = struct.unpack_from("<BBH", self.data, at)
            at += 4
            if form == SIZED_VALUE:
                yield attribute, struct.unpack_from(f"<{value // 4}I", self.data, at)
                at += value


def kernels(elf):
    """{mangled name: {registers, local, threads, shared}}"""
    found, symbols = {}, elf.symbols()
    sections = elf.named()
    for name, _, size in sections:
        if name.startswith(".text."):
            found[name.removeprefix(".text.")] = {"shared": 0}
    for name, offset, size in sections:
        if name == ".nv.info":
            for attribute, values in elf.attributes(offset, size):
                key = {REGISTER_COUNT: "registers", FRAME_SIZE: "local"}.get(attribute)
                if key and symbols[values[0]] in found:
                    found[symbols[values[0]]][key] = values[1]
        elif name.startswith(".nv.info."):
            for attribute, values in elf.attributes(offset, size):
                if attribute == MAX_THREADS:
                    found[name.removeprefix(".nv.info.")]["threads"] = values[0]
        elif name.startswith(".nv.shared.") and name.removeprefix(".nv.shared.") in found:
            found[name.removeprefix(".nv.shared.")]["shared"] = size
    return {name: k for name, k in found.items() if "registers" in k and "threads" in k}


def demangled(names):
    text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    return dict(zip(names, text.splitlines()))


def readable(mangled, name):
    """sm80.cu: apply<bf16, float>. nvcc writes the source's name into that of an anonymous namespace."""
    space = re.search(r"_GLOBAL__N__\w{8}_\d+_(\w+?)_cu_\w{8}(?:_\d+)?", mangled)
    source = f"{space[1]}.cu: " if space else ""
    name = re.sub(r"\(.*", "", name.removeprefix("void ").replace("(anonymous namespace)", "").replace("(int)", "").replace("(bool)", ""))
    name = re.sub(r"darkroom::|kernels::|cuda::|::+(?=\w)|_GLOBAL__N__\w+", "", name)
    return source + name.replace("bf16_t", "bf16").replace("f16_t", "f16")


def occupancy(chip, threads, registers, shared):
    """Blocks that an SM holds, and what limits them."""
    shared_kb, most_threads, most_blocks = SMS[chip]
    warps = threads // 32
    limits = {
        "registers": REGISTERS // ((registers * 32 + 255) // 256 * 256) // warps,
        "shared": shared_kb * 1024 // (shared + 1024),
        "threads": most_threads // threads,
        "blocks": most_blocks,
    }
    limit = min(limits, key=limits.get)
    return limits[limit], limit


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("files", nargs="+", type=pathlib.Path)
    p.add_argument("--out", type=pathlib.Path)
    a = p.parse_args()
    found = {}
    for path in a.files:
        for chip, elf in cubins(path.read_bytes()):
            for mangled, k in kernels(Elf(elf)).items():
                found.setdefault(mangled, {})[chip] = k
    if not found:
        print("cuda_resources.py: no machine code of a GPU in these files; build with -DDARKROOM_CUDA=ON", file=sys.stderr)
        return 3
    names = {m: readable(m, n) for m, n in demangled(sorted(found)).items()}
    chips = sorted({chip for k in found.values() for chip in k})
    lines = ["| kernel | threads | " + " | ".join(f"sm_{c}" for c in chips) + " |", "|---|---|" + "---|" * len(chips)]
    bad = 0
    for mangled in sorted(names, key=names.get):
        cells = []
        for chip in chips:
            k = found[mangled].get(chip)
            if not k:
                cells.append("")
                continue
            shared = k["shared"] + next(bytes_ for pattern, bytes_ in DYNAMIC_SHARED if re.search(pattern, names[mangled]))
            blocks, limit = occupancy(chip, k["threads"], k["registers"], shared)
            full = blocks * k["threads"] * 100 // SMS[chip][1]
            local = k.get("local", 0)
            bad += local > 0
            cells.append(f"{k['registers']} r, {shared / 1024:.1f} KB, {full} % ({limit})" + (f", **{local} B local**" if local else ""))
        threads = next(iter(found[mangled].values()))["threads"]
        lines.append(f"| `{names[mangled]}` | {threads} | " + " | ".join(cells) + " |")
    text = "\n".join(lines) + f"\n\n{len(names)} kernels; {bad} of {sum(len(k) for k in found.values())} compiled forms use local memory.\n"
    if a.out:
        a.out.write_text(text)
    else:
        print(text, end="")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
