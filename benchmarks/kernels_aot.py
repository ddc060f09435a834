"""Compile every form of every kernel for GPUs that need not be there, and read registers and spills back.

python -m benchmarks.kernels_aot [--only rms_norm] [--fresh] [--check]

For sm_80 (A100) and sm_90 (H100, H200). What is on record in `results/kernels_aot.json` for the same source is not
compiled again; `--check` writes nothing and fails where something spills. Not under TRITON_INTERPRET=1.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels.triton import KERNELS
from kernels.triton.forms import INTERPRETED, Configuration

RECORD = Path(__file__).parent / "results" / "kernels_aot.json"
# The wheel's assemblers: the first refuses the version of the PTX that Triton writes for sm_90.
_ASSEMBLERS = {80: ("ptxas", "sm_80"), 90: ("ptxas-blackwell", "sm_90a")}
_USED = re.compile(r"Used (\d+) registers")
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")


@dataclass(frozen=True, slots=True)
class Compiled:
    """What one form of a kernel takes on one kind of GPU; `shared` and `spilled` in bytes a block and a thread."""

    kernel: str
    label: str
    target: int
    warps: int
    registers: int
    shared: int
    spilled: int


def compile_all(names: Sequence[str], known: Mapping[str, Compiled]) -> dict[str, Compiled]:
    """By a digest of the source, form and target; those in `known` are not compiled again."""
    wanted = {
        _digest(found, target): (name, found, target)
        for name in names
        for found in configurations(name)
        for target in found.targets
    }
    missing = [digest for digest in wanted if digest not in known]
    # Most of the time goes by in the assemblers' processes.
    with ThreadPoolExecutor(2) as pool:
        compiled = dict(zip(missing, pool.map(lambda digest: _compile(*wanted[digest]), missing), strict=True))
    return {digest: compiled.get(digest) or known[digest] for digest in wanted}


def configurations(name: str) -> Iterator[Configuration]:
    """Every form that the launcher of `kernels.triton.<name>` picks for the sizes that are listed there."""
    yield from import_module(f"kernels.triton.{name}").configurations()


def source_of(found: Configuration) -> ASTSource:
    """With the constants folded in, and addresses and integers that are multiples of 16 known to be so."""
    constants = dict(found.form.constants)
    names = found.kernel.arg_names
    if set(names) != found.types.keys() | constants.keys():
        raise ValueError(f"{found.kernel.__name__}: arguments {names}, described {[*found.types, *constants]}")
    signature = {name: found.types[name].partition(":")[0] if name in found.types else "constexpr" for name in names}
    aligned = [names.index(name) for name, kind in found.types.items() if kind.endswith(":16")]
    attributes = {(index,): [["tt.divisibility", 16]] for index in aligned}
    return ASTSource(fn=found.kernel, signature=signature, constexprs=constants, attrs=attributes)


def _compile(name: str, found: Configuration, target: int) -> Compiled:
    built = triton.compile(source_of(found), target=GPUTarget("cuda", target, 32), options=found.form.options)
    registers, spilled = _assembled(built.asm["ptx"], target)
    return Compiled(name, found.label, target, found.form.warps, registers, built.metadata.shared, spilled)


def _assembled(ptx: str, target: int) -> tuple[int, int]:
    """Registers, and bytes that are spilled."""
    program, architecture = _ASSEMBLERS[target]
    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / program
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernel.ptx")
        file.write_text(ptx, encoding="utf-8")
        command = [str(path), "-v", f"-arch={architecture}", str(file), "-o", str(Path(folder, "kernel.cubin"))]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    stores, loads = (sum(map(int, column)) for column in zip(*_SPILLS.findall(told), strict=True))
    return max(map(int, _USED.findall(told))), stores + loads


def _digest(found: Configuration, target: int) -> str:
    parts = [triton.__version__, source_of(found).hash(), str(found.form.warps), str(found.form.stages), str(target)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def read_record() -> dict[str, Compiled]:
    """What was compiled before."""
    if not RECORD.is_file():
        return {}
    return {digest: Compiled(**row) for digest, row in json.loads(RECORD.read_text(encoding="utf-8")).items()}


def table(compiled: Sequence[Compiled]) -> str:
    """Markdown."""
    lines = [
        "# Kernels compiled ahead of time",
        "",
        f"Triton {triton.__version__}, `python -m benchmarks.kernels_aot`. Registers a thread, shared memory a block;",
        f"{sum(row.spilled > 0 for row in compiled)} of {len(compiled)} forms spill.",
        "",
        "| kernel | form | GPU | warps | registers | shared, KB | spilled, bytes |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.kernel} | {row.label} | sm_{row.target} | {row.warps} | {row.registers} "
        f"| {row.shared / 1024:.1f} | {row.spilled} |"
        for row in compiled
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=KERNELS, default=KERNELS)
    parser.add_argument("--fresh", action="store_true", help="compile what is on record, too")
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    if INTERPRETED:
        parser.error("kernels are decorated for the interpreter: unset TRITON_INTERPRET")
    record = read_record()
    known = {} if options.fresh else record
    compiled: dict[str, Compiled] = {}
    for name in options.only:
        compiled |= compile_all([name], known)
        if not options.check:
            # After each kernel, so that an interrupted run is not lost.
            record = {digest: row for digest, row in record.items() if row.kernel != name}
            record |= {digest: row for digest, row in compiled.items() if row.kernel == name}
            _write(record)
    spilling = [row for row in compiled.values() if row.spilled]
    for row in compiled.values() if not options.check else spilling:
        print(row)
    print(f"{len(compiled)} forms, {len(compiled.keys() - known.keys())} compiled now, {len(spilling)} spill")
    return 1 if spilling else 0


def _write(record: Mapping[str, Compiled]) -> None:
    rows = dict(sorted(record.items(), key=lambda item: KERNELS.index(item[1].kernel)))
    RECORD.write_text(json.dumps({key: asdict(row) for key, row in rows.items()}, indent=1) + "\n", encoding="utf-8")
    RECORD.with_suffix(".md").write_text(table(list(rows.values())), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
