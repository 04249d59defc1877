use super::*;

#[test]
fn a_copy_past_the_caches_writes_every_byte_and_no_other() {
    const PAIR: usize = 2 * 4096;
    let source: Vec<u8> = (0..3 * PAIR).map(|at| (at % 251) as u8 + 1).collect();
    let lengths = [
        0,
        1,
        63,
        64,
        65,
        200,
        PAIR - 1,
        PAIR,
        PAIR + 64,
        2 * PAIR + 130,
    ];
    for length in lengths {
        for (from, to) in [(0, 0), (1, 0), (0, 1), (7, 63), (64, 65)] {
            let source = &source[from..from + length];
            let mut target = vec![0; 3 * PAIR];
            copy_past_caches(source, &mut target[to..to + length]);
            let expected = [&vec![0; to], source, &vec![0; 3 * PAIR - to - length]].concat();
            assert!(target == expected);
        }
    }
}
