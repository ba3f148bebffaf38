//! A gateway's key that came without TLS: no copy of it stays in memory that the hub has allocated.

use super::program::{Program, read_to_end, read_until};
use std::{
    fs::{self, File},
    io::Write,
    net::TcpStream,
    os::unix::fs::FileExt,
    thread,
    time::Duration,
};

/// Where in the program's memory `what` is: the mapping that holds it.
fn found(program: &Program, what: &[u8]) -> Vec<String> {
    let memory = File::open(program.proc("mem")).expect("it is ours");
    let maps = fs::read_to_string(program.proc("maps")).expect("it runs");
    let mut found = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, end) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let address = |text| u64::from_str_radix(text, 16).expect("an address");
        let (start, end) = (address(start), address(end));
        // A page of a guard or a device cannot be read, and holds nothing of ours.
        let mut bytes = vec![0; usize::try_from(end - start).expect("it fits")];
        if memory.read_exact_at(&mut bytes, start).is_ok() {
            let places = memchr::memmem::find_iter(&bytes, what).map(|at| format!("{:x} in {line}", start + at as u64));
            found.extend(places);
        }
    }
    found
}

/// How a key reaches the hub, in words and in bytes.
type Way = (&'static str, fn(&Program, &str));

#[test]
fn no_copy_of_a_key_stays_in_memory() {
    let program = Program::start(&["--cores", "2"]);
    let mut platform = TcpStream::connect(program.address).unwrap();
    let ways: [Way; 10] = [
        ("in one piece", |program, key| drop(program.connect_with(key))),
        ("a byte at a time", |program, key| {
            let mut stream = TcpStream::connect(program.address).unwrap();
            stream.set_nodelay(true).unwrap();
            for byte in Program::connect_request(key).bytes() {
                stream.write_all(&[byte]).unwrap();
                thread::sleep(Duration::from_micros(200));
            }
            read_until(&mut stream, b"connection.ack");
        }),
        ("in two pieces", |program, key| {
            let mut stream = TcpStream::connect(program.address).unwrap();
            let request = Program::connect_request(key);
            stream.write_all(&request.as_bytes()[..request.len() - 2]).unwrap();
            thread::sleep(Duration::from_millis(50));
            stream.write_all(b"\r\n").unwrap();
            read_until(&mut stream, b"connection.ack");
        }),
        ("in two pieces of which the second is long", |program, key| {
            let mut stream = TcpStream::connect(program.address).unwrap();
            let request = Program::connect_request(key);
            stream.write_all(&request.as_bytes()[..request.len() - 2]).unwrap();
            thread::sleep(Duration::from_millis(50));
            stream.write_all(format!("X: {}\r\n\r\n", "x".repeat(7_000)).as_bytes()).unwrap();
            read_until(&mut stream, b"connection.ack");
        }),
        ("half of it behind other requests, malformed then", |program, key| {
            let mut stream = TcpStream::connect(program.address).unwrap();
            let health = "GET /health HTTP/1.1\r\nHost: h\r\n\r\n".repeat(3);
            let request = Program::connect_request(key);
            stream.write_all((health + request.trim_end()).as_bytes()).unwrap();
            thread::sleep(Duration::from_millis(50));
            stream.write_all(b"\r\nno field\r\n\r\n").unwrap();
            read_to_end(&mut stream);
        }),
        ("behind other requests", |program, key| {
            let mut stream = TcpStream::connect(program.address).unwrap();
            let health = "GET /health HTTP/1.1\r\nHost: h\r\n\r\n".repeat(3);
            stream.write_all((health + &Program::connect_request(key)).as_bytes()).unwrap();
            read_until(&mut stream, b"connection.ack");
        }),
        ("of which the end never came", |program, key| {
            let mut stream = TcpStream::connect(program.address).unwrap();
            let request = Program::connect_request(key);
            stream.write_all(&request.as_bytes()[..request.len() - 2]).unwrap();
            thread::sleep(Duration::from_millis(50));
        }),
        ("malformed behind it", |program, key| {
            let mut stream = TcpStream::connect(program.address).unwrap();
            let request = Program::connect_request(key);
            stream.write_all(format!("{}no field\r\n\r\n", request.trim_end()).as_bytes()).unwrap();
            read_to_end(&mut stream);
        }),
        ("behind an answer that closes", |program, key| {
            let mut stream = TcpStream::connect(program.address).unwrap();
            stream.write_all(b"GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
            read_until(&mut stream, b"alive");
            stream.write_all(Program::connect_request(key).as_bytes()).unwrap();
            thread::sleep(Duration::from_millis(50));
        }),
        ("with a manifest", |program, key| {
            let mut stream = TcpStream::connect(program.address).unwrap();
            let head = format!("POST /api/internal/v1/gateways/{}/manifest HTTP/1.1\r\nHost: h\r\n", program.gateway());
            stream.write_all(format!("{head}api-key: {key}\r\nContent-Length: 2\r\n\r\n{{").as_bytes()).unwrap();
            thread::sleep(Duration::from_millis(50));
            stream.write_all(b"}").unwrap();
            read_until(&mut stream, b"HTTP/1.1 ");
        }),
    ];
    let mut stays = Vec::new();
    for (at, (way, send)) in ways.into_iter().enumerate() {
        let key = format!("a-key-that-nothing-else-in-memory-is-like-{at}");
        program.register_over(&mut platform, &format!("gateway-{at}"), &key);
        send(&program, &key);
        thread::sleep(Duration::from_millis(300));
        stays.extend(found(&program, key.as_bytes()).into_iter().map(|place| format!("{way}: {place}")));
    }
    assert!(stays.is_empty(), "{}", stays.join("\n"));
}
