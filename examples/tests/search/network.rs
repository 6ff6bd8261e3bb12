//! A network of `search` processes, and what is fetched from it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Folder, Running, eventually, same};

pub fn search() -> Command {
    Command::new(env!("CARGO_BIN_EXE_search"))
}

/// A running node and where it is.
pub fn node(system: &str, share: &Path, join: &[&str], more: &[&str]) -> (Running, String) {
    let mut command = search();
    command.args(["node", "--system", system, "--share"]).arg(share).args(more);
    command.args(join.iter().flat_map(|addr| ["--join", addr]));
    let running = Running::start(&mut command);
    let contact = running.says("contact");
    (running, contact)
}

fn get(system: &str, join: &[&str], out: &Path) -> Command {
    let mut command = search();
    command.args(["get", "--system", system, "--patience", "80", "--out"]).arg(out);
    command.args(join.iter().flat_map(|addr| ["--join", addr]));
    command
}

/// Begins to fetch one file to a folder.
pub fn fetch(system: &str, join: &[&str], out: &Path, words: &[&str], more: &[&str]) -> Running {
    Running::start(get(system, join, out).args(["--hits", "1"]).args(more).args(words))
}

/// The same from so many who have it, all at once; `more` says which. Ends with a [`report`].
pub fn fetch_from(sources: usize, system: &str, join: &[&str], out: &Path, more: &[&str]) -> Running {
    let several = ["--hits", &sources.to_string(), "--wait", "20", "--json"];
    Running::start(get(system, join, out).args(several).args(more))
}

/// What a fetch has printed last.
pub fn report(said: &[String]) -> serde_json::Value {
    serde_json::from_str(said.last().unwrap()).unwrap()
}

/// Bytes of a file that takes a while.
pub const LONG: usize = 40_000_000;

/// A network of processes, each of which shares a file of its own.
pub struct Network {
    system: &'static str,
    pub folder: Folder,
    /// Who shares a long file besides.
    holders: Vec<usize>,
    /// Through whom others join, each with its number, if it shares something.
    pub doors: Vec<(Running, String, Option<usize>)>,
    /// The others.
    pub nodes: Vec<(Running, usize)>,
}

impl Network {
    /// Nobody yet.
    pub fn new(name: &str, system: &'static str, holders: &[usize]) -> Network {
        let folder = Folder::new(name);
        folder.noise("long", LONG);
        Network { system, folder, holders: holders.to_vec(), doors: Vec::new(), nodes: Vec::new() }
    }

    /// So many processes, a half of which are doors.
    pub fn of_servents(system: &'static str, processes: usize, door: &[&str], other: &[&str]) -> Network {
        let mut network = Network::new(system, system, &[0, processes - 1]);
        for i in 0..processes {
            let share = network.share(i);
            let doors = network.addresses();
            let some: Vec<&str> = doors.iter().rev().take(3).map(String::as_str).collect();
            match i < processes / 2 {
                true => {
                    let (running, contact) = node(system, &share, &some, door);
                    network.doors.push((running, contact, Some(i)));
                }
                false => network.nodes.push((node(system, &share, &some, other).0, i)),
            }
        }
        network
    }

    /// The folder that a node shares, with its files.
    pub fn share(&self, i: usize) -> PathBuf {
        let share = self.folder.within(&format!("share {i}"));
        self.folder.noise(&format!("share {i}/{}", Network::file(i)), 300_000 + i);
        if self.holders.contains(&i) {
            std::fs::hard_link(self.folder.join("long"), share.join(self.long_file())).unwrap();
        }
        share
    }

    fn file(i: usize) -> String {
        format!("song number{i} (live).mp3")
    }

    /// Where users are found by their names, it is found by those of all who have it.
    fn long_words(&self) -> Vec<String> {
        self.holders.iter().map(|i| format!("number{i}")).chain(["long".to_owned()]).collect()
    }

    fn long_file(&self) -> String {
        format!("{} song.mp3", self.long_words().join(" "))
    }

    pub fn addresses(&self) -> Vec<String> {
        self.doors.iter().map(|(_, contact, _)| contact.clone()).collect()
    }

    /// The processes that share something, but for those of the first doors.
    fn sharers(&self, but: usize) -> Vec<(usize, &Running)> {
        let doors = self.doors[but..].iter().filter_map(|(running, _, i)| Some(((*i)?, running)));
        doors.chain(self.nodes.iter().map(|(running, i)| (*i, running))).collect()
    }

    /// The doors that die last.
    fn last_doors(&self) -> Vec<&str> {
        self.doors.iter().rev().take(2).map(|(_, contact, _)| contact.as_str()).collect()
    }

    /// Begins to fetch the files of these.
    fn begin(&self, whose: &[usize], out: &Path, more: &[&str]) -> Vec<(usize, Running)> {
        let doors = self.last_doors();
        let begin = |i| fetch(self.system, &doors, out, &[&format!("number{i}"), "live"], more);
        whose.iter().map(|i| (*i, begin(i))).collect()
    }

    /// All that was begun comes, and is what it should be.
    fn arrive(&self, under_way: Vec<(usize, Running)>, out: &Path) {
        for (i, fetching) in under_way {
            let (well, said) = fetching.ends();
            assert!(well, "{} {i}: {said:?}", self.system);
            let file = Network::file(i);
            let there = self.folder.join(format!("share {i}")).join(&file);
            assert!(same(&there, out.join(&file)), "{} {i} differs", self.system);
        }
    }

    /// Fetches the files of all, all at once.
    pub fn all_are_fetched(&self, more: &[&str]) {
        let out = self.folder.within("first");
        let whose: Vec<usize> = self.sharers(0).iter().map(|(i, _)| *i).collect();
        self.arrive(self.begin(&whose, &out, more), &out);
    }

    /// The first doors are killed in the middle, and `then` runs: while the files of half of the others are fetched, and
    /// the first of those who have the long one has given a part of it. All of these arrive, and so does the other half,
    /// which is asked for afterwards.
    pub fn all_are_fetched_while_doors_die(
        &mut self,
        dying: usize,
        more: &[&str],
        then: impl FnOnce(&mut Network),
    ) {
        let out = self.folder.within("second");
        let (sharers, first) = (self.sharers(0), self.holders[0]);
        let giver = sharers.iter().find(|(i, _)| *i == first).unwrap().1;
        let had_read = giver.has_read();
        let living: Vec<usize> = self.sharers(dying).iter().map(|(i, _)| *i).collect();
        let (before, after) = living.split_at(living.len() / 2);
        let words = self.long_words();
        let asked: Vec<&str> = more.iter().copied().chain(words.iter().map(String::as_str)).collect();
        let sources = self.holders.len();
        let long = fetch_from(sources, self.system, &self.last_doors(), &out, &asked);
        let under_way = self.begin(before, &out, more);
        // All else that is asked of it has less.
        eventually("the long file is given", || match giver.has_read() - had_read {
            2_000_000.. => Ok(()),
            little => Err(format!("{} has read {little} bytes", self.system)),
        });
        self.doors.drain(..dying);
        assert!(!out.join(self.long_file()).exists(), "{}: it is not the middle", self.system);
        then(self);
        let and_then = self.begin(after, &out, more);
        self.arrive(under_way, &out);
        self.arrive(and_then, &out);
        let (well, said) = long.ends();
        assert!(well, "{}: {said:?}", self.system);
        assert!(same(self.folder.join("long"), out.join(self.long_file())), "{} differs", self.system);
        assert_eq!(report(&said)["sources"], sources, "{}: all have given some of it", self.system);
    }
}
