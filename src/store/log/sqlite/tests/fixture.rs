//! A log in a directory of its own, with a clock and faults that the test sets, and one port.

use super::super::{
    LogSync, SqliteLog, SqliteLogSettings, mark, schema,
    settings::{CommitFault, Tuning},
};
use crate::{
    model::{
        CorrelationId, Event, EventType, GatewayId, Life, Position, Timestamp,
        log::{
            AppendKey, Draft, End, FollowKey, ForgetKey, Head, Health, LogReply, LogRequest, NotAppended, Progress,
            ProgressStep, ReadFrom, ReadKey, Record, Room, Why,
        },
    },
    store::{
        StoreError,
        log::{EventLog, LogPort, LogStats},
    },
};
use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A log answers within this, or it has lost a request.
const PATIENCE: Duration = Duration::from_secs(20);

pub type Appended = Vec<Result<Position, NotAppended>>;

/// The directory of a log, and what its threads are told.
pub struct Fixture {
    pub dir: tempfile::TempDir,
    pub settings: SqliteLogSettings,
    /// Milliseconds of uptime.
    clock: Arc<AtomicU64>,
    fault: Arc<Mutex<Option<CommitFault>>>,
    /// Free bytes of the disk; `u64::MAX` asks the system.
    pub free: Arc<AtomicU64>,
}

impl Fixture {
    pub fn new(sync: LogSync) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, fault, free) =
            (Arc::new(AtomicU64::new(1_000)), Arc::new(Mutex::new(None)), Arc::new(AtomicU64::new(u64::MAX)));
        let (now, strike, left) = (Arc::clone(&clock), Arc::clone(&fault), Arc::clone(&free));
        let tuning = Tuning {
            uptime: Arc::new(move || Duration::from_millis(now.load(Ordering::SeqCst))),
            tick: Duration::from_millis(1),
            progress_interval: Duration::ZERO,
            commit_fault: Arc::new(move || strike.lock().unwrap().take()),
            free_bytes: Arc::new(move || Some(left.load(Ordering::SeqCst)).filter(|free| *free != u64::MAX)),
            ..Tuning::default()
        };
        let defaults = SqliteLogSettings::new(dir.path(), Vec::new());
        let settings = SqliteLogSettings { sync, tuning, ballast_bytes: 4_096, ..defaults };
        Self { dir, settings, clock, fault, free }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A gateway that exists.
    pub fn life(&mut self) -> Life {
        let life = Life { gateway: GatewayId::random(), incarnation: self.settings.lives.len() as u64 };
        self.settings.lives.push(life);
        life
    }

    pub fn advance(&self, by: Duration) {
        self.clock.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }

    /// The next commit of events fails.
    pub fn fail_commit(&self, fault: CommitFault) {
        *self.fault.lock().unwrap() = Some(fault);
    }

    pub fn try_open(&self) -> Result<Open, StoreError> {
        let mut log = Box::new(SqliteLog::open(self.settings.clone())?);
        let port = log.ports(vec![Box::new(|| {})]).pop().unwrap();
        Ok(Open { log, port, replies: Vec::new(), next_key: 0 })
    }

    pub fn open(&self) -> Open {
        self.try_open().unwrap()
    }

    /// Copies the files of a log: of an open one as a process that is killed leaves them.
    pub fn copy(&self) -> Fixture {
        let mut copy = Fixture::new(self.settings.sync);
        copy.settings.lives = self.settings.lives.clone();
        // The mark first: if it were newer than the copy of the log, it would claim a loss.
        for name in ["log.mark", "log.db", "log.db-wal"] {
            if self.path(name).exists() {
                std::fs::copy(self.path(name), copy.path(name)).unwrap();
            }
        }
        // The copy has another inode, which alone would give a new epoch.
        let inode = schema::inode(&copy.path("log.db")).unwrap();
        let mark = mark::Mark { inode, ..mark::read(&copy.path("log.mark")).unwrap().unwrap() };
        mark::MarkFile::create(&copy.path("log.mark"), mark).unwrap();
        copy
    }
}

/// An open log.
pub struct Open {
    log: Box<SqliteLog>,
    pub port: Box<dyn LogPort>,
    /// Replies that nobody has asked for.
    pub replies: Vec<LogReply>,
    next_key: u64,
}

impl Open {
    pub fn stats(&self) -> Arc<LogStats> {
        self.log.stats()
    }

    pub fn stop(&self) {
        self.log.stop();
    }

    pub fn key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    /// Submits a request, and again while the port is busy: the clock may have been advanced while something was queued.
    pub fn submit(&mut self, request: LogRequest) {
        let (mut request, began) = (request, Instant::now());
        while let Err(busy) = self.port.submit(request, &mut self.replies) {
            assert!(began.elapsed() < PATIENCE, "the port stays busy");
            self.drain();
            std::thread::sleep(Duration::from_millis(1));
            request = busy.0;
        }
    }

    pub fn drain(&mut self) {
        self.port.drain(usize::MAX, &mut self.replies);
    }

    /// Waits for a reply, and takes it.
    pub fn wait<T>(&mut self, mut wanted: impl FnMut(&LogReply) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            self.drain();
            if let Some((at, found)) = self.replies.iter().enumerate().find_map(|(at, it)| Some((at, wanted(it)?))) {
                self.replies.remove(at);
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "no answer; {} others came; {:?}", self.replies.len(), self.stats());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn wait_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let began = Instant::now();
        while !done(self) {
            self.drain();
            assert!(began.elapsed() < PATIENCE, "it does not come; {:?}", self.stats());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn send_append(&mut self, drafts: Vec<Draft>) -> AppendKey {
        self.send(drafts, false)
    }

    pub fn send_bulk(&mut self, drafts: Vec<Draft>) -> AppendKey {
        self.send(drafts, true)
    }

    fn send(&mut self, drafts: Vec<Draft>, bulk: bool) -> AppendKey {
        let key = AppendKey(self.key());
        self.submit(LogRequest::Append { key, drafts, bulk });
        key
    }

    pub fn appended(&mut self, key: AppendKey) -> Appended {
        let mut all = Vec::new();
        loop {
            let (results, ended) = self.wait(|reply| match reply {
                LogReply::Appended { key: of, results, last, .. } if *of == key => Some((results.clone(), *last)),
                _ => None,
            });
            all.extend(results);
            if ended {
                return all;
            }
        }
    }

    pub fn append(&mut self, drafts: Vec<Draft>) -> Appended {
        let key = self.send_append(drafts);
        self.appended(key)
    }

    /// Appends events that are taken; returns the last position.
    pub fn fill(&mut self, life: Life, count: usize, payload_bytes: usize) -> Position {
        let mut last = None;
        for chunk in vec![(); count].chunks(200) {
            let drafts = chunk.iter().map(|()| draft(life, "t", payload_bytes)).collect();
            last = self.append(drafts).into_iter().map(Result::unwrap).next_back();
        }
        last.unwrap()
    }

    pub fn follow(&mut self, life: Life, behind: Option<Position>) -> (FollowKey, Result<Head, End>) {
        let key = FollowKey(self.key());
        self.submit(LogRequest::Follow { key, life, behind });
        let answer = self.wait(|reply| match reply {
            LogReply::Following { key: of, head, .. } if *of == key => Some(Ok(*head)),
            LogReply::NotFollowing { key: of, why } if *of == key => Some(Err(why.clone())),
            _ => None,
        });
        (key, answer)
    }

    pub fn head(&mut self, life: Life) -> Head {
        let (key, head) = self.follow(life, None);
        self.submit(LogRequest::Unfollow(key));
        head.unwrap()
    }

    pub fn step(&mut self, life: Life, step: ProgressStep) {
        self.submit(LogRequest::Progress { life, step });
    }

    /// The gateway has processed this event.
    pub fn reach(&mut self, life: Life, position: Position) {
        self.step(life, ProgressStep::Reach(Progress { position, attempts: 0, attempts_ms: 0 }));
    }

    /// What a follow is told of the gateway's progress.
    pub fn progress(&mut self, life: Life) -> Option<Progress> {
        let key = FollowKey(self.key());
        self.submit(LogRequest::Follow { key, life, behind: None });
        let progress = self.wait(|reply| match reply {
            LogReply::Following { key: of, progress, .. } if *of == key => Some(*progress),
            _ => None,
        });
        self.submit(LogRequest::Unfollow(key));
        progress
    }

    /// The offset that the gateway has processed.
    pub fn processed(&mut self, life: Life) -> Option<u64> {
        self.progress(life).map(|progress| progress.position.offset)
    }

    /// Waits until the writer has had a turn after what was submitted before.
    pub fn settle(&mut self, life: Life) {
        for _ in 0..2 {
            self.head(life);
        }
    }

    /// Waits for so many live events.
    pub fn live(&mut self, key: FollowKey, count: usize) -> Vec<Record> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.wait(|reply| match reply {
                LogReply::Live { key: of, records } if *of == key => Some(records.clone()),
                _ => None,
            }));
        }
        all
    }

    pub fn read(&mut self, life: Life, after: Position) -> (Vec<Record>, End) {
        let (key, room) = (ReadKey(self.key()), Room { records: 10_000, bytes: 100_000_000 });
        self.submit(LogRequest::Read { key, life, from: ReadFrom::After(after), upto: None, room });
        self.wait(|reply| match reply {
            LogReply::Chunk { key: of, records, end } if *of == key => Some((records.clone(), end.clone())),
            _ => None,
        })
    }

    /// Whether the event after a position can be read.
    pub fn read_one(&mut self, life: Life, after: Position) -> bool {
        let (key, room) = (ReadKey(self.key()), Room { records: 1, bytes: 0 });
        self.submit(LogRequest::Read { key, life, from: ReadFrom::After(after), upto: None, room });
        self.wait(|reply| match reply {
            LogReply::Chunk { key: of, records, .. } if *of == key => Some(records.len() == 1),
            _ => None,
        })
    }

    pub fn forget(&mut self, life: Life) -> Result<(), Why> {
        let key = ForgetKey(self.key());
        self.submit(LogRequest::Forget { key, life });
        self.wait(|reply| match reply {
            LogReply::Forgotten(of, result) if *of == key => Some(*result),
            _ => None,
        })
    }

    pub fn health(&mut self) -> Health {
        self.wait(|reply| match reply {
            LogReply::Health(health) => Some(*health),
            _ => None,
        })
    }

    pub fn close(self) {
        self.log.join();
    }
}

pub fn draft(life: Life, kind: &str, payload_bytes: usize) -> Draft {
    let event = Event {
        gateway: life.gateway,
        kind: EventType::parse(kind).unwrap(),
        payload: vec![b'x'; payload_bytes].into(),
        correlation: CorrelationId::random(),
        correlation_given: true,
        user_id: Some("somebody".into()),
    };
    Draft { life, event: Arc::new(event), accepted: Timestamp(1_700_000_000_000) }
}
