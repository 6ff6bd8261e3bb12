use super::*;
use crate::storage::MemoryFiles;
use crate::torrent::command::{Add, Remove, SessionCommand, Source, TorrentId};
use crate::torrent::session::tests::work;
use crate::torrent::worker::MemoryTorrents;
use crate::torrent::{CreateOptions, Metainfo, SessionConfig};
use p2p_core::{Script, SimPeer};

const FILES: [(&str, usize); 3] = [("a", 100_000), ("b", 8 << 20), ("c", 5)];

fn content(name: &str) -> Vec<u8> {
    let length = FILES.iter().find(|(other, _)| *other == name).unwrap().1;
    (0..length).map(|at| (at / 3) as u8 ^ name.as_bytes()[0]).collect()
}

struct Reading {
    script: Script<Session<SimPeer>>,
    worker: MemoryTorrents,
}

impl Reading {
    /// A session that has all of a torrent.
    fn new() -> Reading {
        let mut files = MemoryFiles::default();
        FILES.iter().for_each(|(name, _)| files.put(format!("t/{name}"), content(name)));
        let options = CreateOptions { piece_length: Some(128 << 10), ..CreateOptions::default() };
        let metainfo = Metainfo::create(&mut files, "t".as_ref(), &options).unwrap();
        let mut script = Script::new(Session::new(SessionConfig::default(), None));
        script.command(SessionCommand::Add(Add::new(Source::Metainfo(metainfo), "")));
        Reading { script, worker: MemoryTorrents::new(files) }
    }

    fn ask(&mut self, file: u32, range: Range<u64>) -> OpId {
        let op = self.script.command(SessionCommand::Read(Read { torrent: TorrentId::first(), file, range }));
        work(&mut self.script, &mut self.worker);
        op
    }

    /// What came of somebody's question.
    fn items(&mut self, op: OpId) -> Vec<Bytes> {
        let items = self.script.items().into_iter();
        let items = items.map(|(of, item)| match item {
            SessionItem::Read(data) if of == op => data,
            other => panic!("{other:?}"),
        });
        items.collect()
    }

    fn ended(&mut self, op: OpId) -> Option<Result<(), TorrentError>> {
        let ended = self.script.outcomes().into_iter().find(|(of, _)| *of == op);
        ended.map(|(_, outcome)| match outcome {
            SessionOutcome::Done(done) => done,
            other => panic!("{other:?}"),
        })
    }

    /// The place of a file among those of the torrent, where there are pads, too.
    fn file(&self, name: &str) -> u32 {
        let torrent = &self.script.machine().torrents[&1];
        let files = torrent.info.as_ref().unwrap().files();
        files.iter().position(|file| file.path.ends_with(name)).unwrap() as u32
    }
}

#[test]
fn a_range_is_read_in_order_and_no_further_than_it_goes() {
    let mut reading = Reading::new();
    work(&mut reading.script, &mut reading.worker);
    for (name, range) in
        [("a", 0..100_000), ("b", 70_000..400_001), ("b", 8 << 20..8 << 20), ("c", 0..5), ("c", 4..5)]
    {
        let file = reading.file(name);
        let op = reading.ask(file, range.clone());
        let items = reading.items(op);
        assert!(items.iter().all(|item| item.len() <= CHUNK as usize));
        assert_eq!(
            items.concat(),
            content(name)[range.start as usize..range.end as usize],
            "{name} {range:?}"
        );
        assert_eq!(reading.ended(op), Some(Ok(())));
    }
    assert!(reading.script.machine().readers.is_empty());
}

#[test]
fn what_is_not_there_cannot_be_read() {
    let mut reading = Reading::new();
    work(&mut reading.script, &mut reading.worker);
    let (a, none) = (reading.file("a"), FILES.len() as u32 * 2);
    let too_long = TorrentError::Range { length: 100_000 };
    for (file, range, why) in [
        (none, 0..1, TorrentError::NoFile),
        (a, 0..100_001, too_long.clone()),
        (a, Range { start: 7, end: 6 }, too_long),
    ] {
        let op = reading.ask(file, range);
        assert_eq!(reading.ended(op), Some(Err(why)));
    }
    let torrent = TorrentId(7);
    let op = reading.script.command(SessionCommand::Read(Read { torrent, file: 0, range: 0..1 }));
    assert_eq!(reading.ended(op), Some(Err(TorrentError::Unknown)));
}

#[test]
fn who_reads_slowly_is_waited_for_and_who_is_gone_is_forgotten() {
    let mut reading = Reading::new();
    // It asks before it is known what is there.
    let torrent = TorrentId::first();
    let file = reading.file("b");
    let op = reading.script.command(SessionCommand::Read(Read { torrent, file, range: 0..8 << 20 }));
    work(&mut reading.script, &mut reading.worker);
    let mut read = reading.items(op);
    assert_eq!(read.len(), UNREAD, "of 128 chunks");
    reading.script.read(op, 32);
    work(&mut reading.script, &mut reading.worker);
    read.extend(reading.items(op));
    assert_eq!((read.concat(), reading.ended(op)), (content("b"), Some(Ok(()))));

    let ops: Vec<OpId> = (0..MAX_READERS).map(|_| reading.ask(file, 0..8 << 20)).collect();
    let more = reading.ask(file, 0..8 << 20);
    assert_eq!(reading.ended(more), Some(Err(TorrentError::Readers)));
    reading.script.items();
    ops.into_iter().skip(1).for_each(|op| reading.script.cancel(op));
    assert_eq!(reading.script.machine().readers.len(), 1);
    reading.script.command(SessionCommand::Remove(Remove { torrent }));
    assert!(reading.script.machine().readers.is_empty(), "and who reads what is removed");
}
