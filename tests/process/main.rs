//! Claims about the program as a process: descriptors, memory, signals.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod correlation;
mod locked;
mod origin;
mod program;
mod starting;
mod stopped;

use program::{Program, read_to_end, read_until};
use rustix::process::{Resource, Rlimit};
use socket2::{Domain, Socket, Type};
use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// A masked pong: a sign of life.
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

#[test]
fn out_of_descriptors_it_neither_spins_nor_stops_delivering() {
    // A core that had none of the idle sockets would close the platform's while that has nothing under way.
    let program = Program::start(&["--set", "cores=1"]);
    let mut gateway = program.connect();
    let mut platform = TcpStream::connect(program.address).unwrap();
    // With its answer, the platform's connection is known to be accepted before the limit is there.
    assert!(program.publish_over(&mut platform, 100).contains(r#""delivered":1"#));
    let (soft, hard) = (program.descriptors() as u64 + 20, rustix::process::getrlimit(Resource::Nofile).maximum);
    let limit = Rlimit { current: Some(soft), maximum: hard };
    rustix::process::prlimit(Some(program.pid()), Resource::Nofile, limit).expect("the limit is lowered");
    let knocking: Vec<_> = (0..200).filter_map(|_| TcpStream::connect(program.address).ok()).collect();
    thread::sleep(Duration::from_millis(500));
    assert!(program.descriptors() as u64 >= soft - 1, "the limit is reached");

    let (began, cpu) = (Instant::now(), program.cpu());
    for event in 0..20 {
        let answer = program.publish_over(&mut platform, event);
        assert!(answer.contains(r#""delivered":1"#), "{answer}");
        read_until(&mut gateway, format!(r#""payload":{event},"#).as_bytes());
        thread::sleep(Duration::from_millis(50));
    }
    let busy = (program.cpu() - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    assert!(busy < 0.2, "it uses {busy:.2} of a core with nothing to do");

    drop(knocking);
    program.connect().write_all(&PONG).expect("there is room again");
}

#[test]
fn idle_sockets_of_one_address_leave_room_for_gateways_from_elsewhere() {
    // Each core closes its own only, and with so few of them another core may have none.
    let program = Program::start(&["--set", "cores=1"]);
    let mut gateway = program.connect();
    let (soft, hard) = (program.descriptors() as u64 + 50, rustix::process::getrlimit(Resource::Nofile).maximum);
    let limit = Rlimit { current: Some(soft), maximum: hard };
    rustix::process::prlimit(Some(program.pid()), Resource::Nofile, limit).expect("the limit is lowered");
    let idle = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
        socket.connect(&program.address.into()).map(|()| socket)
    };
    let idle: Vec<_> = (0..300).map(|_| idle().expect("the kernel's queue has room")).collect();
    for round in 0..20 {
        let began = Instant::now();
        let mut next = program.connect();
        assert!(began.elapsed() < Duration::from_secs(5), "round {round}: only once the others' time was over");
        next.write_all(&PONG).expect("it is connected");
    }
    let mut platform = TcpStream::connect(program.address).unwrap();
    program.publish_over(&mut platform, 1);
    read_until(&mut gateway, br#""payload":1,"#);
    drop(idle);
}

#[test]
fn ten_thousand_that_come_and_go_leave_nothing_behind() {
    let program = Program::start(&["--max-connections", "2000"]);
    let round = || {
        let peers: Vec<_> = (0..500).map(|_| program.connect()).collect();
        assert_eq!(program.live_connections(), 500);
        drop(peers);
        program.eventually("all have left", |program| program.live_connections() == 0);
    };
    // The first rounds pay for what stays: allocator arenas, tables, scratch buffers.
    (0..4).for_each(|_| round());
    let (descriptors, memory) = (program.descriptors(), program.resident_kib());
    (0..20).for_each(|_| round());
    program.eventually("descriptors are back", |program| program.descriptors() <= descriptors + 5);
    let now = program.resident_kib();
    assert!(now <= memory + memory / 10, "resident memory went from {memory} to {now} KiB");
}

#[test]
fn with_nothing_configured_the_thousandth_gets_in_and_the_next_does_not() {
    let program = Program::start(&[]);
    let mut peers: Vec<_> = (0..1_000).map(|_| program.connect()).collect();
    let mut next = program.knock("k");
    let answer = String::from_utf8(read_to_end(&mut next)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("capacity exceeded"), "{answer}");
    peers.pop();
    program.eventually("a slot is free", |program| program.live_connections() == 999);
    peers.push(program.connect());
}

#[test]
fn two_thousand_see_their_close_at_shutdown() {
    let mut program = Program::start(&["--max-connections", "3000", "--set", "drain.window=1s"]);
    let peers: Vec<_> = (0..2_000).map(|_| program.connect()).collect();
    program.signal(rustix::process::Signal::TERM);
    for mut peer in peers {
        let last = read_to_end(&mut peer);
        let close = [&[0x88, 17], &1001_u16.to_be_bytes()[..], b"server shutdown"].concat();
        assert!(last.ends_with(&close), "the end was {last:?}");
    }
    assert_eq!(program.wait(), Some(0));
}

#[test]
fn what_is_done_at_shutdown_is_answered() {
    let data = tempfile::tempdir().unwrap();
    let mut program = Program::start_in(data.path(), &[]);
    // Who asks for the whole time has one request on its way when the signal comes.
    let mut acknowledged = thread::scope(|scope| {
        let program = &program;
        let ask = move |asker: u32| {
            let mut platform = TcpStream::connect(program.address).unwrap();
            let names = (0..).map(|number| format!("a{asker}n{number}"));
            names.take_while(|name| program.create_over(&mut platform, name).is_some()).collect::<Vec<_>>()
        };
        let askers: Vec<_> = (0..8).map(|asker| scope.spawn(move || ask(asker))).collect();
        thread::sleep(Duration::from_millis(300));
        program.signal(rustix::process::Signal::TERM);
        askers.into_iter().flat_map(|asker| asker.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(program.wait(), Some(0));
    let mut known = Program::start_in(data.path(), &[]).gateway_names();
    known.sort();
    acknowledged.sort();
    assert_eq!(known, acknowledged, "what was done was answered, and the other way round");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut program = Program::start(&["--set", "drain.window=60s"]);
    let peers: Vec<_> = (0..20).map(|_| program.connect()).collect();
    program.signal(rustix::process::Signal::TERM);
    thread::sleep(Duration::from_millis(300));
    program.signal(rustix::process::Signal::TERM);
    let began = Instant::now();
    assert_ne!(program.wait(), Some(0), "an end by force is no orderly one");
    assert!(began.elapsed() < Duration::from_secs(5));
    drop(peers);
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..10_u64 {
        let mut program = Program::start_in(data.path(), &[]);
        let deadline = Instant::now() + Duration::from_millis(20 + round * 37 % 200);
        let mut platform = TcpStream::connect(program.address).unwrap();
        let mut number = 0;
        while Instant::now() < deadline {
            let name = format!("r{round}n{number}");
            if program.create_over(&mut platform, &name).is_some() {
                acknowledged.push(name);
            }
            number += 1;
        }
        program.signal(rustix::process::Signal::KILL);
        program.wait();
    }
    let program = Program::start_in(data.path(), &[]);
    let mut known = program.gateway_names();
    assert!(acknowledged.len() > 20, "it acknowledged {}", acknowledged.len());
    known.sort();
    for name in &acknowledged {
        assert!(known.binary_search(name).is_ok(), "{name} was acknowledged and is gone");
    }
}
