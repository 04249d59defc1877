//! How the controller ends.

use super::stage::*;

#[test]
fn a_node_that_hangs_up_while_it_is_written_to_is_no_failure_either() {
    let directory = TempDir::new().unwrap();
    let listener = UnixListener::bind(directory.path().join("controller.sock")).unwrap();
    let (node, controller) = UnixStream::pair().unwrap();
    // Only who writes is told: nothing is there to read, and no end of it.
    node.shutdown(std::net::Shutdown::Read).unwrap();
    run(listener, controller, options(directory.path()), |_| ()).unwrap();
}

#[test]
fn a_node_that_hangs_up_with_commands_unread_is_no_failure() {
    let directory = TempDir::new().unwrap();
    let listener = UnixListener::bind(directory.path().join("controller.sock")).unwrap();
    let (mut node, controller) = UnixStream::pair().unwrap();
    let options = options(directory.path());
    let controller = thread::spawn(move || run(listener, controller, options, |_| ()));
    node.set_read_timeout(Some(PATIENCE)).unwrap();
    // The first byte of its first command; the rest is left, so that its end is a reset.
    node.read_exact(&mut [0]).unwrap();
    drop(node);
    controller.join().unwrap().unwrap();
}
