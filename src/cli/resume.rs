//! The file in which `gatecast listen --resume` keeps how far it has come.

use super::Failure;
use crate::model::{GatewayId, Position};
use std::{fs, io, path::PathBuf};

/// The file that is used if `--resume` names none. Not named after the gateway, which is known only once the hub has
/// answered; so the file says which gateway it is of.
pub const FILE_DEFAULT: &str = "gatecast.position";

/// How far a gateway has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    gateway: GatewayId,
    position: Position,
}

/// Where a connection begins, as its ack says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Begin {
    /// The gateway whose token was used.
    pub gateway: Option<GatewayId>,
    /// The position after which its events begin.
    pub position: Option<Position>,
    /// Whether that is the position that was asked for.
    pub resumed: bool,
}

/// Keeps the position of the last event that was shown, in a file.
#[derive(Debug)]
pub struct Resume {
    file: PathBuf,
    place: Option<Place>,
}

impl Resume {
    /// Reads the file; it need not exist yet.
    ///
    /// # Errors
    /// It cannot be read, or has another content.
    pub fn open(file: PathBuf) -> Result<Self, Failure> {
        let place = match fs::read_to_string(&file) {
            Ok(text) => Some(parse(&text).ok_or_else(|| {
                Failure::Usage(format!(
                    "invalid position in {}: expected one line with a gateway's UUID and a position, as `gatecast listen --resume` \
                     writes it; delete the file to begin with new events, or name another with --resume FILE",
                    file.display()
                ))
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::Usage(format!("cannot read {}: {error}", file.display()))),
        };
        Ok(Self { file, place })
    }

    /// The position with which to connect.
    pub fn position(&self) -> Option<Position> {
        self.place.map(|place| place.position)
    }

    /// Handles the ack of a connection. Returns what to tell the user.
    ///
    /// # Errors
    /// The file is of another gateway, or cannot be written.
    pub fn handle_ack(&mut self, begin: Begin) -> Result<String, Failure> {
        let file = self.file.display();
        if let (Some(place), Some(gateway)) = (self.place, begin.gateway)
            && place.gateway != gateway
        {
            return Err(Failure::Usage(format!(
                "{file} is of gateway {}, but the token is of gateway {gateway}: name another file with --resume FILE",
                place.gateway
            )));
        }
        let said = match self.position() {
            Some(asked) if begin.resumed => return Ok(format!("resumed after {asked}")),
            Some(asked) => format!(
                "WARNING: events were missed: resync. The hub cannot go on after {asked}, the position in {file}; only new events follow"
            ),
            None => format!("there is no position in {file} yet: only new events follow"),
        };
        // Kept at once: an event that comes while this command is not running is then not missed.
        self.keep(begin.gateway, begin.position)?;
        Ok(said)
    }

    /// Keeps the position of an event, once it was shown. Without a position nothing changes.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&mut self, gateway: Option<GatewayId>, position: Option<Position>) -> Result<(), Failure> {
        let (Some(gateway), Some(position)) = (gateway, position) else { return Ok(()) };
        let mut temporary = self.file.clone().into_os_string();
        temporary.push(".new");
        // A rename replaces the file whole, so that no reader, and no kill, finds a half of it. It is not synced: after a
        // loss of power an older position at worst shows some events again.
        fs::write(&temporary, format!("{gateway} {position}\n"))
            .and_then(|()| fs::rename(&temporary, &self.file))
            .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", self.file.display())))?;
        self.place = Some(Place { gateway, position });
        Ok(())
    }
}

fn parse(text: &str) -> Option<Place> {
    let (gateway, position) = text.strip_suffix('\n').unwrap_or(text).split_once(' ')?;
    Some(Place { gateway: GatewayId::parse(gateway)?, position: Position::parse(position)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(offset: u64) -> Position {
        Position { epoch: 7, offset }
    }

    fn begin(gateway: GatewayId, offset: u64, resumed: bool) -> Begin {
        Begin { gateway: Some(gateway), position: Some(position(offset)), resumed }
    }

    #[test]
    fn the_position_of_the_last_shown_event_is_kept_in_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, gateway) = (dir.path().join("p"), GatewayId::random());
        let open = || Resume::open(file.clone()).expect("it is valid");
        let mut resume = open();
        assert_eq!(resume.position(), None);
        assert!(resume.handle_ack(begin(gateway, 3, false)).expect("kept").contains("only new events follow"));
        assert_eq!(open().position(), Some(position(3)), "where the connection begins");
        resume.keep(Some(gateway), Some(position(4))).expect("kept");
        resume.keep(Some(gateway), None).expect("a message without a position changes nothing");
        let mut again = open();
        assert_eq!(again.position(), Some(position(4)));
        assert_eq!(again.handle_ack(begin(gateway, 4, true)), Ok(format!("resumed after {}", position(4))));
        assert_eq!(fs::read_dir(dir.path()).expect("it exists").count(), 1, "the temporary file has gone");
    }

    #[test]
    fn missed_events_are_told_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let gateway = GatewayId::random();
        let mut resume = Resume::open(dir.path().join("p")).expect("there is no file");
        resume.handle_ack(begin(gateway, 3, false)).expect("kept");
        let said = resume.handle_ack(begin(gateway, 90, false)).expect("kept");
        assert!(said.contains("events were missed: resync") && said.contains(&position(3).to_string()), "{said}");
        assert_eq!(resume.position(), Some(position(90)), "the next connect asks for what follows from here");
    }

    #[test]
    fn a_malformed_file_and_one_of_another_gateway_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, gateway) = (dir.path().join("p"), GatewayId::random());
        for text in
            ["", "\n", "x", &position(1).to_string(), &format!("{gateway} 7"), &format!("{gateway} {} ", position(1))]
        {
            fs::write(&file, text).expect("it can be written");
            let error = Resume::open(file.clone()).expect_err(text);
            assert!(matches!(&error, Failure::Usage(why) if why.contains("delete the file")), "{error}");
        }
        fs::write(&file, format!("{gateway} {}", position(1))).expect("it can be written");
        let mut resume = Resume::open(file.clone()).expect("a line break is not needed");
        let error = resume.handle_ack(begin(GatewayId::random(), 1, false)).expect_err("another gateway");
        assert!(error.to_string().contains("--resume FILE"), "{error}");
        assert_eq!(Resume::open(file).expect("it is kept").position(), Some(position(1)));
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut resume = Resume::open(dir.path().join("nowhere/p")).expect("there is no file");
        let error = resume.handle_ack(begin(GatewayId::random(), 1, false)).expect_err("there is no directory");
        assert!(matches!(&error, Failure::Failed(why) if why.contains("nowhere/p")), "{error}");
    }
}
