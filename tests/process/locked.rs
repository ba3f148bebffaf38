//! A store whose file somebody else holds: whoever has a key gets in, and what cannot be kept is not acknowledged.

use super::program::Program;
use std::net::TcpStream;

const GATEWAYS: usize = 1_500;

#[test]
fn gateways_connect_while_somebody_else_holds_the_file_and_it_heals() {
    let data = tempfile::tempdir().unwrap();
    let program = Program::start_in(data.path(), &["--max-connections", "2000"]);
    let mut platform = TcpStream::connect(program.address).unwrap();
    for n in 0..GATEWAYS {
        program.register_over(&mut platform, &format!("g{n}"), &format!("key-{n}"));
    }
    let file = rusqlite::Connection::open(data.path().join("gatecast.db")).unwrap();
    file.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let connected: Vec<_> = (0..GATEWAYS).map(|n| program.connect_with(&format!("key-{n}"))).collect();
    assert_eq!(program.live_connections(), GATEWAYS as u64);
    assert_eq!(program.create_over(&mut platform, "late"), None, "what is not kept is not acknowledged");
    file.execute_batch("ROLLBACK").unwrap();
    program.wait_until("it heals", |program| {
        program.create_over(&mut TcpStream::connect(program.address).unwrap(), "late").is_some()
    });
    drop(connected);
}
