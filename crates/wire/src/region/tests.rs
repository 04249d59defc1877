use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, SealFlags};

use super::{
    Arrival, Attached, Attachment, Channel, ChannelError, Held, Lent, MOST_ATTACHMENTS, Named,
    Pool, Received, Release, assemble, charge, inline, without_channel,
};

const LENGTH: usize = 100_000;

/// Notes what is released.
#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<(u64, bool)>>);

impl Release for Recorder {
    fn release(&self, number: u64, reusable: bool) {
        self.0.lock().push((number, reusable));
    }
}

/// A maker and its peer.
struct Ends {
    pool: Arc<Pool>,
    here: Channel,
    there: Channel,
    recorder: Arc<Recorder>,
    held: Arc<Held>,
}

impl Ends {
    fn new() -> Self {
        let (here, peer) = Channel::pair().unwrap();
        Self {
            pool: Pool::new(|| ()),
            here,
            there: Channel::new(peer).unwrap(),
            recorder: Arc::default(),
            held: Held::new(|| ()),
        }
    }

    fn attached(&self, value: &[u8]) -> Attached {
        Attached {
            number: self.pool.number(),
            attachment: Attachment::Lent(self.pool.lend(&[value]).unwrap()),
        }
    }

    /// What the peer makes of a message that names these.
    fn take(&self, named: &[Named]) -> Result<Vec<Arrival>, ChannelError> {
        let release: Arc<dyn Release> = self.recorder.clone();
        self.there.take(named.iter().copied(), &release, &self.held)
    }

    fn deliver(&self, attached: &Attached) -> Arc<Received> {
        self.here.lend(std::slice::from_ref(attached)).unwrap();
        region(self.take(&[attached.named()]).unwrap().remove(0))
    }

    /// Passes on what the peer has released.
    fn pass_on_releases(&self) -> Vec<(u64, bool)> {
        let released = std::mem::take(&mut *self.recorder.0.lock());
        for (number, reusable) in &released {
            self.here.released(*number, *reusable);
        }
        released
    }
}

fn region(arrival: Arrival) -> Arc<Received> {
    match arrival {
        Arrival::Region(received) => received,
        other => panic!("{other:?} is no region"),
    }
}

fn lent(attached: &Attached) -> &Arc<Lent> {
    match &attached.attachment {
        Attachment::Lent(lent) => lent,
        other => panic!("{other:?} was not lent"),
    }
}

fn inode(attached: &Attached) -> u64 {
    rustix::fs::fstat(lent(attached).descriptor())
        .unwrap()
        .st_ino
}

#[test]
fn a_value_arrives_and_its_region_is_filled_again() {
    let ends = Ends::new();
    let first = ends.attached(&vec![1; LENGTH]);
    let (number, first_inode) = (first.number, inode(&first));
    let received = ends.deliver(&first);
    drop(first);
    assert_eq!(received.map().unwrap().bytes(), vec![1; LENGTH]);
    // While the peer has it, the next value needs another.
    let other = ends.attached(&vec![2; LENGTH]);
    assert_ne!(inode(&other), first_inode);
    drop(received);
    assert_eq!(ends.pass_on_releases(), [(number, true)]);
    for value in 3..6 {
        let again = ends.attached(&vec![value; LENGTH - 7]);
        assert_eq!(inode(&again), first_inode);
        let received = ends.deliver(&again);
        assert_eq!(received.map().unwrap().bytes(), vec![value; LENGTH - 7]);
        drop((again, received));
        ends.pass_on_releases();
    }
    assert_eq!(ends.here.lent(), 0);
}

/// Mappings for reading that this process has of a file.
fn mappings(inode: u64) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines()
        .filter(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            fields[1] == "r--s" && fields[4] == inode.to_string()
        })
        .count()
}

#[test]
fn a_region_that_comes_again_is_not_mapped_again() {
    let ends = Ends::new();
    let mut seen = Vec::new();
    for value in 1..5 {
        let attached = ends.attached(&vec![value; LENGTH - usize::from(value)]);
        let received = ends.deliver(&attached);
        let inode = inode(&attached);
        drop(attached);
        let map = received.map().unwrap();
        assert_eq!(map.bytes(), vec![value; LENGTH - usize::from(value)]);
        seen.push((inode, map.as_ptr()));
        drop(received);
        assert_eq!(mappings(inode), 1);
        ends.pass_on_releases();
    }
    assert!(seen.iter().all(|one| *one == seen[0]));
}

#[test]
fn a_longer_value_in_a_region_that_comes_again_is_there_to_its_end() {
    let ends = Ends::new();
    // In one size class, and more pages.
    let class = super::pool::Accounts::<()>::class;
    for length in [10 * LENGTH, 10 * LENGTH + 5000, 10 * LENGTH] {
        assert_eq!(class(length), class(10 * LENGTH));
        let attached = ends.attached(&vec![length as u8; length]);
        let received = ends.deliver(&attached);
        let inode = inode(&attached);
        drop(attached);
        assert_eq!(received.map().unwrap().bytes(), vec![length as u8; length]);
        drop(received);
        assert_eq!(mappings(inode), 1);
        ends.pass_on_releases();
    }
}

#[test]
fn what_its_maker_never_fills_again_does_not_stay_mapped() {
    let ends = Ends::new();
    let attached = ends.attached(&vec![1; LENGTH]);
    let received = ends.deliver(&attached);
    received.map().unwrap();
    received.spoil();
    drop(received);
    assert_eq!(mappings(inode(&attached)), 0);
    assert_eq!(ends.held.poll_timeout(), None);
    assert_eq!(ends.pass_on_releases(), [(attached.number, false)]);
}

#[test]
fn a_region_mapped_twice_at_once_stays_mapped_once() {
    let ends = Ends::new();
    let attached = ends.attached(&vec![1; LENGTH]);
    let both = [ends.deliver(&attached), ends.deliver(&attached)];
    for received in &both {
        received.map().unwrap();
    }
    assert_eq!(mappings(inode(&attached)), 2);
    drop(both);
    assert_eq!(mappings(inode(&attached)), 1);
}

#[test]
fn a_mapping_that_nobody_needs_goes_in_time() {
    let called = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&called);
    let mut ends = Ends::new();
    ends.held = Held::new(move || *counter.lock() += 1);
    let attached = ends.attached(&vec![1; LENGTH]);
    for _ in 0..3 {
        ends.deliver(&attached).map().unwrap();
    }
    assert_eq!((*called.lock(), mappings(inode(&attached))), (1, 1));
    let mut rounds = 0;
    while let Some(at) = ends.held.poll_timeout() {
        ends.held.on_timeout(at);
        rounds += 1;
    }
    assert_eq!((rounds, mappings(inode(&attached))), (2, 0));
    ends.deliver(&attached).map().unwrap();
    assert_eq!(*called.lock(), 2);
}

#[test]
fn parts_lie_one_after_the_other() {
    let ends = Ends::new();
    let lent = ends.pool.lend(&[b"one", b"", b"two"]).unwrap();
    assert_eq!((*lent).as_ref(), b"onetwo");
    assert!(ends.pool.lend(&[b""]).is_none());
}

#[test]
fn the_peer_cannot_write_to_a_region_nor_shorten_it() {
    let ends = Ends::new();
    let attached = ends.attached(&vec![1; LENGTH]);
    let received = ends.deliver(&attached);
    let descriptor = received.descriptor().unwrap();
    assert!(rustix::fs::ftruncate(&*descriptor, 0).is_err());
    assert!(rustix::io::pwrite(&*descriptor, b"x", 0).is_err());
    let raw = descriptor.as_fd().as_raw_fd();
    let writable = memmap2::MmapOptions::new().len(LENGTH).map_raw(raw);
    assert!(writable.is_err());
}

#[test]
fn a_mapped_value_needs_no_descriptor() {
    let ends = Ends::new();
    let received = ends.deliver(&ends.attached(&vec![1; LENGTH]));
    assert!(received.descriptor().is_some());
    received.map().unwrap();
    assert!(received.descriptor().is_none());
}

#[test]
fn a_region_that_was_never_looked_at_goes_back_too() {
    let ends = Ends::new();
    let attached = ends.attached(&vec![1; LENGTH]);
    drop(ends.deliver(&attached));
    assert_eq!(ends.pass_on_releases(), [(attached.number, true)]);
}

#[test]
fn a_request_that_moves_is_lent_again_and_comes_back_twice() {
    let ends = Ends::new();
    let attached = ends.attached(&vec![1; LENGTH]);
    let first = ends.deliver(&attached);
    let second = ends.deliver(&attached);
    drop(first);
    ends.pass_on_releases();
    assert_eq!(ends.here.lent(), 1);
    drop(second);
    ends.pass_on_releases();
    assert_eq!(ends.here.lent(), 0);
}

#[test]
fn what_a_lost_peer_has_is_never_written_to_again() {
    let ends = Ends::new();
    let attached = ends.attached(&vec![1; LENGTH]);
    let first_inode = inode(&attached);
    let received = ends.deliver(&attached);
    drop(attached);
    ends.here.close();
    assert_ne!(inode(&ends.attached(&vec![2; LENGTH])), first_inode);
    assert_eq!(received.map().unwrap().bytes(), vec![1; LENGTH]);
    let late = ends.attached(&vec![3; LENGTH]);
    assert!(ends.here.lend(&[late]).is_err());
}

#[test]
fn a_release_of_what_was_not_lent_is_ignored() {
    let ends = Ends::new();
    ends.here.released(77, true);
    let attached = ends.attached(&vec![1; LENGTH]);
    drop(ends.deliver(&attached));
    ends.here.released(attached.number, true);
    ends.here.released(attached.number, true);
    assert_eq!(ends.here.lent(), 0);
}

#[test]
fn a_region_is_passed_on_without_being_mapped_and_goes_back_by_the_same_way() {
    for reusable in [true, false] {
        let (first, second) = (Ends::new(), Ends::new());
        let value = first.attached(&vec![1; LENGTH]);
        let received = first.deliver(&value);
        let onward = Attached {
            number: second.pool.number(),
            attachment: Attachment::Received(received),
        };
        let last = second.deliver(&onward);
        drop(onward);
        assert_eq!(last.map().unwrap().bytes(), vec![1; LENGTH]);
        assert_eq!(first.pass_on_releases(), []);
        second.here.released(last.named().number, reusable);
        assert_eq!(first.pass_on_releases(), [(value.number, reusable)]);
    }
}

#[test]
fn values_that_user_code_keeps_for_long_leave_the_pool_oldest_first() {
    let ends = Ends::new();
    let mut kept = Vec::new();
    for _ in 0..super::MOST_REGIONS {
        let received = ends.deliver(&ends.attached(&vec![1; LENGTH]));
        received.map().unwrap();
        kept.push(received);
        ends.pass_on_releases();
    }
    assert_eq!(ends.here.lent(), super::MOST_REGIONS / 4);
    // The credit is not spent, although all of them are there.
    assert!(ends.pool.lend(&[&vec![2; LENGTH]]).is_some());
    for received in &kept {
        assert_eq!(received.map().unwrap().bytes(), vec![1; LENGTH]);
    }
    drop(kept);
    let released = ends.pass_on_releases();
    assert_eq!(released.len(), super::MOST_REGIONS / 4);
    assert!(released.iter().all(|(_, reusable)| *reusable));
}

#[test]
fn a_descriptor_that_does_not_come_is_a_broken_peer() {
    let ends = Ends::new();
    let named = Named {
        number: 9,
        length: 1,
    };
    assert!(matches!(ends.take(&[named]), Err(ChannelError::Missing(9))));
    assert!(matches!(
        without_channel([named].into_iter()),
        Err(ChannelError::Missing(9))
    ));
}

#[test]
fn a_message_names_no_more_than_it_may() {
    let ends = Ends::new();
    let named = Named {
        number: 0,
        length: 1,
    };
    assert!(ends.take(&[named; MOST_ATTACHMENTS]).is_ok());
    assert!(matches!(
        ends.take(&[named; MOST_ATTACHMENTS + 1]),
        Err(ChannelError::TooMany(_))
    ));
}

#[test]
fn descriptors_that_no_message_names_end_the_connection() {
    let ends = Ends::new();
    for _ in 0..=MOST_ATTACHMENTS {
        ends.here.lend(&[ends.attached(&vec![1; LENGTH])]).unwrap();
    }
    let named = Named {
        number: u64::MAX,
        length: 1,
    };
    assert!(matches!(ends.take(&[named]), Err(ChannelError::Unnamed)));
}

#[test]
fn a_peer_that_reads_nothing_gets_no_more_and_nothing_stays_lent_for_it() {
    let ends = Ends::new();
    let attached = ends.attached(&vec![1; LENGTH]);
    let sent = (0..10_000)
        .take_while(|_| ends.here.lend(std::slice::from_ref(&attached)).is_ok())
        .count();
    assert!(sent < 10_000);
    for _ in 0..sent {
        drop(ends.take(&[attached.named()]).unwrap());
    }
    ends.pass_on_releases();
    assert_eq!(ends.here.lent(), 0);
    assert!(ends.here.lend(&[attached]).is_ok());
}

fn memfd(bytes: u64, seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let descriptor = rustix::fs::memfd_create("test", flags).unwrap();
    rustix::fs::ftruncate(&descriptor, bytes).unwrap();
    rustix::fs::fcntl_add_seals(&descriptor, seals).unwrap();
    descriptor
}

#[test]
fn a_descriptor_that_could_crash_its_reader_is_refused() {
    let sealed = SealFlags::SHRINK | SealFlags::GROW;
    let directory = tempfile::tempdir().unwrap();
    let file = File::create(directory.path().join("f")).unwrap();
    file.set_len(4096).unwrap();
    let cases: [(OwnedFd, u64); 5] = [
        (memfd(4096, SealFlags::empty()), 4096),
        (memfd(4096, sealed), 4097),
        (memfd(4096, sealed), 0),
        (memfd(4096, sealed), u64::MAX),
        (file.into(), 4096),
    ];
    for (descriptor, length) in cases {
        let ends = Ends::new();
        let named = Named { number: 5, length };
        ends.here
            .send(&named.encode(), &[descriptor.as_fd()])
            .unwrap();
        assert!(matches!(
            ends.take(&[named]),
            Err(ChannelError::Wrong { number: 5, .. })
        ));
    }
}

#[test]
fn bytes_beside_descriptors_are_whole_entries() {
    let ends = Ends::new();
    let descriptor = memfd(4096, SealFlags::SHRINK);
    ends.here.send(&[0; 15], &[descriptor.as_fd()]).unwrap();
    let named = Named {
        number: 5,
        length: 1,
    };
    assert!(matches!(
        ends.take(&[named]),
        Err(ChannelError::Malformed(15))
    ));
}

#[test]
fn a_descriptor_that_was_lost_on_the_way_is_known_to_be() {
    let ends = Ends::new();
    let named = Named {
        number: 5,
        length: 9,
    };
    // As it comes when the process has no descriptor left.
    ends.here.send(&named.encode(), &[]).unwrap();
    let arrivals = ends.take(&[named]).unwrap();
    assert!(matches!(arrivals[..], [Arrival::Lost(lost)] if lost == named));
    assert_eq!(ends.pass_on_releases(), [(5, true)]);
    let (_, attachments) = assemble(Bytes::new(), arrivals).unwrap();
    assert!(matches!(attachments[..], [Attachment::Lost]));
}

#[test]
fn what_cannot_go_by_descriptor_follows_the_body() {
    let ends = Ends::new();
    let received = ends.deliver(&ends.attached(&vec![2; LENGTH]));
    let attached = [
        ends.attached(&[1; 10]),
        Attached {
            number: 1,
            attachment: Attachment::Received(received),
        },
        Attached {
            number: 2,
            attachment: Attachment::Data(Bytes::from_static(b"data")),
        },
    ];
    assert!(ends.here.lend(&attached).is_err());
    let (named, values) = inline(&attached).unwrap();
    let mut body = b"body".to_vec();
    for value in values {
        body.extend_from_slice(&value);
    }
    let arrivals = ends.take(&named).unwrap();
    let (body, attachments) = assemble(body.into(), arrivals).unwrap();
    assert_eq!(&body[..], b"body");
    let lengths: Vec<_> = attachments.iter().map(Attachment::length).collect();
    assert_eq!(lengths, [10, LENGTH as u64, 4]);
    let Attachment::Data(second) = &attachments[1] else {
        panic!("it came as DATA");
    };
    assert_eq!(&second[..], vec![2; LENGTH]);
}

#[test]
fn a_body_shorter_than_its_table_says_is_none() {
    let arrivals = vec![Arrival::Data(3), Arrival::Data(u64::MAX)];
    assert!(assemble(Bytes::from_static(b"abcdef"), arrivals).is_none());
}

#[test]
fn a_frame_costs_what_its_regions_hold_up_to_a_limit() {
    let named = |number, length| Named { number, length };
    assert_eq!(charge([named(1, 10), named(0, 1000)]), 10);
    assert_eq!(
        charge([named(1, u64::MAX), named(2, 5)]),
        super::CHARGE_BYTES
    );
}

#[test]
fn a_warm_region_is_given_back_to_the_system_in_time() {
    let called = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&called);
    let pool = Pool::new(move || *counter.lock() += 1);
    assert_eq!(pool.poll_timeout(), None);
    drop(pool.lend(&[&vec![1; LENGTH]]));
    assert_eq!(*called.lock(), 1);
    let at = pool.poll_timeout().unwrap();
    pool.on_timeout(at);
    assert_eq!(pool.poll_timeout(), None);
}
