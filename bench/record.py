#!/usr/bin/env python3
"""Measures what a file of bench/results/ holds, and writes it there.

    bench/record.py decode-h200 --build build/cuda
    bench/make_tables.py

Runs the command that report_tables.py has for the name, and adds to its JSON on which machine, at
which commit and by which command it was measured.
"""

import argparse
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

import report_tables

ROOT = pathlib.Path(__file__).resolve().parent.parent


def commit():
    describe = ["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
    run = subprocess.run(describe, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit("record.py: this folder has no git history: pass --commit")
    return run.stdout.strip()


def command_of(name, build, results):
    program, *arguments = report_tables.SOURCES[name].command
    if program.endswith(".py"):
        return [sys.executable, str(ROOT / "bench" / program), *arguments, "--json", results]
    out = [f"--benchmark_out={results}", "--benchmark_out_format=json"]
    return [str(build / "bench" / program), *arguments, *out]


def processor():
    """Its name and cores, of a benchmark that ran on no GPU."""
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    names = re.findall(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    return f"{names[0] if names else 'unknown processor'}, {os.cpu_count()} cores"


def compiler_of(build):
    """The compilers of a build, from what CMake has found."""
    found = []
    for language, title in (("CXX", "{id} {version}"), ("CUDA", "CUDA {version}")):
        for path in build.glob(f"CMakeFiles/*/CMake{language}Compiler.cmake"):
            text = path.read_text(encoding="utf-8")
            get = lambda key: re.search(rf'set\(CMAKE_{language}_COMPILER_{key} "(.*?)"\)', text)[1]
            found.append(title.format(id=get("ID"), version=get("VERSION")))
    return ", ".join(found)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=sorted(report_tables.SOURCES))
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="its folder")
    parser.add_argument("--commit", help="that was built; otherwise git says")
    parser.add_argument("--output", type=pathlib.Path, help="instead of bench/results/NAME.json")
    options = parser.parse_args()
    built = options.commit or commit()
    with tempfile.NamedTemporaryFile(suffix=".json") as results:
        command = command_of(options.name, options.build, results.name)
        if subprocess.run(command).returncode != 0:
            sys.exit(f"record.py: {shlex.join(command)} failed")
        content = json.load(results)
    context = content["context"]
    for of_this_run in ("host_name", "executable", "load_avg", "json_schema_version"):
        context.pop(of_this_run, None)
    if "gpu" in context:
        context["machine"] = f"One {context['gpu']}"
    elif "machine" not in context:
        context["machine"] = f"{processor()}, {context['instruction_set']}"
    context["commit"] = built
    source = report_tables.SOURCES[options.name]
    context["command"] = shlex.join(source.command)
    if not source.command[0].endswith(".py"):
        context["compiler"] = compiler_of(options.build)
    output = options.output or ROOT / "bench/results" / f"{options.name}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
