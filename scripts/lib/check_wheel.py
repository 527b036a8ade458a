"""Checks a wheel of the package and its installation in the running interpreter.

    python check_wheel.py hip_attn-0.1.0-....whl README.md
"""

import importlib.metadata
import pathlib
import re
import sys
import zipfile

LICENCES = {
    "LICENSE",
    "dlpack.LICENSE",
    "nanobind.LICENSE",
    "nlohmann_json.LICENSE",
    "robin_map.LICENSE",
    "libgomp.LICENSE",
    "cuda_runtime.LICENSE",
}


def check_contents(wheel):
    names = [name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")]
    licences = {pathlib.PurePath(name).name for name in names if "/licenses/" in name}
    assert licences == LICENCES, licences
    for name in ("__init__.py", "_core.pyi", "py.typed", "torch.py", "viewer.html"):
        assert f"hip_attn/{name}" in names, name
    foreign = [name for name in names if not re.match(r"hip_attn(/|\.libs/|-)", name)]
    assert not foreign, foreign
    # What auditwheel put into it is what has a licence there.
    libraries = [name for name in names if name.startswith("hip_attn.libs/")]
    assert all(name.startswith("hip_attn.libs/libgomp-") for name in libraries), libraries


def check_tag(wheel):
    _, version, python, abi, platform = wheel.stem.split("-")
    assert version == importlib.metadata.version("hip_attn")
    number = f"cp{sys.version_info.major}{sys.version_info.minor}"
    expected = ("cp312", "abi3") if sys.version_info >= (3, 12) else (number, number)
    assert (python, abi) == expected, (python, abi)
    assert platform.startswith("manylinux_"), platform


def check_installation(readme):
    """The quickstart runs."""
    (quickstart,) = re.findall(r"^```python\n(.*?)^```$", readme.read_text(), re.MULTILINE | re.DOTALL)
    names = {}
    exec(compile(quickstart, str(readme), "exec"), names)
    assert abs(names["out"]).max() > 0
    package = pathlib.Path(names["hip_attn"].__file__)
    assert package.is_relative_to(sys.prefix), package
    assert names["hip_attn"].version() == importlib.metadata.version("hip_attn")


def main():
    wheel, readme = map(pathlib.Path, sys.argv[1:])
    check_contents(wheel)
    check_tag(wheel)
    check_installation(readme)


main()
