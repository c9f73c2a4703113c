// SPDX-License-Identifier: Apache-2.0
//! Finds libsteepest, in this order:
//!
//! 1. `STEEPEST_LIB_DIR`, a directory with libsteepest.so or libsteepest.a;
//! 2. pkg-config, unless the feature `bundled` is on;
//! 3. a CMake build of the bundled source (`source/` here, or the repository that this crate is
//!    in), linked statically. It needs CMake, a C++20 compiler, oneTBB, OpenBLAS, LAPACKE and
//!    xsimd.
//!
//! `STEEPEST_LINK=static` or `dylib` says which library 1 and 2 take; the default is dylib. A
//! shared library must be found at run time too: by the loader's own paths or LD_LIBRARY_PATH.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// What the static library itself is linked with.
const STATIC_NEEDS: [&str; 4] = ["tbb", "lapacke", "openblas", "stdc++"];

fn main() {
    for name in ["STEEPEST_LIB_DIR", "STEEPEST_LINK", "PKG_CONFIG_PATH", "CMAKE_PREFIX_PATH"] {
        println!("cargo:rerun-if-env-changed={}", name);
    }
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("DOCS_RS").is_some() {
        return; // documentation is made without linking
    }
    let link = env::var("STEEPEST_LINK").unwrap_or_else(|_| "dylib".into());
    let is_static = match link.as_str() {
        "static" => true,
        "dylib" => false,
        other => panic!("STEEPEST_LINK is '{}': must be static or dylib", other),
    };
    if let Some(directory) = env::var_os("STEEPEST_LIB_DIR") {
        from_directory(Path::new(&directory), is_static);
    } else if env::var_os("CARGO_FEATURE_BUNDLED").is_some() || !from_pkg_config(is_static) {
        from_source();
    }
}

fn from_directory(directory: &Path, is_static: bool) {
    let file = directory.join(if is_static { "libsteepest.a" } else { "libsteepest.so" });
    if !file.exists() {
        panic!("STEEPEST_LIB_DIR: there is no {}", file.display());
    }
    println!("cargo:rustc-link-search=native={}", directory.display());
    println!("cargo:lib_dir={}", directory.display());
    link_with(is_static);
}

fn link_with(is_static: bool) {
    if !is_static {
        println!("cargo:rustc-link-lib=dylib=steepest");
        return;
    }
    println!("cargo:rustc-link-lib=static=steepest");
    for library in STATIC_NEEDS {
        println!("cargo:rustc-link-lib=dylib={}", library);
    }
}

fn from_pkg_config(is_static: bool) -> bool {
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let run = |arguments: &[&str]| {
        let output = Command::new(&program).args(arguments).stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let wanted = format!("steepest >= {}", env!("CARGO_PKG_VERSION"));
    let major = format!("steepest < {}", next_series());
    if run(&["--exists", &wanted]).is_none() || run(&["--exists", &major]).is_none() {
        return false;
    }
    // Not --libs: with a relocatable .pc the path may hold spaces.
    let directory = match run(&["--variable=libdir", "steepest"]) {
        Some(directory) => directory,
        None => return false,
    };
    println!("cargo:rustc-link-search=native={}", directory);
    println!("cargo:lib_dir={}", directory);
    link_with(is_static);
    true
}

/// Before 1.0 a new minor version may change the source interface.
fn next_series() -> String {
    let part = |i| env!("CARGO_PKG_VERSION").split('.').nth(i).unwrap().parse::<u32>().unwrap();
    match part(0) {
        0 => format!("0.{}", part(1) + 1),
        major => format!("{}", major + 1),
    }
}

fn from_source() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let candidates = [here.join("source"), here.join("../../..")];
    let source = candidates
        .iter()
        .find(|path| path.join("include/steepest/steepest.h").exists())
        .expect("steepest-sys: no STEEPEST_LIB_DIR, no steepest.pc, and no source to build");
    for part in ["CMakeLists.txt", "cmake", "include", "src"] {
        println!("cargo:rerun-if-changed={}", source.join(part).display());
    }
    let source = source.canonicalize().expect("steepest-sys: the source's folder");
    let build = PathBuf::from(env::var_os("OUT_DIR").unwrap()).join("build");
    forget_another_source(&build, &source);
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(&source).arg("-B").arg(&build).arg("-DCMAKE_BUILD_TYPE=Release");
    for part in ["BUILD_TESTS", "BUILD_BENCHMARKS", "BUILD_EXAMPLES", "INSTALL"] {
        configure.arg(format!("-DSTEEPEST_{}=OFF", part));
    }
    run(&mut configure);
    let jobs = env::var("NUM_JOBS").unwrap_or_else(|_| "1".into());
    run(Command::new("cmake").arg("--build").arg(&build).args([
        "--target",
        "steepest_static",
        "--parallel",
        &jobs,
    ]));
    println!("cargo:rustc-link-search=native={}", build.display());
    link_with(true);
}

/// CMake refuses a build folder that was made from another source: a copy, or before a move.
fn forget_another_source(build: &Path, source: &Path) {
    let line = format!("CMAKE_HOME_DIRECTORY:INTERNAL={}", source.display());
    match fs::read_to_string(build.join("CMakeCache.txt")) {
        Ok(cache) if !cache.lines().any(|x| x == line) => {
            fs::remove_dir_all(build).expect("steepest-sys: an old build folder")
        }
        _ => {}
    }
}

fn run(command: &mut Command) {
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{:?}: {}", command, status),
        Err(error) => panic!("{:?}: {}", command, error),
    }
}
