//! After a gateway has sent its key without TLS, no copy of the key stays in the hub's memory.

use super::program::{Program, read_to_end, read_until};
use std::{
    fs::{self, File},
    io::Write,
    net::TcpStream,
    os::unix::fs::FileExt,
    thread,
    time::Duration,
};

/// The places in the program's writable memory that hold `secret`, each with its address and mapping.
fn places_of(program: &Program, secret: &[u8]) -> Vec<String> {
    let memory = File::open(program.proc("mem")).expect("the memory of a child process can be read");
    let maps = fs::read_to_string(program.proc("maps")).expect("the program runs");
    let mut found = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, end) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let address = |text| u64::from_str_radix(text, 16).expect("an address");
        let (start, end) = (address(start), address(end));
        // A guard page or a device's page cannot be read, and holds no data of the program.
        let mut bytes = vec![0; usize::try_from(end - start).expect("it fits")];
        if memory.read_exact_at(&mut bytes, start).is_ok() {
            let places =
                memchr::memmem::find_iter(&bytes, secret).map(|at| format!("{:x} in {line}", start + at as u64));
            found.extend(places);
        }
    }
    found
}

/// A way of sending a key: its description, and the function that sends it.
type SendKey = (&'static str, fn(&Program, &str));

/// Sends the head without its empty line, then its `end`, and reads up to the ack.
fn connect_in_two(program: &Program, key: &str, end: &str) {
    let mut stream = TcpStream::connect(program.address).unwrap();
    let request = Program::connect_request(key);
    stream.write_all(&request.as_bytes()[..request.len() - 2]).unwrap();
    thread::sleep(Duration::from_millis(50));
    stream.write_all(end.as_bytes()).unwrap();
    read_until(&mut stream, b"connection.ack");
}

#[test]
fn no_copy_of_a_key_stays_in_memory() {
    let program = Program::start(&["--cores", "2"]);
    let mut platform = TcpStream::connect(program.address).unwrap();
    let ways: [SendKey; 10] = [
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
        ("in two pieces", |program, key| connect_in_two(program, key, "\r\n")),
        ("in two pieces, the second long", |program, key| {
            connect_in_two(program, key, &format!("X: {}\r\n\r\n", "x".repeat(7_000)));
        }),
        ("partly after other requests, then malformed", |program, key| {
            let mut stream = TcpStream::connect(program.address).unwrap();
            let health = "GET /health HTTP/1.1\r\nHost: h\r\n\r\n".repeat(3);
            let request = Program::connect_request(key);
            stream.write_all((health + request.trim_end()).as_bytes()).unwrap();
            thread::sleep(Duration::from_millis(50));
            stream.write_all(b"\r\nno field\r\n\r\n").unwrap();
            read_to_end(&mut stream);
        }),
        ("after other requests", |program, key| {
            let mut stream = TcpStream::connect(program.address).unwrap();
            let health = "GET /health HTTP/1.1\r\nHost: h\r\n\r\n".repeat(3);
            stream.write_all((health + &Program::connect_request(key)).as_bytes()).unwrap();
            read_until(&mut stream, b"connection.ack");
        }),
        ("without the end of the head", |program, key| {
            let mut stream = TcpStream::connect(program.address).unwrap();
            let request = Program::connect_request(key);
            stream.write_all(&request.as_bytes()[..request.len() - 2]).unwrap();
            thread::sleep(Duration::from_millis(50));
        }),
        ("malformed after the key", |program, key| {
            let mut stream = TcpStream::connect(program.address).unwrap();
            let request = Program::connect_request(key);
            stream.write_all(format!("{}no field\r\n\r\n", request.trim_end()).as_bytes()).unwrap();
            read_to_end(&mut stream);
        }),
        ("after a request that closes the connection", |program, key| {
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
    let mut copies = Vec::new();
    for (at, (way, send)) in ways.into_iter().enumerate() {
        let key = format!("a-key-that-nothing-else-in-memory-is-like-{at}");
        program.register_over(&mut platform, &format!("gateway-{at}"), &key);
        send(&program, &key);
        thread::sleep(Duration::from_millis(300));
        copies.extend(places_of(&program, key.as_bytes()).into_iter().map(|place| format!("{way}: {place}")));
    }
    assert!(copies.is_empty(), "copies of keys in memory:\n{}", copies.join("\n"));
}
