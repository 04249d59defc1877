//! What the fuzz tests of the crates share: they run the targets on stable, on the kept seeds and on generated input.
//!
//! Each includes this file as a module: as a crate it would be a dependency of `wire` for its tests alone.
//! `EAGLERAY_FUZZ_SECONDS` (default 1) is how long input is generated. The generator's seed is printed, and
//! `EAGLERAY_FUZZ_SEED` repeats a run. `EAGLERAY_WRITE_SEEDS=1` writes the kept seeds anew.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fastrand::Rng;

/// A target and its name, which is also the name of its folder of seeds.
type Named<'a> = (&'a str, fn(&[u8]));

fn seeds(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/seeds")
        .join(name)
}

/// Keeps a seed of the target `name`.
pub(crate) fn keep(name: &str, file: impl AsRef<Path>, input: &[u8]) {
    fs::create_dir_all(seeds(name)).expect("writable");
    fs::write(seeds(name).join(file), input).expect("writable");
}

/// Runs each target on its kept seeds. If they are to be written anew, `write` does that first.
pub(crate) fn pass_seeds(targets: &[Named<'_>], write: impl FnOnce()) {
    if env::var_os("EAGLERAY_WRITE_SEEDS").is_some() {
        write();
    }
    for (name, target) in targets {
        let mut count = 0;
        for entry in fs::read_dir(seeds(name)).expect("the folder of kept seeds exists") {
            target(&fs::read(entry.expect("readable").path()).expect("readable"));
            count += 1;
        }
        assert!(count > 0, "{name} has kept seeds");
    }
}

/// Runs the targets in turns, each on what `generate` makes for its name after up to three mutations, until the time
/// is over or there were `most` runs. The input of a run that fails is left in the folder for temporary files.
#[expect(clippy::print_stdout, reason = "shown with the failure, to repeat it")]
pub(crate) fn drive(
    targets: &[Named<'_>],
    most: u64,
    generate: impl Fn(&str, &mut Rng) -> Vec<u8>,
    mutate: impl Fn(&mut Vec<u8>, &mut Rng),
) {
    let seconds = number("EAGLERAY_FUZZ_SECONDS", 1);
    let seed = number("EAGLERAY_FUZZ_SEED", 0x5eed);
    println!("generator seed {seed}: repeat with EAGLERAY_FUZZ_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut runs = 0;
    while Instant::now() < end && runs < most {
        for (name, target) in targets {
            let mut input = generate(name, &mut rng);
            for _ in 0..rng.u32(0..4) {
                mutate(&mut input, &mut rng);
            }
            if std::panic::catch_unwind(|| target(&input)).is_err() {
                let path = env::temp_dir().join(format!("eagleray-fuzz-{name}"));
                fs::write(&path, &input).expect("writable");
                panic!(
                    "{name} failed on run {runs} of seed {seed}; its input is in {}",
                    path.display()
                );
            }
            runs += 1;
        }
    }
    println!("{runs} runs");
}

fn number(variable: &str, otherwise: u64) -> u64 {
    env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}
