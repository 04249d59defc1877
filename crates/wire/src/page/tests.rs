use std::{
    io::ErrorKind,
    os::fd::{AsFd, OwnedFd},
    sync::Barrier,
};

use rustix::fs::{MemfdFlags, SealFlags};

use super::ClaimPage;
use crate::{Claims, SlotState};

fn pair(slots: u32) -> (ClaimPage, ClaimPage) {
    let (replica, fd) = ClaimPage::create(slots).unwrap();
    let router = ClaimPage::open(fd.as_fd(), slots).unwrap();
    (router, replica)
}

fn memfd(bytes: u64, seals: SealFlags) -> OwnedFd {
    let fd =
        rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&fd, bytes).unwrap();
    rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
    fd
}

#[test]
fn both_mappings_see_one_claim() {
    let (router, replica) = pair(4);
    router.queue(3, 9);
    assert_eq!(replica.read(3), (9, SlotState::Queued));
    assert!(replica.start(3, 9));
    assert!(!router.take(3, 9));
    assert_eq!(router.read(3), (9, SlotState::Started));
    router.queue(0, 10);
    assert!(router.take(0, 10));
    assert!(!replica.start(0, 10));
    assert_eq!(
        replica.read(1),
        (0, SlotState::Free),
        "other slots are not touched"
    );
}

#[test]
fn the_page_outlives_the_other_end() {
    let (router, replica) = pair(2);
    router.queue(0, 1);
    router.queue(1, 2);
    assert!(replica.start(1, 2));
    drop(replica);
    assert_eq!(router.read(0), (1, SlotState::Queued));
    assert_eq!(router.read(1), (2, SlotState::Started));
}

#[test]
fn turns_and_the_exemption_share_word_zero_and_disturb_no_slot() {
    let (router, replica) = pair(1);
    assert_eq!((router.turns(), router.exempt()), (0, false));
    replica.bump();
    replica.set_exempt(true);
    replica.bump();
    assert_eq!((router.turns(), router.exempt()), (2, true));
    replica.set_exempt(false);
    assert_eq!((router.turns(), router.exempt()), (2, false));
    assert_eq!(router.read(0), (0, SlotState::Free));
}

#[test]
fn a_slot_outside_the_page_claims_nothing() {
    let (router, replica) = pair(2);
    for slot in [2, 3, u32::MAX] {
        router.queue(slot, 1);
        assert!(!replica.start(slot, 1));
        assert!(!router.take(slot, 1));
        assert_eq!(router.read(slot), (0, SlotState::Free));
    }
}

#[test]
fn an_unsealed_page_is_refused() {
    for seals in [SealFlags::empty(), SealFlags::GROW, SealFlags::SHRINK] {
        let error = ClaimPage::open(memfd(16, seals).as_fd(), 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{seals:?}");
    }
    assert!(ClaimPage::open(memfd(16, SealFlags::GROW | SealFlags::SHRINK).as_fd(), 1).is_ok());
}

#[test]
fn a_page_of_another_length_is_refused() {
    let (_page, fd) = ClaimPage::create(8).unwrap();
    for slots in [1, 7, 9, ClaimPage::MAX_SLOTS] {
        assert_eq!(
            ClaimPage::open(fd.as_fd(), slots).unwrap_err().kind(),
            ErrorKind::InvalidData
        );
    }
}

#[test]
fn sizes_are_bounded_before_anything_is_mapped() {
    for slots in [0, ClaimPage::MAX_SLOTS + 1, u32::MAX] {
        assert_eq!(
            ClaimPage::create(slots).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert_eq!(
            ClaimPage::open(std::io::stdin().as_fd(), slots)
                .unwrap_err()
                .kind(),
            ErrorKind::InvalidInput
        );
    }
    let (page, _fd) = ClaimPage::create(ClaimPage::MAX_SLOTS).unwrap();
    page.queue(ClaimPage::MAX_SLOTS - 1, 5);
    assert!(page.start(ClaimPage::MAX_SLOTS - 1, 5));
}

#[test]
fn a_descriptor_that_is_no_memfd_is_refused() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(16).unwrap();
    assert!(ClaimPage::open(file.as_fd(), 1).is_err());
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(ClaimPage::open(socket.as_fd(), 1).is_err());
}

#[test]
fn the_peer_cannot_change_the_length() {
    let (_page, fd) = ClaimPage::create(600).unwrap();
    for length in [0, 8, 1 << 20] {
        assert_eq!(
            rustix::fs::ftruncate(&fd, length),
            Err(rustix::io::Errno::PERM)
        );
    }
    assert_eq!(
        rustix::fs::fcntl_add_seals(&fd, SealFlags::WRITE),
        Err(rustix::io::Errno::PERM)
    );
}

#[test]
fn a_forked_child_has_no_copy() {
    let (page, _fd) = ClaimPage::create(1).unwrap();
    let address = format!("{:x}-", page.map.as_ptr() as usize);
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let flags = maps
        .lines()
        .skip_while(|line| !line.starts_with(&address))
        .find_map(|line| line.strip_prefix("VmFlags: "))
        .unwrap();
    let flags: Vec<_> = flags.split_whitespace().collect();
    assert!(flags.contains(&"dc"), "do not copy on fork: {flags:?}");
    assert!(flags.contains(&"sh"), "shared: {flags:?}");
}

/// What the model checks over loom's atomic, once more over two real mappings and real threads.
#[test]
fn races_over_two_mappings_have_one_winner() {
    const ROUNDS: u64 = 2_000;
    let (router, replica) = pair(1);
    let barrier = Barrier::new(2);
    let (started, taken) = std::thread::scope(|scope| {
        let replica = scope.spawn(|| {
            (1..=ROUNDS)
                .map(|sequence| {
                    barrier.wait();
                    let won = replica.start(0, sequence);
                    barrier.wait();
                    won
                })
                .collect::<Vec<_>>()
        });
        let mut taken = Vec::new();
        for sequence in 1..=ROUNDS {
            router.queue(0, sequence);
            barrier.wait();
            taken.push(router.take(0, sequence));
            barrier.wait();
        }
        (replica.join().unwrap(), taken)
    });
    assert!(
        started
            .iter()
            .zip(&taken)
            .all(|(started, taken)| started != taken)
    );
}
