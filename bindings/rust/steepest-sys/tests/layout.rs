// SPDX-License-Identifier: Apache-2.0
//! The bindings against what a C compiler makes of the header: offsets and sizes of all fields, the
//! bytes of the INIT macros, all constants, and that every function is declared.

use std::collections::BTreeMap;
use std::mem::{size_of, MaybeUninit};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr::addr_of;
use std::{env, fs};

use steepest_sys::*;

struct Layout {
    name: &'static str,
    size: usize,
    fields: Vec<(&'static str, usize, usize)>,
    init: Vec<u8>,
}

fn size_behind<T>(_: *const T) -> usize {
    size_of::<T>()
}

macro_rules! layout {
    ($name:ident = $init:ident { $($field:ident),* }) => {{
        let space = MaybeUninit::<$name>::uninit();
        let start = space.as_ptr();
        // Addresses only: nothing is read.
        let fields = vec![$({
            let place = unsafe { addr_of!((*start).$field) };
            (stringify!($field), place as usize - start as usize, size_behind(place))
        }),*];
        let init = $init;
        let bytes = unsafe {
            std::slice::from_raw_parts(addr_of!(init).cast::<u8>(), size_of::<$name>())
        };
        Layout { name: stringify!($name), size: size_of::<$name>(), fields, init: bytes.to_vec() }
    }};
}

fn layouts() -> Vec<Layout> {
    vec![
        layout!(
            steepest_executor =
                STEEPEST_EXECUTOR_INIT { struct_size, user, concurrency, parallel_for }
        ),
        layout!(
            steepest_allocator = STEEPEST_ALLOCATOR_INIT { struct_size, user, allocate, release }
        ),
        layout!(
            steepest_context_options = STEEPEST_CONTEXT_OPTIONS_INIT {
                struct_size,
                flags,
                num_threads,
                max_isa,
                executor,
                allocator
            }
        ),
        layout!(
            steepest_step_stats = STEEPEST_STEP_STATS_INIT {
                struct_size,
                status,
                reserved,
                update_rms,
                grad_rms,
                momentum_rms,
                param_rms,
                snr_update,
                snr_momentum,
                nonfinite
            }
        ),
        layout!(
            steepest_adamw_config = STEEPEST_ADAMW_CONFIG_INIT {
                struct_size,
                flags,
                lr,
                beta1,
                beta2,
                eps,
                weight_decay,
                grad_scale,
                step,
                seed,
                skipped
            }
        ),
        layout!(
            steepest_adamw_tensor = STEEPEST_ADAMW_TENSOR_INIT {
                struct_size,
                count,
                param,
                grad,
                exp_avg,
                exp_avg_sq,
                param_dtype,
                grad_dtype,
                exp_avg_dtype,
                exp_avg_sq_dtype,
                config,
                max_exp_avg_sq,
                delta,
                delta_dtype,
                reserved,
                residual,
                param_copy,
                exp_avg_scales,
                exp_avg_sq_scales,
                residual_kind,
                param_copy_dtype,
                random_stream,
                first_index
            }
        ),
        layout!(
            steepest_vector = STEEPEST_VECTOR_INIT { struct_size, count, data, dtype, reserved }
        ),
        layout!(steepest_workspace = STEEPEST_WORKSPACE_INIT { struct_size, data, bytes }),
        layout!(
            steepest_msign_config = STEEPEST_MSIGN_CONFIG_INIT {
                struct_size,
                flags,
                method,
                steps,
                coefficients,
                normalization,
                custom_coefficients,
                lower_bound,
                norm_bound,
                rank_tolerance,
                compute_dtype,
                reserved,
                custom_count,
                restarts,
                restart_count
            }
        ),
        layout!(
            steepest_msign_stats = STEEPEST_MSIGN_STATS_INIT {
                struct_size,
                status,
                method,
                steps,
                retries,
                rank,
                norm,
                lower_bound,
                orthogonality
            }
        ),
        layout!(
            steepest_muon_config = STEEPEST_MUON_CONFIG_INIT {
                struct_size,
                flags,
                lr,
                momentum,
                weight_decay,
                scale_value,
                grad_scale,
                step,
                seed,
                momentum_kind,
                scale_mode,
                msign,
                skipped
            }
        ),
        layout!(
            steepest_muon_tensor = STEEPEST_MUON_TENSOR_INIT {
                struct_size,
                rows,
                cols,
                param_ld,
                grad_ld,
                momentum_ld,
                delta_ld,
                fan_out,
                fan_in,
                param,
                grad,
                momentum,
                delta,
                param_dtype,
                grad_dtype,
                momentum_dtype,
                delta_dtype,
                blocks,
                block_count,
                block_axis,
                reserved,
                config,
                residual,
                param_copy,
                momentum_scales,
                param_copy_ld,
                residual_kind,
                param_copy_dtype,
                random_stream,
                first_index
            }
        ),
        layout!(
            steepest_schedule = STEEPEST_SCHEDULE_INIT {
                struct_size,
                kind,
                decay_shape,
                lr,
                final_ratio,
                warmup_steps,
                decay_steps
            }
        ),
    ]
}

fn header() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../include")
}

/// Compiles and runs a C program that includes the header; what it prints.
fn c_program(name: &str, body: &str) -> String {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, program) = (directory.join(format!("{}.c", name)), directory.join(name));
    let text = format!(
        "#include <stddef.h>\n#include <stdio.h>\n#include <steepest/steepest.h>\n\
         int main(void) {{\n{}return 0;\n}}\n",
        body
    );
    fs::write(&source, text).unwrap();
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(compiler)
        .arg("-I")
        .arg(header())
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .status();
    assert!(status.expect("a C compiler").success());
    String::from_utf8(Command::new(program).output().unwrap().stdout).unwrap()
}

#[test]
fn structs() {
    let (mut body, mut expected) = (String::new(), String::new());
    for layout in layouts() {
        let name = layout.name;
        body += &format!("printf(\"{0} %zu\\n\", sizeof({0}));\n", name);
        expected += &format!("{} {}\n", name, layout.size);
        let mut covered = 0;
        for (field, offset, size) in &layout.fields {
            body += &format!(
                "printf(\"{1} %zu %zu\\n\", offsetof({0}, {1}), sizeof((({0}*)0)->{1}));\n",
                name, field
            );
            expected += &format!("{} {} {}\n", field, offset, size);
            assert_eq!(*offset, covered, "{}: there is something before {}", name, field);
            covered += size;
        }
        assert_eq!(covered, layout.size, "{}: there is a field more", name);
        let init = name.trim_start_matches("steepest_").to_uppercase();
        body += &format!(
            "{{ {0} x = STEEPEST_{1}_INIT; const unsigned char* p = (const unsigned char*)&x;\n\
             for (size_t i = 0; i < sizeof x; ++i) printf(\"%02x\", p[i]); puts(\"\"); }}\n",
            name, init
        );
        for byte in &layout.init {
            expected += &format!("{:02x}", byte);
        }
        expected += "\n";
    }
    assert_eq!(c_program("structs", &body), expected);
}

/// `pub const NAME: type = value;` of constants.rs.
fn our_constants() -> BTreeMap<String, String> {
    let mut result = BTreeMap::new();
    for line in include_str!("../src/constants.rs").lines() {
        if let Some(rest) = line.strip_prefix("pub const ") {
            let (name, value) = rest.split_once(": ").unwrap();
            let value = value.split_once(" = ").unwrap().1.trim_end_matches(';');
            let value = match value.strip_prefix("1 << ") {
                Some(bit) => (1u64 << bit.parse::<u32>().unwrap()).to_string(),
                None => value.to_owned(),
            };
            result.insert(name.to_owned(), value);
        }
    }
    result
}

#[test]
fn constants() {
    let text = fs::read_to_string(header().join("steepest/steepest.h")).unwrap();
    let mut body = String::new();
    for line in text.lines() {
        let mut words = line.strip_prefix("#define ").unwrap_or("").split_whitespace();
        let name = words.next().unwrap_or("");
        let has_value = words.next().map_or(false, |word| {
            word.starts_with("(UINT64_C")
                || word.trim_start_matches("(-").starts_with(char::is_numeric)
        });
        if name.starts_with("STEEPEST_") && has_value {
            body += &format!("printf(\"{0} %lld\\n\", (long long){0});\n", name);
        }
    }
    let printed = c_program("constants", &body);
    let theirs: BTreeMap<_, _> = printed
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert!(theirs.len() > 70);
    assert_eq!(our_constants(), theirs);
    assert_eq!(STEEPEST_E_INTERNAL, -8); // constants.rs as text is what is compiled
    assert_eq!(STEEPEST_FLAG_CONSISTENT, 1 << 32);
}

#[test]
fn functions() {
    let text = fs::read_to_string(header().join("steepest/steepest.h")).unwrap();
    let name_after = |text: &str| {
        let open = text.find('(').unwrap();
        text[..open].rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap().to_owned()
    };
    let mut declared: Vec<String> = text.split("\nSTEEPEST_API ").skip(1).map(name_after).collect();
    let mut ours: Vec<String> =
        include_str!("../src/functions.rs").split("pub fn ").skip(1).map(name_after).collect();
    declared.sort();
    ours.sort();
    assert!(declared.len() > 40);
    assert_eq!(ours, declared);
}

#[test]
fn init_functions() {
    let mut config = MaybeUninit::<steepest_muon_config>::uninit();
    let size = size_of::<steepest_muon_config>();
    unsafe {
        assert_eq!(steepest_muon_config_init(config.as_mut_ptr().cast(), size), STEEPEST_OK);
        let config = config.assume_init();
        assert_eq!(config.momentum, STEEPEST_MUON_CONFIG_INIT.momentum);
        assert_eq!(config.flags, STEEPEST_MUON_NESTEROV);
        assert_eq!(steepest_abi_version(), STEEPEST_ABI_VERSION);
    }
}
