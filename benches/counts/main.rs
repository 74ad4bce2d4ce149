//! Instructions of the hot path, by callgrind: the same on a noisy machine as on a quiet one.
//! README.md has the how and the why.

#![allow(missing_docs)] // The macros make what needs none.

mod budgets;
mod rows;

use gungraun::{Callgrind, EventKind, LibraryBenchmarkConfig};
use gungraun::{library_benchmark, library_benchmark_group, main};
use podwire::proto::message::Dialect::{Seed, V1};

use self::rows::Message::{Characters, Key, KeyInJson, Output, Paste, Single};
use self::rows::{LARGE, SMALL, Work};

/// Fails a row that takes more instructions than this.
fn at_most(count: u64) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::default();
    callgrind.hard_limits([(EventKind::Ir, count)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind).env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-ERMS");
    config
}

#[library_benchmark(setup = rows::codec)]
#[bench::output_32k(args = (Output(LARGE)), config = at_most(budgets::CODEC_OUTPUT_32K))]
#[bench::output_100(args = (Output(SMALL)), config = at_most(budgets::CODEC_OUTPUT_100))]
#[bench::key(args = (Key), config = at_most(budgets::CODEC_KEY))]
#[bench::paste_32k(args = (Paste), config = at_most(budgets::CODEC_PASTE_32K))]
fn codec(mut work: Work) -> usize {
    work()
}

#[library_benchmark(setup = rows::session)]
#[bench::output_32k(args = (V1, Output(LARGE)), config = at_most(budgets::SESSION_OUTPUT_32K))]
#[bench::output_100(args = (V1, Output(SMALL)), config = at_most(budgets::SESSION_OUTPUT_100))]
#[bench::single_100(args = (V1, Single(SMALL)), config = at_most(budgets::SESSION_SINGLE_100))]
#[bench::text_32k(args = (Seed, Characters), config = at_most(budgets::SESSION_TEXT_32K))]
#[bench::key(args = (V1, Key), config = at_most(budgets::SESSION_KEY))]
#[bench::key_in_json(args = (V1, KeyInJson), config = at_most(budgets::SESSION_KEY_IN_JSON))]
#[bench::paste_32k(args = (V1, Paste), config = at_most(budgets::SESSION_PASTE_32K))]
fn session(mut work: Work) -> usize {
    work()
}

#[library_benchmark(setup = rows::whole)]
#[bench::output_32k(args = (Output(LARGE)), config = at_most(budgets::RELAY_OUTPUT_32K))]
#[bench::output_100(args = (Output(SMALL)), config = at_most(budgets::RELAY_OUTPUT_100))]
#[bench::single_100(args = (Single(SMALL)), config = at_most(budgets::RELAY_SINGLE_100))]
#[bench::key(args = (Key), config = at_most(budgets::RELAY_KEY))]
#[bench::key_in_json(args = (KeyInJson), config = at_most(budgets::RELAY_KEY_IN_JSON))]
#[bench::paste_32k(args = (Paste), config = at_most(budgets::RELAY_PASTE_32K))]
fn relay(mut work: Work) -> usize {
    work()
}

#[library_benchmark]
#[bench::status(args = (), setup = rows::status, config = at_most(budgets::MESSAGE_STATUS))]
#[bench::json(args = (), setup = rows::json, config = at_most(budgets::MESSAGE_JSON))]
fn message(mut work: Work) -> usize {
    work()
}

library_benchmark_group!(name = counts, benchmarks = [codec, session, relay, message]);
main!(library_benchmark_groups = counts);
