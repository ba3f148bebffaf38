//! Tests of the program as a process: its descriptors, memory, signals, and its data after a kill.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod background;
mod backup;
mod certificate;
mod command;
mod correlation;
mod event_log;
mod events;
mod exit_codes;
mod gateways;
mod locked;
mod logs;
mod origin;
mod processed;
mod program;
mod resume;
mod secrets;
mod signals;
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

/// An empty masked pong, which counts as a sign of life.
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

#[test]
fn without_free_descriptors_it_stays_idle_and_delivers() {
    let program = Program::start(&[]);
    let mut gateway = program.connect();
    let mut platform = TcpStream::connect(program.address).unwrap();
    // The answer shows that the platform's connection was accepted before the limit is lowered.
    assert!(program.publish_over(&mut platform, 100).contains(r#""delivered":1"#));
    let (soft, hard) = (program.descriptors() as u64 + 20, rustix::process::getrlimit(Resource::Nofile).maximum);
    let limit = Rlimit { current: Some(soft), maximum: hard };
    rustix::process::prlimit(Some(program.pid()), Resource::Nofile, limit).expect("the limit is lowered");
    let attempts: Vec<_> = (0..200).filter_map(|_| TcpStream::connect(program.address).ok()).collect();
    thread::sleep(Duration::from_millis(500));
    assert!(program.descriptors() as u64 >= soft - 1, "the descriptor limit was not reached");

    let (began, cpu) = (Instant::now(), program.cpu_time());
    for event in 0..20 {
        let answer = program.publish_over(&mut platform, event);
        assert!(answer.contains(r#""delivered":1"#), "{answer}");
        read_until(&mut gateway, format!(r#""payload":{event},"#).as_bytes());
        thread::sleep(Duration::from_millis(50));
    }
    let busy = (program.cpu_time() - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    assert!(busy < 0.2, "it uses {busy:.2} of a core while idle");

    drop(attempts);
    program.connect().write_all(&PONG).expect("a new gateway can connect again");
}

#[test]
fn idle_sockets_of_one_address_do_not_keep_out_gateways_of_others() {
    let program = Program::start(&["--set", "cores=4"]);
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
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "round {round}: it had to wait for the handshake deadline of the idle sockets"
        );
        next.write_all(&PONG).expect("it is connected");
    }
    let mut platform = TcpStream::connect(program.address).unwrap();
    program.publish_over(&mut platform, 1);
    read_until(&mut gateway, br#""payload":1,"#);
    drop(idle);
}

#[test]
fn ten_thousand_short_connections_leak_no_descriptor_and_no_memory() {
    let program = Program::start(&["--max-connections", "2000"]);
    let round = || {
        let peers: Vec<_> = (0..500).map(|_| program.connect()).collect();
        assert_eq!(program.live_connections(), 500);
        drop(peers);
        program.wait_until("all connections have ended", |program| program.live_connections() == 0);
    };
    // The first rounds allocate what is then kept: allocator arenas, tables, scratch buffers.
    (0..4).for_each(|_| round());
    let (descriptors, memory) = (program.descriptors(), program.resident_kib());
    (0..20).for_each(|_| round());
    program.wait_until("the descriptors are closed", |program| program.descriptors() <= descriptors + 5);
    let now = program.resident_kib();
    assert!(now <= memory + memory / 10, "resident memory went from {memory} to {now} KiB");
}

#[test]
fn by_default_a_thousand_gateways_connect_and_the_next_is_refused() {
    let program = Program::start(&[]);
    let mut peers: Vec<_> = (0..1_000).map(|_| program.connect()).collect();
    let mut next = program.send_upgrade("k");
    let answer = String::from_utf8(read_to_end(&mut next)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("capacity exceeded"), "{answer}");
    peers.pop();
    program.wait_until("a slot is free", |program| program.live_connections() == 999);
    peers.push(program.connect());
}

#[test]
fn two_thousand_gateways_receive_a_close_frame_at_shutdown() {
    let mut program = Program::start(&["--max-connections", "3000", "--set", "drain.window=1s"]);
    let peers: Vec<_> = (0..2_000).map(|_| program.connect()).collect();
    program.signal(rustix::process::Signal::TERM);
    for mut peer in peers {
        let last = read_to_end(&mut peer);
        let close = [&[0x88, 17], &1001_u16.to_be_bytes()[..], b"server shutdown"].concat();
        assert!(last.ends_with(&close), "the last bytes were {last:?}");
    }
    assert_eq!(program.wait(), Some(0));
}

#[test]
fn every_change_made_during_shutdown_is_answered() {
    let data = tempfile::tempdir().unwrap();
    let mut program = Program::start_in(data.path(), &[]);
    // Each client makes calls without a pause, so that it has one in flight when the signal arrives.
    let mut acknowledged = thread::scope(|scope| {
        let program = &program;
        let call_until_refused = move |client: u32| {
            let mut platform = TcpStream::connect(program.address).unwrap();
            let names = (0..).map(|number| format!("a{client}n{number}"));
            names.take_while(|name| program.create_over(&mut platform, name).is_some()).collect::<Vec<_>>()
        };
        let clients: Vec<_> = (0..8).map(|client| scope.spawn(move || call_until_refused(client))).collect();
        thread::sleep(Duration::from_millis(300));
        program.signal(rustix::process::Signal::TERM);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(program.wait(), Some(0));
    let mut known = Program::start_in(data.path(), &[]).gateway_names();
    known.sort();
    acknowledged.sort();
    assert_eq!(known, acknowledged, "the kept changes differ from the acknowledged ones");
}

#[test]
fn a_second_signal_ends_the_program_at_once() {
    let mut program = Program::start(&["--set", "drain.window=60s"]);
    let peers: Vec<_> = (0..20).map(|_| program.connect()).collect();
    program.signal(rustix::process::Signal::TERM);
    thread::sleep(Duration::from_millis(300));
    program.signal(rustix::process::Signal::TERM);
    let began = Instant::now();
    assert_ne!(program.wait(), Some(0), "a forced end must not look like an orderly one");
    assert!(began.elapsed() < Duration::from_secs(5));
    drop(peers);
}

#[test]
fn acknowledged_changes_survive_a_kill() {
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
    assert!(acknowledged.len() > 20, "it acknowledged only {} changes", acknowledged.len());
    known.sort();
    for name in &acknowledged {
        assert!(known.binary_search(name).is_ok(), "{name} was acknowledged but is missing");
    }
}
