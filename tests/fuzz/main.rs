//! What `tests/fuzz/run` fuzzes for as long as it is told, here on the committed inputs and on two thousand made from them: the same at
//! each run, and without a build of their own.

use std::fs;
use std::path::Path;

use arbitrary::Arbitrary;
use arbitrary::Unstructured;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::Config;
use proptest::test_runner::RngSeed;
use proptest::test_runner::TestRunner;

mod checks;

/// Inputs made for each target.
const CASES: u32 = 2_000;

/// One change of an input.
#[derive(Clone, Debug)]
enum Edit {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..8),
        prop::sample::select(vec![
            "\r\n",
            "\r\n\r\n",
            "HTTP/1.1 200 OK\r\n",
            ": ",
            "0",
            "-1",
            "18446744073709551616",
            "{",
            "\"",
            "\\u"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (any::<Index>(), piece).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        (any::<Index>(), 1..32_usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        (any::<Index>(), 1..64_usize).prop_map(|(at, length)| Edit::Repeat(at, length)),
    ]
}

fn apply(input: &mut Vec<u8>, edit: &Edit) {
    let place = |at: &Index, input: &[u8]| at.index(input.len() + 1);
    let range = |at: &Index, length: usize, input: &[u8]| {
        let start = place(at, input);
        start..(start + length).min(input.len())
    };
    match edit {
        Edit::Set(at, byte) => {
            let at = place(at, input);
            if let Some(old) = input.get_mut(at) {
                *old = *byte;
            }
        }
        Edit::Insert(at, piece) => {
            let at = place(at, input);
            input.splice(at..at, piece.iter().copied());
        }
        Edit::Remove(at, length) => drop(input.drain(range(at, *length, input))),
        Edit::Repeat(at, length) => input.extend_from_within(range(at, *length, input)),
    }
}

/// Reads `bytes` as libFuzzer's targets do, and checks them.
fn check<'a, T: Arbitrary<'a>>(bytes: &'a [u8], check: impl Fn(T)) {
    if let Ok(input) = T::arbitrary_take_rest(Unstructured::new(bytes)) {
        check(input);
    }
}

/// Checks the committed inputs of a target, and inputs made from them.
fn replay(target: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    let seeds: Vec<_> = files.iter().map(|file| fs::read(file).expect("readable")).collect();
    assert!(!seeds.is_empty());
    for seed in &seeds {
        check(seed);
    }

    let config = Config { cases: CASES, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() };
    let inputs = (prop::sample::select(seeds), prop::collection::vec(edit(), 0..8));
    let made = TestRunner::new(config).run(&inputs, |(mut input, edits)| {
        edits.iter().for_each(|edit| apply(&mut input, edit));
        check(&input);
        Ok(())
    });
    made.unwrap_or_else(|failure| panic!("{failure}"));
}

macro_rules! replay {
    ($($target:ident: $input:ty;)*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target), |bytes| check::<$input>(bytes, checks::$target::check));
        })*
    };
}

replay! {
    answer: (Vec<u8>, &[u8]);
    config: (&str, Vec<(&str, &str)>);
    connector: &[u8];
    envelope: &[u8];
    handshake: &[u8];
    packet: &str;
    push: &str;
    receive_url: &str;
    session: (bool, Vec<u8>, &[u8]);
    ticket: (&str, [u8; 16], u64, usize);
}
