"""hip_attn from the source archive that packaging/assemble puts beside this file."""

import pathlib

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, unzip

required_conan_version = ">=2.0"


class HipAttn(ConanFile):
    name = "hip_attn"
    description = "Sparse attention with a hierarchical search over the KV cache (HiP, InfiniteHiP)"
    license = "Apache-2.0"
    topics = ("attention", "llm", "cuda")
    package_type = "library"
    settings = "os", "arch", "compiler", "build_type"
    options = {
        "shared": [True, False],
        "fPIC": [True, False],
        "cuda": [True, False],
        "openmp": [True, False],
        "element_types": ["ANY"],
        "head_dims": ["ANY"],
    }
    default_options = {
        "shared": False,
        "fPIC": True,
        "cuda": False,
        "openmp": True,
        # Empty: all.
        "element_types": "",
        "head_dims": "",
        # The library compiles fmt's headers in.
        "fmt/*:header_only": True,
    }
    implements = ["auto_shared_fpic"]
    exports_sources = "hip_attn-*.tar.gz"

    def set_version(self):
        (archive,) = pathlib.Path(self.recipe_folder).glob("hip_attn-*.tar.gz")
        self.version = archive.name.removeprefix("hip_attn-").removesuffix(".tar.gz")

    def layout(self):
        cmake_layout(self, src_folder="source")

    def requirements(self):
        self.requires("fmt/[>=9 <13]", visible=False)
        self.requires("nlohmann_json/[>=3.10 <4]", visible=False)

    def source(self):
        archive = f"hip_attn-{self.version}.tar.gz"
        unzip(self, str(pathlib.Path(self.export_sources_folder) / archive), strip_root=True)

    def generate(self):
        toolchain = CMakeToolchain(self)
        defines = toolchain.cache_variables
        defines["HIP_ATTN_CUDA"] = "ON" if self.options.cuda else "OFF"
        defines["HIP_ATTN_OPENMP"] = "ON" if self.options.openmp else "OFF"
        defines["HIP_ATTN_BUILD_TOOLS"] = "OFF"
        defines["HIP_ATTN_BUILD_TESTS"] = False
        defines["HIP_ATTN_BUILD_BENCHMARKS"] = False
        defines["HIP_ATTN_WERROR"] = False
        for name in ("element_types", "head_dims"):
            if value := str(self.options.get_safe(name)):
                defines[f"HIP_ATTN_{name.upper()}"] = value
        toolchain.generate()
        CMakeDeps(self).generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        CMake(self).install()
        licences = str(pathlib.Path(self.package_folder) / "licenses")
        copy(self, "LICENSE", self.source_folder, licences)
        copy(self, "dlpack.LICENSE", str(pathlib.Path(self.source_folder) / "include/hip_attn/c"), licences)

    def package_info(self):
        # The package's own CMake files know what a static library needs of OpenMP and CUDA.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = ["lib/cmake/hip_attn"]
        self.cpp_info.set_property("pkg_config_name", "hip_attn")
        self.cpp_info.libs = ["hip_attn"]
        if not self.options.shared:
            self.cpp_info.defines = ["HIP_ATTN_STATIC"]
            self.cpp_info.system_libs = ["m", "dl", "pthread"]
            if self.options.openmp:
                gcc = self.settings.compiler == "gcc"
                self.cpp_info.system_libs.append("gomp" if gcc else "omp")
            if self.options.cuda:
                self.cpp_info.system_libs += ["cudart_static", "rt"]
