//! Replicas that may be forked: what the node makes of each word, with a few lines of Python in the place of both.

use super::*;

/// Forks as `eagleray._replica.zygote` does, and what it forks is a replica that is ready.
const FORKS: &str = r#"
def rename(name):
    start = int(open("/proc/self/stat").read().rpartition(")")[2].split()[47])
    at = open("/proc/self/environ", "rb").read().index(b"EAGLERAY_REPLICA=") + 17
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(start + at)
        memory.write(name)
if "EAGLERAY_ZYGOTE_FDS" in os.environ:
    node = socket.socket(fileno=int(os.environ["EAGLERAY_ZYGOTE_FDS"].split(":")[0]))
    assert len(os.environ["EAGLERAY_ZYGOTE_FDS"].split(":")[2]) == len(os.environ["EAGLERAY_REPLICA"])
    rename(os.environ["EAGLERAY_ZYGOTE_FDS"].split(":")[2].encode())
    node.send(b"R")
    control.close()
    while True:
        name, fds, _, _ = socket.recv_fds(node, 100, 4)
        if not name:
            sys.exit()
        read, write = os.pipe()
        if os.fork() == 0:
            pid = os.fork()
            if pid:
                os.write(write, b"F%d" % pid)
                os._exit(0)
            import resource
            rename(name)
            mark, most = resource.getrlimit(10)
            resource.setrlimit(10, (mark >> 22 << 22 | os.getpid(), most))
            os.setsid()
            control = socket.socket(fileno=fds[2])
            break
        for fd in fds: os.close(fd)
        os.wait()
        node.send(os.read(read, 20))
send(READY)
time.sleep(1000)
"#;

impl Bench {
    fn spawn_of(&mut self, id: &str, imports: &str, code: &str) {
        // As a node does.
        crate::spawn::adopt_orphans();
        let command = Spawn {
            imports: imports.into(),
            ..self.spawn_command(id, 1, code)
        };
        self.command(node_command::Body::Spawn(command));
    }

    /// Waits until so many are ready, and returns their process ids.
    async fn ready(&mut self, count: usize) -> Vec<u32> {
        for _ in 0..count {
            let event = self.event().await;
            assert!(matches!(event, Body::Relay(_)), "{event:?}");
        }
        self.listed().iter().map(|one| one.pid).collect()
    }
}

#[test]
fn replicas_of_a_kind_are_forked_from_the_first_and_end_alone() {
    run(async |bench| {
        bench.spawn_of("one", "m", FORKS);
        bench.spawn_of("two", "m", FORKS);
        let pids = bench.ready(2).await;
        assert_eq!(pids.len(), 2);
        let own = std::process::id();
        assert!(
            pids.iter().all(|pid| processes::parent(*pid) == Some(own)),
            "nobody is between them and the node"
        );
        bench.carry_out("one".into(), CoreCommand::Kill);
        let exited = bench.exited().await;
        assert_eq!(
            (exited.replica_id.as_str(), exited.reason.as_str()),
            ("one", "signal 9 (SIGKILL)")
        );
        assert!(processes::is_alive(pids[1]), "the other goes on");
    });
}

#[test]
fn one_that_cannot_be_forked_is_the_replica_and_so_is_the_next() {
    let refuses = r#"
if "EAGLERAY_ZYGOTE_FDS" in os.environ:
    node = socket.socket(fileno=int(os.environ["EAGLERAY_ZYGOTE_FDS"].split(":")[0]))
    node.send(b"Ua thread runs")
    open("asked", "a").write("x")
send(READY)
time.sleep(1000)
"#;
    run(async |bench| {
        bench.spawn_of("one", "m", refuses);
        bench.spawn_of("two", "m", refuses);
        assert_eq!(bench.ready(2).await.len(), 2);
        assert_eq!(bench.file("asked"), "x", "only the first is asked");
    });
}

#[test]
fn one_whose_import_fails_says_nothing_of_the_next() {
    let fails = r#"
node = socket.socket(fileno=int(os.environ["EAGLERAY_ZYGOTE_FDS"].split(":")[0]))
node.send(b"U")
open("asked", "a").write("x")
send(START_FAILED)
"#;
    run(async |bench| {
        bench.spawn_of("one", "m", fails);
        bench.exited().await;
        bench.spawn_of("two", "m", fails);
        bench.exited().await;
        assert_eq!(bench.file("asked"), "xx");
    });
}

#[test]
fn one_of_a_release_that_is_never_forked_is_a_replica() {
    run(async |bench| {
        bench.spawn_of("one", "m", "send(READY)\ntime.sleep(1000)");
        bench.spawn_of("two", "m", "send(READY)\ntime.sleep(1000)");
        assert_eq!(bench.ready(2).await.len(), 2);
    });
}

#[test]
fn one_that_dies_while_it_imports_is_a_replica_that_died() {
    run(async |bench| {
        bench.spawn_of("one", "m", "sys.stderr.write('why\\n'); sys.exit(3)");
        let exited = bench.exited().await;
        assert_eq!(exited.reason, "exit status 3");
        assert_eq!(exited.stderr_tail, "why");
        bench.spawn_of("two", "m", FORKS);
        assert_eq!(bench.ready(1).await.len(), 1, "the next is the first again");
    });
}

#[test]
fn one_that_is_stopped_before_it_has_a_process_ends_as_any() {
    run(async |bench| {
        bench.spawn_of("one", "m", "time.sleep(1000)");
        bench.spawn_of("two", "m", "time.sleep(1000)");
        bench.stop("two", 1, 0);
        assert_eq!(bench.exited().await.replica_id, "two");
        bench.stop("one", 1, 0);
        assert_eq!(bench.exited().await.replica_id, "one");
    });
}

#[test]
fn what_is_not_imported_any_more_is_not_kept() {
    run(async |bench| {
        bench.spawn_of("one", "m", FORKS);
        bench.ready(1).await;
        let zygotes = bench.replicas.end_zygotes();
        zygotes.ended().await;
        bench.spawn_of("two", "m", FORKS);
        bench.ready(1).await;
        bench.replicas.forget_imports("another");
        bench.replicas.forget_imports("m");
        zygotes.ended().await;
        assert_eq!(bench.listed().len(), 2, "what was forked goes on");
    });
}
