//! A store whose file is locked by another process: gateways still connect, and changes are refused.

use super::program::Program;
use std::net::TcpStream;

const GATEWAYS: usize = 1_500;

#[test]
fn gateways_connect_while_another_process_locks_the_store_and_it_recovers() {
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
    assert_eq!(
        program.create_over(&mut platform, "late"),
        None,
        "a change that cannot be stored must not be acknowledged"
    );
    file.execute_batch("ROLLBACK").unwrap();
    program.wait_until("changes are accepted again", |program| {
        program.create_over(&mut TcpStream::connect(program.address).unwrap(), "late").is_some()
    });
    drop(connected);
}
