//! Which route of user code took a request: said with the head of its answer, to routers that read it.

use eagleray_wire::{Flags, Kind, decode_routes};

use crate::harness::{Replica, Router};

/// The number in the head of an answer.
fn answered(replica: &Replica, router: &mut Router, number: Option<u32>) -> u32 {
    router.get();
    let request = replica.request();
    assert!(request.claim());
    if let Some(number) = number {
        request.set_route(number);
    }
    request.respond(200, [], b"made", true).unwrap();
    let frame = router.frame(Kind::Response);
    assert!(frame.header.flags.contains(Flags::HEAD));
    frame.header.a
}

#[test]
fn a_router_that_reads_routes_gets_them_once_and_a_number_with_each_answer() {
    let replica = Replica::start(10);
    let routes = ["/", "/items/{item_id}"].map(str::to_owned);
    replica.handle.set_routes(routes.to_vec());
    let mut router = replica.reader_of_routes();
    let told = router.frame(Kind::Routes);
    let told = decode_routes(&told.payload).unwrap();
    assert!(told.iter().map(|route| &**route).eq(&routes));
    assert_eq!(answered(&replica, &mut router, Some(2)), 2);
    assert_eq!(answered(&replica, &mut router, None), 0);
    assert_eq!(answered(&replica, &mut router, Some(1)), 1);
}

#[test]
fn a_router_of_an_older_release_hears_of_no_routes() {
    let replica = Replica::start(10);
    replica.handle.set_routes(vec!["/".to_owned()]);
    let mut router = replica.router();
    assert_eq!(answered(&replica, &mut router, Some(1)), 0);
}

#[test]
fn pieces_of_an_answer_name_no_route_after_its_head() {
    let replica = Replica::start(10);
    replica.handle.set_routes(vec!["/".to_owned()]);
    let mut router = replica.reader_of_routes();
    router.frame(Kind::Routes);
    router.get();
    let request = replica.request();
    assert!(request.claim());
    request.set_route(1);
    request.start(200, []).unwrap();
    request.send(b"a", Flags::NONE);
    request.send(b"b", Flags::END.with(Flags::DONE));
    let numbers = [(); 3].map(|()| router.frame(Kind::Response).header.a);
    assert_eq!(numbers, [1, 0, 0]);
}
