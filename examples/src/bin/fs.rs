//! `fs`: files in a network of processes, in three ways.
//!
//! ```sh
//! cargo run --bin fs -- node                                       # prints: contact: p2p://…
//! cargo run --bin fs -- node --join p2p://…                        # as many as you like
//! cargo run --bin fs -- put --join p2p://… --data me photo.jpg     # prints: name: OWNER/photo.jpg
//! cargo run --bin fs -- get --join p2p://… OWNER/photo.jpg copy.jpg
//! cargo run --bin fs -- ls --join p2p://… OWNER
//! cargo run --bin fs -- put --system past --join p2p://… --data me letter.txt      # or archive
//! cargo run --bin fs -- put --join p2p://… --data me --encrypt diary.txt           # for nobody else
//! ```
//!
//! Blocks, fragments and the names of both last for a week, unless somebody puts them again. Those who keep the copies of
//! a block make new ones when some of them die; of a fragment there is one copy, and an archive is to be repaired by
//! somebody as its keepers die ([`Archive::repair`](p2p_dht::archive::Archive::repair)), which no command here does.

#![expect(clippy::print_stdout, reason = "a program talks on the terminal")]
#![expect(clippy::disallowed_types, reason = "a program has a clock")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use clap::{Parser, Subcommand, ValueEnum};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use p2p_core::net::Node;
use p2p_core::{Contact, Key, Keypair, PeerId};
use p2p_dht::GetError;
use p2p_dht::archive::{Archive, ArchiveConfig, ArchiveError};
use p2p_dht::cfs::{Cfs, CfsConfig, CfsError, Entry, Volume};
use p2p_dht::past::{Certificate, MAX_FILE, PastConfig, RETRIES, Reclaim};
use p2p_examples::remote::{Remote, Table};
use p2p_examples::{Failure, LASTS, Part, exit, patiently, printable, say, sealed};
use p2p_overlay::Find;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Files in a network of processes: in blocks, as a whole, or as fragments.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
enum System {
    /// Blocks of 8 KiB, eight copies of each, in directories. Files of any length.
    Cfs,
    /// Whole files of up to 1 MiB, at five nodes that have room. In the nodes' memory.
    Past,
    /// Versions of files as 64 fragments, of which 16 are enough. Files of any length.
    Archive,
}

#[derive(clap::Args)]
struct How {
    #[command(flatten)]
    part: Part,
    /// In which way.
    #[arg(long, value_enum, default_value_t = System::Cfs)]
    system: System,
    /// Sealed before it is stored, for whoever has the identity in `--data`.
    #[arg(long, requires = "data")]
    encrypt: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Keeps files for others, in all three ways.
    Node(Part),
    /// Stores a file under the identity in `--data`, and prints its name.
    Put {
        #[command(flatten)]
        how: How,
        /// The file.
        file: PathBuf,
        /// What to call it; with cfs, a path. By default as the file.
        #[arg(long)]
        name: Option<String>,
    },
    /// Fetches a file.
    Get {
        #[command(flatten)]
        how: How,
        /// What `put` has printed; of an archive's older version with its number: OWNER/NAME@2.
        name: String,
        /// Where to.
        to: PathBuf,
    },
    /// Prints what is in a directory (cfs), or which versions of a file there are (archive).
    Ls {
        #[command(flatten)]
        how: How,
        /// OWNER, OWNER/DIRECTORY or OWNER/NAME.
        name: String,
    },
}

/// The volume of cfs that the files are in.
const VOLUME: &str = "files";
type File = BoxStream<'static, Result<Bytes, Failure>>;

#[tokio::main]
async fn main() -> ExitCode {
    exit("fs", run(Args::parse().command).await)
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Node(part) => serve(&part).await,
        Command::Put { how, file, name } => {
            let own = file.file_name().map(|name| name.to_string_lossy().into_owned());
            let Some(name) = name.or(own) else { return Err("it has no name: --name".into()) };
            let identity = how.part.identity()?;
            let mut content = read(&file).await?;
            if how.encrypt {
                content = sealed::seal(&sealed::own_key(&identity), content)?;
            }
            let client = Client::new(&how.part).await?;
            client.put(how.system, &identity, &name, content).await?;
            say("name", format_args!("{}/{name}", identity.id()));
            client.node.shutdown().await;
            Ok(())
        }
        Command::Get { how, name, to } => {
            let (owner, name) = name.split_once('/').ok_or("a name has an owner: OWNER/NAME")?;
            let client = Client::new(&how.part).await?;
            let mut content = client.get(how.system, owner.parse()?, name).await?;
            if how.encrypt {
                content = sealed::open(&sealed::own_key(&how.part.identity()?), content);
            }
            write(&to, content).await?;
            client.node.shutdown().await;
            Ok(())
        }
        Command::Ls { how, name } => {
            let (owner, path) = name.split_once('/').unwrap_or((&name, ""));
            let client = Client::new(&how.part).await?;
            for line in client.list(how.system, owner.parse()?, path).await? {
                println!("{}", printable(&line));
            }
            client.node.shutdown().await;
            Ok(())
        }
    }
}

/// Runs until it is interrupted.
async fn serve(part: &Part) -> Result<(), Failure> {
    let member = part.member().await?;
    let stores = part.stores(&member)?;
    if !part.join.is_empty() {
        // Once anybody is found the node has joined.
        patiently(|| member.lookup.lookup(Find::key(Key::of(b"fs")))).await?;
        patiently(|| stores.lookup.lookup(Find::key(Key::of(b"fs")))).await?;
    }
    stores.serve(&member.node)?;
    say("contact", member.node.contact());
    tokio::signal::ctrl_c().await?;
    member.node.shutdown().await;
    Ok(())
}

async fn read(path: &Path) -> Result<File, Failure> {
    let file = tokio::fs::File::open(path).await.map_err(|error| format!("{}: {error}", path.display()))?;
    let pieces = stream::try_unfold(file, |mut file| async move {
        let mut piece = BytesMut::with_capacity(64 << 10);
        let read = file.read_buf(&mut piece).await?;
        Ok::<_, Failure>((read > 0).then(|| (piece.freeze(), file)))
    });
    Ok(pieces.boxed())
}

/// Beside it first: what has this name is all of the file.
async fn write(path: &Path, mut content: File) -> Result<(), Failure> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let mut file =
        tokio::fs::File::create(&beside).await.map_err(|error| format!("{}: {error}", path.display()))?;
    let written = async {
        while let Some(piece) = content.try_next().await? {
            file.write_all(&piece).await?;
        }
        // What the last write came to is said by this alone.
        file.flush().await?;
        file.sync_all().await?;
        Ok::<(), Failure>(())
    };
    let done = match written.await {
        Ok(()) => tokio::fs::rename(&beside, path).await.map_err(Failure::from),
        Err(error) => Err(error),
    };
    if done.is_err() {
        tokio::fs::remove_file(&beside).await.ok();
    }
    done
}

/// Whoever stores or reads, through other nodes.
struct Client {
    node: Node,
    through: Vec<Contact>,
}

impl Client {
    async fn new(part: &Part) -> Result<Client, Failure> {
        Ok(Client { node: Node::builder().bind(part.listen).await?, through: part.join.clone() })
    }

    fn remote(&self, table: Table) -> Remote {
        Remote::new(self.node.clone(), self.through.clone(), table)
    }

    fn cfs(&self) -> Cfs<Contact> {
        Cfs::new(Arc::new(self.remote(Table::Blocks)), CfsConfig::default())
    }

    fn archive(&self) -> Archive<Contact> {
        let table = Arc::new(self.remote(Table::Fragments));
        Archive::new(table.clone(), table, ArchiveConfig::default())
    }

    async fn put(&self, system: System, owner: &Keypair, name: &str, content: File) -> Result<(), Failure> {
        let until = (SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)? + LASTS).as_secs();
        match system {
            System::Cfs => {
                let cfs = self.cfs();
                let file = cfs.write(content).await?;
                let before = match cfs.open(owner.id(), VOLUME).await {
                    Err(CfsError::Get(GetError::NotFound { .. })) => Volume::empty(owner.id(), VOLUME),
                    opened => opened?,
                };
                let root = cfs.change(&before.root, [(name, Some(Entry::File(file)))]).await?;
                cfs.commit(owner, &before, root, until).await?;
            }
            System::Archive => {
                let archive = self.archive();
                let content = archive.store(content).await?;
                let before = match archive.newest(owner.id(), name).await {
                    Err(ArchiveError::Get(GetError::NotFound { .. })) => None,
                    newest => Some(newest?),
                };
                archive.commit(owner, name, before.as_ref(), content, until).await?;
            }
            System::Past => {
                let content = whole(content).await?;
                let past = self.remote(Table::Blocks);
                let made = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as u64;
                let replicas = PastConfig::default().replicas;
                for salt in 0..=RETRIES {
                    let certificate = Certificate::new(owner, name, salt, replicas, made, &content)?;
                    let file = certificate.file();
                    if past.insert(certificate, content.clone()).await? {
                        return Ok(());
                    }
                    // What was there before this try stays.
                    past.reclaim(Reclaim::new(owner, file, made..=made)).await?;
                }
                return Err("no room for it under any of four salts".into());
            }
        }
        Ok(())
    }

    async fn get(&self, system: System, owner: PeerId, name: &str) -> Result<File, Failure> {
        match system {
            System::Cfs => {
                let cfs = self.cfs();
                let volume = cfs.open(owner, VOLUME).await?;
                let file = cfs.file(&volume.root, name).await?;
                Ok(cfs.read(file, ..).map_err(Failure::from).boxed())
            }
            System::Archive => {
                let archive = self.archive();
                let numbered =
                    name.rsplit_once('@').and_then(|(name, number)| Some((name, number.parse().ok()?)));
                let version = match numbered {
                    Some((name, number)) => archive.version(owner, name, number).await?,
                    None => archive.newest(owner, name).await?,
                };
                Ok(archive.read(version.content()).map_err(Failure::from).boxed())
            }
            System::Past => {
                let past = self.remote(Table::Blocks);
                for salt in 0..=RETRIES {
                    if let Some(content) = past.fetch(Certificate::file_id(&owner, name, salt)).await? {
                        return Ok(stream::iter([Ok(content)]).boxed());
                    }
                }
                Err("not found".into())
            }
        }
    }

    async fn list(&self, system: System, owner: PeerId, path: &str) -> Result<Vec<String>, Failure> {
        match system {
            System::Cfs => {
                let cfs = self.cfs();
                let volume = cfs.open(owner, VOLUME).await?;
                let lines = match cfs.find(&volume.root, path).await? {
                    Entry::File(file) => vec![format!("{:>12} {path}", file.size)],
                    Entry::Directory(directory) => {
                        let line = |(name, entry): (&str, Entry)| match entry {
                            Entry::File(file) => format!("{:>12} {name}", file.size),
                            Entry::Directory(_) => format!("{:>12} {name}/", ""),
                        };
                        cfs.list(directory).await?.iter().map(line).collect()
                    }
                };
                Ok(lines)
            }
            System::Archive => {
                let archive = self.archive();
                let newest = archive.newest(owner, path).await?;
                let mut lines = Vec::new();
                for number in 1..=newest.number {
                    lines.push(match archive.version(owner, path, number).await {
                        Ok(version) => format!("{:>12} {path}@{number}", version.content().size()),
                        Err(error) => format!("{:>12} {path}@{number}: {error}", "-"),
                    });
                }
                Ok(lines)
            }
            System::Past => Err("PAST has no directories: a file is found by its name alone".into()),
        }
    }
}

/// All of a file, if one message can carry it.
async fn whole(mut content: File) -> Result<Bytes, Failure> {
    let mut all = BytesMut::new();
    while let Some(piece) = content.try_next().await? {
        all.extend_from_slice(&piece);
        if all.len() > MAX_FILE {
            return Err(format!("PAST keeps files of up to {MAX_FILE} bytes: --system cfs").into());
        }
    }
    Ok(all.freeze())
}
