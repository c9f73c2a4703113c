# SPDX-License-Identifier: Apache-2.0
"""Conan 2 recipe: `conan create packaging/conan`, from a clone. The shared library alone: whoever
links the static one has to find oneTBB, OpenBLAS and LAPACKE as well.

OpenBLAS is built with LAPACK, whose C interface is then in the same library.
"""

import re
from pathlib import Path
from typing import ClassVar

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, rm

ROOT = Path(__file__).resolve().parents[2]


class Steepest(ConanFile):
    name = "steepest"
    license = "Apache-2.0"
    description = "Optimizer-step kernels for CPUs behind a stable C ABI"
    topics = ("optimizer", "adamw", "muon", "machine-learning")
    package_type = "shared-library"
    settings = "os", "compiler", "build_type", "arch"
    default_options: ClassVar = {"openblas/*:build_lapack": True}

    def set_version(self):
        header = (ROOT / "include/steepest/steepest.h").read_text()
        numbers = re.findall(r"^#define STEEPEST_VERSION_\w+ (\d+)", header, re.MULTILINE)
        self.version = ".".join(numbers)

    def export_sources(self):
        for pattern in ("CMakeLists.txt", "LICENSE", "include/*", "src/*", "cmake/*"):
            copy(self, pattern, ROOT, self.export_sources_folder)

    def requirements(self):
        self.requires("onetbb/[>=2021.8]")
        self.requires("openblas/[>=0.3.21]")
        self.requires("xsimd/[>=8.1]")

    def layout(self):
        cmake_layout(self)

    def generate(self):
        CMakeDeps(self).generate()
        blas = self.dependencies["openblas"].cpp_info
        library = next(Path(blas.libdir).glob("libopenblas.*"))
        toolchain = CMakeToolchain(self)
        for part in ("TESTS", "BENCHMARKS", "EXAMPLES", "TOOLS"):
            toolchain.cache_variables[f"STEEPEST_BUILD_{part}"] = False
        for name in ("STEEPEST_OPENBLAS", "STEEPEST_LAPACKE"):
            toolchain.cache_variables[name] = str(library)
        for name in ("STEEPEST_CBLAS_INCLUDE", "STEEPEST_LAPACKE_INCLUDE"):
            toolchain.cache_variables[name] = blas.includedirs[0]
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        copy(self, "LICENSE", self.source_folder, Path(self.package_folder) / "licenses")
        CMake(self).install()
        rm(self, "*.a", self.package_folder, recursive=True)

    def package_info(self):
        # The project's own package file, with its targets.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs.append("lib/cmake/steepest")
        self.cpp_info.libs = ["steepest"]
